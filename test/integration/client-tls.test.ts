// The client's TLS against real servers: certificates that are renewed under a running client, and what is
// said when one side does not take the other's, or TLS meets plaintext.
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttp1 } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTls } from 'node:tls';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { createCa, issueClient } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { connect } from '../../services/client/client.ts';
import type { ConnectOptions, TlsOptions } from '../../services/client/connection.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import { startBroker } from '../support/broker.ts';
import { runCli } from '../support/cli.ts';
import {
  type Authority,
  createAuthority,
  type GrpcRig,
  issueExpired,
  startGrpcRig,
} from '../support/grpc-rig.ts';

const SECOND_DAYS = 1 / 86_400;

test('a client whose certificate has expired goes on with the renewed files, without a restart', async () => {
  await using broker = await startBroker();
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-tls-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const ca = {
    cert: await readFile(broker.tls.ca, 'utf8'),
    key: await readFile(join(broker.dataDir, 'certs/ca.key'), 'utf8'),
  };
  const tls = { ca: broker.tls.ca, cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key') };
  const shortLived = await issueClient(ca, { principal: 'worker', days: 4 * SECOND_DAYS });
  await writeFile(tls.cert, shortLived.cert);
  await writeFile(tls.key, shortLived.key);

  await using client = broker.connect({ tls });
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('audit', { topic: 'orders' });
  const said = { publisher: [] as string[], consumer: [] as string[] };
  const backoff = { maxMs: 200 };
  const publisher = client.publisher('orders', {
    backoff,
    onRetry: ({ message }) => said.publisher.push(message),
  });
  const received: string[] = [];
  const heard = Promise.withResolvers<void>();
  const subscriber = client.subscriber(
    'audit',
    (message) => {
      received.push(message.data.toString());
      if (message.data.toString() === 'after') heard.resolve();
    },
    { backoff, onRetry: ({ message }) => said.consumer.push(message) },
  );
  await publisher.publish({ data: 'before' });

  const expiresMs = new X509Certificate(shortLived.cert).validToDate.getTime();
  await sleep(Math.max(0, expiresMs - Date.now()) + 50);
  // Connections outlive their certificates.
  await publisher.publish({ data: 'meanwhile' });
  await broker.kill();
  await using again = await startBroker({ dataDir: broker.dataDir, listen: broker.address });
  const late = publisher.publish({ data: 'after' });
  const expired = /can't be reached: this client's certificate \(CN=worker\) expired on .*Z: renew it/;
  await expect.poll(() => said.publisher.at(-1), { timeout: 15_000 }).toMatch(expired);
  await expect.poll(() => said.consumer.at(-1), { timeout: 15_000 }).toMatch(expired);
  await expect(client.admin.listTopics()).rejects.toThrow(expired);
  const cli = await runCli(
    [
      'topic',
      'list',
      '--address',
      again.address,
      '--tls-ca',
      tls.ca,
      '--tls-cert',
      tls.cert,
      '--tls-key',
      tls.key,
    ],
    { cwd: dir },
  );
  expect(cli).toMatchObject({ code: 5, stderr: expect.stringMatching(expired) });

  // The renewal is only half done: the new certificate with the old key.
  const renewed = await issueClient(ca, { principal: 'worker' });
  await writeFile(tls.cert, renewed.cert);
  const half =
    /expired .*; the files as they are now are not used: tls\.key \(.*\) is not the key of tls\.cert/;
  await expect.poll(() => said.consumer.at(-1), { timeout: 15_000 }).toMatch(half);
  await writeFile(tls.key, renewed.key);
  await late;
  await heard.promise;
  expect(received.filter((data) => data !== 'before' && data !== 'meanwhile')).toEqual(['after']);
  await subscriber.stop();
  expect(again.logLines.length).toBeGreaterThan(0);
}, 90_000);

let authority: Authority;
let otherCa: CertificatePair;
let rig: GrpcRig;

beforeAll(async () => {
  authority = await createAuthority();
  otherCa = await createCa({ name: 'Other CA' });
  rig = await startGrpcRig(authority);
});

afterAll(() => rig[Symbol.asyncDispose]());

function tlsOf(pair = authority.client, ca = authority.ca): TlsOptions {
  return { ca: ca.cert, cert: pair.cert, key: pair.key };
}

/** The error that a call and a stream get. */
async function failureOf(options: ConnectOptions): Promise<FanfareError> {
  await using client = connect(options);
  const streamed = new Promise<FanfareError>((resolve) => {
    client.subscribe('audit', { onRetry: resolve });
  });
  const error = await client.reach({ timeoutMs: 20_000 }).then(
    () => expect.unreachable('it was reached'),
    (failure: FanfareError) => failure,
  );
  const { message, unreachable } = await streamed;
  expect({ message, unreachable }).toEqual({ message: error.message, unreachable: error.unreachable });
  expect(error).toMatchObject({ code: 'UNAVAILABLE', retriable: true, notSent: true });
  return error;
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return `localhost:${(server.address() as AddressInfo).port}`;
}

test('this client is refused: its certificate has expired, or is from a CA that the broker does not trust', async () => {
  const expired = await failureOf({ address: rig.address, tls: tlsOf(await issueExpired(authority.ca)) });
  expect(expired.unreachable).toBe('certificate');
  expect(expired.message).toMatch(/this client's certificate \(CN=expired\) expired on \d.*Z: renew it/);
  const foreign = await issueClient(otherCa, { principal: 'stranger' });
  const refused = await failureOf({ address: rig.address, tls: tlsOf(foreign) });
  expect(refused.unreachable).toBe('certificate');
  expect(refused.message).toMatch(
    /seems not to accept this client's certificate \(CN=stranger, issued by CN=Other CA, valid until .*\).*use one from a CA that the broker trusts/,
  );
});

test('the broker is refused: unknown CA, another name, expired', async () => {
  const unknown = await failureOf({ address: rig.address, tls: tlsOf(authority.client, otherCa) });
  expect(unknown.message).toMatch(
    /certificate \(CN=fanfare-broker, issued by CN=Fanfare development CA\) is from no CA in tls\.ca/,
  );
  const tls = { ...tlsOf(), serverName: 'broker.example' };
  const misnamed = await failureOf({ address: rig.address, tls });
  expect(misnamed.message).toMatch(/is not for broker\.example but for localhost, 127\.0\.0\.1/);
  const old = createTls({ ...(await issueExpired(authority.ca)), ALPNProtocols: ['h2'] });
  const expired = await failureOf({ address: await listen(old), tls: tlsOf() });
  expect(expired.message).toMatch(
    /the broker's certificate \(CN=expired\) expired on \d.*Z: it must be renewed/,
  );
  for (const { unreachable } of [unknown, misnamed, expired]) expect(unreachable).toBe('certificate');
});

test('TLS meets plaintext, the other way round, and no HTTP/2', async () => {
  const plain = createHttp2();
  plain.on('sessionError', () => {});
  for (const server of [plain, createHttp1()]) {
    const { message, unreachable } = await failureOf({ address: await listen(server), tls: tlsOf() });
    expect(unreachable).toBe('protocol');
    expect(message).toMatch(/what listens there speaks no TLS/);
  }
  const web = createTls({ ...authority.server, ALPNProtocols: ['http/1.1'] });
  const noHttp2 = await failureOf({ address: await listen(web), tls: tlsOf() });
  expect(noHttp2.unreachable).toBe('protocol');
  expect(noHttp2.message).toMatch(/speaks no HTTP\/2/);
  const { message, unreachable } = await failureOf({ address: rig.address, insecure: true });
  expect(unreachable).toBe('protocol');
  expect(message).toMatch(/speaks no plaintext gRPC.*: a broker with TLS wants certificates, not insecure/);
});

test('nobody listens, no such host, and who hangs up or says nothing', async () => {
  const closed = createTcp();
  const address = await listen(closed);
  closed.close();
  const refused = await failureOf({ address, tls: tlsOf() });
  expect(refused.unreachable).toBe('refused');
  expect(refused.message).toMatch(
    /^the broker at localhost:\d+ can't be reached: nobody listens there \(connect ECONNREFUSED/,
  );
  const unknown = await failureOf({ address: 'no-such-host.invalid', tls: tlsOf() });
  expect(unknown.unreachable).toBe('no-host');
  expect(unknown.message).toMatch(
    /^the broker at no-such-host\.invalid:7443 can't be reached: there is no host no-such-host\.invalid/,
  );
  const hangUp = await failureOf({
    address: await listen(createTcp((socket) => socket.destroy())),
    tls: tlsOf(),
  });
  expect(hangUp.message).toMatch(/closed in the TLS handshake|closed at once/);
  const silent = createTcp((socket) => void socket.on('error', () => {}));
  const nothing = await failureOf({ address: await listen(silent), tls: tlsOf() });
  expect(nothing.unreachable).toBe('no-answer');
}, 30_000);

test('of several addresses, each has its own reason', async () => {
  const closed = createTcp();
  const refusing = await listen(closed);
  closed.close();
  await using client = connect({
    address: `${refusing},no-such-host.invalid,${rig.address}`,
    tls: tlsOf(await issueExpired(authority.ca)),
  });
  const error = await client.admin.listTopics().catch((failure: FanfareError) => failure);
  expect(error).toMatchObject({ code: 'UNAVAILABLE', notSent: true });
  const { message } = error as FanfareError;
  expect(message).toMatch(new RegExp(`the broker at ${refusing} can't be reached: nobody listens`));
  expect(message).toMatch(/the broker at no-such-host\.invalid:7443 can't be reached: there is no host/);
  expect(message).toMatch(
    new RegExp(`the broker at ${rig.address} can't be reached: this client's certificate`),
  );
});
