// Whatever ends a call ends it: its signal, its time, the end of the client. And nothing stays behind.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Admin } from '../../services/client/admin.ts';
import { encodeName } from '../../services/client/admin-codec.ts';
import { type Client, connect } from '../../services/client/client.ts';
import type { CallSettings, Connection } from '../../services/client/connection.ts';
import { FakeBroker } from '../support/fake-broker.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';

let broker: FakeBroker;
let proxy: FaultProxy;
let client: Client;

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.createTopic('orders');
  broker.createSubscription('audit', 'orders');
  proxy = await startFaultProxy(broker.address);
  client = connect({ ...broker.connectOptions, address: proxy.address });
  await client.reach();
});

afterEach(async () => {
  proxy.heal();
  await client.close();
  await proxy[Symbol.asyncDispose]();
  await broker.stop();
});

const CALLS: Record<string, (settings: CallSettings) => Promise<unknown>> = {
  reach: (settings) => client.reach(settings),
  createTopic: (settings) => client.admin.createTopic('orders', {}, settings),
  getTopic: (settings) => client.admin.getTopic('orders', settings),
  listTopics: (settings) => client.admin.listTopics(settings),
  updateTopic: (settings) => client.admin.updateTopic('orders', { labels: { a: 'b' } }, settings),
  deleteTopic: (settings) => client.admin.deleteTopic('orders', settings),
  createSubscription: (settings) => client.admin.createSubscription('audit', { topic: 'orders' }, settings),
  getSubscription: (settings) => client.admin.getSubscription('audit', settings),
  listSubscriptions: (settings) => client.admin.listSubscriptions(settings),
  updateSubscription: (settings) =>
    client.admin.updateSubscription('audit', { ackDeadlineSeconds: 20 }, settings),
  deleteSubscription: (settings) => client.admin.deleteSubscription('audit', settings),
  drainConsumers: (settings) => client.admin.drainConsumers('audit', { ttlMs: 0 }, settings),
  skipDamage: (settings) => client.admin.skipDamage('orders', 0, 7, settings),
  getBacklog: (settings) => client.admin.getBacklog([], settings),
  'cluster.get': (settings) => client.cluster.get(settings),
  'cluster.drain': (settings) => client.cluster.drain('a', settings),
};

test.each(Object.keys(CALLS))(
  '%s: the end of its signal, its time or the client is its end',
  async (name) => {
    const call = CALLS[name]!;
    await expect(call({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
    proxy.set('toClient', { holds: true });
    const controller = new AbortController();
    const aborted = call({ signal: controller.signal });
    setImmediate(() => controller.abort());
    await expect(aborted).rejects.toMatchObject({ code: 'CANCELLED', message: 'cancelled by the caller' });
    await expect(call({ timeoutMs: 20 })).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      message: expect.stringMatching(/^no answer from the broker at 127\.0\.0\.1:\d+ within \d+ ms$/),
    });
    const underWay = call({ timeoutMs: 60_000 });
    setImmediate(() => void client.close());
    await expect(underWay).rejects.toMatchObject({ code: 'CANCELLED', message: 'the client was closed' });
    await expect(call({})).rejects.toMatchObject({ code: 'CANCELLED', message: 'the client was closed' });
  },
);

test('the time that there was for connecting is told as such', async () => {
  proxy.set('both', { holds: true });
  const late = connect({ ...broker.connectOptions, address: proxy.address, callTimeoutMs: 50 });
  await expect(late.admin.listTopics()).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
    message: expect.stringMatching(/^no connection to the broker at 127\.0\.0\.1:\d+ within \d+ ms$/),
  });
  await late.close();
});

test('a watch ends with its signal, and with the client', async () => {
  const controller = new AbortController();
  const watch = client.admin.watchBacklog({ signal: controller.signal });
  setImmediate(() => controller.abort());
  expect(await watch.next()).toEqual({ done: true, value: undefined });
  const watching = (async () => {
    for await (const _ of client.admin.watchBacklog()) void client.close();
  })();
  await expect(watching).rejects.toMatchObject({ code: 'CANCELLED' });
});

test('after close() nothing is opened; closing again is the same closing', async () => {
  const closing = client.close();
  expect(client.close()).toBe(closing);
  await closing;
  const closed = expect.objectContaining({ code: 'CANCELLED', message: 'the client was closed' });
  expect(() => client.publisher('orders')).toThrow(closed);
  expect(() => client.subscribe('audit')).toThrow(closed);
  expect(() => client.subscriber('audit', () => {})).toThrow(closed);
  expect(() => client.subscribeRaw('audit', { onChunk: () => {} })).toThrow(closed);
});

test('the pages of a list have one time together', async () => {
  const given: number[] = [];
  const pages = {
    projectName: 'projects/default',
    callTimeoutMs: 1_000,
    unary: async (_path: string, _request: Buffer, { timeoutMs = Number.NaN }: CallSettings) => {
      given.push(timeoutMs);
      await new Promise((resolve) => setTimeout(resolve, 20));
      // The page is a ListTopicsResponse: next_page_token = 2, as CreateTopic's name would be 1.
      if (given.length === 5) return Buffer.alloc(0);
      const page = encodeName('more');
      page[0] = 0x12;
      return page;
    },
  };
  expect(await new Admin(pages as unknown as Connection).listTopics()).toEqual([]);
  expect(given).toHaveLength(5);
  expect(given[0]).toBeLessThanOrEqual(1_000);
  for (let at = 1; at < given.length; at += 1) expect(given[at]).toBeLessThan(given[at - 1]!);
});

const CLIENT = fileURLToPath(new URL('../../services/client/client.ts', import.meta.url));

/** Runs a program with a client, and resolves with what it printed when it ends by itself. */
async function run(address: string, body: string): Promise<string> {
  const { tls } = broker.connectOptions;
  const program = `
    const { connect } = await import(${JSON.stringify(CLIENT)});
    const client = connect(${JSON.stringify({ address, tls })});
    ${body}
    console.log('end');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.on('data', (bytes) => {
    printed += bytes;
  });
  const [code] = await new Promise<[number | null]>((resolve) =>
    child.once('close', (exit) => resolve([exit])),
  );
  expect(code).toBe(0);
  return printed;
}

test('a program ends when its client is closed, without process.exit()', async () => {
  expect(
    await run(
      proxy.address,
      `await client.publisher('orders').publish({ data: 'x' });
       client.subscriber('audit', () => {});
       const loop = client.subscribe('audit');
       const watch = async () => { for await (const _ of client.admin.watchBacklog()); };
       watch().catch((error) => console.log(error.code));
       await client.admin.listTopics();
       await client.close();`,
    ),
  ).toMatch(/^(CANCELLED\nend|end\nCANCELLED)\n$/);
}, 20_000);

test('nor does it wait for a broker that is not there', async () => {
  expect(
    await run(
      '10.255.255.1:1,127.0.0.1:1',
      `client.subscriber('audit', () => {});
       client.admin.listTopics({ timeoutMs: 60_000 }).catch((error) => console.log(error.code));
       await new Promise((resolve) => setImmediate(resolve));
       await client.close();`,
    ),
  ).toMatch(/^(CANCELLED\nend|end\nCANCELLED)\n$/);
}, 20_000);
