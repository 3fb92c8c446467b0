// Admin.DrainConsumers over mutual TLS, with the client library: on one broker, and on three over Redis where
// consumers are connected to any of them, or to the owners directly.
import { expect, test } from 'vitest';
import { encodeDrainConsumers } from '../../services/client/admin-codec.ts';
import type { DrainSettings } from '../../services/client/admin-types.ts';
import type { Client } from '../../services/client/client.ts';
import { Connection } from '../../services/client/connection.ts';
import { FanfareError } from '../../services/client/errors.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import type { Subscription } from '../../services/client/subscription.ts';
import { type BrokerProcess, type LogLine, startBroker } from '../support/broker.ts';
import { startCluster } from '../support/cluster.ts';

const TTL_MS = 30_000;
const SUBSCRIPTION = 'work';

/** A consumer that holds what it gets until it is told to acknowledge. */
class Pod implements AsyncDisposable {
  readonly held: ReceivedMessage[] = [];
  received = 0;
  redelivered = 0;
  readonly #subscription: Subscription;
  readonly #ended: Promise<void>;
  #holding = true;
  #onMessage: () => void = () => {};

  constructor(client: Client, clientId: string, maxOutstandingMessages: number) {
    this.#subscription = client.subscribe(SUBSCRIPTION, { clientId, maxOutstandingMessages });
    this.#ended = this.#run();
  }

  async #run(): Promise<void> {
    for await (const message of this.#subscription) {
      this.received += 1;
      if (message.deliveryAttempt > 1) this.redelivered += 1;
      if (this.#holding) this.held.push(message);
      else message.ack();
      this.#onMessage();
    }
  }

  /** Waits until it holds `count` messages. Rejects if it gets fewer within a generous time. */
  async has(count: number): Promise<void> {
    const giveUp = Promise.withResolvers<never>();
    const timer = setTimeout(() => giveUp.reject(new Error(`${this.received} of ${count} came`)), 30_000);
    try {
      while (this.received < count) {
        const next = new Promise<void>((resolve) => {
          this.#onMessage = resolve;
        });
        await Promise.race([next, giveUp.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  ack(count = this.held.length): void {
    for (const message of this.held.splice(0, count)) message.ack();
  }

  /** Acknowledges what it holds, and from now on everything at once. */
  work(): void {
    this.#holding = false;
    this.ack();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#subscription.close();
    await this.#ended;
  }
}

async function publish(client: Client, count: number): Promise<void> {
  await using publisher = client.publisher('work');
  await Promise.all(
    Array.from({ length: count }, (_, at) => publisher.publish({ data: `${at}`, orderingKey: `key-${at}` })),
  );
}

/** Resolves when every broker knows the subscription: they hear of it one after the other. */
async function known(client: Client): Promise<void> {
  for (const giveUpMs = performance.now() + 30_000; performance.now() < giveUpMs; ) {
    try {
      await client.admin.getSubscription(SUBSCRIPTION);
      return;
    } catch (error) {
      if (!(error instanceof FanfareError && error.code === 'NOT_FOUND')) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  throw new Error('a broker does not hear of the subscription');
}

/**
 * Repeats the request until the consumers hold nothing, as the operator does; resolves with what it was told
 * on the way.
 */
async function drained(client: Client, clientIds: readonly string[]): Promise<number[]> {
  const seen: number[] = [];
  for (const giveUpMs = performance.now() + 30_000; ; ) {
    const { outstandingMessages } = await client.admin.drainConsumers(SUBSCRIPTION, {
      clientIds,
      ttlMs: TTL_MS,
    });
    seen.push(outstandingMessages);
    if (outstandingMessages === 0) return seen;
    if (performance.now() > giveUpMs) throw new Error(`they still hold messages: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** One of two pods is drained under load and closed: it gets nothing meanwhile and nothing comes twice. */
async function scaleDown(connect: (at: number) => Client, admin: Client): Promise<void> {
  await admin.admin.createTopic('work', { partitions: 6 });
  await admin.admin.createSubscription(SUBSCRIPTION, { topic: 'work', ordering: true });
  for (const client of [connect(0), connect(1), admin]) await known(client);
  await using staying = new Pod(connect(0), 'staying', 50);
  const leaving = new Pod(connect(1), 'leaving', 50);
  await publish(admin, 300);
  await Promise.all([staying.has(30), leaving.has(30)]);
  const { consumers } = await admin.admin.drainConsumers(SUBSCRIPTION, {
    clientIds: ['leaving'],
    ttlMs: TTL_MS,
  });
  const held = leaving.received;
  expect(consumers).toHaveLength(1);
  expect(consumers[0]).toMatchObject({
    clientId: 'leaving',
    peerAddress: '127.0.0.1',
    outstandingMessages: held,
  });
  staying.work();
  await publish(admin, 300);
  leaving.ack(10);
  await staying.has(200);
  expect(leaving.received).toBe(held);
  leaving.ack();
  const seen = await drained(admin, ['leaving']);
  await leaving[Symbol.asyncDispose]();
  await staying.has(600 - held);
  expect(leaving.received).toBe(held);
  expect(staying.received + leaving.received).toBe(600);
  expect(staying.redelivered + leaving.redelivered).toBe(0);
  expect(seen.at(-1)).toBe(0);
  const [backlog] = await admin.admin.getBacklog([SUBSCRIPTION]);
  expect(backlog).toMatchObject({ redeliveredTotal: 0 });
}

test('one broker: a consumer is drained under load and goes without a redelivery', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await scaleDown(() => client, client);
});

test.each([
  ['through any broker', false],
  ['directly to the owners', true],
])('three brokers on Redis, consumers connected %s', { timeout: 90_000 }, async (_, direct) => {
  await using cluster = await startCluster({ brokers: 3 });
  await using admin = cluster.client(2);
  await using stays = cluster.client(direct ? 'all' : 0, { direct });
  await using leaves = cluster.client(direct ? 'all' : 1, { direct });
  await scaleDown((at) => (at === 0 ? stays : leaves), admin);
});

/** A broker that both an IPv4 and an IPv6 client reach, each from an address of its own. */
function dualStack(): Promise<BrokerProcess> {
  return startBroker({ listen: '[::]:0', args: ['--dev-certs'] });
}

test('consumers are named by the address that they come from, in whatever form it is written', async () => {
  await using broker = await dualStack();
  const port = broker.address.slice(broker.address.lastIndexOf(':') + 1);
  await using v4 = broker.connect({ address: `127.0.0.1:${port}` });
  await using v6 = broker.connect({ address: `[::1]:${port}` });
  await v4.admin.createTopic('work', { partitions: 2 });
  await v4.admin.createSubscription(SUBSCRIPTION, { topic: 'work' });
  const drain = (peerAddresses: readonly string[]) =>
    v4.admin.drainConsumers(SUBSCRIPTION, { peerAddresses, ttlMs: TTL_MS });
  await using four = new Pod(v4, 'four', 10);
  await using six = new Pod(v6, 'six', 10);
  await publish(v4, 20);
  await Promise.all([four.has(10), six.has(10)]);
  four.work();
  six.work();
  expect(await drain(['0:0:0::0001'])).toMatchObject({
    consumers: [{ clientId: 'six', peerAddress: '::1' }],
  });
  await publish(v4, 40);
  await four.has(50);
  expect(six.received).toBe(10);
  expect(await drain(['::ffff:127.0.0.1'])).toMatchObject({
    consumers: [{ clientId: 'four', peerAddress: '127.0.0.1' }],
  });
  await publish(v4, 40);
  await six.has(50);
  expect(four.received).toBe(50);
  expect(four.redelivered + six.redelivered).toBe(0);
});

test('a bad request says which field, and what it may be; every change is in the audit log', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await client.admin.createTopic('work');
  await client.admin.createSubscription(SUBSCRIPTION, { topic: 'work' });
  const { admin } = client;
  const many = Array.from({ length: 1_001 }, (_, at) => `client-${at}`);
  // The request goes past the client's own checks, which refuse some of these.
  const connection = new Connection({ address: broker.address, tls: broker.tls });
  const ask = (settings: DrainSettings) =>
    connection.unary(
      '/fanfare.v1.Admin/DrainConsumers',
      encodeDrainConsumers(connection.subscriptionName(SUBSCRIPTION), settings),
    );
  for (const [settings, says] of [
    [{ clientIds: many, ttlMs: TTL_MS }, 'have 1001 names: at most 1000 together'],
    [{ clientIds: ['a', ''], ttlMs: TTL_MS }, 'client_ids[1] has 0 bytes: must have 1 to 256'],
    [{ clientIds: ['ä'.repeat(129)], ttlMs: TTL_MS }, 'client_ids[0] has 258 bytes'],
    [{ peerAddresses: ['10.0.0.7:1234'], ttlMs: TTL_MS }, 'must be an IP address without port'],
    [{ peerAddresses: ['pod-1'], ttlMs: TTL_MS }, 'peer_addresses[0] is "pod-1"'],
    [{ clientIds: ['a'], ttlMs: 600_001 }, 'ttl is 600001 ms: must be 1000 to 600000 ms, or 0 to end it'],
    [{ clientIds: ['a'], ttlMs: -1 }, 'ttl is -1 ms'],
  ] as const) {
    await expect(ask(settings)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(says),
    });
  }
  connection.close();
  await expect(admin.drainConsumers('nothing', { clientIds: ['a'], ttlMs: TTL_MS })).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
  const nobody = { consumers: [], streams: 0, outstandingMessages: 0 };
  expect(await admin.drainConsumers(SUBSCRIPTION, { clientIds: ['a'], ttlMs: TTL_MS })).toEqual(nobody);
  expect(await admin.drainConsumers(SUBSCRIPTION, { ttlMs: 0 })).toEqual(nobody);
  const resource = 'projects/default/subscriptions/work';
  const isAudit = ({ audit }: LogLine) =>
    JSON.stringify(audit ?? '').includes(resource) && JSON.stringify(audit).includes('update');
  await broker.logged(isAudit);
  const results = broker.logLines.filter(isAudit).map(({ audit }) => (audit as { result: string }).result);
  expect(results.filter((result) => result === 'INVALID_ARGUMENT')).toHaveLength(7);
  expect(results.filter((result) => result === 'OK').length).toBeGreaterThanOrEqual(1);
});
