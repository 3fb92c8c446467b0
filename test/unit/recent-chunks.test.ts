// What is kept of a partition, for a store that may go back, has no gap.
import { expect, test } from 'vitest';
import { CachedChunk } from '../../services/broker/engine/log/chunk-cache.ts';
import { RecentRing } from '../../services/broker/engine/log/recent-chunks.ts';

function chunk(firstOffset: number): CachedChunk {
  return new CachedChunk({
    firstOffset,
    count: 2,
    publishTimeMs: 0,
    startByte: firstOffset * 10,
    bytes: Buffer.alloc(20),
  });
}

test('where others had the partition in between, only what came after is kept', () => {
  const kept = new RecentRing(1_000).of({ logEpoch: 1, partition: 0 });
  const [first, second, later] = [chunk(0), chunk(2), chunk(6)] as const;
  for (const each of [first, second]) kept.add(each, 0);
  expect(kept.from(0)).toEqual([first, second]);
  kept.add(later, 0);
  expect(kept.from(0)).toBeUndefined();
  expect(kept.from(6)).toEqual([later]);
  expect(kept.length).toBe(1);
});
