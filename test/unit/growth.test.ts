// core/growth.ts: which partitions keys came from when a topic grew, and the stored eras.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { beginOf, decodeEras, encodeEras, firstEra, sourcesOf } from '../../services/broker/core/growth.ts';
import { partitionOfKey } from '../../services/broker/core/partition.ts';

const hashes = fc.integer({ min: 1, max: 0xffff_ffff });
const countLists = fc
  .uniqueArray(fc.integer({ min: 1, max: 1_024 }), { minLength: 1, maxLength: 6 })
  .map(rising);

function rising(numbers: number[]): number[] {
  return numbers.sort((a, b) => a - b);
}

describe('from where keys come', () => {
  test('every partition that a key has ever belonged to is a source, with the era in which it left', () => {
    fc.assert(
      fc.property(hashes, countLists, (hash, counts) => {
        const now = partitionOfKey(hash, counts.at(-1)!);
        const sources = sourcesOf(counts, now, counts.at(-1)!);
        for (let at = 0; at + 1 < counts.length; at += 1) {
          const partition = partitionOfKey(hash, counts[at]!);
          if (partition !== now) expect(sources).toContainEqual({ partition, partitions: counts[at + 1] });
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('hashes at the edges of partitions', () => {
    for (let from = 1; from <= 6; from += 1)
      for (let to = from + 1; to <= 12; to += 1)
        for (let edge = 1; edge < from * to; edge += 1) {
          const at = Math.floor((edge / (from * to)) * 0x1_0000_0000);
          for (const hash of [at - 1, at, at + 1]) {
            const before = partitionOfKey(hash, from);
            const after = partitionOfKey(hash, to);
            if (before !== after)
              expect(sourcesOf([from, to], after, to)).toContainEqual({ partition: before, partitions: to });
          }
        }
  });

  test('one step asks at most two others', () => {
    fc.assert(
      fc.property(countLists, (counts) => {
        const [from, to] = [counts[0]!, counts.at(-1)! + 1];
        for (let partition = 0; partition < to; partition += 1)
          expect(sourcesOf([from, to], partition, to).length).toBeLessThanOrEqual(2);
      }),
    );
  });

  test('the first count asks nobody', () => {
    expect(sourcesOf([4, 8], 3, 4)).toEqual([]);
  });

  test('over partitions in between', () => {
    expect(sourcesOf([1, 2, 4], 3, 4)).toEqual([
      { partition: 1, partitions: 4 },
      { partition: 0, partitions: 2 },
    ]);
  });
});

describe('eras', () => {
  test('are stored and read', () => {
    const eras = [
      { partitions: 4, fromOffset: 0 },
      { partitions: 1_024, fromOffset: 2 ** 52 },
    ];
    expect(decodeEras(encodeEras(eras))).toEqual(eras);
  });

  test.each(['', '2 4 0', '1 4', '1 4 x', '1 4 0.5'])('bytes that are none (%j) are refused', (text) => {
    expect(() => decodeEras(Buffer.from(text))).toThrow(/eras of a partition cannot be read/);
  });

  test('a count that was left out has no message', () => {
    const eras = [
      { partitions: 4, fromOffset: 0 },
      { partitions: 8, fromOffset: 30 },
    ];
    expect([4, 6, 8, 9].map((count) => beginOf(eras, count))).toEqual([0, 30, 30, undefined]);
  });

  test('a new partition begins with the count that made it', () => {
    expect(firstEra([2, 4, 8], 1)).toEqual({ partitions: 2, fromOffset: 0 });
    expect(firstEra([2, 4, 8], 3)).toEqual({ partitions: 4, fromOffset: 0 });
  });
});
