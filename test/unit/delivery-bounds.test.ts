// The bounds on what a subscription has under way in one partition, each reached at the size that limits.ts
// gives it: delivery waits for acknowledgements there, goes on with them, and what it keeps stays small
// however they come.
import { expect, test } from 'vitest';
import { decodeCursor } from '../../services/broker/core/cursor.ts';
import { Delivery } from '../../services/broker/core/delivery.ts';
import {
  engineLimits,
  MAX_HOLES_PER_CURSOR,
  MAX_OUTSTANDING_MESSAGES,
  MAX_QUEUED_PER_PARTITION,
  MAX_RUN_PER_KEY,
  MAX_UNSETTLED_PER_PARTITION,
} from '../../services/broker/limits.ts';

const END = MAX_OUTSTANDING_MESSAGES;
const CHUNK = 8_192;
/** Bytes of a hole in the cursor's record: its gap and its length. */
const HOLE_BYTES = 2;

function started(ordering: boolean): Delivery {
  const { maxHoles, maxQueued, maxUnsettled, maxRun } = engineLimits(0);
  const delivery = new Delivery(
    { ordering, maxHoles, maxQueued, maxUnsettled, maxRun },
    { startOffset: 0 },
    END,
  );
  delivery.step({ kind: 'join', consumer: 1, hash: 7_919 }, 0);
  return delivery;
}

/** Gives the only consumer all that it may have, and returns how much is outstanding. */
function leaseAll(delivery: Delivery, keyOf: (offset: number) => number = () => 0): number {
  for (let at = delivery.peek(1); at !== undefined; at = delivery.peek(1)) {
    const firstOffset = at - (at % CHUNK);
    const count = Math.min(CHUNK, END - firstOffset);
    const ends = Uint32Array.from({ length: count }, (_, index) => index + 1);
    const keys = Uint32Array.from({ length: count }, (_, index) => keyOf(firstOffset + index));
    const chunk = { firstOffset, count, byteLength: count, ends: () => ends, keyHashes: () => keys };
    const credit = { maxMessages: END, maxBytes: 2 ** 30, idle: false, deadlineMs: 10_000 };
    const before = at;
    delivery.step({ kind: 'lease', consumer: 1, chunk, ...credit }, 0);
    if (delivery.peek(1) === before) break;
  }
  return delivery.outstandingMessages;
}

const settle = (delivery: Delivery, kind: 'ack' | 'nack', first: number, last = first): void => {
  delivery.step({ kind, consumer: 1, first, last }, 0);
};

test('messages that are not settled, and with them the gaps of the worst acknowledgements', {
  timeout: 60_000,
}, () => {
  const delivery = started(false);
  expect(leaseAll(delivery)).toBe(MAX_UNSETTLED_PER_PARTITION);
  for (let offset = 1; offset < MAX_UNSETTLED_PER_PARTITION; offset += 2) settle(delivery, 'ack', offset);
  // There are too many gaps for more.
  expect(leaseAll(delivery)).toBe(MAX_UNSETTLED_PER_PARTITION / 2);
  const record = delivery.snapshot();
  const { floor, settled } = decodeCursor(record);
  expect(floor).toBe(0);
  expect(settled).toEqual(
    Array.from({ length: MAX_UNSETTLED_PER_PARTITION / 2 }, (_, at) => ({
      first: 2 * at + 1,
      last: 2 * at + 1,
    })),
  );
  expect(record.length).toBeLessThan(MAX_UNSETTLED_PER_PARTITION * HOLE_BYTES);
  settle(delivery, 'ack', 0, MAX_UNSETTLED_PER_PARTITION);
  expect(delivery.floor).toBe(MAX_UNSETTLED_PER_PARTITION);
  expect(leaseAll(delivery)).toBe(MAX_UNSETTLED_PER_PARTITION);
});

test('messages that are not settled, and with them those that were given back in the worst order', {
  timeout: 60_000,
}, () => {
  const delivery = started(false);
  leaseAll(delivery);
  for (let offset = 1; offset < MAX_UNSETTLED_PER_PARTITION; offset += 2) settle(delivery, 'nack', offset);
  expect(delivery.peek(1)).toBeUndefined();
  expect(delivery.snapshot().length).toBeLessThan(MAX_UNSETTLED_PER_PARTITION * HOLE_BYTES);
  delivery.step({ kind: 'persisted' }, 0);
  expect(leaseAll(delivery)).toBe(MAX_UNSETTLED_PER_PARTITION);
});

test('gaps', () => {
  const delivery = started(false);
  leaseAll(delivery);
  // All gaps that there may be, with everything else settled.
  const gaps = MAX_HOLES_PER_CURSOR;
  for (let gap = 0; gap < gaps; gap += 1) settle(delivery, 'ack', 4 * gap + 1, 4 * gap + 3);
  settle(delivery, 'ack', 4 * gaps, MAX_UNSETTLED_PER_PARTITION);
  expect(delivery.outstandingMessages).toBe(gaps);
  expect(delivery.peek(1)).toBeUndefined();
  settle(delivery, 'ack', 4);
  expect(delivery.peek(1)).toBe(MAX_UNSETTLED_PER_PARTITION);
});

test('messages that wait behind their ordering key, and how many of one key are outstanding', () => {
  const delivery = started(true);
  // The first messages are all of one key, the rest of others.
  const ofOne = MAX_QUEUED_PER_PARTITION + MAX_RUN_PER_KEY;
  const keyOf = (offset: number): number => (offset < ofOne ? 1 : 2 + (offset % 1_000_000));
  expect(leaseAll(delivery, keyOf)).toBe(MAX_RUN_PER_KEY);
  expect(delivery.activeKeys).toBe(1);
  settle(delivery, 'ack', 0, MAX_RUN_PER_KEY - 1);
  expect(leaseAll(delivery, keyOf)).toBeGreaterThan(MAX_RUN_PER_KEY);
});

test('messages of many ordering keys that are not settled', { timeout: 60_000 }, () => {
  const delivery = started(true);
  expect(leaseAll(delivery, (offset) => 1 + offset)).toBe(MAX_UNSETTLED_PER_PARTITION);
  for (let offset = 1; offset < MAX_UNSETTLED_PER_PARTITION; offset += 2) settle(delivery, 'ack', offset);
  expect(delivery.snapshot().length).toBeLessThan(2 * MAX_UNSETTLED_PER_PARTITION * HOLE_BYTES);
  expect(delivery.activeKeys).toBeUndefined();
});
