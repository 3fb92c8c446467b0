// Who may write to a partition. Called by engine/ownership-keeper (and by engine/broker on one node).
//
// A claim is a number, the ownerEpoch: the store refuses appends, trims and cursor commits of any other claim than the
// newest. Who *should* own a partition is the assignment's business (membership-store.ts); here only the newest claim wins.
// An adapter is opened for one member, whose id it writes beside the epoch: two members that hold the same number, after a
// failover that forgot one of them, are told apart.
import type { PartitionId } from '../core/partition.ts';

export interface Claim {
  /** Greater than every one given for the partition before. */
  readonly ownerEpoch: number;
  /** What the previous owner left when it released the partition; undefined if it did not release it. Opaque here. */
  readonly handOver: Uint8Array | undefined;
}

export interface OwnershipState {
  /** 0: never owned. */
  readonly ownerEpoch: number;
  /** The member with the newest claim; empty: released, or never owned. */
  readonly holder: string;
}

export interface OwnershipStore {
  /**
   * Takes a partition, whoever has it. From then on the store refuses writes of earlier claims. Durable. `above`: the
   * caller has seen this epoch; a store that went back (a failover that lost its last writes) gives a greater one all
   * the same. UNAVAILABLE: the outcome is unknown; acquire again. FAILED_PRECONDITION: the topic was dropped.
   */
  acquire(partition: PartitionId, above?: number): Promise<Claim>;

  /** Of each partition, in order. */
  describe(partitions: readonly PartitionId[]): Promise<OwnershipState[]>;

  /**
   * Gives the partition up and leaves a note for the next owner (at most 1 MiB). From then on writes of this claim are
   * refused. ABORTED: the claim is stale, nothing was written. UNAVAILABLE: the outcome is unknown.
   */
  release(partition: PartitionId, ownerEpoch: number, handOver: Uint8Array): Promise<void>;
}
