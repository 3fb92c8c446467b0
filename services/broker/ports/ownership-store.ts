// Who may write to a partition. Called by engine/ownership-keeper (and by engine/broker on one node).
//
// A claim is a number, the ownerEpoch: the store refuses appends, trims and cursor commits of any other claim than the
// newest. Who *should* own a partition is the assignment's business (membership-store.ts); here only the newest claim wins.
// An adapter is opened for one member, whose id it writes beside the epoch: two members that hold the same number, after a
// failover that forgot one of them, are told apart.
import { BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';

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

export interface AcquireHow {
  /**
   * The caller has seen this epoch: a store that went back (a failover that lost its last writes) gives a greater one all the
   * same.
   */
  readonly above?: number;
  /** Only while the newest claim has this epoch, as the caller was told by `describe`. */
  readonly ifEpoch?: number;
}

export interface OwnershipStore {
  /**
   * Takes a partition, whoever has it. From then on the store refuses writes of earlier claims. Durable. UNAVAILABLE: the
   * outcome is unknown; acquire again. ABORTED: not at `ifEpoch`, nothing was changed. FAILED_PRECONDITION: the topic was
   * dropped.
   */
  acquire(partition: PartitionId, how?: AcquireHow): Promise<Claim>;

  /** Of each partition, in order. */
  describe(partitions: readonly PartitionId[]): Promise<OwnershipState[]>;

  /**
   * Gives the partition up and leaves a note for the next owner (at most 16 MiB). From then on writes of this claim are
   * refused. ABORTED: the claim is stale, nothing was written. UNAVAILABLE: the outcome is unknown.
   */
  release(partition: PartitionId, ownerEpoch: number, handOver: Uint8Array): Promise<void>;
}

/** What adapters reject with where a partition is not at `ifEpoch`. */
export function takenError(partition: PartitionId, ifEpoch: number): BrokerError {
  return new BrokerError(
    'ABORTED',
    `${formatPartitionId(partition)} is not at claim ${ifEpoch} any more: another broker has been quicker`,
  );
}
