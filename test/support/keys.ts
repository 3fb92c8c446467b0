// Ordering keys that belong to given partitions.
import { partitionOfKey } from '../../services/broker/core/partition.ts';
import { hashOfKey } from '../../services/broker/core/publish-batch.ts';

export function partitionOf(key: string, partitions: number): number {
  const bytes = Buffer.from(key);
  return partitionOfKey(hashOfKey(bytes, 0, bytes.length), partitions);
}

/** The first key that belongs to that partition of a topic with so many. */
export function keyOfPartition(partition: number, partitions: number): string {
  return keyThatMoves(partition, partitions, partition, partitions);
}

/** The first key that belongs to `before` of `partitionsBefore` and to `after` of `partitionsAfter`. */
export function keyThatMoves(
  before: number,
  partitionsBefore: number,
  after: number,
  partitionsAfter: number,
): string {
  for (let n = 0; ; n += 1) {
    const key = `k${n}`;
    if (partitionOf(key, partitionsBefore) === before && partitionOf(key, partitionsAfter) === after)
      return key;
  }
}
