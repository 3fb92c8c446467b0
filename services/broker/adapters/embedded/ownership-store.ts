// Ownership on one node: the broker owns everything, and acquiring only moves the ownerEpoch, which fences writes that a
// former run of the partition's owner still has under way. Called through ports/ownership-store.ts.
import type { PartitionId } from '../../core/partition.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import type { DurableKv } from './durable-kv.ts';
import { type PartitionSlot, type PartitionState, type PartitionTable, stateOp } from './partition-table.ts';

const STATE_BYTES = 64;

export class EmbeddedOwnershipStore implements OwnershipStore {
  readonly #kv: DurableKv;
  readonly #partitions: PartitionTable;

  constructor(kv: DurableKv, partitions: PartitionTable) {
    this.#kv = kv;
    this.#partitions = partitions;
  }

  acquire(partition: PartitionId): Promise<number> {
    let slot: PartitionSlot;
    let after: PartitionState;
    return this.#kv.commit<number>({
      bytes: STATE_BYTES,
      plan: () => {
        slot = this.#partitions.slot(partition);
        after = { ...slot.staged, ownerEpoch: slot.staged.ownerEpoch + 1 };
        slot.staged = after;
        return { ops: [stateOp(partition, after)], result: after.ownerEpoch };
      },
      applied: () => this.#partitions.settle(slot, after, true),
      failed: () => this.#partitions.settle(slot, after, false),
    });
  }
}
