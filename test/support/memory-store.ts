// All four store ports in memory, for tests and simulations. The object outlives the broker that uses it, so a simulated
// crash is: drop the broker, keep the store. Without a clock every call takes effect at once; with one each call takes
// effect, and answers, after its own latency, so calls of one caller may overtake each other as they may in a network.
import { assert, BrokerError } from '../../services/broker/core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { CursorCommit, CursorStore } from '../../services/broker/ports/cursor-store.ts';
import type {
  Definition,
  DefinitionKind,
  DefinitionStore,
} from '../../services/broker/ports/definition-store.ts';
import type { Chunk, ChunkInfo, LogBounds, LogStore } from '../../services/broker/ports/log-store.ts';
import type { OwnershipStore } from '../../services/broker/ports/ownership-store.ts';

export interface MemoryStoreOptions {
  readonly clock?: Clock;
  /** Called once per call. Default: 0, which still takes a turn of the clock. */
  readonly latencyMs?: () => number;
}

export interface Stores {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly definitions: DefinitionStore;
  readonly ownership: OwnershipStore;
}

interface Partition {
  readonly id: PartitionId;
  ownerEpoch: number;
  endOffset: number;
  endByte: number;
  /** In offset order. */
  chunks: Chunk[];
}

type Take = <T>(effect: () => T) => Promise<T>;

export function createMemoryStore(options: MemoryStoreOptions = {}): Stores {
  const take = takeEffect(options);
  const partitions = new Map<string, Partition>();
  const partition = (id: PartitionId): Partition => {
    const name = formatPartitionId(id);
    let found = partitions.get(name);
    if (!found) {
      found = { id, ownerEpoch: 0, endOffset: 0, endByte: 0, chunks: [] };
      partitions.set(name, found);
    }
    return found;
  };
  const forget = (logEpoch: number): void => {
    for (const [name, { id }] of partitions) if (id.logEpoch === logEpoch) partitions.delete(name);
  };
  return {
    log: memoryLog(take, partition, forget),
    cursors: memoryCursors(take, partition),
    definitions: memoryDefinitions(take),
    ownership: { acquire: (id) => take(() => ++partition(id).ownerEpoch) },
  };
}

function takeEffect({ clock, latencyMs = () => 0 }: MemoryStoreOptions): Take {
  if (!clock) return async (effect) => effect();
  return (effect) =>
    new Promise((resolve, reject) => {
      clock.setTimer(latencyMs(), () => {
        try {
          resolve(effect());
        } catch (error) {
          reject(error);
        }
      });
    });
}

function memoryLog(
  take: Take,
  partition: (id: PartitionId) => Partition,
  forget: (logEpoch: number) => void,
): LogStore {
  return {
    bounds: (id) => take(() => boundsOf(partition(id))),

    append: (id, ownerEpoch, expectedEnd, chunks) =>
      take(() => {
        const log = partition(id);
        refuseStale(log, ownerEpoch);
        if (expectedEnd !== log.endOffset) {
          const message = `append expects end ${expectedEnd}, which is ${log.endOffset}`;
          throw new BrokerError('FAILED_PRECONDITION', message);
        }
        for (const chunk of chunks) {
          assert(
            chunk.firstOffset === log.endOffset && chunk.count >= 1,
            'chunks are not contiguous in offsets',
          );
          assert(chunk.startByte === log.endByte, 'chunks are not contiguous in bytes');
          log.chunks.push(chunk);
          log.endOffset += chunk.count;
          log.endByte += chunk.bytes.length;
        }
      }),

    read: (id, fromOffset, maxBytes) =>
      take(() => {
        const { chunks } = partition(id);
        const from = indexOf(chunks, fromOffset);
        let bytes = 0;
        let to = from;
        while (to < chunks.length) {
          bytes += chunks[to]!.bytes.length;
          if (to > from && bytes > maxBytes) break;
          to++;
        }
        return chunks.slice(from, to);
      }),

    describe: (id, fromOffset, maxChunks) =>
      take(() => {
        const { chunks } = partition(id);
        const from = indexOf(chunks, fromOffset);
        return chunks.slice(from, from + maxChunks).map(describe);
      }),

    trim: (id, ownerEpoch, beforeOffset, maxChunks) =>
      take(() => {
        const log = partition(id);
        refuseStale(log, ownerEpoch);
        const wholly = indexOf(log.chunks, beforeOffset);
        log.chunks = log.chunks.slice(Math.min(wholly, maxChunks));
        return boundsOf(log);
      }),

    drop: (logEpoch) => take(() => forget(logEpoch)),
  };
}

function memoryCursors(take: Take, partition: (id: PartitionId) => Partition): CursorStore {
  const records = new Map<number, Map<string, Uint8Array>>();
  const put = ({ subscription, partition: id, record }: CursorCommit): void => {
    const own = records.get(subscription) ?? new Map<string, Uint8Array>();
    records.set(subscription, own.set(formatPartitionId(id), Uint8Array.from(record)));
  };
  return {
    load: (subscription, id) => take(() => records.get(subscription)?.get(formatPartitionId(id))),
    commit: (commits) =>
      take(() => {
        const stale: number[] = [];
        commits.forEach((commit, index) => {
          if (commit.ownerEpoch < partition(commit.partition).ownerEpoch) stale.push(index);
          else put(commit);
        });
        return stale;
      }),
    drop: (subscription) => take(() => void records.delete(subscription)),
  };
}

function memoryDefinitions(take: Take): DefinitionStore {
  const definitions = new Map<string, Definition>();
  let lastIncarnation = 0;
  const keyOf = (kind: DefinitionKind, name: string): string => `${kind} ${name}`;
  const refuseChanged = (current: number, expected: number): void => {
    if (current !== expected) throw new BrokerError('ABORTED', `at revision ${current}, not ${expected}`);
  };
  return {
    list: () => take(() => [...definitions.values()]),
    put: (kind, name, body, expectedRevision) =>
      take(() => {
        const current = definitions.get(keyOf(kind, name))?.revision ?? 0;
        if (expectedRevision === 0 && current > 0) {
          throw new BrokerError('ALREADY_EXISTS', `${name} exists already`);
        }
        refuseChanged(current, expectedRevision);
        definitions.set(keyOf(kind, name), { kind, name, body, revision: current + 1 });
        return current + 1;
      }),
    remove: (kind, name, expectedRevision) =>
      take(() => {
        const current = definitions.get(keyOf(kind, name))?.revision ?? 0;
        refuseChanged(current, expectedRevision);
        if (current === 0) throw new BrokerError('ABORTED', `${name} does not exist`);
        definitions.delete(keyOf(kind, name));
      }),
    nextIncarnation: () => take(() => ++lastIncarnation),
  };
}

function refuseStale(log: Partition, ownerEpoch: number): void {
  if (ownerEpoch >= log.ownerEpoch) return;
  throw new BrokerError('ABORTED', `ownerEpoch ${ownerEpoch} is stale: ${log.ownerEpoch} was given since`);
}

function boundsOf({ chunks, endOffset, endByte }: Partition): LogBounds {
  const head = chunks[0];
  return {
    headOffset: head?.firstOffset ?? endOffset,
    endOffset,
    headByte: head?.startByte ?? endByte,
    endByte,
  };
}

/** The first chunk that holds fromOffset or is behind it. */
function indexOf(chunks: readonly Chunk[], fromOffset: number): number {
  let low = 0;
  let high = chunks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { firstOffset, count } = chunks[middle]!;
    if (firstOffset + count <= fromOffset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function describe(chunk: Chunk): ChunkInfo {
  const { firstOffset, count, publishTimeMs, startByte, bytes } = chunk;
  return { firstOffset, count, publishTimeMs, startByte, byteLength: bytes.length };
}
