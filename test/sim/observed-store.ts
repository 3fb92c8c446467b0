// What really came to be in the stores, behind all faults: the checker's truth. It wraps the memory store,
// below faulty-store.ts.
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { CursorCommit } from '../../services/broker/ports/cursor-store.ts';
import type { Chunk, LogBounds } from '../../services/broker/ports/log-store.ts';
import type { Stores } from '../support/memory-store.ts';

/** Told in the instant in which the store has changed, before the caller hears of it. */
export interface StoreObserver {
  appended(id: PartitionId, chunks: readonly Chunk[]): void;
  trimmed(id: PartitionId, bounds: LogBounds): void;
  dropped(logEpoch: number): void;
  /** `commits` is the very array that the engine handed over. */
  committed(commits: readonly CursorCommit[], stale: readonly number[]): void;
}

export function observed(inner: Stores, observer: StoreObserver): Stores {
  const { log, cursors, definitions, ownership } = inner;
  return {
    definitions,
    ownership,
    log: {
      bounds: (id) => log.bounds(id),
      read: (id, fromOffset, maxBytes) => log.read(id, fromOffset, maxBytes),
      describe: (id, fromOffset, maxChunks) => log.describe(id, fromOffset, maxChunks),
      skip: (id, range) => log.skip(id, range),
      skipped: (id) => log.skipped(id),
      confirm: (id, ownerEpoch, endOffset, durability) => log.confirm(id, ownerEpoch, endOffset, durability),
      async append(id, ownerEpoch, expectedEnd, chunks, durability) {
        await log.append(id, ownerEpoch, expectedEnd, chunks, durability);
        observer.appended(id, chunks);
      },
      async trim(id, ownerEpoch, beforeOffset, maxChunks) {
        const bounds = await log.trim(id, ownerEpoch, beforeOffset, maxChunks);
        observer.trimmed(id, bounds);
        return bounds;
      },
      async drop(logEpoch) {
        await log.drop(logEpoch);
        observer.dropped(logEpoch);
      },
    },
    cursors: {
      load: (subscription, partition) => cursors.load(subscription, partition),
      drop: (subscription) => cursors.drop(subscription),
      async commit(commits) {
        const stale = await cursors.commit(commits);
        observer.committed(commits, stale);
        return stale;
      },
    },
  };
}
