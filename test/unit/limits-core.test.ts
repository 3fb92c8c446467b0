// The bounds of limits.ts that are whole rules by themselves: what a message, a request or a definition may
// be, and what options may say. Each is reached, and passed by one, which is refused with the field and the
// limit. limits.test.ts has the list of all.
import { createRequire } from 'node:module';
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { Identity } from '../../services/broker/adapters/grpc/identity.ts';
import { RpcBorder, type StreamCall } from '../../services/broker/adapters/grpc/rpc.ts';
import { type Config, parseConfig } from '../../services/broker/config.ts';
import { cutChunk, recutFrame } from '../../services/broker/core/chunk.ts';
import {
  newSubscription,
  newTopic,
  type SubscriptionInput,
  type TopicInput,
} from '../../services/broker/core/definitions.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import {
  parseAcknowledge,
  parseModifyAckDeadline,
  parseSubscribe,
} from '../../services/broker/core/settle-request.ts';
import {
  CACHE_PART_OF_CONTAINER,
  DEFAULT_CACHE_BYTES,
  DEFAULT_DRAIN_TIMEOUT_MS,
  DEFAULT_KEEPALIVE_MS,
  DEFAULT_MAX_CONNECTION_AGE_MS,
  DEFAULT_MAX_STREAM_AGE_MS,
  DEFINITION_DEFAULTS,
  DEFINITION_LIMITS,
  GRPC_DEFAULT_RECEIVE_BYTES,
  MAX_ACK_DEADLINE_MS,
  MAX_ACK_ID_BYTES,
  MAX_ACK_IDS_PER_REQUEST,
  MAX_ATTRIBUTE_KEY_BYTES,
  MAX_ATTRIBUTE_VALUE_BYTES,
  MAX_ATTRIBUTES,
  MAX_FRAME_OVERHEAD_BYTES,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_ENCODING_BYTES,
  MAX_ORDERING_KEY_BYTES,
  MIN_ACK_DEADLINE_MS,
  MIN_CACHE_BYTES,
  MIN_KEEPALIVE_MS,
  MIN_STREAM_AGE_MS,
  PUBLISH_LIMITS,
  STREAM_AGE_JITTER,
  SUBSCRIBE_LIMITS,
} from '../../services/broker/limits.ts';
import {
  AcknowledgeRequestSchema,
  ModifyAckDeadlineRequestSchema,
  SubscribeRequestSchema,
} from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { messageBytes, requestBytes, requestOf } from '../support/publish-requests.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

/** Undefined if nothing is wrong. */
function refusal(call: () => unknown): string | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'INVALID_ARGUMENT') return error.message;
    throw error;
  }
}

const DATA = { data: Buffer.from('x') };
const entries = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`${at}`, 'v']));

/**
 * Tags and lengths of exactly so many bytes beside the data: an empty data field again and again, that of the
 * data, and a key.
 */
function messageWithRest(rest: number): Uint8Array {
  const key = messageBytes({ orderingKey: 'k'.repeat(MAX_ORDERING_KEY_BYTES) });
  const data = messageBytes({ data: Buffer.alloc(MAX_MESSAGE_BYTES) });
  const left = rest - key.length - (data.length - MAX_MESSAGE_BYTES);
  // One more byte for one that is odd: a length of 0 in two bytes.
  const padding = left % 2 === 0 ? Buffer.alloc(0) : Buffer.from([0x0a, 0x80, 0]);
  const empty = Buffer.from([0x0a, 0]);
  return Buffer.concat([key, padding, ...Array(Math.floor((left - padding.length) / 2)).fill(empty), data]);
}

test.each<[string, number, (n: number) => Uint8Array, string]>([
  [
    'bytes of a message',
    MAX_MESSAGE_BYTES,
    (n) => requestBytes('t', [{ data: Buffer.alloc(n - 2), attributes: { k: 'v' } }]),
    'messages[0] has 2097153 bytes of data and attributes; at most 2097152 are allowed',
  ],
  [
    'bytes of an ordering key, tags and lengths',
    MAX_ORDERING_KEY_BYTES + MAX_MESSAGE_ENCODING_BYTES,
    (n) => requestOf([messageWithRest(n)]),
    'messages[0] has 5121 bytes of ordering key, tags and lengths; at most 5120 are allowed',
  ],
  [
    'attributes',
    MAX_ATTRIBUTES,
    (n) => requestBytes('t', [{ attributes: entries(n) }]),
    'messages[0] has more than 100 attributes',
  ],
  [
    'bytes of an attribute’s key',
    MAX_ATTRIBUTE_KEY_BYTES,
    (n) => requestBytes('t', [{ attributes: { ['k'.repeat(n)]: '' } }]),
    'messages[0] has an attribute key of 257 bytes; at most 256 are allowed',
  ],
  [
    'bytes of an attribute’s value',
    MAX_ATTRIBUTE_VALUE_BYTES,
    (n) => requestBytes('t', [{ attributes: { k: 'v'.repeat(n) } }]),
    'messages[0] has an attribute value of 1025 bytes; at most 1024 are allowed',
  ],
  [
    'bytes of an ordering key',
    MAX_ORDERING_KEY_BYTES,
    (n) => requestBytes('t', [{ ...DATA, orderingKey: 'k'.repeat(n) }]),
    'messages[0].ordering_key has 1025 bytes; at most 1024 are allowed',
  ],
])('%s: %i', (_, most, request, message) => {
  expect(refusal(() => parsePublish(request(most), PUBLISH_LIMITS))).toBeUndefined();
  expect(refusal(() => parsePublish(request(most + 1), PUBLISH_LIMITS))).toBe(message);
});

test('what is added to a message when its frame is cut, and ack ids, even for the greatest of numbers', () => {
  const largest = Number.MAX_SAFE_INTEGER;
  const body = Buffer.alloc(MAX_MESSAGE_BYTES);
  const batch = parsePublish(requestBytes('t', [{ data: body }]), PUBLISH_LIMITS);
  const id = { logEpoch: largest, partition: DEFINITION_LIMITS.maxPartitions - 1 };
  const { bytes } = cutChunk([{ batch, indexes: undefined }], id, largest - 1, 8.64e15, (n) =>
    Buffer.alloc(n),
  );
  const again = recutFrame(bytes, 0, bytes.length, 0xffff_ffff);
  expect(again.length).toBeGreaterThan(bytes.length);
  expect(again.length - body.length).toBeLessThanOrEqual(MAX_FRAME_OVERHEAD_BYTES);
  const ackId = `${largest}.${id.partition}-${largest - 1}-${0xffff_ffff}`;
  expect(Buffer.from(again).includes(ackId)).toBe(true);
  expect(ackId.length).toBeLessThanOrEqual(MAX_ACK_ID_BYTES);
});

const read =
  <S extends DescMessage>(
    schema: S,
    parse: (bytes: Uint8Array, limits: typeof SUBSCRIBE_LIMITS) => unknown,
  ) =>
  (request: MessageInitShape<S>) =>
    refusal(() => parse(toBinary(schema, create(schema, request)), SUBSCRIBE_LIMITS));
const subscribe = read(SubscribeRequestSchema, parseSubscribe);
const acknowledge = read(AcknowledgeRequestSchema, parseAcknowledge);
const modify = read(ModifyAckDeadlineRequestSchema, parseModifyAckDeadline);

describe(`${MAX_ACK_IDS_PER_REQUEST} ack ids or ranges in one field`, () => {
  const ids = (count: number): string[] => Array.from({ length: count }, (_, at) => `1.0-${2 * at}`);
  const ranges = (count: number) =>
    Array.from({ length: count }, (_, at) => ({ firstOffset: BigInt(2 * at), lastOffset: BigInt(2 * at) }));
  const modified = (count: number, seconds: number) => ({
    modifyDeadlineAckIds: ids(count),
    modifyDeadlineSeconds: Array<number>(seconds).fill(1),
  });
  test.each<[string, (count: number) => string | undefined]>([
    ['ack_ids', (n) => subscribe({ ackIds: ids(n) })],
    ['ack_ranges', (n) => subscribe({ ackRanges: ranges(n) })],
    ['nack_ranges', (n) => subscribe({ nackRanges: ranges(n) })],
    ['extend_ranges', (n) => subscribe({ extendRanges: ranges(n), extendSeconds: 1 })],
    ['modify_deadline_ack_ids', (n) => subscribe(modified(n, MAX_ACK_IDS_PER_REQUEST))],
    ['modify_deadline_seconds', (n) => subscribe(modified(MAX_ACK_IDS_PER_REQUEST, n))],
    ['ack_ids', (n) => acknowledge({ ackIds: ids(n) })],
    ['ack_ranges', (n) => acknowledge({ ackRanges: ranges(n) })],
    ['ack_ids', (n) => modify({ ackIds: ids(n), ackDeadlineSeconds: 1 })],
  ])('%s', (field, ask) => {
    expect(ask(MAX_ACK_IDS_PER_REQUEST)).toBeUndefined();
    expect(ask(MAX_ACK_IDS_PER_REQUEST + 1)).toBe(
      `${field} has more than 3000 entries: send several requests`,
    );
  });
});

test('an ack id that is longer than any is not looked into', () => {
  const digits = (bytes: number): string => '9'.repeat(bytes);
  const notOurs = 'has an entry that is not an ack id: give back what ReceivedMessage.ack_id said';
  for (const ask of [acknowledge, modify]) {
    expect(ask({ ackIds: [digits(MAX_ACK_ID_BYTES)] })).toBe(`ack_ids ${notOurs}`);
    expect(ask({ ackIds: [digits(MAX_ACK_ID_BYTES + 1)] })).toBe(
      'ack_ids has an entry of 165 bytes; at most 164 are allowed',
    );
  }
});

describe('definitions', () => {
  const { maxPartitions, minRetentionMs, maxRetentionMs, minRetentionBytes, maxReplicas } = DEFINITION_LIMITS;
  const { maxLabels, maxLabelKeyBytes, maxLabelValueBytes } = DEFINITION_LIMITS;
  const defaults = { ...DEFINITION_DEFAULTS, durability: 'stored' } as const;
  const topic = (input: Partial<TopicInput>) => () =>
    newTopic({ name: 'projects/p/topics/top', ...input }, DEFINITION_LIMITS, defaults);
  const subscription = (input: Partial<SubscriptionInput>) => () =>
    newSubscription(
      { name: 'projects/p/subscriptions/sub', topic: 'projects/p/topics/top', ...input },
      DEFINITION_LIMITS,
      defaults,
    );
  const replicas = (minReplicas: number) => topic({ durability: 'replicated', minReplicas });
  const label = (key: number, value: number) => ({ labels: { ['k'.repeat(key)]: 'v'.repeat(value) } });

  test.each<[string, bound: number, beyond: number, (n: number) => () => unknown, string]>([
    [
      'most partitions',
      maxPartitions,
      maxPartitions + 1,
      (partitions) => topic({ partitions }),
      'topic.partitions is 1025: must be 1 to 1024',
    ],
    [
      'fewest partitions',
      1,
      0,
      (partitions) => topic({ partitions }),
      'topic.partitions is 0: must be 1 to 1024',
    ],
    [
      'longest retention',
      maxRetentionMs,
      maxRetentionMs + 1,
      (retentionMs) => topic({ retentionMs }),
      'topic.retention is 31622400001: must be 60000 to 31622400000 ms',
    ],
    [
      'shortest retention',
      minRetentionMs,
      minRetentionMs - 1,
      (retentionMs) => topic({ retentionMs }),
      'topic.retention is 59999: must be 60000 to 31622400000 ms',
    ],
    [
      'least retention in bytes',
      minRetentionBytes,
      minRetentionBytes - 1,
      (retentionBytesPerPartition) => topic({ retentionBytesPerPartition }),
      'topic.retention_bytes_per_partition is 1048575: must be 1048576 to 9007199254740991 bytes, or 0 for no limit',
    ],
    ['most replicas', maxReplicas, maxReplicas + 1, replicas, 'topic.min_replicas is 6: must be 1 to 5'],
    [
      'longest ack deadline',
      MAX_ACK_DEADLINE_MS,
      MAX_ACK_DEADLINE_MS + 1_000,
      (ackDeadlineMs) => subscription({ ackDeadlineMs }),
      'subscription.ack_deadline_seconds is 601: must be 1 to 600 s',
    ],
    [
      'shortest ack deadline',
      MIN_ACK_DEADLINE_MS,
      MIN_ACK_DEADLINE_MS - 1,
      (ackDeadlineMs) => subscription({ ackDeadlineMs }),
      'subscription.ack_deadline_seconds is 0.999: must be 1 to 600 s',
    ],
    [
      'labels of a topic',
      maxLabels,
      maxLabels + 1,
      (n) => topic({ labels: entries(n) }),
      'topic.labels has 65 entries: at most 64',
    ],
    [
      'labels of a subscription',
      maxLabels,
      maxLabels + 1,
      (n) => subscription({ labels: entries(n) }),
      'subscription.labels has 65 entries: at most 64',
    ],
    [
      'bytes of a label’s key',
      maxLabelKeyBytes,
      maxLabelKeyBytes + 1,
      (n) => topic(label(n, 1)),
      `topic.labels has the key "${'k'.repeat(64)}" of 64 bytes: must have 1 to 63`,
    ],
    [
      'bytes of a label’s value',
      maxLabelValueBytes,
      maxLabelValueBytes + 1,
      (n) => topic(label(1, n)),
      'topic.labels["k"] has 256 bytes: at most 255',
    ],
  ])('%s', (_, bound, beyond, define, message) => {
    expect(refusal(define(bound))).toBeUndefined();
    expect(refusal(define(beyond))).toBe(message);
  });

  test('what is left out gets the defaults', () => {
    const { partitions, retentionMs, ackDeadlineMs } = DEFINITION_DEFAULTS;
    expect(topic({})()).toMatchObject({ partitions, retentionMs });
    expect(subscription({})()).toMatchObject({ ackDeadlineMs });
  });
});

describe('options of a broker', () => {
  const config = (...argv: string[]): Config => {
    const parsed = parseConfig({ argv, env: {}, terminal: false });
    if ('help' in parsed) throw new Error('it printed help');
    return parsed.config;
  };
  test.each<[string, keyof Config, fallback: number, least: number, unit: string, allowed: string]>([
    [
      '--max-stream-age',
      'maxStreamAgeMs',
      DEFAULT_MAX_STREAM_AGE_MS,
      MIN_STREAM_AGE_MS,
      'ms',
      '1s to 7d, such as 30m',
    ],
    [
      '--max-connection-age',
      'maxConnectionAgeMs',
      DEFAULT_MAX_CONNECTION_AGE_MS,
      MIN_STREAM_AGE_MS,
      'ms',
      '1s to 30d, such as 12h',
    ],
    ['--keepalive', 'keepaliveMs', DEFAULT_KEEPALIVE_MS, MIN_KEEPALIVE_MS, 'ms', '1s to 24h, such as 30s'],
    ['--drain-timeout', 'drainTimeoutMs', DEFAULT_DRAIN_TIMEOUT_MS, 0, 'ms', '0s to 1h, such as 10s'],
    ['--cache', 'cacheBytes', DEFAULT_CACHE_BYTES, MIN_CACHE_BYTES, 'B', '8MiB to 1TiB, such as 256MiB'],
  ])('%s: its default, and the least that it takes', (option, field, fallback, least, unit, allowed) => {
    expect(config()[field]).toBe(fallback);
    expect(config(`${option}=${least}${unit}`)[field]).toBe(least);
    const below = `${least - 1}${unit}`;
    expect(refusal(() => config(`${option}=${below}`))).toBe(`${option} is "${below}": must be ${allowed}`);
  });
});

test('the default of --cache in a container is a part of its memory, within bounds', () => {
  const cacheOf = (memoryBytes: number | undefined, ...argv: string[]) => {
    const parsed = parseConfig({ argv, env: {}, terminal: false, memoryBytes });
    return 'config' in parsed ? parsed.config.cacheBytes : undefined;
  };
  const enough = DEFAULT_CACHE_BYTES / CACHE_PART_OF_CONTAINER;
  expect([undefined, 16 * enough, enough].map((bytes) => cacheOf(bytes))).toEqual(
    Array(3).fill(DEFAULT_CACHE_BYTES),
  );
  expect(cacheOf(enough / 2)).toBe(DEFAULT_CACHE_BYTES / 2);
  expect(cacheOf(MIN_CACHE_BYTES)).toBe(MIN_CACHE_BYTES);
  expect(cacheOf(enough / 2, '--cache', '512MiB')).toBe(512 * 1024 ** 2);
});

test('streams are ended at the maximum age, or as much before it as the jitter says', async () => {
  const clock = new VirtualClock();
  const ended: number[] = [];
  let chance = 0;
  const border = new RpcBorder({
    identity: new Identity({ plaintext: true }),
    clock,
    random: () => chance,
    maxStreamAgeMs: DEFAULT_MAX_STREAM_AGE_MS,
    onUnexpected: () => {},
  });
  for (chance of [0, 1])
    border.track({ once: () => {} } as unknown as StreamCall, () => void ended.push(clock.monotonicMs()));
  await clock.advance(2 * DEFAULT_MAX_STREAM_AGE_MS);
  expect(ended).toEqual([DEFAULT_MAX_STREAM_AGE_MS * (1 - STREAM_AGE_JITTER), DEFAULT_MAX_STREAM_AGE_MS]);
});

test('what gRPC clients accept by default is what grpc-js does', () => {
  const { DEFAULT_MAX_RECEIVE_MESSAGE_LENGTH } = createRequire(import.meta.url)(
    '@grpc/grpc-js/build/src/constants',
  );
  expect(GRPC_DEFAULT_RECEIVE_BYTES).toBe(DEFAULT_MAX_RECEIVE_MESSAGE_LENGTH);
});
