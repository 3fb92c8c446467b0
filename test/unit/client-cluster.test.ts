// The client among several brokers: going on with another, following the routing table, telling twice what
// may not have arrived.
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import { partitionOfKey } from '../../services/client/partitioning.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { FakeBroker } from '../support/fake-broker.ts';
import { until } from '../support/until.ts';

const backoff = { initialMs: 1, maxMs: 20 };
const PARTITIONS = 4;
/** One key for each partition, by partition. */
const KEYS = Array.from({ length: PARTITIONS }, (_, partition) => {
  for (let n = 0; ; n++) if (partitionOfKey(`k${n}`, PARTITIONS) === partition) return `k${n}`;
});

let brokers: FakeBroker[];
let clients: Client[];

beforeEach(async () => {
  const first = await FakeBroker.start();
  brokers = [first, await FakeBroker.start(first), await FakeBroker.start(first)];
  clients = [];
  first.createTopic('orders', PARTITIONS);
  first.createSubscription('audit', 'orders');
});

afterEach(async () => {
  for (const client of clients) await client.close();
  for (const broker of brokers.toReversed()) await broker.stop();
});

function connectTo(which: readonly FakeBroker[], direct = false): Client {
  const address = which.map((broker) => broker.address).join(',');
  const client = connect({ ...brokers[0]!.connectOptions, address, direct });
  clients.push(client);
  return client;
}

const inUse = (client: Client) => brokers.find(({ address }) => address === client.address)!;
const texts = (broker: FakeBroker) =>
  broker.publishRequests.flatMap(({ messages }) => messages.map(({ data }) => Buffer.from(data).toString()));

test('a unary call is answered by whichever broker is there', async () => {
  const client = connectTo(brokers);
  const left = inUse(client);
  left.kill();
  expect((await client.admin.listTopics()).map(({ id }) => id)).toEqual(['orders']);
  expect(client.address).not.toBe(left.address);
  for (const broker of brokers) broker.kill();
  await expect(client.admin.listTopics()).rejects.toMatchObject({ code: 'UNAVAILABLE', notSent: true });
});

test('what a lost try has done already is no error', async () => {
  const client = connectTo(brokers);
  for (const broker of brokers) broker.loseAnswers = 1;
  expect(await client.admin.createTopic('invoices')).toMatchObject({ id: 'invoices' });
  for (const broker of brokers) broker.loseAnswers = 1;
  await client.admin.deleteTopic('invoices');
  await expect(client.admin.deleteTopic('invoices')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('brokers killed one after the other: a publisher goes on, in order, and tells nobody', async () => {
  const client = connectTo(brokers);
  const publisher = client.publisher('orders', { batch: { maxMessages: 3 }, backoff });
  const results: Promise<unknown>[] = [];
  for (let round = 0; round < 6; round++) {
    for (let n = 0; n < 20; n++) {
      const text = String(results.length);
      results.push(publisher.publish({ data: text, orderingKey: KEYS[n % PARTITIONS]! }));
    }
    await results[results.length - 10];
    const broker = inUse(client);
    const { port } = broker;
    broker.kill();
    await results.at(-1);
    await broker.listen(port);
  }
  await Promise.all(results);
  const stored = brokers[0]!.stored('orders').map(Number);
  expect(new Set(stored).size).toBe(120);
  for (let key = 0; key < PARTITIONS; key++) {
    const firsts = [...new Set(stored.filter((n) => (n % 20) % PARTITIONS === key))];
    expect(firsts).toEqual(firsts.toSorted((a, b) => a - b));
  }
});

test('a broker that goes on refusing is left for another', async () => {
  const client = connectTo(brokers);
  const refusing = inUse(client);
  refusing.onPublish = () => ({ refuse: status.UNAVAILABLE, message: 'the store does not answer' });
  const publisher = client.publisher('orders', { backoff: { initialMs: 200, maxMs: 400 } });
  await publisher.publish({ data: 'x' });
  expect(refusing.publishRequests.length).toBeGreaterThan(2);
  expect(client.address).not.toBe(refusing.address);
});

test('acknowledgements of the last seconds are told again, before anything can be delivered', async () => {
  const client = connectTo(brokers);
  for (let n = 0; n < 10; n++) brokers[0]!.store('orders', String(n));
  const { promise: broken, resolve } = Promise.withResolvers<void>();
  const subscription = client.subscribe('audit', { backoff, onRetry: () => resolve() });
  for (let n = 0; n < 8; n++) ((await subscription.next()).value as ReceivedMessage).ack();
  await until(() => brokers[0]!.acked('audit').length === 8);
  // The broker that had the acknowledgements has died with them.
  const audit = brokers[0]!.subscriptions.get('projects/default/subscriptions/audit')!;
  audit.acked.clear();
  inUse(client).kill();
  await broken;
  const offsets: number[] = [];
  for await (const message of subscription) {
    offsets.push(message.offset);
    message.ack();
    if (offsets.length === 2) break;
  }
  expect(offsets).toEqual([8, 9]);
  expect(brokers[0]!.acked('audit')).toHaveLength(10);
});

test('a stream that ends with its leases kept: nothing is dropped, nothing comes twice', async () => {
  const client = connectTo(brokers);
  for (let n = 0; n < 10; n++) brokers[0]!.store('orders', String(n));
  const { promise: broken, resolve } = Promise.withResolvers<void>();
  const subscription = client.subscribe('audit', { backoff, onRetry: () => resolve() });
  const first = (await subscription.next()).value as ReceivedMessage;
  brokers[0]!.breakSubscribers('audit', status.UNAVAILABLE, 'the broker is stopping', { keepLeases: true });
  await broken;
  const attempts: number[] = [];
  first.ack();
  while (attempts.length < 9) {
    const message = (await subscription.next()).value as ReceivedMessage;
    attempts.push(message.deliveryAttempt);
    message.ack();
  }
  expect(first.isStale).toBe(false);
  expect(attempts).toEqual(Array(9).fill(1));
  await subscription.close();
  expect(brokers[0]!.acked('audit')).toHaveLength(10);
});

test('what was given back on a stream that ended with its leases kept is given back again', async () => {
  const client = connectTo(brokers);
  brokers[0]!.store('orders', '0');
  brokers[0]!.store('orders', '1');
  const subscription = client.subscribe('audit', { backoff });
  const first = (await subscription.next()).value as ReceivedMessage;
  const second = (await subscription.next()).value as ReceivedMessage;
  for (const each of brokers) each.losesSettles = true;
  first.nack();
  const nacks = () => brokers.flatMap((each) => each.subscribeRequests.flatMap((r) => r.nackRanges));
  await until(() => nacks().length === 1);
  for (const each of brokers) each.losesSettles = false;
  brokers[0]!.breakSubscribers('audit', status.UNAVAILABLE, 'the broker is stopping', { keepLeases: true });
  const again = (await subscription.next()).value as ReceivedMessage;
  expect([again.offset, again.deliveryAttempt]).toEqual([0, 2]);
  expect(nacks()).toMatchObject([
    { firstOffset: 0n, lastOffset: 0n, deliveryAttempt: 1 },
    { firstOffset: 0n, lastOffset: 0n, deliveryAttempt: 1 },
  ]);
  for (const message of [again, second]) message.ack();
  await subscription.close();
  expect(brokers[0]!.acked('audit')).toEqual([0, 1]);
});

test('a consumer that is closed while no stream is open has its acknowledgements told all the same', async () => {
  const client = connectTo(brokers);
  brokers[0]!.store('orders', '0');
  const { promise: broken, resolve } = Promise.withResolvers<void>();
  const subscription = client.subscribe('audit', {
    backoff: { initialMs: 10_000 },
    onRetry: () => resolve(),
  });
  const message = (await subscription.next()).value as ReceivedMessage;
  inUse(client).kill();
  await broken;
  message.ack();
  await subscription.close();
  expect(brokers[0]!.acked('audit')).toEqual([0]);
});

test('direct: messages go to the owner of their partition, and follow it in order', async () => {
  const [a, b, c] = brokers as [FakeBroker, FakeBroker, FakeBroker];
  a.setRoutes('orders', [a, b, c, b]);
  const client = connectTo([a], true);
  const publisher = client.publisher('orders', { backoff });
  // The first message may go before the routing table is here.
  await until(async () => {
    await publisher.publish({ data: 'probe', orderingKey: KEYS[2]! });
    return c.publishRequests.length > 0;
  });
  const publish = (n: number) =>
    KEYS.map((orderingKey, p) => publisher.publish({ data: `${p}:${n}`, orderingKey }));
  const results: Promise<unknown>[] = [];
  for (let n = 0; n < 10; n++) results.push(...publish(n));
  await Promise.all(results);
  expect(
    texts(a)
      .filter((text) => text !== 'probe')
      .every((text) => text.startsWith('0:')),
  ).toBe(true);
  expect(texts(b).every((text) => /^[13]:/.test(text))).toBe(true);
  expect(texts(c).every((text) => text === 'probe' || text.startsWith('2:'))).toBe(true);
  // While they go on, partitions move, one broker dies, and one partition is nobody's for a while.
  for (let n = 10; n < 200; n++) {
    results.push(...publish(n));
    if (n === 50) a.setRoutes('orders', [b, b, c, a]);
    if (n === 80) c.kill();
    if (n === 100) a.setRoutes('orders', [b, b, undefined, a]);
    if (n === 150) a.setRoutes('orders', [a, b, b, a]);
    if (n % 5 === 0) await new Promise(setImmediate);
  }
  await Promise.all(results);
  const stored = a.stored('orders').filter((text) => text !== 'probe');
  for (let p = 0; p < PARTITIONS; p++) {
    const numbers = stored.filter((text) => text.startsWith(`${p}:`)).map((text) => Number(text.slice(2)));
    expect([...new Set(numbers)]).toEqual(Array.from({ length: 200 }, (_, n) => n));
  }
});

test('direct: more partitions than before, and keys keep their order', async () => {
  const [a, b] = brokers as [FakeBroker, FakeBroker];
  a.setRoutes('orders', [a, b, a, b]);
  const client = connectTo([a], true);
  const publisher = client.publisher('orders', { batch: { maxMessages: 2 }, backoff });
  // The routing table is here before it changes.
  while (b.publishRequests.length === 0) await publisher.publish({ data: 'probe', orderingKey: KEYS[1]! });
  const results: Promise<unknown>[] = [];
  for (let n = 0; n < 300; n++) {
    results.push(publisher.publish({ data: `${n % 7}:${n}`, orderingKey: `key-${n % 7}` }));
    if (n === 100) a.setRoutes('orders', [a, b, a, b, a, b, a, b]);
    if (n === 200) a.setRoutes('orders', []);
    if (n % 5 === 0) await new Promise(setImmediate);
  }
  await Promise.all(results);
  for (let key = 0; key < 7; key++) {
    const numbers = a
      .stored('orders')
      .filter((text) => text.startsWith(`${key}:`))
      .map((text) => Number(text.slice(2)));
    expect(numbers).toEqual(numbers.toSorted((x, y) => x - y));
  }
  expect(b.publishRequests.length).toBeGreaterThan(0);
});

test('direct: a consumer has a stream to each owner, shares its credit out, and follows partitions', async () => {
  const [a, b, c] = brokers as [FakeBroker, FakeBroker, FakeBroker];
  a.setRoutes('orders', [a, b, b, undefined]);
  const client = connectTo([a], true);
  const subscription = client.subscribe('audit', { maxOutstandingMessages: 100, backoff });
  const store = (from: number) => {
    for (let n = from; n < from + 20; n++) a.store('orders', String(n), KEYS[n % PARTITIONS]!);
  };
  const take = async (count: number) => {
    const taken: string[] = [];
    while (taken.length < count) {
      const message = (await subscription.next()).value as ReceivedMessage;
      taken.push(message.text);
      message.ack();
    }
    return taken;
  };
  store(0);
  // The last partition has no owner: nothing of it can be delivered.
  const first = await take(15);
  expect(first.every((text) => Number(text) % PARTITIONS !== 3)).toBe(true);
  const { consumers } = a.subscriptions.get('projects/default/subscriptions/audit')!;
  const credits = [...consumers.values()].map(({ ownedBy, maxMessages }) => [ownedBy, maxMessages]);
  expect(credits.map(([ownedBy]) => ownedBy).sort()).toEqual([a.address, b.address].sort());
  expect(credits.reduce((sum, [, messages]) => sum + Number(messages), 0)).toBeLessThanOrEqual(100);
  a.setRoutes('orders', [a, b, c, c]);
  const second = await take(5);
  expect(second.every((text) => Number(text) % PARTITIONS === 3)).toBe(true);
  store(20);
  await take(20);
  await until(() => a.acked('audit').length === 40);
  expect(new Set([...consumers.values()].map(({ clientId }) => clientId)).size).toBe(1);
});

test('direct: without a routing table the brokers find the owners', async () => {
  brokers[0]!.createTopic('plain');
  brokers[0]!.createSubscription('plain-audit', 'plain');
  for (const broker of brokers) broker.hasRouting = false;
  const client = connectTo(brokers, true);
  await client.publisher('plain').publish({ data: 'x' });
  for await (const message of client.subscribe('plain-audit')) {
    message.ack();
    break;
  }
  expect(brokers[0]!.acked('plain-audit')).toEqual([0]);
  await expect(client.subscribe('nothing').next()).rejects.toMatchObject({ code: 'NOT_FOUND' });
});
