// Cursors: how far each subscription has come in each partition. A record is opaque here (core/cursor.ts
// encodes it). A partition's eras (core/growth.ts) are kept in the same way, as the cursor of its topic's
// incarnation.
import type { PartitionId } from '../core/partition.ts';

export interface CursorCommit {
  readonly partition: PartitionId;
  readonly ownerEpoch: number;
  /** The incarnation of the subscription, or of the topic for its eras: given once in a store's life. */
  readonly subscription: number;
  readonly record: Uint8Array;
}

export interface CursorStore {
  /** The last committed record; undefined if there is none. */
  load(subscription: number, partition: PartitionId): Promise<Uint8Array | undefined>;

  /**
   * Writes all records, each replacing its predecessor, and resolves once they are durable. Each record is
   * written atomically and fenced: those with a stale ownerEpoch are not written, and their indexes are
   * returned. FAILED_PRECONDITION: the store went back for some of the partitions (see LogStore), whose
   * records were not written; the others were. RESOURCE_EXHAUSTED: nothing was written (not because the store
   * is full: see LogStore). UNAVAILABLE: as in LogStore. Committing the same or a newer record again is
   * always safe. A later commit wins over an earlier one, even if the outcome of the earlier one was unknown.
   */
  commit(commits: readonly CursorCommit[]): Promise<readonly number[]>;

  /** Deletes all records of a subscription. Idempotent. */
  drop(subscription: number): Promise<void>;
}
