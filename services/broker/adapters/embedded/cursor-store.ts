// Cursors on DurableKv; the comments of ports/cursor-store.ts are the contract. A cursor's key never changes,
// so of all its commits between two merges only the last one goes to LMDB.
import type { PartitionId } from '../../core/partition.ts';
import type { CursorCommit, CursorStore } from '../../ports/cursor-store.ts';
import { dropRange } from './drop-range.ts';
import type { DurableKv } from './durable-kv.ts';
import { cursorKey, cursorsOfSubscription } from './keys.ts';
import type { PartitionTable } from './partition-table.ts';
import { CURSORS, type Op } from './tables.ts';

const CURSOR_OVERHEAD_BYTES = 32;

export class EmbeddedCursorStore implements CursorStore {
  readonly #kv: DurableKv;
  readonly #partitions: PartitionTable;

  constructor(kv: DurableKv, partitions: PartitionTable) {
    this.#kv = kv;
    this.#partitions = partitions;
  }

  async load(subscription: number, partition: PartitionId): Promise<Uint8Array | undefined> {
    return this.#kv.get(CURSORS, cursorKey(subscription, partition));
  }

  commit(commits: readonly CursorCommit[]): Promise<readonly number[]> {
    let bytes = 0;
    for (const { record } of commits) bytes += record.length + CURSOR_OVERHEAD_BYTES;
    return this.#kv.commit<readonly number[]>({
      bytes,
      plan: () => {
        const ops: Op[] = [];
        const stale: number[] = [];
        commits.forEach((commit, index) => {
          // This store never goes back: a claim that it does not know is nobody's.
          if (this.#partitions.refusal(commit.partition, commit.ownerEpoch)) stale.push(index);
          else ops.push(cursorOp(commit));
        });
        return { ops, result: stale };
      },
    });
  }

  drop(subscription: number): Promise<void> {
    return dropRange(this.#kv, CURSORS, cursorsOfSubscription(subscription));
  }
}

/** Copies the record: unlike a log's chunks, records are not promised to stay unchanged. */
function cursorOp({ subscription, partition, record }: CursorCommit): Op {
  return { table: CURSORS, key: cursorKey(subscription, partition), value: Buffer.from(record) };
}
