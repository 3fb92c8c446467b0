// The client's bytes: what it writes is what protobuf-es reads, and what it reads is what protobuf-es wrote.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Batch } from '../../services/client/batch.ts';
import { FanfareError } from '../../services/client/errors.ts';
import { countFrames, firstAndLast, rangesOf } from '../../services/client/frames.ts';
import { decodePublishAnswer, measure, type OutgoingMessage } from '../../services/client/message-codec.ts';
import {
  type HeldResponse,
  type MessageHome,
  ReceivedMessage,
} from '../../services/client/received-message.ts';
import { Settlements } from '../../services/client/settlements.ts';
import {
  ACK_RANGES,
  decodeProperties,
  EXTEND_RANGES,
  encodeAcknowledge,
  encodeFirstRequest,
  encodeLimits,
  encodeRanges,
} from '../../services/client/subscribe-codec.ts';
import { varintSize, WireReader, writeVarint } from '../../services/client/wire.ts';
import {
  PublishStreamRequestSchema,
  PublishStreamResponseSchema,
} from '../../services/gen/fanfare/v1/publisher_pb.ts';
import {
  AcknowledgeRequestSchema,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
  type SubscriptionPropertiesSchema,
} from '../../services/gen/fanfare/v1/subscriber_pb.ts';

const TOPIC = 'projects/default/topics/orders';
const safeInteger = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

function batchOf(messages: readonly OutgoingMessage[], requestId = 7): Batch {
  const batch = new Batch(requestId, TOPIC);
  for (const message of messages)
    batch.add(
      measure(message),
      () => {},
      () => {},
    );
  return batch;
}

test('varints survive the way through the wire', () => {
  fc.assert(
    fc.property(safeInteger, (value) => {
      const buffer = Buffer.alloc(10);
      const end = writeVarint(buffer, 0, value);
      expect(end).toBe(varintSize(value));
      expect(new WireReader(buffer, 0, end).varint()).toBe(value);
    }),
  );
});

test('a batch is what protobuf-es reads as the same messages', () => {
  const message = fc.record({
    data: fc.oneof(fc.uint8Array({ maxLength: 5_000 }), fc.string({ unit: 'grapheme', minLength: 1 })),
    attributes: fc.dictionary(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((key) => !key.startsWith('goog')),
      fc.string({ unit: 'grapheme', maxLength: 50 }),
      { noNullPrototype: true },
    ),
    orderingKey: fc.string({ unit: 'grapheme', maxLength: 20 }),
  });
  const valid = message.filter(
    ({ data, attributes }) => data.length > 0 || Object.keys(attributes).length > 0,
  );
  fc.assert(
    fc.property(fc.array(valid, { maxLength: 20 }), fc.boolean(), safeInteger, (messages, withTopic, id) => {
      const request = fromBinary(PublishStreamRequestSchema, batchOf(messages, id).toRequest(withTopic));
      expect(request.topic).toBe(withTopic ? TOPIC : '');
      expect(request.requestId).toBe(BigInt(id));
      expect(request.messages.map((m) => [...m.data])).toEqual(
        messages.map((m) => [...(typeof m.data === 'string' ? Buffer.from(m.data) : m.data)]),
      );
      expect(request.messages.map((m) => ({ ...m.attributes }))).toEqual(
        messages.map((m) => ({ ...m.attributes })),
      );
      expect(request.messages.map((m) => m.orderingKey)).toEqual(messages.map((m) => m.orderingKey));
    }),
  );
});

test.each<[string, OutgoingMessage, RegExp]>([
  ['empty', {}, /empty/],
  ['too large', { data: Buffer.alloc(2 * 1024 * 1024 + 1) }, /2097153 bytes.*2097152/],
  ['a long key', { data: 'x', orderingKey: 'é'.repeat(513) }, /orderingKey has 1026 bytes.*1024/],
  ['a long attribute key', { attributes: { ['k'.repeat(257)]: '' } }, /257 bytes.*256/],
  ['a long attribute value', { attributes: { k: 'v'.repeat(1025) } }, /1025 bytes.*1024/],
  ['a reserved attribute', { attributes: { googx: '1' } }, /goog/],
  [
    'too many attributes',
    { attributes: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`k${n}`, ''])) },
    /101 attributes.*100/,
  ],
])('a message that is %s is refused here, with the limit', (_, message, reason) => {
  expect(() => measure(message)).toThrowError(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  expect(() => measure(message)).toThrowError(reason);
});

test('messages of failed keys are taken out of a batch, the others stay as they were', () => {
  const rejected: string[] = [];
  const batch = new Batch(1, TOPIC);
  for (const [data, orderingKey] of [
    ['1', 'a'],
    ['2', 'b'],
    ['3', ''],
    ['4', 'a'],
    ['5', 'c'],
  ] as const) {
    batch.add(
      measure({ data, orderingKey }),
      () => {},
      () => rejected.push(data),
    );
  }
  batch.rejectKeys(new Set(['a']), new FanfareError('NOT_FOUND', 'gone'));
  const { messages } = fromBinary(PublishStreamRequestSchema, batch.toRequest(true));
  expect(messages.map((m) => Buffer.from(m.data).toString())).toEqual(['2', '3', '5']);
  expect(rejected).toEqual(['1', '4']);
  expect([...batch.keys]).toEqual(['b', 'c']);
});

test('a publish answer is read, runs and error', () => {
  const answer = create(PublishStreamResponseSchema, {
    requestId: 2n ** 40n,
    logEpoch: 5n,
    runs: [
      { partition: 3, firstOffset: 2n ** 41n, count: 2 },
      { partition: 0, firstOffset: 0n, count: 1 },
    ],
    error: { code: 8, message: 'voll – später' },
  });
  expect(decodePublishAnswer(toBinary(PublishStreamResponseSchema, answer))).toEqual({
    requestId: 2 ** 40,
    logEpoch: 5,
    runs: [
      { partition: 3, firstOffset: 2 ** 41, count: 2 },
      { partition: 0, firstOffset: 0, count: 1 },
    ],
    error: { code: 8, message: 'voll – später' },
  });
});

test('subscribe requests are what protobuf-es reads', () => {
  const first = encodeFirstRequest({
    subscription: 'projects/p/subscriptions/s',
    clientId: 'me',
    ackDeadlineSeconds: 30,
    maxOutstandingMessages: 1_000_000,
    maxOutstandingBytes: 2 ** 30,
    ownedOnly: true,
    resumes: true,
  });
  expect(fromBinary(SubscribeRequestSchema, first)).toMatchObject({
    subscription: 'projects/p/subscriptions/s',
    clientId: 'me',
    streamAckDeadlineSeconds: 30,
    maxOutstandingMessages: 1_000_000n,
    maxOutstandingBytes: 2n ** 30n,
    ownedOnly: true,
    resumes: true,
  });
  expect(fromBinary(SubscribeRequestSchema, encodeLimits(5, 2 ** 30))).toMatchObject({
    maxOutstandingMessages: 5n,
    maxOutstandingBytes: 2n ** 30n,
  });
  const range = { logEpoch: 9, partition: 1023, firstOffset: 2 ** 50, lastOffset: 2 ** 50 + 5 };
  const expected = { logEpoch: 9n, partition: 1023, firstOffset: 2n ** 50n, lastOffset: 2n ** 50n + 5n };
  const acks = fromBinary(SubscribeRequestSchema, encodeRanges(ACK_RANGES, [range, range]));
  expect(acks.ackRanges).toMatchObject([expected, expected]);
  const extension = fromBinary(
    SubscribeRequestSchema,
    encodeRanges(EXTEND_RANGES, [{ ...range, deliveryAttempt: 300 }], {
      extendSeconds: 600,
      incarnation: 2 ** 52,
    }),
  );
  expect(extension).toMatchObject({
    extendRanges: [{ ...expected, deliveryAttempt: 300 }],
    extendSeconds: 600,
    incarnation: 2n ** 52n,
  });
  expect(fromBinary(AcknowledgeRequestSchema, encodeAcknowledge('s', [range], 2 ** 52))).toMatchObject({
    subscription: 's',
    ackRanges: [expected],
    incarnation: 2n ** 52n,
  });
});

test('what a broker says of the subscription is told from messages', () => {
  const properties = (init: MessageInitShape<typeof SubscriptionPropertiesSchema>): Buffer =>
    Buffer.from(
      toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { subscriptionProperties: init })),
    );
  expect(
    decodeProperties(
      properties({ messageOrderingEnabled: true, ackDeadlineSeconds: 600, incarnation: 2n ** 52n }),
    ),
  ).toEqual({ ordering: true, ackDeadlineSeconds: 600, incarnation: 2 ** 52 });
  expect(decodeProperties(properties({}))).toEqual({
    ordering: false,
    ackDeadlineSeconds: 0,
    incarnation: 0,
  });
  expect(decodeProperties(response({ ackId: '1.0-5' }))).toBeUndefined();
  expect(decodeProperties(Buffer.alloc(0))).toBeUndefined();
});

function response(...messages: { ackId: string; attempt?: number; data?: string }[]): Buffer {
  return Buffer.from(
    toBinary(
      SubscribeResponseSchema,
      create(SubscribeResponseSchema, {
        receivedMessages: messages.map(({ ackId, attempt, data }) => ({
          ackId,
          deliveryAttempt: attempt ?? 0,
          message: {
            data: Buffer.from(data ?? ackId),
            attributes: { a: '1', __proto__x: 'ü' },
            orderingKey: 'schlüssel',
            publishTime: timestampFromMs(1_700_000_000_123),
          },
        })),
      }),
    ),
  );
}

test('a received message is read lazily from its frame', () => {
  const bytes = response({ ackId: '12.3-4567' }, { ackId: '12.3-4568-4', attempt: 4, data: 'zwei' });
  const held: HeldResponse = {
    bytes,
    leases: { number: 1, gone: false, incarnation: 0 },
    receivedMs: 0,
    extendAtMs: 0,
    leaseEndsMs: Number.POSITIVE_INFINITY,
    unsettled: 2,
    inHand: [],
    home: {} as MessageHome,
  };
  const reader = new WireReader(bytes);
  const messages: ReceivedMessage[] = [];
  while (reader.next()) {
    const end = reader.lengthDelimitedEnd();
    messages.push(new ReceivedMessage(held, reader.position, end));
    reader.position = end;
  }
  expect(messages[0]).toMatchObject({ logEpoch: 12, partition: 3, offset: 4567, deliveryAttempt: 1 });
  expect(messages[0]!.messageId).toBe('12.3-4567');
  expect(messages[1]).toMatchObject({ offset: 4568, deliveryAttempt: 4 });
  expect(messages[1]!.text).toBe('zwei');
  expect(messages[1]!.orderingKey).toBe('schlüssel');
  expect(messages[1]!.attributes).toEqual({ a: '1', __proto__x: 'ü' });
  expect(messages[1]!.publishTime.getTime()).toBe(1_700_000_000_123);
});

test('responses are counted and turned into ranges without decoding', () => {
  const bytes = response({ ackId: '1.0-5' }, { ackId: '1.0-6' }, { ackId: '1.0-7' });
  expect(countFrames(bytes)).toBe(3);
  expect(firstAndLast(bytes)).toMatchObject({ first: { offset: 5 }, last: { offset: 7 }, count: 3 });
  expect(rangesOf(bytes)).toEqual([{ logEpoch: 1, partition: 0, firstOffset: 5, lastOffset: 7 }]);
  const gaps = response({ ackId: '1.0-5' }, { ackId: '1.0-7-2' }, { ackId: '1.0-8-2' }, { ackId: '1.0-3' });
  expect(rangesOf(gaps).map((r) => [r.firstOffset, r.lastOffset])).toEqual([
    [5, 5],
    [7, 8],
    [3, 3],
  ]);
  expect(rangesOf(Buffer.alloc(0))).toEqual([]);
});

test.each(['', '1', '1.2', '1.2-', 'a.2-3', '1-2-3', '1.2-3-4-5', '1.2-99999999999999999999', '-1.2-3'])(
  'ack id "%s" is refused',
  (ackId) => {
    expect(() => rangesOf(response({ ackId, data: 'x' }))).toThrow(FanfareError);
  },
);

test('bytes that are no response are refused, never read past', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const read of [rangesOf, decodePublishAnswer]) {
        try {
          read(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(FanfareError);
        }
      }
    }),
  );
});

test('settlements come out as the ranges of exactly what went in', () => {
  const settled = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { maxLength: 60 });
  fc.assert(
    fc.property(
      settled,
      fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 60, maxLength: 60 }),
      (offsets, where) => {
        const settlements = new Settlements();
        for (const offset of offsets) settlements.add(3, where[offset % 60]!, offset, offset);
        expect(settlements.messages).toBe(offsets.length);
        const ranges = settlements.drain();
        const out = ranges.flatMap((range) => {
          const length = range.lastOffset - range.firstOffset + 1;
          return Array.from({ length }, (_, n) => [range.partition, range.firstOffset + n]);
        });
        const into = offsets.map((offset) => [where[offset % 60]!, offset]);
        expect(out.map(String).sort()).toEqual(into.map(String).sort());
        // The ranges are merged: no two of a partition touch.
        for (const a of ranges) {
          for (const b of ranges) {
            if (a !== b && a.partition === b.partition) expect(a.lastOffset + 1).not.toBe(b.firstOffset);
          }
        }
        expect(settlements.isEmpty).toBe(true);
      },
    ),
  );
});
