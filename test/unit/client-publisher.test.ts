// The publisher on a fake broker: batches, order of keys, lost connections, refusals, bounds.
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import { FakeBroker } from '../support/fake-broker.ts';

let broker: FakeBroker;
let client: Client;
const quick = { initialMs: 1, maxMs: 20 };

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.createTopic('orders');
  client = connect(broker.connectOptions);
});

afterEach(async () => {
  await client.close();
  await broker.stop();
});

const range = (count: number) => Array.from({ length: count }, (_, n) => String(n));

test('what is published in one turn goes in one request, and every message gets its id', async () => {
  const publisher = client.publisher('orders');
  const results = await Promise.all(range(5).map((data) => publisher.publish({ data })));
  expect(results.map((result) => result.messageId)).toEqual(['1.0-0', '1.0-1', '1.0-2', '1.0-3', '1.0-4']);
  expect(broker.publishRequests.map((request) => request.messages.length)).toEqual([5]);
  await publisher.publish({ data: 'next' });
  // The topic is named once a stream.
  expect(broker.publishRequests.map((request) => request.topic)).toEqual([
    'projects/default/topics/orders',
    '',
  ]);
});

test('batches keep to their bounds', async () => {
  const publisher = client.publisher('orders', { batch: { maxMessages: 10, maxBytes: 2_000 } });
  await Promise.all(range(25).map((data) => publisher.publish({ data })));
  expect(broker.publishRequests.map((request) => request.messages.length)).toEqual([10, 10, 5]);
  const large = Buffer.alloc(1_500);
  await Promise.all([large, large, Buffer.alloc(3_000), large].map((data) => publisher.publish({ data })));
  expect(broker.publishRequests.slice(3).map((request) => request.messages.length)).toEqual([1, 1, 1, 1]);
});

test('a lost connection: what was not answered is published again, in order', async () => {
  const retries: string[] = [];
  const publisher = client.publisher('orders', {
    batch: { maxMessages: 10 },
    backoff: quick,
    onRetry: (error) => retries.push(error.code),
  });
  let seen = 0;
  const idsByStream = new Map<unknown, bigint[]>();
  broker.onPublish = ({ requestId }, call) => {
    seen++;
    idsByStream.set(call, [...(idsByStream.get(call) ?? []), requestId]);
    return seen === 2 ? 'ignore' : seen === 4 ? 'break' : seen === 7 ? 'lose' : undefined;
  };
  await Promise.all(range(100).map((data) => publisher.publish({ data })));
  const stored = broker.stored('orders');
  expect(new Set(stored).size).toBe(100);
  expect(idsByStream.size).toBe(3);
  for (const ids of idsByStream.values()) expect(ids).toEqual([...ids].sort((a, b) => Number(a - b)));
  expect(retries).toEqual(['UNAVAILABLE', 'UNAVAILABLE']);
});

test('an ordering key stays in order whatever is refused, lost or broken off', async () => {
  const publisher = client.publisher('orders', { batch: { maxMessages: 7 }, backoff: quick });
  let seen = 0;
  broker.onPublish = () => {
    seen++;
    if (seen % 5 === 2) return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
    if (seen % 7 === 3) return 'lose';
    return seen % 11 === 4 ? 'break' : undefined;
  };
  const keys = ['a', 'b', 'c', 'd'];
  await Promise.all(
    range(200).map((n) => {
      const orderingKey = keys[((Number(n) * 7) % 13) % 4]!;
      return publisher.publish({ data: `${orderingKey} ${n}`, orderingKey });
    }),
  );
  const stored = broker.stored('orders');
  for (const key of keys) {
    const numbers = stored.filter((line) => line.startsWith(key)).map((line) => Number(line.slice(2)));
    const firstCopies = [...new Set(numbers)];
    expect(firstCopies).toEqual([...firstCopies].sort((a, b) => a - b));
  }
  expect(new Set(stored).size).toBe(200);
});

test('batches that share a key are never in flight together, others are', async () => {
  const aborter = new AbortController();
  const publisher = client.publisher('orders', { batch: { maxMessages: 1 }, signal: aborter.signal });
  const arrived: string[] = [];
  const { promise: both, resolve } = Promise.withResolvers<void>();
  broker.onPublish = (request) => {
    arrived.push(Buffer.from(request.messages[0]!.data).toString());
    if (arrived.length === 2) resolve();
    return arrived.length <= 2 ? 'ignore' : undefined;
  };
  const results = ['a', 'b', 'a'].map((key, n) =>
    publisher.publish({ data: `${key}${n}`, orderingKey: key }),
  );
  for (const result of results) result.catch(() => {});
  await both;
  // The message of another publisher goes through the same broker after what the first one has sent.
  await client.publisher('orders').publish({ data: 'other' });
  expect(arrived).toEqual(['a0', 'b1', 'other']);
  aborter.abort();
});

test('a refused message fails alone; its key is stopped until it is resumed', async () => {
  const publisher = client.publisher('orders', { batch: { maxMessages: 1 } });
  broker.onPublish = (request) =>
    Buffer.from(request.messages[0]!.data).toString() === 'bad'
      ? { refuse: status.INVALID_ARGUMENT, message: 'bad is not good' }
      : undefined;
  const outcomes = await Promise.allSettled([
    publisher.publish({ data: 'one', orderingKey: 'k' }),
    publisher.publish({ data: 'bad', orderingKey: 'k' }),
    publisher.publish({ data: 'two', orderingKey: 'k' }),
    publisher.publish({ data: 'other', orderingKey: 'l' }),
  ]);
  const codes = outcomes.map((o) => (o.status === 'fulfilled' ? 'stored' : (o.reason as FanfareError).code));
  expect(codes).toEqual(['stored', 'INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'stored']);
  await expect(publisher.publish({ data: 'three', orderingKey: 'k' })).rejects.toThrow(/resumeKey/);
  publisher.resumeKey('k');
  await publisher.publish({ data: 'four', orderingKey: 'k' });
  expect(broker.stored('orders')).toEqual(['one', 'other', 'four']);
  expect(publisher.outstanding).toEqual({ messages: 0, bytes: 0 });
});

test('a full broker is asked again, until the deadline', async () => {
  broker.onPublish = () => ({ refuse: status.RESOURCE_EXHAUSTED, message: 'the disk is full' });
  const publisher = client.publisher('orders', { backoff: quick, retryDeadlineMs: 500 });
  // A try may be under way when there is no more time: nobody knows of that one.
  await expect(publisher.publish({ data: 'x' })).rejects.toMatchObject({
    code: expect.stringMatching(/^(RESOURCE_EXHAUSTED|UNAVAILABLE)$/),
    message: expect.stringMatching(/the disk is full$/),
    retriable: true,
  });
  expect(broker.publishRequests.length).toBeGreaterThan(2);
});

test('an answer that never comes is given up after the deadline', async () => {
  broker.onPublish = () => 'ignore';
  const publisher = client.publisher('orders', { backoff: quick, retryDeadlineMs: 50 });
  await expect(publisher.publish({ data: 'x' })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('an unknown topic is reported at once', async () => {
  await expect(client.publisher('nothing').publish({ data: 'x' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
    retriable: false,
  });
});

test('a killed broker: publishing goes on when it is back', async () => {
  const publisher = client.publisher('orders', { backoff: quick });
  await publisher.publish({ data: 'before' });
  const { port } = broker;
  broker.kill();
  const during = publisher.publish({ data: 'during' });
  await broker.listen(port);
  await during;
  expect(broker.stored('orders')).toEqual(['before', 'during']);
});

test('ready() holds a publisher back; publishing on regardless is refused', async () => {
  const held: (() => void)[] = [];
  broker.onPublish = (_request, call) => {
    call.pause();
    held.push(() => call.resume());
    return undefined;
  };
  const publisher = client.publisher('orders', { maxOutstandingMessages: 10, batch: { maxMessages: 10 } });
  const results: Promise<unknown>[] = [];
  for (const data of range(20)) results.push(publisher.publish({ data }));
  await expect(publisher.publish({ data: 'too much' })).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  let isReady = false;
  const ready = publisher.ready().then(() => {
    isReady = true;
  });
  await results[0];
  expect(isReady).toBe(false);
  for (const resume of held.splice(0)) resume();
  broker.onPublish = () => undefined;
  await ready;
  await Promise.all(results);
});

test('close() waits for answers; an aborted publisher rejects them', async () => {
  const publisher = client.publisher('orders');
  const published = publisher.publish({ data: 'x' });
  await publisher.close();
  await expect(published).resolves.toEqual({ messageId: '1.0-0' });
  await expect(publisher.publish({ data: 'y' })).rejects.toMatchObject({ code: 'CANCELLED' });

  const aborter = new AbortController();
  const other = client.publisher('orders', { signal: aborter.signal });
  broker.onPublish = () => 'ignore';
  const pending = other.publish({ data: 'z' });
  aborter.abort();
  await expect(pending).rejects.toMatchObject({ code: 'CANCELLED' });
  await expect(other.flush()).resolves.toBeUndefined();
});
