// What engine/ownership-keeper asks of the engine: open a partition, hand it over in order, or drop it at once. The keeper calls
// at most one of own and handOver at a time for a partition; abandon may come at any time.
import type { PartitionId } from '../core/partition.ts';
import type { Claim } from '../ports/ownership-store.ts';

export interface HandedOver {
  /** Of the claim under which the host wrote last: the host may have taken a newer one by itself when the store went back. */
  readonly ownerEpoch: number;
  /** For the next owner, at most 1 MiB. */
  readonly note: Uint8Array;
  /**
   * To be awaited before each try to tell the store, which may have gone back since: what it has forgotten is appended again as
   * long as somebody remembers it. Resolves to the ownerEpoch to release. Rejects with UNAVAILABLE: not known yet; ABORTED: the
   * claim has gone. Absent: there is nothing that it could have forgotten.
   */
  readonly confirm?: () => Promise<number>;
}

export interface PartitionHost {
  /**
   * Opens the partition for publishes and deliveries; the caller has just acquired it. Rejects with ABORTED if the claim is
   * stale already, and with anything else (UNAVAILABLE: the store does not answer; NOT_FOUND: the topic is not known here yet)
   * to be called again with the same claim.
   */
  own(id: PartitionId, claim: Claim): Promise<void>;

  /**
   * Stops accepting, appends what was accepted, commits the cursors; from then on the engine writes nothing for it. Rejects if
   * that can't be done, or if the partition is abandoned meanwhile.
   */
  handOver(id: PartitionId): Promise<HandedOver>;

  /**
   * Stops at once: the claim has gone, nothing may be written any more. Idempotent, also for a partition that is not open. An
   * own or handOver under way ends soon; an own that succeeds all the same is abandoned again.
   */
  abandon(id: PartitionId, reason: string): void;

  /** Calls back when a write was refused because the claim is stale, after the host has abandoned the partition by itself. */
  onStale(listener: (id: PartitionId) => void): void;

  /** Whether the partition's topic is known here; one that was deleted is not. */
  knows(id: PartitionId): boolean;

  /** Calls back when topics came to be known or have gone. The partitions of those that have gone were closed before. */
  onTopics(listener: () => void): void;
}
