// The store ports in memory, for tests and simulations. The object outlives the brokers that use it, so a
// simulated crash is: drop the broker, keep the store. Without a clock every call takes effect at once; with
// one each call takes effect, and answers, after its own latency, so calls of one caller may overtake each
// other as they may in a network.
//
// createMemoryStore: for one broker. createSharedMemory: for the members of a cluster, each of which opens it
// by its id.
import { assert, BrokerError } from '../../services/broker/core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { CursorCommit, CursorStore } from '../../services/broker/ports/cursor-store.ts';
import type { DefinitionStore } from '../../services/broker/ports/definition-store.ts';
import type {
  Chunk,
  ChunkInfo,
  LogBounds,
  LogRange,
  LogStore,
} from '../../services/broker/ports/log-store.ts';
import { DamagedLog } from '../../services/broker/ports/log-store.ts';
import type { MembershipStore } from '../../services/broker/ports/membership-store.ts';
import { type OwnershipStore, takenError } from '../../services/broker/ports/ownership-store.ts';
import type { Signals } from '../../services/broker/ports/signals.ts';
import { MemoryDefinitions } from './memory-definitions.ts';
import { MemoryMembership } from './memory-membership.ts';
import { createMemorySignals } from './memory-signals.ts';

export interface MemoryStoreOptions {
  readonly clock?: Clock;
  /** Called once per call. Default: 0, which still takes a turn of the clock. */
  readonly latencyMs?: () => number;
  /**
   * Bytes of frames in all logs together; default: no bound. A store that is full stays so until something is
   * trimmed or dropped.
   */
  readonly capacityBytes?: number;
  /** How many removed definitions are remembered; default: as the port says. */
  readonly rememberedRemovals?: number;
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
  /**
   * Remembers everything as it is now, and returns a function that brings it back: a failover that lost what
   * came after. `fails` says which slots are lost; all if absent. What operators have asked for (members to
   * be drained) stays.
   */
  checkpoint(fails?: (slot: Slot) => boolean): () => void;
  /** Moves the store's clock, by which leases end and deletions are forgotten. */
  setClock(byMs: number): void;
  /** Damages a chunk, as StoreHarness.damage does. */
  damage(partition: PartitionId, offset: number, how: 'flip' | 'lose'): void;
}

/**
 * A group of keys, like those of Redis: a partition's ("5.3"), "t5" for whether topic 5 was dropped, and one
 * for everything else.
 */
export type Slot = string;
export const CLUSTER_SLOT: Slot = 'cluster';

interface Partition {
  readonly id: PartitionId;
  ownerEpoch: number;
  /** The member that holds it; empty: released, or never owned. */
  holder: string;
  handOver: Uint8Array | undefined;
  endOffset: number;
  endByte: number;
  /** Chunks in offset order. */
  chunks: Chunk[];
  skipped: LogRange[];
}

export type Take = <T>(effect: () => T) => Promise<T>;

export function createMemoryStore(options: MemoryStoreOptions = {}): Stores {
  return createSharedMemory(options).open('this-broker');
}

export function createSharedMemory(options: MemoryStoreOptions = {}): SharedMemory {
  const take = takeEffect(options);
  const partitions = new Partitions(options.capacityBytes ?? Number.POSITIVE_INFINITY);
  const records: CursorRecords = new Map();
  // The store's clock counts from 1970, as a server's does: what never was is long ago.
  let aheadMs = Date.UTC(2026);
  const nowMs = (): number => (options.clock?.monotonicMs() ?? performance.now()) + aheadMs;
  const definitions = new MemoryDefinitions(take, nowMs, options.rememberedRemovals);
  const membership = new MemoryMembership(take, nowMs);
  const signals = createMemorySignals(take);
  return {
    checkpoint: (fails = () => true) => {
      const goBack = [partitions.checkpoint(fails), checkpointOf(records, fails)];
      if (fails(CLUSTER_SLOT)) goBack.push(definitions.checkpoint(), membership.checkpoint());
      return () => {
        for (const each of goBack) each();
      };
    },
    setClock: (byMs) => {
      aheadMs += byMs;
    },
    damage: (id, offset, how) => partitions.damage(id, offset, how),
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

/** Frames that are not what was appended. */
const DAMAGED = new WeakSet<Buffer>();

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
      found = {
        id,
        ownerEpoch: 0,
        holder: '',
        handOver: undefined,
        endOffset: 0,
        endByte: 0,
        chunks: [],
        skipped: [],
      };
      this.#byName.set(name, found);
    }
    return found;
  }

  drop(logEpoch: number): void {
    this.#dropped.add(logEpoch);
    for (const [name, { id }] of this.#byName) if (id.logEpoch === logEpoch) this.#byName.delete(name);
  }

  checkpoint(fails: (slot: Slot) => boolean): () => void {
    const saved = new Map(
      [...this.#byName].map(([name, partition]) => [
        name,
        { ...partition, chunks: [...partition.chunks], skipped: [...partition.skipped] },
      ]),
    );
    const dropped = new Set(this.#dropped);
    return () => {
      for (const name of this.#byName.keys()) if (fails(name)) this.#byName.delete(name);
      for (const [name, partition] of saved)
        if (fails(name))
          this.#byName.set(name, {
            ...partition,
            chunks: [...partition.chunks],
            skipped: [...partition.skipped],
          });
      for (const logEpoch of this.#dropped)
        if (fails(`t${logEpoch}`) && !dropped.has(logEpoch)) this.#dropped.delete(logEpoch);
    };
  }

  damage(id: PartitionId, offset: number, how: 'flip' | 'lose'): void {
    const { chunks } = this.at(id);
    const at = indexOf(chunks, offset);
    if (how === 'lose') chunks.splice(at, 1);
    else {
      const bytes = Buffer.alloc(chunks[at]!.bytes.length);
      DAMAGED.add(bytes);
      chunks.splice(at, 1, { ...chunks[at]!, bytes });
    }
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
          if (to > from && (bytes > maxBytes || DAMAGED.has(chunks[to]!.bytes))) break;
          to++;
        }
        const first = chunks[from];
        if (first !== undefined && DAMAGED.has(first.bytes)) {
          const { firstOffset, count } = first;
          throw new DamagedLog(id, { firstOffset, endOffset: firstOffset + count }, 'a bit was flipped');
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

    skip: (id, range) =>
      take(() => {
        if (partitions.isDropped(id))
          throw new BrokerError('ABORTED', `the topic of ${formatPartitionId(id)} was dropped`);
        const { skipped } = partitions.at(id);
        if (!skipped.some(({ firstOffset }) => firstOffset === range.firstOffset)) skipped.push(range);
      }),

    skipped: (id) => take(() => [...partitions.at(id).skipped].sort((a, b) => a.firstOffset - b.firstOffset)),

    drop: (logEpoch) => take(() => partitions.drop(logEpoch)),
  };
}

/** Records by subscription, then by partition. */
type CursorRecords = Map<number, Map<string, Uint8Array>>;

/** A cursor is in its partition's slot. */
function checkpointOf(records: CursorRecords, fails: (slot: Slot) => boolean): () => void {
  const saved = [...records].map(([subscription, own]) => [subscription, new Map(own)] as const);
  return () => {
    for (const own of records.values()) for (const name of own.keys()) if (fails(name)) own.delete(name);
    for (const [subscription, before] of saved) {
      const own = records.get(subscription) ?? new Map<string, Uint8Array>();
      for (const [name, record] of before) if (fails(name)) own.set(name, record);
      if (own.size > 0) records.set(subscription, own);
    }
  };
}

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

function boundsOf({ chunks, endOffset, endByte }: Partition): LogBounds {
  const head = chunks[0];
  return {
    headOffset: head?.firstOffset ?? endOffset,
    endOffset,
    headByte: head?.startByte ?? endByte,
    endByte,
  };
}

/** The index of the first chunk that holds fromOffset or is behind it. */
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
