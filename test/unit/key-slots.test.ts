// core/key-slots.ts: who has which slot. A slot is never taken from under an outstanding message.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LeaseBudget } from '../../services/broker/core/credit.ts';
import { KeyQueues } from '../../services/broker/core/key-queues.ts';
import { KeySlots, NOBODY, SLOTS } from '../../services/broker/core/key-slots.ts';
import { hashOfKey } from '../../services/broker/core/publish-batch.ts';
import { cases } from '../support/property.ts';

const encoder = new TextEncoder();

function clientHash(name: string): number {
  const bytes = encoder.encode(name);
  return hashOfKey(bytes, 0, bytes.length);
}

function owners(slots: KeySlots): number[] {
  return Array.from({ length: SLOTS }, (_, slot) => slots.consumerOf(slot));
}

function changes(before: readonly number[], after: readonly number[]): number[] {
  return before.flatMap((owner, slot) => (owner === after[slot] ? [] : [slot]));
}

test('a joining consumer takes its share and nothing moves between the others; leaving gives back just that', () => {
  const slots = new KeySlots();
  for (let consumer = 1; consumer <= 12; consumer += 1) {
    const before = owners(slots);
    const reported = slots.join(consumer, clientHash(`client-${consumer}`));
    const after = owners(slots);
    expect(reported).toEqual(changes(before, after));
    for (const slot of reported) expect(after[slot]).toBe(consumer);
  }
  for (const consumer of [5, 12, 1]) {
    const before = owners(slots);
    const reported = slots.leave(consumer);
    expect(reported).toEqual(before.flatMap((owner, slot) => (owner === consumer ? [slot] : [])));
    expect(reported).toEqual(changes(before, owners(slots)));
    expect(owners(slots)).not.toContain(consumer);
  }
});

test('a draining consumer has no slots while another stays; who all drain keep theirs', () => {
  const slots = new KeySlots();
  for (const consumer of [1, 2, 3]) slots.join(consumer, clientHash(`client-${consumer}`));
  const before = owners(slots);
  slots.leased(before.indexOf(1), 1);
  const reported = slots.setDraining(1, true);
  expect(reported).toEqual(before.flatMap((owner, slot) => (owner === 1 ? [slot] : [])));
  expect(owners(slots)).not.toContain(1);
  // The slot with an outstanding message waits for that.
  expect(slots.consumerOf(before.indexOf(1))).toBe(NOBODY);
  expect(slots.ended(before.indexOf(1), 1)).toBe(true);
  expect(owners(slots)).not.toContain(NOBODY);
  expect(slots.setDraining(1, true)).toEqual([]);

  slots.setDraining(2, true);
  // A consumer that lets leases expire is still better than one that will be stopped.
  slots.setStalled(3, true);
  expect(new Set(owners(slots))).toEqual(new Set([3]));
  slots.setDraining(3, true);
  slots.setStalled(3, false);
  expect(owners(slots)).toEqual(before);
  slots.setDraining(2, false);
  expect(new Set(owners(slots))).toEqual(new Set([2]));
  slots.setDraining(1, false);
  slots.setDraining(3, false);
  expect(owners(slots)).toEqual(before);
});

test('slots are shared out evenly enough', () => {
  for (const count of [2, 3, 8, 16]) {
    for (let group = 0; group < 10; group += 1) {
      const slots = new KeySlots();
      for (let consumer = 1; consumer <= count; consumer += 1)
        slots.join(consumer, clientHash(`group-${group}/client-${consumer}`));
      const shares = new Array<number>(count + 1).fill(0);
      for (const owner of owners(slots)) shares[owner]! += 1;
      expect(shares[NOBODY]).toBe(0);
      // The share is binomial: five deviations are once in a million.
      const mean = SLOTS / count;
      const deviation = Math.sqrt(mean * (1 - 1 / count));
      for (const share of shares.slice(1)) expect(Math.abs(share - mean)).toBeLessThan(5 * deviation);
    }
  }
});

test('the same clients get the same slots, in whatever order they came', () => {
  const names = ['audit-0', 'audit-1', 'audit-2'];
  const owned = (order: readonly number[]): string[] => {
    const slots = new KeySlots();
    for (const i of order) slots.join(i + 1, clientHash(names[i]!));
    return owners(slots).map((owner) => names[owner - 1]!);
  };
  expect(owned([2, 0, 1])).toEqual(owned([0, 1, 2]));
});

test('a stalled consumer gets nothing while another is there, everything while it is alone', () => {
  const slots = new KeySlots();
  slots.join(1, clientHash('a'));
  expect(slots.setStalled(1, true)).toEqual([]);
  expect(new Set(owners(slots))).toEqual(new Set([1]));
  slots.join(2, clientHash('b'));
  expect(new Set(owners(slots))).toEqual(new Set([2]));
  slots.setStalled(1, false);
  expect(new Set(owners(slots))).toEqual(new Set([1, 2]));
  expect(slots.setStalled(9, true)).toEqual([]);
});

test('a partition holds no slots once the cursor is durable with which nothing waits or is outstanding', () => {
  const queues = new KeyQueues(1_000, () => false);
  queues.join(1, clientHash('client-1'));
  const none = (): Uint32Array => new Uint32Array(500);
  const chunk = { firstOffset: 0, count: 500, byteLength: 0, ends: none, keyHashes: none };
  for (let offset = 0; offset < 500; offset += 1) queues.push(offset, 1 + offset);
  const taken = queues.take(1, chunk, new LeaseBudget(500, 1, true));
  expect(taken).toHaveLength(500);
  // A second consumer would get its share of slots that are held.
  const share = queues.slots.join(2, clientHash('client-2')).length;
  expect(share).toBeGreaterThan(50);
  queues.slots.leave(2);
  for (const { key } of taken) queues.settled(key, 1);
  expect(queues.active).toBe(0);
  queues.persisting();
  queues.persisted();
  expect(queues.slots.join(2, clientHash('client-2'))).toEqual([]);
});

test('a slot with outstanding messages waits for their end before it moves', () => {
  const step = fc.record({
    kind: fc.constantFrom('join', 'leave', 'stall', 'unstall', 'lease', 'end'),
    consumer: fc.integer({ min: 1, max: 4 }),
    slot: fc.nat(5),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const slots = new KeySlots();
      const present = new Set<number>();
      const outstanding = new Map<number, { consumer: number; count: number }>();
      const end = (slot: number, count: number): void => {
        const run = outstanding.get(slot)!;
        const before = slots.consumerOf(slot);
        expect(slots.ended(slot, count)).toBe(slots.consumerOf(slot) !== before);
        run.count -= count;
        if (run.count === 0) outstanding.delete(slot);
      };
      for (const { kind, consumer, slot } of steps) {
        if (kind === 'join' && !present.has(consumer)) {
          slots.join(consumer, clientHash(`client-${consumer}`));
          present.add(consumer);
        } else if (kind === 'leave' && present.delete(consumer)) {
          for (const [at, run] of [...outstanding]) if (run.consumer === consumer) end(at, run.count);
          slots.leave(consumer);
        } else if (kind === 'stall' || kind === 'unstall') {
          slots.setStalled(consumer, kind === 'stall');
        } else if (kind === 'lease') {
          const owner = slots.consumerOf(slot);
          if (owner === NOBODY) continue;
          const run = outstanding.get(slot) ?? { consumer: owner, count: 0 };
          expect(run.consumer).toBe(owner);
          run.count += 1;
          outstanding.set(slot, run);
          slots.leased(slot, 1);
        } else if (kind === 'end' && outstanding.has(slot)) {
          end(slot, 1);
        }
        if (outstanding.size === 0) {
          const before = owners(slots);
          slots.forget();
          expect(owners(slots)).toEqual(before);
        }
        const wrong: string[] = [];
        for (let at = 0; at < SLOTS; at += 1) {
          const owner = slots.consumerOf(at);
          const run = outstanding.get(at);
          const allowed =
            run !== undefined
              ? owner === NOBODY || owner === run.consumer
              : present.size > 0
                ? present.has(owner)
                : owner === NOBODY;
          if (!allowed) wrong.push(`slot ${at} is at ${owner}`);
        }
        expect(wrong).toEqual([]);
      }
    }),
    cases(150),
  );
});
