// core/chunk.ts: the frames that the broker cuts by hand are what protobuf-es reads, as either response,
// field by field.
import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type CutChunk,
  cutChunk,
  frameEnds,
  frameKeyHashes,
  recutFrame,
  type Slice,
  sliceBytes,
  sliceLength,
  splitSlice,
} from '../../services/broker/core/chunk.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import { hashOfKey, parsePublish } from '../../services/broker/core/publish-batch.ts';
import { PullResponseSchema, SubscribeResponseSchema } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { cases } from '../support/property.ts';
import {
  LIMITS,
  messageBytes,
  messages,
  requestBytes,
  type TestMessage,
} from '../support/publish-requests.ts';

const encoder = new TextEncoder();

interface Cut {
  readonly chunk: CutChunk;
  readonly allocations: readonly number[];
}

/** Cuts into memory full of rubbish, as Buffer.allocUnsafe gives it. */
function cut(slices: readonly Slice[], id: PartitionId, firstOffset: number, timeMs: number): Cut {
  const allocations: number[] = [];
  const chunk = cutChunk(slices, id, firstOffset, timeMs, (bytes) => {
    allocations.push(bytes);
    return new Uint8Array(bytes).fill(0xee);
  });
  return { chunk, allocations };
}

function sliceOf(list: readonly TestMessage[], indexes?: readonly number[]): Slice {
  return {
    batch: parsePublish(requestBytes('t', list), LIMITS),
    indexes: indexes === undefined ? undefined : Uint32Array.from(indexes),
  };
}

function keyHash(key: string): number {
  const bytes = encoder.encode(key);
  return bytes.length === 0 ? 0 : hashOfKey(bytes, 0, bytes.length);
}

function checkChunk(
  chunk: CutChunk,
  published: readonly TestMessage[],
  id: PartitionId,
  firstOffset: number,
  timeMs: number,
): void {
  const subscribed = fromBinary(SubscribeResponseSchema, chunk.bytes);
  const pulled = fromBinary(PullResponseSchema, chunk.bytes);
  expect(subscribed.$unknown).toBeUndefined();
  expect(pulled.receivedMessages).toEqual(subscribed.receivedMessages);
  expect(subscribed.receivedMessages.length).toBe(published.length);
  for (const [i, received] of subscribed.receivedMessages.entries()) {
    const name = `${id.logEpoch}.${id.partition}-${firstOffset + i}`;
    expect(received.ackId).toBe(name);
    expect(received.deliveryAttempt).toBe(0);
    const message = received.message!;
    expect(message.messageId).toBe(name);
    expect(timestampMs(message.publishTime!)).toBe(timeMs);
    expect(message.$unknown).toBeUndefined();
    const { data, attributes, orderingKey } = message;
    expect({ data, attributes, orderingKey }).toEqual({
      ...published[i]!,
      data: Uint8Array.from(published[i]!.data),
    });
  }
  expect(chunk.count).toBe(published.length);
  expect(chunk.ends.at(-1)).toBe(chunk.bytes.length);
  expect(frameEnds(chunk.bytes, chunk.count)).toEqual(chunk.ends);
  expect(frameKeyHashes(chunk.bytes, chunk.ends)).toEqual(chunk.keyHashes);
  expect([...chunk.keyHashes]).toEqual(published.map(({ orderingKey }) => keyHash(orderingKey)));
}

const ids: fc.Arbitrary<PartitionId> = fc.record({
  logEpoch: fc.oneof(fc.nat(20), fc.maxSafeNat()),
  partition: fc.oneof(fc.nat(20), fc.nat(4_294_967_295)),
});
/** Offsets with every number of digits, often with a power of ten within the chunk. */
const offsets = fc
  .tuple(fc.nat(15), fc.integer({ min: -4, max: 4 }), fc.boolean(), fc.nat())
  .map(([digits, near, edge, n]) => (edge ? Math.max(0, 10 ** digits + near) : n % 10 ** digits));
const times = fc.oneof(fc.nat(2_000), fc.integer({ min: 0, max: 4_102_444_800_000 }));

test('a chunk is a response, with exactly what was published, ids and time', () => {
  const list = fc.array(messages, { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(
      fc.array(list, { minLength: 1, maxLength: 3 }),
      ids,
      offsets,
      times,
      (batches, id, firstOffset, timeMs) => {
        const slices = batches.map((batch) => sliceOf(batch));
        const { chunk, allocations } = cut(slices, id, firstOffset, timeMs);
        expect(allocations).toEqual([chunk.bytes.length]);
        checkChunk(chunk, batches.flat(), id, firstOffset, timeMs);
      },
    ),
    cases(300),
  );
});

test('a slice takes only its own messages, in the order of its indexes', () => {
  const input = fc
    .array(messages, { minLength: 2, maxLength: 6 })
    .chain((list) => fc.tuple(fc.constant(list), fc.subarray([...list.keys()], { minLength: 1 })));
  fc.assert(
    fc.property(input, ids, ([list, indexes], id) => {
      const slice = sliceOf(list, indexes);
      const own = indexes.map((index) => list[index]!);
      const { chunk } = cut([slice], id, 98, 1_000);
      checkChunk(chunk, own, id, 98, 1_000);
      expect(sliceLength(slice)).toBe(own.length);
      expect(sliceBytes(slice)).toBe(own.reduce((sum, message) => sum + messageBytes(message).length, 0));
    }),
    cases(100),
  );
});

test('a slice is split into parts within the limit that are together the slice', () => {
  const input = fc
    .array(messages, { minLength: 1, maxLength: 12 })
    .chain((list) =>
      fc.tuple(fc.constant(list), fc.subarray([...list.keys()], { minLength: 1 }), fc.boolean()),
    );
  fc.assert(
    fc.property(input, fc.integer({ min: 1, max: 600 }), ([list, some, all], maxBytes) => {
      const indexes = all ? [...list.keys()] : some;
      const parts = splitSlice(sliceOf(list, all ? undefined : some), maxBytes);
      expect(parts.flatMap((part) => [...(part.indexes ?? list.keys())])).toEqual(indexes);
      for (const [i, part] of parts.entries()) {
        expect(sliceLength(part)).toBeGreaterThan(0);
        if (sliceLength(part) > 1) expect(sliceBytes(part)).toBeLessThanOrEqual(maxBytes);
        const next = parts[i + 1];
        if (next === undefined) continue;
        const [first] = next.indexes ?? [0];
        // There are as few parts as the order allows.
        expect(sliceBytes(part) + messageBytes(list[first!]!).length).toBeGreaterThan(maxBytes);
      }
    }),
    cases(100),
  );
});

test('lengths of one, two, three and four bytes', () => {
  const id = { logEpoch: 1, partition: 0 };
  const sizes = [1, 60, 80, 100, 127, 128, 16_300, 16_383, 16_384, 2_097_100].map((size) => ({
    data: new Uint8Array(size).fill(7),
    attributes: {},
    orderingKey: 'k',
  }));
  checkChunk(cut([sliceOf(sizes)], id, 0, 1_234).chunk, sizes, id, 0, 1_234);
});

test('the longest ids still fit', () => {
  const id = { logEpoch: Number.MAX_SAFE_INTEGER, partition: 4_294_967_295 };
  const message = { data: encoder.encode('x'), attributes: {}, orderingKey: '' };
  const firstOffset = Number.MAX_SAFE_INTEGER - 1;
  const { chunk } = cut([sliceOf([message, message])], id, firstOffset, 1);
  checkChunk(chunk, [message, message], id, firstOffset, 1);
  const frame = recutFrame(chunk.bytes, 0, chunk.ends[0]!, 2_147_483_647);
  const [received] = fromBinary(SubscribeResponseSchema, frame).receivedMessages;
  expect(received!.ackId).toBe(`${formatPartitionId(id)}-${firstOffset}-2147483647`);
  expect(received!.ackId.length).toBeLessThanOrEqual(164);
});

test('a frame cut again is the same message with the attempt in it', () => {
  const attempts = fc.oneof(fc.integer({ min: 2, max: 12 }), fc.integer({ min: 2, max: 2_147_483_647 }));
  fc.assert(
    fc.property(
      fc.array(messages, { minLength: 1, maxLength: 4 }),
      ids,
      offsets,
      attempts,
      (list, id, offset, attempt) => {
        const { chunk } = cut([sliceOf(list)], id, offset, 1_700_000_000_123);
        const before = Buffer.from(chunk.bytes).toString('hex');
        const originals = fromBinary(SubscribeResponseSchema, chunk.bytes).receivedMessages;
        for (const [i, original] of originals.entries()) {
          const frame = recutFrame(chunk.bytes, i === 0 ? 0 : chunk.ends[i - 1]!, chunk.ends[i]!, attempt);
          const [again, ...more] = fromBinary(SubscribeResponseSchema, frame).receivedMessages;
          expect(more).toEqual([]);
          expect(again!.ackId).toBe(`${original.ackId}-${attempt}`);
          expect(again!.deliveryAttempt).toBe(attempt);
          expect(again!.message).toEqual(original.message);
          expect(frameEnds(frame, 1)[0]).toBe(frame.length);
        }
        expect(Buffer.from(chunk.bytes).toString('hex')).toBe(before);
      },
    ),
    cases(200),
  );
});

test('the layout of a frame can not change by accident: stores hold it', () => {
  const message = { data: encoder.encode('hi'), attributes: { a: 'b' }, orderingKey: 'k' };
  const { chunk } = cut([sliceOf([message])], { logEpoch: 5, partition: 3 }, 42, 1_700_000_000_123);
  expect(Buffer.from(chunk.bytes).toString('hex')).toBe(
    [
      '0a2e', // ReceivedMessage
      `0a06${Buffer.from('5.3-42').toString('hex')}`, // ack_id
      '1224', // Message
      '0a026869', // data
      '12060a0161120162', // attributes
      '2a016b', // ordering_key
      `1a06${Buffer.from('5.3-42').toString('hex')}`, // message_id
      '220b', // publish_time
      '0880e2cfaa06',
      '10c0a9d33a',
    ].join(''),
  );
});

test('a chunk that is not one ends the process instead of being sent', () => {
  const message = { data: encoder.encode('hi'), attributes: {}, orderingKey: '' };
  const { chunk } = cut([sliceOf([message, message])], { logEpoch: 1, partition: 0 }, 0, 1);
  expect(() => frameEnds(chunk.bytes, 1)).toThrow('bytes behind its last frame');
  expect(() => frameEnds(chunk.bytes, 3)).toThrow('bad frame');
});
