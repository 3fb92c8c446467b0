// Who may write to a partition. Called by engine/ownership. On one node the broker owns everything; with several
// (Redis, later) membership and assignment join this port.
import type { PartitionId } from '../core/partition.ts';

export interface OwnershipStore {
  /**
   * Takes a partition: returns an ownerEpoch greater than every one given for it before. From then on the store
   * refuses appends, trims and cursor commits that carry a smaller one. Durable.
   */
  acquire(partition: PartitionId): Promise<number>;
}
