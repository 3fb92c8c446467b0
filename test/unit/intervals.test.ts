// core/intervals.ts against sets and maps that keep every offset by itself.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Interval, IntervalMap, IntervalSet } from '../../services/broker/core/intervals.ts';
import { cases } from '../support/property.ts';

const SPACE = 40;
const range = fc.tuple(fc.nat(SPACE - 1), fc.integer({ min: 1, max: 12 })).map(([first, length]) => ({
  first,
  last: Math.min(SPACE - 1, first + length - 1),
}));

/** The maximal runs of offsets in first..last for which `has` holds. */
function runsOf(first: number, last: number, has: (offset: number) => boolean): Interval[] {
  const runs: { first: number; last: number }[] = [];
  for (let offset = first; offset <= last; offset += 1) {
    if (!has(offset)) continue;
    const previous = runs.at(-1);
    if (previous !== undefined && previous.last === offset - 1) previous.last = offset;
    else runs.push({ first: offset, last: offset });
  }
  return runs;
}

test('an interval set behaves like a set of offsets', () => {
  const operations = fc.array(fc.record({ add: fc.boolean(), range, asked: range }), { maxLength: 60 });
  fc.assert(
    fc.property(operations, (steps) => {
      const set = new IntervalSet();
      const model = new Set<number>();
      for (const { add, range: changed, asked } of steps) {
        const before = model.size;
        for (let offset = changed.first; offset <= changed.last; offset += 1) {
          if (add) model.add(offset);
          else model.delete(offset);
        }
        const moved = add ? set.add(changed.first, changed.last) : set.remove(changed.first, changed.last);
        expect(moved).toBe(Math.abs(model.size - before));

        const all = runsOf(0, SPACE, (offset) => model.has(offset));
        expect([...set]).toEqual(all);
        expect(set.length).toBe(all.length);
        expect(set.count).toBe(model.size);
        expect(set.lowest()).toEqual(all[0]);
        expect(set.highest()).toEqual(all.at(-1));
        expect(set.atOrAfter(asked.first)).toEqual(all.find(({ last }) => last >= asked.first));
        expect(set.within(asked.first, asked.last)).toEqual(
          runsOf(asked.first, asked.last, (offset) => model.has(offset)),
        );
        expect(set.gaps(asked.first, asked.last)).toEqual(
          runsOf(asked.first, asked.last, (offset) => !model.has(offset)),
        );
        expect(set.has(asked.first)).toBe(model.has(asked.first));
      }
    }),
    cases(500),
  );
});

test('an interval map behaves like a map of offsets, and shares values in proportion', () => {
  const operations = fc.array(
    fc.record({ kind: fc.constantFrom('insert', 'cut', 'takeOut'), range, asked: range }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(operations, (steps) => {
      const map = new IntervalMap<number>((value, part, whole) => (value * part) / whole);
      // Each offset's insertion and its part of that value: pieces of two insertions never merge.
      const model = new Map<number, { id: number; share: number }>();
      const check = (piece: Interval & { value: number }): void => {
        let sum = 0;
        const ids = new Set<number>();
        for (let offset = piece.first; offset <= piece.last; offset += 1) {
          sum += model.get(offset)!.share;
          ids.add(model.get(offset)!.id);
        }
        expect(ids.size).toBe(1);
        expect(piece.value).toBeCloseTo(sum, 9);
      };
      const offsetsOf = (pieces: readonly Interval[]): number[] =>
        pieces.flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i));

      for (const [id, { kind, range: changed, asked }] of steps.entries()) {
        const inRange = (offset: number): boolean => offset >= changed.first && offset <= changed.last;
        const known = [...model.keys()].filter(inRange).sort((a, b) => a - b);
        if (kind === 'insert') {
          if (known.length > 0) continue;
          const value = 100 + id;
          const whole = changed.last - changed.first + 1;
          map.insert(changed.first, changed.last, value);
          for (let offset = changed.first; offset <= changed.last; offset += 1)
            model.set(offset, { id, share: value / whole });
        } else if (kind === 'cut') {
          const removed = map.cut(changed.first, changed.last);
          expect(offsetsOf(removed)).toEqual(known);
          for (const piece of removed) check(piece);
          for (const offset of known) model.delete(offset);
        } else {
          const removed = map.takeOut((piece) => inRange(piece.first));
          for (const piece of removed) check(piece);
          expect(removed.every((piece) => inRange(piece.first))).toBe(true);
          for (const offset of offsetsOf(removed)) model.delete(offset);
          expect([...map].some((piece) => inRange(piece.first))).toBe(false);
        }

        const pieces = [...map];
        expect(offsetsOf(pieces)).toEqual([...model.keys()].sort((a, b) => a - b));
        for (const piece of pieces) check(piece);
        expect(map.length).toBe(pieces.length);
        expect(map.count).toBe(model.size);
        expect(map.highest()).toEqual(pieces.at(-1));
        expect(map.overlapping(asked.first, asked.last)).toEqual(
          pieces.filter(({ first, last }) => first <= asked.last && last >= asked.first),
        );
        expect([...map.from(asked.first)]).toEqual(pieces.filter(({ last }) => last >= asked.first));
      }
    }),
    cases(500),
  );
});

test('a map of very many pieces, put in and taken out anywhere, is the same as a plain list', () => {
  const COUNT = 2_000;
  const change = fc.record({
    first: fc.nat(2 * COUNT),
    length: fc.oneof(fc.nat(10), fc.nat(1_500)),
    refill: fc.nat(3),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: COUNT - 1 }),
      fc.array(change, { maxLength: 30 }),
      (stride, changes) => {
        const map = new IntervalMap<number>();
        const model = new Map<number, number>();
        const put = (offset: number, value: number): void => {
          if (model.has(offset)) return;
          map.insert(offset, offset, value);
          model.set(offset, value);
        };
        // Every other offset is put in, in an order that jumps about.
        for (let i = 0; i < COUNT; i += 1) put(2 * ((i * stride) % COUNT), i);
        for (const { first, length, refill } of changes) {
          const last = first + length;
          const known = [...model.keys()]
            .filter((offset) => offset >= first && offset <= last)
            .sort((a, b) => a - b);
          expect(map.cut(first, last).map((piece) => piece.first)).toEqual(known);
          for (const offset of known) model.delete(offset);
          if (refill > 0) for (let offset = last; offset > first; offset -= refill) put(offset, offset);
          expect(map.length).toBe(model.size);
          expect(map.count).toBe(model.size);
          const after = [...map.from(first)];
          expect(after[0]?.first ?? Infinity).toBe(
            Math.min(...[...model.keys()].filter((offset) => offset >= first)),
          );
        }
        const odd = map.takeOut(({ value }) => value % 2 === 1).map(({ first }) => first);
        const listed = [...model].sort(([a], [b]) => a - b);
        expect(odd).toEqual(listed.filter(([, value]) => value % 2 === 1).map(([offset]) => offset));
        expect([...map].map(({ first, value }) => [first, value])).toEqual(
          listed.filter(([, value]) => value % 2 === 0),
        );
      },
    ),
    cases(40),
  );
});
