// adapters/grpc/outboxes.ts: who may let how much wait, whatever others do.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Outbox, Outboxes } from '../../services/broker/adapters/grpc/outboxes.ts';
import {
  MAX_OUTBOX_BYTES,
  MAX_OUTBOXES_BYTES,
  MIN_OUTBOX_BYTES,
  OUTBOX_LIMITS,
} from '../../services/broker/limits.ts';
import { cases } from '../support/property.ts';

const PIECE = 4_096;

/** Writes to each in turn while any has room; returns how much waits in each. */
function fill(outboxes: readonly Outbox[]): number[] {
  const bytes = outboxes.map(() => 0);
  for (let any = true; any; ) {
    any = false;
    for (const [nth, outbox] of outboxes.entries()) {
      if (!outbox.hasRoom) continue;
      outbox.add(PIECE);
      bytes[nth]! += PIECE;
      any = true;
    }
  }
  return bytes;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

test('what may wait in all is shared by principals, and by the streams of each', () => {
  const all = new Outboxes(OUTBOX_LIMITS);
  const alone = all.open('alice');
  expect(fill([alone])).toEqual([MAX_OUTBOX_BYTES]);
  alone.close();
  const slow = Array.from({ length: 1_000 }, () => all.open('mallory'));
  const waiting = fill(slow);
  expect(sum(waiting)).toBeLessThanOrEqual(MAX_OUTBOXES_BYTES + slow.length * PIECE);
  // Who comes later has what one stream may have: her share is half of all.
  const later = all.open('alice');
  expect(fill([later])).toEqual([MAX_OUTBOX_BYTES]);
  expect(slow.some(({ hasRoom }) => hasRoom)).toBe(false);
  later.close();
  const many = Array.from({ length: 20_000 }, () => all.open('mallory'));
  expect(Math.min(...fill(many))).toBe(MIN_OUTBOX_BYTES);
});

test('whatever is written, taken and closed, no share is lost', () => {
  const step = fc.record({
    what: fc.constantFrom('add', 'take', 'close'),
    at: fc.nat(5),
    bytes: fc.integer({ min: 1, max: 500 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const all = new Outboxes({ outboxesBytes: 1_000, outboxBytes: 400, minOutboxBytes: 10 });
      const outboxes = Array.from({ length: 6 }, (_, nth) => all.open(`p${nth % 2}`));
      const waiting = outboxes.map(() => 0);
      for (const { what, at, bytes } of steps) {
        const outbox = outboxes[at]!;
        if (what === 'add' && outbox.hasRoom) {
          outbox.add(bytes);
          waiting[at]! += bytes;
        } else if (what === 'take' && waiting[at]! > 0) {
          const taken = Math.min(bytes, waiting[at]!);
          outbox.take(taken);
          waiting[at]! -= taken;
        } else if (what === 'close') {
          outbox.close();
          outboxes[at] = all.open(`p${at % 2}`);
          waiting[at] = 0;
        }
      }
      for (const outbox of outboxes) outbox.close();
      // All of it is there again.
      const last = all.open('p0');
      last.add(399);
      expect(last.hasRoom).toBe(true);
    }),
    cases(500),
  );
});
