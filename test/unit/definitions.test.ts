// core/definitions.ts and core/definition-codec.ts: defaults, limits, updates by mask, and the stored text.
import { describe, expect, test } from 'vitest';
import {
  decodeSubscription,
  decodeTopic,
  encodeDefinition,
  encodeTombstone,
} from '../../services/broker/core/definition-codec.ts';
import {
  changedSubscription,
  changedTopic,
  definitionBytes,
  newSubscription,
  newTopic,
  type SubscriptionDefinition,
  type TopicDefinition,
} from '../../services/broker/core/definitions.ts';
import { DEFINITION_DEFAULTS, DEFINITION_LIMITS as limits } from '../../services/broker/limits.ts';

const defaults = { ...DEFINITION_DEFAULTS, durability: 'fsync' } as const;
const name = 'projects/p/topics/orders';
const topic: TopicDefinition = {
  ...newTopic({ name, partitions: 8, labels: { team: 'shop' } }, limits, defaults),
  logEpoch: 7,
  createTimeMs: 1_700_000_000_000,
  revision: 3,
};
const subscription: SubscriptionDefinition = {
  ...newSubscription({ name: 'projects/p/subscriptions/audit', topic: name }, limits, defaults),
  startOffsets: [5, 0, 2 ** 53 - 1],
  incarnation: 9,
  createTimeMs: 1,
  topicEpoch: 7,
  revision: 1,
};

describe('new topics and subscriptions', () => {
  test('what is left out gets the documented defaults', () => {
    expect(newTopic({ name }, limits, defaults)).toEqual({
      name,
      partitions: 4,
      retentionMs: 7 * 24 * 3_600_000,
      retentionBytesPerPartition: 0,
      durability: 'fsync',
      minReplicas: 0,
      labels: {},
    });
    expect(subscription).toMatchObject({ ackDeadlineMs: 10_000, ordering: false, start: 'latest' });
  });

  test('all problems are reported together, with field and limit', () => {
    const input = {
      name: 'orders',
      partitions: 1025,
      retentionMs: 59_999,
      retentionBytesPerPartition: 1000,
      labels: { '': 'x', long: 'ä'.repeat(128) },
    };
    const error = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    expect(() => newTopic(input, limits, defaults)).toThrow(error);
    expect(() => newTopic(input, limits, defaults)).toThrow(
      /^topic.name: .*; topic.partitions is 1025: must be 1 to 1024; topic.retention is 59999: must be 60000 to \d+ ms; topic.retention_bytes_per_partition is 1000: must be 1048576 to .*; topic.labels has the key "" of 0 bytes: must have 1 to 63; topic.labels\["long"\] has 256 bytes: at most 255$/,
    );
  });

  test.each([
    { partitions: Number.NaN },
    { partitions: 0 },
    { retentionMs: -1 },
    { retentionMs: Number.POSITIVE_INFINITY },
    { retentionMs: 366 * 24 * 3_600_000 + 1 },
    { retentionBytesPerPartition: -1 },
    { retentionBytesPerPartition: 2 ** 64 },
    { labels: Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`k${at}`, ''])) },
    { labels: { ['k'.repeat(64)]: '' } },
    ...[
      '\0',
      '\n',
      '\u001b[2J',
      '\u007f',
      '\u0085',
      '\u009b',
      '\u200b',
      '\u2028',
      '\u202e',
      '\ue000',
    ].flatMap((bad) => [{ labels: { [`a${bad}`]: '' } }, { labels: { a: bad } }]),
  ])('refuses a topic with %o', (bad) => {
    expect(() => newTopic({ name, ...bad }, limits, defaults)).toThrow(/^topic\./);
  });

  test('a label with a control character is named, without the character; what people write is taken', () => {
    const labels = { 'a\u009b': 'b\u202e' };
    expect(() => newTopic({ name, labels }, limits, defaults)).toThrow(
      'topic.labels has the key "a\\u009b": must be without control characters, line separators and the like; topic.labels["a\\u009b"] is "b\\u202e": must be',
    );
    const good = { 'é 漢/=': 'https://example.org/?a=b "c" 🎉 ' };
    expect(newTopic({ name, labels: good }, limits, defaults).labels).toEqual(good);
  });

  test.each([{ ackDeadlineMs: -1000 }, { ackDeadlineMs: 601_000 }, { topic: 'orders' }, { name: 'audit' }])(
    'refuses a subscription with %o',
    (bad) => {
      const input = { name: subscription.name, topic: name, ...bad };
      expect(() => newSubscription(input, limits, defaults)).toThrow(/^subscription\./);
    },
  );
});

describe('updates', () => {
  const change = (input: object, paths: string[]) =>
    changedTopic(topic, { name, ...input }, paths, limits, defaults);

  test('change what the mask names and nothing else', () => {
    expect(change({ partitions: 16, labels: { a: 'b' }, retentionMs: 60_000 }, ['partitions'])).toEqual({
      ...topic,
      partitions: 16,
      formerPartitions: [topic.partitions],
    });
    expect(change({ labels: { a: 'b' } }, ['labels', 'retention'])).toEqual({
      ...topic,
      labels: { a: 'b' },
      retentionMs: defaults.retentionMs,
    });
  });

  test('remember every count of partitions', () => {
    const grown = { ...topic, partitions: 16, formerPartitions: [8] };
    const more = changedTopic(grown, { name: topic.name, partitions: 32 }, ['partitions'], limits, defaults);
    expect(more).toEqual({ ...topic, partitions: 32, formerPartitions: [8, 16] });
    expect(decodeTopic(topic.name, more.revision, encodeDefinition(more)).definition).toEqual(more);
    const same = changedTopic(grown, { name: topic.name, partitions: 16 }, ['partitions'], limits, defaults);
    expect(same).toEqual(grown);
  });

  test.each([
    [{ partitions: 7 }, ['partitions'], 'FAILED_PRECONDITION', /can't shrink to 7/],
    [{}, ['partitions'], 'INVALID_ARGUMENT', /partitions is 0/],
    [{}, ['durability'], 'FAILED_PRECONDITION', /durability can't be changed/],
    [{}, ['name'], 'FAILED_PRECONDITION', /name can't be changed/],
    [{}, ['colour'], 'INVALID_ARGUMENT', /"colour": must be of partitions, retention/],
    [{}, ['*'], 'INVALID_ARGUMENT', /must be of/],
    [{}, [], 'INVALID_ARGUMENT', /update_mask is empty/],
    [{}, Array.from({ length: 33 }, () => 'labels'), 'INVALID_ARGUMENT', /at most 32/],
  ])('%o %o is %s', (input, paths, code, message) => {
    expect(() => change(input, paths)).toThrow(expect.objectContaining({ code }));
    expect(() => change(input, paths)).toThrow(message);
  });

  test('of a subscription', () => {
    const paths = ['ack_deadline_seconds'];
    const input = { name: subscription.name, topic: '', ackDeadlineMs: 600_000 };
    expect(changedSubscription(subscription, input, paths, limits).ackDeadlineMs).toBe(600_000);
    expect(() =>
      changedSubscription(subscription, { ...input, ackDeadlineMs: undefined }, paths, limits),
    ).toThrow(/ack_deadline_seconds is 0: must be 1 to 600 s/);
    expect(() => changedSubscription(subscription, input, ['topic'], limits)).toThrow(/can't be changed/);
  });
});

describe('stored text', () => {
  test('comes back as it was, tombstones too', () => {
    expect(decodeTopic(name, 3, encodeDefinition(topic))).toEqual({ definition: topic, deleted: false });
    const stored = decodeSubscription(subscription.name, 1, encodeDefinition(subscription));
    expect(stored).toEqual({ definition: subscription, deleted: false });
    expect(decodeTopic(name, 3, encodeTombstone(topic))).toEqual({
      definition: { ...topic, labels: {} },
      deleted: true,
    });
    const { startOffsets: _, ...rest } = subscription;
    expect(decodeSubscription(subscription.name, 1, encodeTombstone(subscription))).toEqual({
      definition: { ...rest, labels: {} },
      deleted: true,
    });
  });

  test('of a newer format is refused, damage is named', () => {
    expect(() => decodeTopic(name, 1, '{"format":2}')).toThrow(
      expect.objectContaining({
        code: 'FAILED_PRECONDITION',
        message: expect.stringContaining('newer version'),
      }),
    );
    for (const body of ['', 'null', '[]', '{}', encodeDefinition(subscription)]) {
      expect(() => decodeTopic(name, 1, body)).toThrow(/restore a backup/);
    }
    const broken = encodeDefinition(subscription).replace('"incarnation":9', '"incarnation":"9"');
    expect(() => decodeSubscription(subscription.name, 1, broken)).toThrow(/damaged at "incarnation"/);
  });
});

test('the estimate of an answer is not too low', () => {
  const labels = Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`key-${at}`, 'ä'.repeat(127)]));
  const json = JSON.stringify({ ...topic, labels });
  expect(definitionBytes({ ...topic, labels })).toBeGreaterThan(Buffer.byteLength(json) - 300);
});
