// Publishing at a real broker: what is refused harms nothing else, and what is too large is said to be, with
// both numbers.
import { readFileSync } from 'node:fs';
import { fromBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { authorizeAll } from '../../services/broker/adapters/grpc/identity.ts';
import { publisherService } from '../../services/broker/adapters/grpc/publisher.ts';
import type { TopicDefinition } from '../../services/broker/core/definitions.ts';
import type { Broker } from '../../services/broker/engine/broker.ts';
import { MAX_RECEIVE_BYTES, MAX_RESPONSE_BYTES, PUBLISH_LIMITS } from '../../services/broker/limits.ts';
import { type Client, connect } from '../../services/client/client.ts';
import { countFrames } from '../../services/client/frames.ts';
import { type Message, MessageSchema } from '../../services/gen/fanfare/v1/message_pb.ts';
import { Publisher } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { createAuthority, startGrpcRig, TestClient } from '../support/grpc-rig.ts';
import { RawPublishStream } from '../support/publish-stream.ts';

const MIB = 1024 * 1024;
const MAX_MESSAGE_BYTES = 2 * MIB;
const nameOf = (id: string): string => `projects/default/topics/${id}`;
const good = { data: Buffer.from('good') };
const tooLarge = { data: Buffer.alloc(MAX_MESSAGE_BYTES + 1) };

let broker: BrokerProcess;
let client: Client;
let raw: TestClient;

beforeAll(async () => {
  broker = await startBroker();
  client = broker.connect();
  const pem = (path: string): string => readFileSync(path, 'utf8');
  const { ca, cert, key } = broker.tls;
  raw = new TestClient(
    broker.address.replace('127.0.0.1', 'localhost'),
    { cert: pem(cert), key: pem(key) },
    { cert: pem(ca), key: '' },
  );
}, 60_000);

afterAll(async () => {
  raw?.close();
  await client?.close();
  await broker?.[Symbol.asyncDispose]();
});

/** The answer to a publish that was stored. */
const storedIn = ({ logEpoch }: { readonly logEpoch: number }) => ({
  logEpoch: BigInt(logEpoch),
  runs: [{ count: 1 }],
});

test('a refused request leaves the stream open, and the topic that it named is the stream’s', async () => {
  const [first, second] = await Promise.all([
    client.admin.createTopic('refused-first'),
    client.admin.createTopic('refused-second'),
  ]);
  const stream = new RawPublishStream(raw);
  const refused = await stream.send({ topic: first.name, messages: [good, tooLarge, good] });
  expect(refused.error).toMatchObject({
    code: status.INVALID_ARGUMENT,
    message: 'messages[1] has 2097153 bytes of data and attributes; at most 2097152 are allowed',
    messageIndex: 1,
  });
  expect(await stream.send({ messages: [good] })).toMatchObject(storedIn(first));
  // A message without a topic then belongs to the topic of the refused request, not to the one before it.
  const other = await stream.send({ topic: second.name, messages: [tooLarge] });
  expect(other.error?.messageIndex).toBe(0);
  expect(await stream.send({ messages: [good] })).toMatchObject(storedIn(second));
  const nowhere = await stream.send({ topic: nameOf('nowhere'), messages: [good] });
  expect(nowhere.error?.code).toBe(status.NOT_FOUND);
  expect(nowhere.error?.messageIndex).toBeUndefined();
  expect((await stream.send({ messages: [good] })).error?.code).toBe(status.NOT_FOUND);
  stream.end();
  expect(await stream.status).toMatchObject({ code: status.OK });
});

test('a request that is too large is INVALID_ARGUMENT with both numbers, not "try again later"', async () => {
  await client.admin.createTopic('oversize');
  const topic = nameOf('oversize');
  const stream = new RawPublishStream(raw);
  const inAll = [{ data: Buffer.alloc(2 * MIB) }, { data: Buffer.alloc(MIB) }];
  for (const messages of [inAll, [{ data: Buffer.alloc(5 * MIB) }]]) {
    const { error } = await stream.send({ topic, messages });
    expect(error).toMatchObject({
      code: status.INVALID_ARGUMENT,
      message: expect.stringMatching(/^the request has \d+ bytes; at most 3145728 are allowed: send several/),
    });
    expect(error?.messageIndex).toBeUndefined();
  }
  expect((await stream.send({ messages: [good] })).error).toBeUndefined();
  const { publish } = Publisher.method;
  const failure = {
    code: status.INVALID_ARGUMENT,
    details: expect.stringMatching(/^the request has 5\d{6} bytes; at most 3145728/),
  };
  await expect(
    raw.call(publish, { topic, messages: [{ data: Buffer.alloc(5 * MIB) }] }),
  ).rejects.toMatchObject(failure);
  // It is more than the transport reads: the call ends, but says so too.
  const huge = { topic, messages: [{ data: Buffer.alloc(MAX_RECEIVE_BYTES) }] };
  const unread = {
    code: status.INVALID_ARGUMENT,
    details: expect.stringMatching(
      new RegExp(`^the request has \\d+ bytes; at most ${MAX_RECEIVE_BYTES} are read`),
    ),
  };
  await expect(raw.call(publish, huge)).rejects.toMatchObject(unread);
  await expect(stream.send(huge)).rejects.toThrow();
  expect(await stream.status).toMatchObject(unread);
});

test('messages that only the broker refuses fail alone, whatever shares their batch and their key', async () => {
  const authority = await createAuthority();
  const stored: Message[] = [];
  // This broker allows less than the client knows of.
  const limits = { ...PUBLISH_LIMITS, maxMessageBytes: 100 };
  await using rig = await startGrpcRig(authority, {
    services: (border) => [
      publisherService({ broker: engineOf(stored), border, authorize: authorizeAll, limits }),
    ],
  });
  const { ca, client: own } = authority;
  await using picky = connect({ address: rig.address, tls: { ca: ca.cert, cert: own.cert, key: own.key } });
  const publisher = picky.publisher('orders', { batch: { maxMessages: 50 } });
  const isBad = (n: number): boolean => n % 70 === 0;
  const outcomes = await Promise.allSettled(
    Array.from({ length: 500 }, (_, n) =>
      publisher.publish({
        data: `${n}`.padEnd(isBad(n) ? 101 : 100),
        orderingKey: n % 2 === 0 ? `${n % 20}` : '',
      }),
    ),
  );
  const failed = new Set<string>();
  const wanted = outcomes.map((_, n) => {
    const key = `${n % 20}`;
    if (failed.has(key) && n % 2 === 0) return 'FAILED_PRECONDITION';
    if (!isBad(n)) return 'stored';
    failed.add(key);
    return 'INVALID_ARGUMENT';
  });
  expect(
    outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'stored' : outcome.reason.code)),
  ).toEqual(wanted);
  expect(outcomes[0]).toMatchObject({
    reason: { message: 'messages[0] has 101 bytes of data and attributes; at most 100 are allowed' },
  });
  const numbers = stored.map(({ data }) => Number(Buffer.from(data).toString()));
  expect([...numbers].sort((a, b) => a - b)).toEqual(
    wanted.flatMap((outcome, n) => (outcome === 'stored' ? [n] : [])),
  );
  for (let key = 0; key < 20; key += 2) {
    const ofKey = numbers.filter((n) => n % 20 === key);
    expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
  }
  expect(rig.unexpected).toEqual([]);
});

/** An engine that keeps what it is given. */
function engineOf(stored: Message[]): Pick<Broker, 'publish' | 'topicDefinition'> {
  return {
    topicDefinition: (name) => ({ name, logEpoch: 1, durability: 'fsync' }) as TopicDefinition,
    publish: (_topic, { bytes, starts, ends, count }, done) => {
      const firstOffset = stored.length;
      for (let i = 0; i < count; i += 1)
        stored.push(fromBinary(MessageSchema, bytes.subarray(starts[i], ends[i])));
      setImmediate(() => done([{ partition: 0, firstOffset, count }]));
    },
  };
}

test('messages up to the limit arrive, in batches up to the limit; one beyond it fails alone', async () => {
  const topic = `projects/${'p'.repeat(255)}/topics/${'t'.repeat(255)}`;
  const subscription = `projects/${'p'.repeat(255)}/subscriptions/audit`;
  await client.admin.createTopic(topic, { partitions: 1 });
  await client.admin.createSubscription(subscription, { topic });
  const publisher = client.publisher(topic, { batch: { maxBytes: 3 * MIB } });
  const sizes = [0, 1, 2, 3, 4, 5, 100, 1_000, MIB, MIB + 1, 2 * MIB - 1].map(
    (less) => MAX_MESSAGE_BYTES - less,
  );
  const attributes = { ü: 'ü' };
  const published = sizes.map((size, n) =>
    n % 2 === 0
      ? publisher.publish({ data: Buffer.alloc(size), orderingKey: 'k'.repeat(1_024) })
      : publisher.publish({ data: 'x'.repeat(Math.max(0, size - 4)), attributes }),
  );
  await expect(publisher.publish(tooLarge)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'data and attributes have 2097153 bytes: at most 2097152 (2 MiB) are allowed',
  });
  await Promise.all(published);
  const arrived: number[] = [];
  for await (const message of client.subscribe(subscription)) {
    arrived.push(message.data.length + (message.attributes.ü === undefined ? 0 : 4));
    message.ack();
    if (arrived.length === sizes.length) break;
  }
  expect(arrived.sort((a, b) => b - a)).toEqual(sizes.map((size) => Math.max(size, 1)));
}, 30_000);

test('responses stay below 3 MiB, however small and many the messages are', async () => {
  await client.admin.createTopic('tiny', { partitions: 1 });
  await client.admin.createSubscription('tiny', { topic: 'tiny' });
  const count = 100_000;
  // Several publishers at once, so that the broker has much to gather.
  const publishers = Array.from({ length: 20 }, () => client.publisher('tiny'));
  await Promise.all(
    Array.from({ length: count }, (_, n) => publishers[n % publishers.length]!.publish({ data: 'x' })),
  );
  const limits = { maxOutstandingMessages: 1_000_000, maxOutstandingBytes: 1024 * MIB };
  const sizes: number[] = [];
  let frames = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const consumer = client.subscribeRaw('tiny', {
    ...limits,
    onChunk: (bytes, { ack }) => {
      sizes.push(bytes.length);
      frames += countFrames(bytes);
      ack();
      if (frames === count) resolve();
    },
  });
  await all;
  await consumer.close();
  expect(Math.max(...sizes)).toBeLessThanOrEqual(MAX_RESPONSE_BYTES);
}, 30_000);
