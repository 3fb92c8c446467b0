// What can be done to a partition whose claim this broker has, as an interface: open it, hand it over in
// order, or drop it at once. At most one of `own` and `handOver` is under way for a partition; `abandon` may
// come at any time.
import type { PartitionId } from '../core/partition.ts';
import type { Claim } from '../ports/ownership-store.ts';

export interface HandedOver {
  /**
   * The epoch of the claim under which the host wrote last: when the store went back the host may have taken
   * a newer claim by itself.
   */
  readonly ownerEpoch: number;
  /** The note for the next owner, below 16 MiB. */
  readonly note: Uint8Array;
  /**
   * To be awaited before each try to release the claim: the store may have gone back since, and what it has
   * forgotten is written again as long as somebody remembers it. Resolves to the ownerEpoch to release.
   * Rejects with UNAVAILABLE: not known yet; ABORTED: the claim has gone. Absent: there is nothing that the
   * store could have forgotten.
   */
  readonly confirm?: () => Promise<number>;
}

export interface PartitionHost {
  /**
   * Opens the partition for publishes and deliveries; the caller has just acquired it. Rejects with ABORTED
   * if the claim is stale already or the partition was abandoned meanwhile. After any other rejection
   * (UNAVAILABLE: the store does not answer; NOT_FOUND: the topic is not known here yet) it is to be called
   * again with the same claim.
   */
  own(id: PartitionId, claim: Claim): Promise<void>;

  /**
   * Stops accepting, appends what was accepted, commits the cursors; from then on the engine writes nothing
   * for the partition. Rejects if that cannot be done, or if the partition is abandoned meanwhile.
   */
  handOver(id: PartitionId): Promise<HandedOver>;

  /**
   * Stops at once: the claim has gone, nothing may be written any more. Idempotent, also for a partition that
   * is not open. An `own` or `handOver` under way ends soon; after an `own` that succeeds all the same the
   * caller abandons again.
   */
  abandon(id: PartitionId, reason: string): void;

  /**
   * Calls back when a write was refused because the claim is stale, after the host has abandoned the
   * partition by itself.
   */
  onStale(listener: (id: PartitionId) => void): void;

  /** Whether the partition's topic is known here; one that was deleted is not. */
  knows(id: PartitionId): boolean;

  /**
   * Calls back when topics came to be known or have gone. The partitions of those that have gone were closed
   * before.
   */
  onTopics(listener: () => void): void;
}
