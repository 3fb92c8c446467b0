// Consumers on a fake broker: loops, handlers, raw chunks, credit, leases, streams that break.
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { FakeBroker } from '../support/fake-broker.ts';
import { until } from '../support/until.ts';

let broker: FakeBroker;
let client: Client;
const backoff = { initialMs: 1, maxMs: 20 };

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.createTopic('orders');
  broker.createSubscription('audit', 'orders');
  client = connect(broker.connectOptions);
});

afterEach(async () => {
  await client.close();
  await broker.stop();
});

async function publish(...texts: string[]): Promise<void> {
  await using publisher = client.publisher('orders');
  await Promise.all(texts.map((data) => publisher.publish({ data, attributes: { n: data } })));
}

const range = (count: number) => Array.from({ length: count }, (_, n) => String(n));

test('messages come in order and acks arrive as few ranges', async () => {
  await publish(...range(500));
  const texts: string[] = [];
  for await (const message of client.subscribe('audit')) {
    texts.push(message.text);
    message.ack();
    if (texts.length === 500) break;
  }
  expect(texts).toEqual(range(500));
  // The acks were sent when the loop was left.
  expect(broker.acked('audit')).toHaveLength(500);
  const ranges = broker.subscribeRequests.flatMap((request) => request.ackRanges);
  // Five at most on a machine that does nothing else.
  expect(ranges.length).toBeLessThan(50);
});

test('acks never let the credit run dry', async () => {
  await publish(...range(100));
  let received = 0;
  for await (const message of client.subscribe('audit', { maxOutstandingMessages: 10 })) {
    message.ack();
    if (++received === 100) break;
  }
  expect(broker.acked('audit')).toHaveLength(100);
});

test('one that wants five and says so before it acks is never given a sixth', async () => {
  await publish(...range(10));
  const subscription = client.subscribe('audit', { maxOutstandingMessages: 5 });
  for (let left = 5; left > 0; left--) {
    const { value } = await subscription.next();
    if (left > 1) subscription.limitMessages(left - 1);
    else subscription.end();
    value.ack();
  }
  await subscription.close();
  expect(broker.acked('audit')).toEqual([0, 1, 2, 3, 4]);
  const { attempts } = broker.subscriptions.get('projects/default/subscriptions/audit')!;
  expect([...attempts.keys()]).toEqual([0, 1, 2, 3, 4]);
});

test('a message given back comes again with its attempt', async () => {
  await publish('poison');
  const attempts: number[] = [];
  for await (const message of client.subscribe('audit')) {
    attempts.push(message.deliveryAttempt);
    if (attempts.length === 3) {
      message.ack();
      break;
    }
    message.nack();
  }
  expect(attempts).toEqual([1, 2, 3]);
});

test('a broken stream is opened again, with the same client id, and unsent acks go first', async () => {
  const reasons: string[] = [];
  const subscription = client.subscribe('audit', { backoff, onRetry: (error) => reasons.push(error.code) });
  await publish('1', '2');
  const first = (await subscription.next()).value as ReceivedMessage;
  broker.breakSubscribers('audit', status.UNAVAILABLE);
  await until(() => first.isStale);
  first.ack();
  const texts: string[] = [];
  for await (const message of subscription) {
    texts.push(message.text);
    message.ack();
    if (texts.at(-1) === '2') break;
  }
  expect(broker.acked('audit')).toEqual([0, 1]);
  expect(reasons).toEqual(['UNAVAILABLE']);
  const ids = broker.subscribeRequests.map((request) => request.clientId).filter((id) => id !== '');
  expect(ids).toHaveLength(2);
  expect(ids[0]).toBe(ids[1]);
});

test('a killed broker: the loop goes on when it is back', async () => {
  const subscription = client.subscribe('audit', { backoff });
  await publish('1');
  (await subscription.next()).value.ack();
  const { port } = broker;
  broker.kill();
  await broker.listen(port);
  await publish('2');
  for await (const message of subscription) {
    message.ack();
    if (message.text === '2') break;
  }
});

test('a subscription that does not exist ends the loop with NOT_FOUND, also later', async () => {
  await expect(client.subscribe('nothing').next()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const subscription = client.subscribe('audit');
  const next = subscription.next();
  await publish('1');
  await next;
  const waiting = subscription.next();
  broker.breakSubscribers('audit', status.NOT_FOUND, 'it was deleted');
  await expect(waiting).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'it was deleted' });
});

test('an aborted signal ends the loop', async () => {
  const aborter = new AbortController();
  await publish('1');
  const texts: string[] = [];
  for await (const message of client.subscribe('audit', { signal: aborter.signal })) {
    texts.push(message.text);
    message.ack();
    aborter.abort();
  }
  expect(texts).toEqual(['1']);
  await until(() => broker.acked('audit').length === 1);
});

test('leases of what is held are extended; the deadline is that of the subscription', async () => {
  broker.subscriptions.get('projects/default/subscriptions/audit')!.definition.ackDeadlineSeconds = 1;
  await publish('1', '2');
  await using subscription = client.subscribe('audit');
  const message = (await subscription.next()).value as ReceivedMessage;
  await until(() => broker.subscribeRequests.some((request) => request.extendSeconds === 1));
  const extension = broker.subscribeRequests.find((request) => request.extendSeconds > 0)!;
  expect(extension.extendRanges).toMatchObject([{ firstOffset: 0n, lastOffset: 1n }]);
  message.ack();
});

test('a handler acks on success and gives back on failure', async () => {
  await publish(...range(20));
  const failures: string[] = [];
  const attempts = new Map<string, number>();
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const subscriber = client.subscriber(
    'audit',
    (message) => {
      attempts.set(message.text, message.deliveryAttempt);
      if (message.deliveryAttempt === 1 && message.text.endsWith('3')) throw new Error(`no ${message.text}`);
      if (attempts.size === 20 && attempts.get('3') === 2 && attempts.get('13') === 2) resolve();
    },
    { onHandlerError: (error) => failures.push((error as Error).message) },
  );
  await all;
  await subscriber.stop();
  expect(failures.sort()).toEqual(['no 13', 'no 3']);
  expect(broker.acked('audit')).toHaveLength(20);
  await expect(subscriber.closed).resolves.toBeUndefined();
});

test('so many handlers run at once and no more; stop() waits for them and begins no others', async () => {
  await publish(...range(10));
  let running = 0;
  let most = 0;
  let begun = 0;
  const { promise: three, resolve: reached } = Promise.withResolvers<void>();
  const { promise: go, resolve: release } = Promise.withResolvers<void>();
  const subscriber = client.subscriber(
    'audit',
    async () => {
      begun++;
      most = Math.max(most, ++running);
      if (running === 3) reached();
      await go;
      running--;
    },
    { concurrency: 3 },
  );
  await three;
  const stopped = subscriber.stop();
  release();
  await stopped;
  expect({ most, begun, running }).toEqual({ most: 3, begun: 3, running: 0 });
  expect(broker.acked('audit')).toHaveLength(3);
});

test('messages of a key are handled one after the other, and none overtakes a failure', async () => {
  broker.subscriptions.get('projects/default/subscriptions/audit')!.definition.enableMessageOrdering = true;
  await using publisher = client.publisher('orders');
  for (const n of range(30)) {
    void publisher.publish({ data: n, orderingKey: Number(n) % 3 === 0 ? 'a' : 'b' });
  }
  await publisher.flush();
  const handled: Record<string, number[]> = { a: [], b: [] };
  const active = new Set<string>();
  let overlaps = 0;
  const failOnce = new Set(['6', '7', '20']);
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const subscriber = client.subscriber('audit', async (message) => {
    const key = message.orderingKey;
    if (active.has(key)) overlaps++;
    active.add(key);
    await new Promise(setImmediate);
    active.delete(key);
    if (failOnce.delete(message.text)) throw new Error('again');
    handled[key]!.push(Number(message.text));
    if (handled.a!.length + handled.b!.length === 30) resolve();
  });
  await all;
  await subscriber.stop();
  expect(overlaps).toBe(0);
  expect(handled.a).toEqual([...handled.a!].sort((x, y) => x - y));
  expect(handled.b).toEqual([...handled.b!].sort((x, y) => x - y));
  expect(broker.acked('audit')).toHaveLength(30);
});

test('a message that was under way when an earlier one of its key failed waits for that one', async () => {
  broker.store('orders', 'first', 'k');
  const handled: string[] = [];
  const { promise: both, resolve } = Promise.withResolvers<void>();
  const subscriber = client.subscriber(
    'audit',
    (message) => {
      if (message.text === 'first' && message.deliveryAttempt === 1) throw new Error('again');
      handled.push(message.text);
      if (handled.length === 2) resolve();
    },
    // It is written to the stream before the broker can have heard of the failure.
    { onHandlerError: () => broker.store('orders', 'second', 'k') },
  );
  await both;
  await subscriber.stop();
  expect(handled).toEqual(['first', 'second']);
});

test('a raw consumer gets bytes and acks whole responses', async () => {
  const { promise: enough, resolve } = Promise.withResolvers<void>();
  let bytes = 0;
  const raw = client.subscribeRaw('audit', {
    onChunk: (chunk, settle) => {
      bytes += chunk.length;
      settle.ack();
      if (bytes > 3_000) resolve();
    },
  });
  await publish(...range(100));
  await enough;
  await raw.close();
  await raw.closed;
  expect(broker.acked('audit')).toHaveLength(100);
});

test('admin: topics and subscriptions by short names, with their errors', async () => {
  const topic = await client.admin.createTopic('invoices', {
    partitions: 8,
    retentionMs: 3_600_000,
    labels: { a: 'b' },
  });
  expect(topic).toMatchObject({ id: 'invoices', partitions: 8, retentionMs: 3_600_000, labels: { a: 'b' } });
  await expect(client.admin.createTopic('invoices')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
  const subscription = await client.admin.createSubscription('bills', { topic: 'invoices', ordering: true });
  expect(subscription).toMatchObject({ topic: 'projects/default/topics/invoices', ordering: true });
  expect((await client.admin.listTopics()).map((t) => t.id)).toEqual(['orders', 'invoices']);
  await client.admin.updateSubscription('bills', { ackDeadlineSeconds: 30 });
  expect((await client.admin.getSubscription('bills')).ackDeadlineSeconds).toBe(30);
  await expect(client.admin.getTopic('no')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await publish('1');
  for await (const [backlog] of client.admin.watchBacklog({ subscriptions: ['audit'] })) {
    expect(backlog).toMatchObject({ messages: 1, consumers: 0 });
    break;
  }
});

test("an address that the broker's certificate does not name is not trusted", async () => {
  broker.kill();
  await broker.listen(broker.port, '127.0.0.2');
  const elsewhere = connect(broker.connectOptions);
  await expect(elsewhere.admin.listTopics({ timeoutMs: 2_000 })).rejects.toThrow(
    /is not for 127\.0\.0\.2 but for localhost, 127\.0\.0\.1/,
  );
  await elsewhere.close();
});

test('without the right certificate nothing is reached', async () => {
  const { tls } = broker.connectOptions;
  const stranger = connect({
    address: broker.address,
    tls: { ...tls, cert: tls.ca, key: tls.ca.replace('.crt', '.key') },
  });
  await expect(stranger.admin.listTopics({ timeoutMs: 2_000 })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
  await stranger.close();
  expect(() => connect({ address: broker.address })).toThrow(/tls is missing/);
  expect(() => connect({ address: broker.address, tls: { ...tls, key: '/none' } })).toThrow(
    /tls is not usable.*\/none/,
  );
});
