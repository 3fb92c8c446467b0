// HTTP proxies in the environment: brokers on loopback and other brokers are reached directly, everybody else
// through them.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { peerConnector } from '../../services/broker/adapters/grpc/peer-connector.ts';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import { connect } from '../../services/client/client.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { runCli } from '../support/cli.ts';
import { type ConnectProxy, startConnectProxy } from '../support/connect-proxy.ts';

let broker: BrokerProcess;
let proxy: ConnectProxy;

beforeEach(async () => {
  broker = await startBroker();
  proxy = await startConnectProxy(broker.address);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await proxy[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

test('loopback is never proxied, by the command neither', async () => {
  const env = { http_proxy: proxy.url, https_proxy: proxy.url, grpc_proxy: proxy.url };
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const port = broker.address.split(':')[1];
  for (const address of [broker.address, `localhost:${port}`, `:${port}`]) {
    await using client = broker.connect({ address });
    await client.admin
      .createTopic('orders')
      .catch((error: FanfareError) => expect(error.code).toBe('ALREADY_EXISTS'));
    const { ca, cert, key } = broker.tls;
    const tls = ['--tls-ca', ca, '--tls-cert', cert, '--tls-key', key];
    const listed = await runCli(['topic', 'list', '--address', address, ...tls], {
      cwd: broker.dataDir,
      env,
    });
    expect(listed).toMatchObject({ code: 0, stderr: '' });
  }
  expect(proxy.accepted).toBe(0);
});

test('others are, unless no_proxy or NO_PROXY names them', async () => {
  vi.stubEnv('https_proxy', proxy.url.replace('http://', 'http://user:secret@'));
  const far = { address: 'broker.example:7443', tls: { ...broker.tls, serverName: 'localhost' } };
  await using client = connect(far);
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('audit', { topic: 'orders' });
  await client.publisher('orders').publish({ data: 'x' });
  for await (const message of client.subscribe('audit')) {
    message.ack();
    break;
  }
  expect(proxy.wanted).toEqual(['broker.example:7443']);
  for (const name of ['no_proxy', 'NO_PROXY']) {
    vi.stubEnv('no_proxy', '');
    vi.stubEnv(name, 'localhost,.example');
    await using direct = connect(far);
    await expect(direct.reach()).rejects.toMatchObject({ unreachable: 'no-host' });
  }
  expect(proxy.accepted).toBe(1);
});

test('a proxy that is away or refuses is named, not the broker', async () => {
  vi.stubEnv('https_proxy', proxy.url);
  proxy.answer = '403 Forbidden';
  await using client = connect({ address: 'broker.example', tls: broker.tls });
  await expect(client.reach()).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    unreachable: 'proxy',
    message: expect.stringMatching(
      /^the broker at broker\.example:7443 can't be reached: the proxy 127\.0\.0\.1:\d+ \(https_proxy\) fails: it refuses to connect to broker\.example:7443 \(403 Forbidden\)/,
    ),
  });
  await proxy[Symbol.asyncDispose]();
  await using later = connect({ address: 'broker.example', tls: broker.tls });
  await expect(later.reach()).rejects.toMatchObject({
    unreachable: 'proxy',
    message: expect.stringMatching(/the proxy .* fails: nobody listens there \(connect ECONNREFUSED/),
  });
  const { ca, cert, key } = broker.tls;
  const args = [
    'topic',
    'list',
    '--address',
    'broker.example',
    '--tls-ca',
    ca,
    '--tls-cert',
    cert,
    '--tls-key',
    key,
  ];
  const listed = await runCli(args, { cwd: broker.dataDir, env: { https_proxy: proxy.url } });
  expect(listed).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(
      /^fanfare: the broker at broker\.example:7443 can't be reached: the proxy [^\n]*\n$/,
    ),
  });
});

test('a proxy of a kind that can not be used is said, when it would be used', async () => {
  vi.stubEnv('https_proxy', 'socks5://127.0.0.1:1080');
  await using near = broker.connect();
  await near.reach();
  await using far = connect({ address: 'broker.example', tls: broker.tls });
  await expect(far.reach()).rejects.toMatchObject({
    unreachable: 'proxy',
    message: expect.stringContaining('https_proxy is of the kind socks5://'),
  });
});

test('a link to another broker takes no proxy', async () => {
  vi.stubEnv('https_proxy', proxy.url);
  const links = peerConnector({ selfId: 'a', clock: nodeClock, tls: undefined, isBroker: () => true });
  const { promise: reason, resolve } = Promise.withResolvers<string>();
  const link = links.connect('broker.invalid:7443', 'b', {
    answer: () => {},
    writableAgain: () => {},
    closed: resolve,
  });
  expect(await reason).toMatch(/Name resolution failed for target dns:broker\.invalid/);
  link.close();
  expect(proxy.accepted).toBe(0);
});
