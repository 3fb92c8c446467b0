// What a partition is called, and to which one a message with an ordering key goes.

/**
 * Names one partition's log. `logEpoch` is the incarnation of its topic (a number given once in a store's
 * life), so a topic that is deleted and created again has other logs, other ack ids and other keys in the
 * store.
 */
export interface PartitionId {
  readonly logEpoch: number;
  /** The index in the topic, from 0. */
  readonly partition: number;
}

/** "5.3": the first part of message ids and ack ids. */
export function formatPartitionId(id: PartitionId): string {
  return `${id.logEpoch}.${id.partition}`;
}

/**
 * The partition of a topic to which the messages of an ordering key go. `keyHash` is hashOfKey of the key.
 * The multiplication goes by the hash's high bits (Lemire, "A fast alternative to the modulo reduction"):
 * each partition has an equal range of hashes, on which growth.ts relies.
 */
export function partitionOfKey(keyHash: number, partitions: number): number {
  return Math.floor((keyHash / 0x1_0000_0000) * partitions);
}
