// Who may write to a partition.
//
// A claim is a number, the ownerEpoch: the store refuses appends, trims and cursor commits of any other claim
// than the newest. Who *should* own a partition is the assignment's business (membership-store.ts); here the
// newest claim wins. An adapter is opened for one member, whose id it writes beside the epoch: so two members
// that hold the same number, after a failover that forgot one of them, are told apart.
import { BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';

export interface Claim {
  /** Greater than every one given for the partition before. */
  readonly ownerEpoch: number;
  /** The note that the former owner left when it released the partition; undefined: none. Opaque here. */
  readonly handOver: Uint8Array | undefined;
}

export interface OwnershipState {
  /** The newest claim's; 0: the partition was never owned. */
  readonly ownerEpoch: number;
  /** The member with the newest claim; empty: released, or never owned. */
  readonly holder: string;
}

export interface AcquireHow {
  /**
   * An epoch that the caller has seen: the new one is greater, even if the store went back (a failover that
   * lost its last writes).
   */
  readonly above?: number;
  /** Acquires only if the newest claim has this epoch, as `describe` told the caller. */
  readonly ifEpoch?: number;
}

export interface OwnershipStore {
  /**
   * Takes a partition, whoever has it. From then on the store refuses writes of earlier claims. Durable.
   * UNAVAILABLE: the outcome is unknown; acquire again. ABORTED: the partition is not at `ifEpoch`, nothing
   * was changed. FAILED_PRECONDITION: the topic was dropped, or the store does not hold the cluster any more.
   */
  acquire(partition: PartitionId, how?: AcquireHow): Promise<Claim>;

  /** The state of each partition, in the order asked for. */
  describe(partitions: readonly PartitionId[]): Promise<OwnershipState[]>;

  /**
   * Gives the partition up and leaves a note for the next owner (at most 16 MiB). From then on writes of this
   * claim are refused. ABORTED: the claim is stale, nothing was written. UNAVAILABLE: the outcome is unknown.
   */
  release(partition: PartitionId, ownerEpoch: number, handOver: Uint8Array): Promise<void>;
}

/** The error for a partition that is not at `ifEpoch`. */
export function takenError(partition: PartitionId, ifEpoch: number): BrokerError {
  return new BrokerError(
    'ABORTED',
    `${formatPartitionId(partition)} is not at claim ${ifEpoch} any more: another broker has been quicker`,
  );
}
