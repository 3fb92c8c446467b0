// Ownership on one node; the comments of ports/ownership-store.ts are the contract. The one broker owns
// everything, and acquiring only raises the ownerEpoch, which fences writes that an earlier run of the
// partition's owner still has under way.
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import {
  type AcquireHow,
  type Claim,
  type OwnershipState,
  type OwnershipStore,
  takenError,
} from '../../ports/ownership-store.ts';
import type { DurableKv } from './durable-kv.ts';
import {
  holderOp,
  type PartitionSlot,
  type PartitionState,
  type PartitionTable,
  stateOp,
} from './partition-table.ts';

const STATE_BYTES = 64;

export class EmbeddedOwnershipStore implements OwnershipStore {
  readonly #kv: DurableKv;
  readonly #partitions: PartitionTable;
  readonly #memberId: string;

  constructor(kv: DurableKv, partitions: PartitionTable, memberId: string) {
    this.#kv = kv;
    this.#partitions = partitions;
    this.#memberId = memberId;
  }

  acquire(partition: PartitionId, { above = 0, ifEpoch }: AcquireHow = {}): Promise<Claim> {
    return this.#change<Claim>(partition, 0, (staged) => {
      if (this.#partitions.isDropped(partition)) {
        const message = `the topic of ${formatPartitionId(partition)} was dropped`;
        throw new BrokerError('FAILED_PRECONDITION', message);
      }
      if (ifEpoch !== undefined && staged.ownerEpoch !== ifEpoch) throw takenError(partition, ifEpoch);
      const ownerEpoch = Math.max(staged.ownerEpoch, above) + 1;
      return {
        after: { ...staged, ownerEpoch, holder: this.#memberId, handOver: undefined },
        result: { ownerEpoch, handOver: staged.handOver },
      };
    });
  }

  async describe(partitions: readonly PartitionId[]): Promise<OwnershipState[]> {
    return partitions.map((partition) => {
      const { ownerEpoch, holder } = this.#partitions.slot(partition).durable;
      return { ownerEpoch, holder };
    });
  }

  release(partition: PartitionId, ownerEpoch: number, handOver: Uint8Array): Promise<void> {
    return this.#change<void>(partition, handOver.length, (staged) => {
      const refusal = this.#partitions.refusal(partition, ownerEpoch);
      // A claim that the store does not know is of no use to anybody any more.
      if (refusal) throw new BrokerError('ABORTED', refusal.message);
      return { after: { ...staged, holder: '', handOver: Buffer.from(handOver) }, result: undefined };
    });
  }

  #change<T>(
    partition: PartitionId,
    bytes: number,
    decide: (staged: PartitionState) => { after: PartitionState; result: T },
  ): Promise<T> {
    let slot: PartitionSlot;
    let after: PartitionState;
    return this.#kv.commit<T>({
      bytes: STATE_BYTES + bytes,
      plan: () => {
        slot = this.#partitions.slot(partition);
        const decided = decide(slot.staged);
        after = decided.after;
        slot.staged = after;
        return { ops: [stateOp(partition, after), holderOp(partition, after)], result: decided.result };
      },
      applied: () => this.#partitions.ended(slot, after, true),
      failed: () => this.#partitions.ended(slot, after, false),
    });
  }
}
