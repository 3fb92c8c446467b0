// What consumers say of their messages, as read from the wire.
import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import {
  isOfAnother,
  parseAcknowledge,
  parseModifyAckDeadline,
  parseSubscribe,
} from '../../services/broker/core/settle-request.ts';
import {
  AcknowledgeRequestSchema,
  ModifyAckDeadlineRequestSchema,
  SubscribeRequestSchema,
} from '../../services/gen/fanfare/v1/subscriber_pb.ts';

const LIMITS = { maxIds: 100, maxAckIdBytes: 164, maxDeadlineSeconds: 600, maxClientIdBytes: 256 };
const at = { logEpoch: 7, partition: 2 };

function subscribe(init: Parameters<typeof create<typeof SubscribeRequestSchema>>[1]) {
  return parseSubscribe(toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, init)), LIMITS);
}

test('ranges name their delivery where it matters: to give back and to extend, not to acknowledge', () => {
  const range = { logEpoch: 7n, partition: 2, firstOffset: 5n, lastOffset: 6n };
  const { operations } = subscribe({
    ackRanges: [{ ...range, deliveryAttempt: 3 }],
    nackRanges: [{ ...range, deliveryAttempt: 3 }, range],
    extendRanges: [{ ...range, deliveryAttempt: 1 }],
    extendSeconds: 20,
  });
  expect(operations).toEqual([
    { kind: 'ack', ...at, first: 5, last: 6, seconds: 0 },
    { kind: 'nack', ...at, first: 5, last: 6, seconds: 0 },
    { kind: 'nack', ...at, first: 5, last: 6, seconds: 0, attempt: 3 },
    { kind: 'extend', ...at, first: 5, last: 6, seconds: 20, attempt: 1 },
  ]);
});

test('ack ids name their delivery: what follows on another becomes no run with it', () => {
  const ids = ['7.2-5', '7.2-6', '7.2-7-2', '7.2-8-2', '7.2-9'];
  const back = (first: number, last: number, attempt: number) => ({
    kind: 'nack',
    ...at,
    first,
    last,
    seconds: 0,
    attempt,
  });
  const inStream = subscribe({ modifyDeadlineAckIds: ids, modifyDeadlineSeconds: ids.map(() => 0) });
  const unary = create(ModifyAckDeadlineRequestSchema, { subscription: 's', ackIds: ids });
  const alone = parseModifyAckDeadline(toBinary(ModifyAckDeadlineRequestSchema, unary), LIMITS);
  for (const { operations } of [inStream, alone]) {
    expect(operations).toEqual([back(5, 6, 1), back(9, 9, 1), back(7, 8, 2)]);
  }
  const acknowledge = create(AcknowledgeRequestSchema, { subscription: 's', ackIds: ids });
  expect(parseAcknowledge(toBinary(AcknowledgeRequestSchema, acknowledge), LIMITS).operations).toEqual([
    { kind: 'ack', ...at, first: 5, last: 9, seconds: 0 },
  ]);
});

test('ranges that overlap or touch are one, in whatever order they come', () => {
  const range = (first: number, last: number, deliveryAttempt = 0) => ({
    logEpoch: 7n,
    partition: 2,
    firstOffset: BigInt(first),
    lastOffset: BigInt(last),
    deliveryAttempt,
  });
  const ranges = [range(10, 20), range(5, 5), range(0, 2 ** 53 - 1), range(6, 9, 2), range(30, 40, 2)];
  const { operations } = subscribe({
    ackRanges: ranges,
    nackRanges: [...ranges, ...ranges],
    extendRanges: Array.from({ length: 90 }, () => range(0, 2 ** 53 - 1)),
    extendSeconds: 9,
  });
  const all = { ...at, first: 0, last: 2 ** 53 - 1 };
  expect(operations).toEqual([
    { kind: 'ack', ...all, seconds: 0 },
    { kind: 'nack', ...all, seconds: 0 },
    { kind: 'nack', ...at, first: 6, last: 9, seconds: 0, attempt: 2 },
    { kind: 'nack', ...at, first: 30, last: 40, seconds: 0, attempt: 2 },
    { kind: 'extend', ...all, seconds: 9 },
  ]);
});

test('an offset that no message has is said to be one; up to the last offset there may be is a range', () => {
  const ranges = (firstOffset: bigint, lastOffset: bigint) => [{ firstOffset, lastOffset }];
  for (const field of ['ackRanges', 'nackRanges', 'extendRanges'] as const)
    expect(() => subscribe({ [field]: ranges(2n ** 53n, 2n ** 64n - 1n) })).toThrow(
      /^(ack|nack|extend)_ranges has a range from an offset above 9007199254740991: no message has one$/,
    );
  expect(() => subscribe({ ackRanges: ranges(5n, 4n) })).toThrow('has a range from 5 to 4: last_offset must');
  expect(subscribe({ ackRanges: ranges(5n, 2n ** 64n - 1n) }).operations).toHaveLength(1);
});

test('a request may name the subscription that it means', () => {
  const requests = [
    (incarnation: bigint) => subscribe({ incarnation }),
    (incarnation: bigint) =>
      parseAcknowledge(
        toBinary(AcknowledgeRequestSchema, create(AcknowledgeRequestSchema, { incarnation })),
        LIMITS,
      ),
    (incarnation: bigint) =>
      parseModifyAckDeadline(
        toBinary(ModifyAckDeadlineRequestSchema, create(ModifyAckDeadlineRequestSchema, { incarnation })),
        LIMITS,
      ),
  ];
  for (const request of requests) {
    expect(isOfAnother(request(0n), 9)).toBe(false);
    expect(isOfAnother(request(9n), 9)).toBe(false);
    expect(isOfAnother(request(8n), 9)).toBe(true);
    expect(isOfAnother(request(2n ** 63n), 9)).toBe(true);
  }
});
