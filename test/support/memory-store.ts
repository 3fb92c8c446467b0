// The store ports in memory, for tests and simulations. The object outlives the brokers that use it, so a simulated
// crash is: drop the broker, keep the store. Without a clock every call takes effect at once; with one each call takes
// effect, and answers, after its own latency, so calls of one caller may overtake each other as they may in a network.
//
// createMemoryStore: for one broker. createSharedMemory: for the members of a cluster, each of which opens it by its id.
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
import type { MembershipStore } from '../../services/broker/ports/membership-store.ts';
import { type OwnershipStore, takenError } from '../../services/broker/ports/ownership-store.ts';
import type { Signals } from '../../services/broker/ports/signals.ts';
import { MemoryMembership } from './memory-membership.ts';
import { createMemorySignals } from './memory-signals.ts';

export interface MemoryStoreOptions {
  readonly clock?: Clock;
  /** Called once per call. Default: 0, which still takes a turn of the clock. */
  readonly latencyMs?: () => number;
  /** Bytes of frames in all logs together; default: no bound. A store that is full stays so until something is trimmed or dropped. */
  readonly capacityBytes?: number;
}

export interface Stores {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly definitions: DefinitionStore;
  readonly ownership: OwnershipStore;
}

export interface ClusterStores extends Stores {
  readonly membership: MembershipStore;
  readonly signals: Signals;
}

export interface SharedMemory {
  /** The same data for every member; what it acquires is held by it. */
  open(memberId: string): ClusterStores;
  /** Remembers logs, claims and cursors as they are now; calling the result brings them back: a failover that lost what came after. */
  checkpoint(): () => void;
}

interface Partition {
  readonly id: PartitionId;
  ownerEpoch: number;
  /** Empty: released, or never owned. */
  holder: string;
  handOver: Uint8Array | undefined;
  endOffset: number;
  endByte: number;
  /** In offset order. */
  chunks: Chunk[];
}

export type Take = <T>(effect: () => T) => Promise<T>;

export function createMemoryStore(options: MemoryStoreOptions = {}): Stores {
  return createSharedMemory(options).open('this-broker');
}

export function createSharedMemory(options: MemoryStoreOptions = {}): SharedMemory {
  const take = takeEffect(options);
  const partitions = new Partitions(options.capacityBytes ?? Number.POSITIVE_INFINITY);
  const records: CursorRecords = new Map();
  const definitions = memoryDefinitions(take);
  const membership = new MemoryMembership(take, () => options.clock?.monotonicMs() ?? performance.now());
  const signals = createMemorySignals(take);
  return {
    checkpoint: () => {
      const bringBack = partitions.checkpoint();
      const saved = [...records].map(([key, own]) => [key, new Map(own)] as const);
      return () => {
        bringBack();
        records.clear();
        for (const [key, own] of saved) records.set(key, new Map(own));
      };
    },
    open: (memberId) => ({
      log: memoryLog(take, partitions, memberId),
      cursors: memoryCursors(take, partitions, memberId, records),
      definitions,
      ownership: memoryOwnership(take, partitions, memberId),
      membership,
      signals,
    }),
  };
}

class Partitions {
  readonly #byName = new Map<string, Partition>();
  readonly #dropped = new Set<number>();
  readonly #capacityBytes: number;

  constructor(capacityBytes: number) {
    this.#capacityBytes = capacityBytes;
  }

  refuseBeyondCapacity(chunks: readonly Chunk[]): void {
    let bytes = 0;
    for (const { bytes: frames } of chunks) bytes += frames.length;
    for (const { chunks: held, endByte } of this.#byName.values())
      bytes += endByte - (held[0]?.startByte ?? endByte);
    if (bytes > this.#capacityBytes) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
  }

  at(id: PartitionId): Partition {
    const name = formatPartitionId(id);
    let found = this.#byName.get(name);
    if (!found) {
      found = { id, ownerEpoch: 0, holder: '', handOver: undefined, endOffset: 0, endByte: 0, chunks: [] };
      this.#byName.set(name, found);
    }
    return found;
  }

  drop(logEpoch: number): void {
    this.#dropped.add(logEpoch);
    for (const [name, { id }] of this.#byName) if (id.logEpoch === logEpoch) this.#byName.delete(name);
  }

  checkpoint(): () => void {
    const saved = [...this.#byName].map(
      ([name, partition]) => [name, { ...partition, chunks: [...partition.chunks] }] as const,
    );
    return () => {
      this.#byName.clear();
      for (const [name, partition] of saved)
        if (!this.isDropped(partition.id))
          this.#byName.set(name, { ...partition, chunks: [...partition.chunks] });
    };
  }

  isDropped({ logEpoch }: PartitionId): boolean {
    return this.#dropped.has(logEpoch);
  }

  /** What speaks against a write with that claim. */
  refusal(id: PartitionId, ownerEpoch: number, memberId: string): BrokerError | undefined {
    if (this.isDropped(id))
      return new BrokerError('ABORTED', `the topic of ${formatPartitionId(id)} was dropped`);
    const { ownerEpoch: newest, holder } = this.at(id);
    if (ownerEpoch < newest) {
      return new BrokerError('ABORTED', `ownerEpoch ${ownerEpoch} is stale: ${newest} was given since`);
    }
    if (ownerEpoch > newest) {
      return new BrokerError(
        'FAILED_PRECONDITION',
        `ownerEpoch ${ownerEpoch} is not known: the newest is ${newest}`,
      );
    }
    if (newest === 0 || holder === memberId) return undefined;
    return new BrokerError(
      'ABORTED',
      `ownerEpoch ${ownerEpoch} is not ${memberId}'s: ${holder || 'released'}`,
    );
  }

  refuse(id: PartitionId, ownerEpoch: number, memberId: string): Partition {
    const refusal = this.refusal(id, ownerEpoch, memberId);
    if (refusal) throw refusal;
    return this.at(id);
  }
}

function memoryOwnership(take: Take, partitions: Partitions, memberId: string): OwnershipStore {
  return {
    acquire: (id, { above = 0, ifEpoch } = {}) =>
      take(() => {
        if (partitions.isDropped(id)) {
          throw new BrokerError('FAILED_PRECONDITION', `the topic of ${formatPartitionId(id)} was dropped`);
        }
        const partition = partitions.at(id);
        if (ifEpoch !== undefined && partition.ownerEpoch !== ifEpoch) throw takenError(id, ifEpoch);
        const { handOver } = partition;
        partition.ownerEpoch = Math.max(partition.ownerEpoch, above) + 1;
        partition.holder = memberId;
        partition.handOver = undefined;
        return { ownerEpoch: partition.ownerEpoch, handOver };
      }),

    describe: (ids) =>
      take(() =>
        ids.map(partitions.at, partitions).map(({ ownerEpoch, holder }) => ({ ownerEpoch, holder })),
      ),

    release: (id, ownerEpoch, handOver) =>
      take(() => {
        const refusal = partitions.refusal(id, ownerEpoch, memberId);
        if (refusal) throw new BrokerError('ABORTED', refusal.message);
        const partition = partitions.at(id);
        partition.holder = '';
        partition.handOver = Uint8Array.from(handOver);
      }),
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

function memoryLog(take: Take, partitions: Partitions, memberId: string): LogStore {
  return {
    bounds: (id) => take(() => boundsOf(partitions.at(id))),

    append: (id, ownerEpoch, expectedEnd, chunks) =>
      take(() => {
        const log = partitions.refuse(id, ownerEpoch, memberId);
        if (expectedEnd !== log.endOffset) {
          const message = `append expects end ${expectedEnd}, which is ${log.endOffset}`;
          throw new BrokerError('FAILED_PRECONDITION', message);
        }
        partitions.refuseBeyondCapacity(chunks);
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

    confirm: (id, ownerEpoch, endOffset) =>
      take(() => {
        const log = partitions.refuse(id, ownerEpoch, memberId);
        if (log.endOffset >= endOffset) return;
        throw new BrokerError('FAILED_PRECONDITION', `the log ends at ${log.endOffset}, before ${endOffset}`);
      }),

    read: (id, fromOffset, maxBytes) =>
      take(() => {
        const { chunks } = partitions.at(id);
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
        const { chunks } = partitions.at(id);
        const from = indexOf(chunks, fromOffset);
        return chunks.slice(from, from + maxChunks).map(describe);
      }),

    trim: (id, ownerEpoch, beforeOffset, maxChunks) =>
      take(() => {
        const log = partitions.refuse(id, ownerEpoch, memberId);
        const wholly = indexOf(log.chunks, beforeOffset);
        log.chunks = log.chunks.slice(Math.min(wholly, maxChunks));
        return boundsOf(log);
      }),

    drop: (logEpoch) => take(() => partitions.drop(logEpoch)),
  };
}

/** By subscription, then by partition. */
type CursorRecords = Map<number, Map<string, Uint8Array>>;

function memoryCursors(
  take: Take,
  partitions: Partitions,
  memberId: string,
  records: CursorRecords,
): CursorStore {
  const put = ({ subscription, partition: id, record }: CursorCommit): void => {
    const own = records.get(subscription) ?? new Map<string, Uint8Array>();
    records.set(subscription, own.set(formatPartitionId(id), Uint8Array.from(record)));
  };
  return {
    load: (subscription, id) => take(() => records.get(subscription)?.get(formatPartitionId(id))),
    commit: (commits) =>
      take(() => {
        const stale: number[] = [];
        let behind: BrokerError | undefined;
        commits.forEach((commit, index) => {
          const refusal = partitions.refusal(commit.partition, commit.ownerEpoch, memberId);
          if (!refusal) put(commit);
          else if (refusal.code === 'ABORTED') stale.push(index);
          else behind = refusal;
        });
        if (behind) throw behind;
        return stale;
      }),
    drop: (subscription) => take(() => void records.delete(subscription)),
  };
}

function memoryDefinitions(take: Take): DefinitionStore {
  const definitions = new Map<string, Definition>();
  let lastIncarnation = 0;
  let version = 0;
  const keyOf = (kind: DefinitionKind, name: string): string => `${kind} ${name}`;
  const refuseChanged = (current: number, expected: number): void => {
    if (current !== expected) throw new BrokerError('ABORTED', `at revision ${current}, not ${expected}`);
  };
  return {
    list: () => take(() => [...definitions.values()]),
    version: () => take(() => version),
    get: (kind, name) => take(() => definitions.get(keyOf(kind, name))),
    put: (kind, name, body, expectedRevision) =>
      take(() => {
        const current = definitions.get(keyOf(kind, name))?.revision ?? 0;
        if (expectedRevision === 0 && current > 0) {
          throw new BrokerError('ALREADY_EXISTS', `${name} exists already`);
        }
        refuseChanged(current, expectedRevision);
        version += 1;
        definitions.set(keyOf(kind, name), { kind, name, body, revision: current + 1 });
        return current + 1;
      }),
    remove: (kind, name, expectedRevision) =>
      take(() => {
        const current = definitions.get(keyOf(kind, name))?.revision ?? 0;
        refuseChanged(current, expectedRevision);
        if (current === 0) throw new BrokerError('ABORTED', `${name} does not exist`);
        version += 1;
        definitions.delete(keyOf(kind, name));
      }),
    nextIncarnation: () => take(() => ++lastIncarnation),
  };
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
