// core/cursor.ts: what is written can be read back, and what was not written by it is refused, never
// believed.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Cursor,
  cursorBelow,
  decodeCursor,
  encodeCursor,
  joinCursors,
} from '../../services/broker/core/cursor.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { cases } from '../support/property.ts';

const steps = fc.array(
  fc.record({
    gap: fc.nat(300),
    length: fc.integer({ min: 1, max: 300 }),
    value: fc.integer({ min: 1, max: 9_999 }),
  }),
  { maxLength: 30 },
);

function intervals(floor: number, parts: readonly { gap: number; length: number; value: number }[]) {
  let from = floor;
  return parts.map(({ gap, length, value }) => {
    const first = from + gap;
    from = first + length;
    return { first, last: from - 1, value };
  });
}

const cursors: fc.Arbitrary<Cursor> = fc
  .record({
    floor: fc.oneof(
      fc.nat(200),
      fc.maxSafeNat().map((n) => Math.max(0, n - 100_000)),
    ),
    settled: steps,
    attempts: steps,
  })
  .map(({ floor, settled, attempts }) => ({
    floor,
    settled: intervals(floor, settled).map(({ first, last }) => ({ first, last })),
    attempts: intervals(floor, attempts),
  }));

function refusal(record: Uint8Array): BrokerError | undefined {
  try {
    decodeCursor(record);
    return undefined;
  } catch (error) {
    if (error instanceof BrokerError) return error;
    throw error;
  }
}

test('a cursor survives being written and read', () => {
  fc.assert(
    fc.property(cursors, (cursor) => {
      expect(decodeCursor(encodeCursor(cursor))).toEqual(cursor);
    }),
    cases(500),
  );
});

test('the format can not change by accident', () => {
  const record = encodeCursor({
    floor: 300,
    settled: [
      { first: 302, last: 302 },
      { first: 310, last: 500 },
    ],
    attempts: [{ first: 300, last: 301, value: 2 }],
  });
  expect(Buffer.from(record).toString('hex')).toBe('01ac02020200' + '07be01' + '01000102');
});

test('a truncated or lengthened record is refused', () => {
  fc.assert(
    fc.property(cursors, fc.nat(), (cursor, at) => {
      const record = encodeCursor(cursor);
      expect(refusal(record.subarray(0, at % record.length))?.code).toBe('FAILED_PRECONDITION');
      expect(refusal(Uint8Array.of(...record, 0))?.code).toBe('FAILED_PRECONDITION');
    }),
    cases(200),
  );
});

test('a record of another format is refused and says so', () => {
  const record = encodeCursor({ floor: 1, settled: [], attempts: [] });
  record[0] = 2;
  expect(refusal(record)?.message).toContain('its format is 2, known is 1');
});

test('damaged bytes give a refusal or a cursor of sane numbers, nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (tail) => {
      const record = Uint8Array.of(1, ...tail);
      if (refusal(record) !== undefined) return;
      const cursor = decodeCursor(record);
      let from = cursor.floor;
      expect(Number.isSafeInteger(from)).toBe(true);
      for (const { first, last } of cursor.settled) {
        expect(Number.isSafeInteger(last)).toBe(true);
        expect(first >= from && last >= first).toBe(true);
        from = last + 1;
      }
    }),
    cases(1_000),
  );
});

test('a number beyond 2^53 is refused', () => {
  // 200 continuation bytes: summed up carelessly they are NaN.
  const endless = Uint8Array.of(1, ...new Uint8Array(200).fill(0x80), 0, 0, 0);
  expect(refusal(endless)?.code).toBe('FAILED_PRECONDITION');
  const huge = Uint8Array.of(1, ...new Uint8Array(8).fill(0xff), 0x01, 0, 0);
  expect(refusal(huge)?.code).toBe('FAILED_PRECONDITION');
});

const small: fc.Arbitrary<Cursor> = fc
  .tuple(fc.nat(20), fc.array(fc.constantFrom('settled', 'once', 'twice', 'new'), { maxLength: 30 }))
  .map(([floor, states]) => {
    const at = (state: string) => {
      const found: { first: number; last: number }[] = [];
      for (const [index, each] of states.entries()) {
        const offset = floor + 1 + index;
        const before = found.at(-1);
        if (each !== state) continue;
        if (before?.last === offset - 1) before.last = offset;
        else found.push({ first: offset, last: offset });
      }
      return found;
    };
    const attempts = [
      ...at('once').map((each) => ({ ...each, value: 1 })),
      ...at('twice').map((each) => ({ ...each, value: 2 })),
    ];
    return { floor, settled: at('settled'), attempts: attempts.sort((a, b) => a.first - b.first) };
  });

function isSettled({ floor, settled }: Cursor, offset: number): boolean {
  return offset < floor || settled.some(({ first, last }) => first <= offset && offset <= last);
}

function attemptsOf(cursor: Cursor, offset: number): number {
  if (isSettled(cursor, offset)) return 0;
  return cursor.attempts.find(({ first, last }) => first <= offset && offset <= last)?.value ?? 0;
}

test('of two cursors of one log both are right in what is settled, and the greater count is', () => {
  fc.assert(
    fc.property(small, small, (a, b) => {
      const joined = decodeCursor(encodeCursor(joinCursors(a, b)));
      for (let offset = 0; offset < 60; offset += 1) {
        const settled = isSettled(a, offset) || isSettled(b, offset);
        expect(isSettled(joined, offset)).toBe(settled);
        if (!settled)
          expect(attemptsOf(joined, offset)).toBe(Math.max(attemptsOf(a, offset), attemptsOf(b, offset)));
      }
      expect(joined.settled.every(({ first }) => first > joined.floor)).toBe(true);
    }),
    cases(500),
  );
});

test('of what lies beyond an offset nothing is said', () => {
  fc.assert(
    fc.property(small, fc.nat(60), (cursor, end) => {
      const below = decodeCursor(encodeCursor(cursorBelow(cursor, end)));
      for (let offset = 0; offset < 60; offset += 1) {
        expect(isSettled(below, offset)).toBe(offset < end && isSettled(cursor, offset));
        expect(attemptsOf(below, offset)).toBe(offset < end ? attemptsOf(cursor, offset) : 0);
      }
    }),
    cases(500),
  );
});
