// What a partition is called, and which one a message goes to.

/**
 * One partition's log. `logEpoch` is the incarnation of its topic (a number given once in a store's life), so a topic
 * deleted and created again under its name has other logs, other ack ids and other keys in the store.
 */
export interface PartitionId {
  readonly logEpoch: number;
  /** Index in the topic, from 0. */
  readonly partition: number;
}

/** "5.3": the first part of message ids and ack ids. */
export function formatPartitionId(id: PartitionId): string {
  return `${id.logEpoch}.${id.partition}`;
}

/**
 * Which of a topic's partitions the messages of an ordering key go to. `keyHash` is chunk.ts' hash of the key. The
 * multiplication spreads the hash's low bits (Lemire, "A fast alternative to the modulo reduction").
 */
export function partitionOfKey(keyHash: number, partitions: number): number {
  return Math.floor((keyHash / 0x1_0000_0000) * partitions);
}
