// The state of each partition in memory: bounds, newest ownerEpoch, and the chunks that are in the journal but not yet in
// LMDB. Shared by log-store.ts (its only writer but for ownerEpoch), ownership-store.ts and cursor-store.ts.
//
// Two copies: `durable` is what readers see, `staged` what the next commit is planned against. They differ only while a
// batch is being written; settle() makes them one again, forwards or backwards.
//
// In LMDB a state is written when a partition is acquired or trimmed. Its end is not written with each append: it
// follows from the last chunk. So opening one costs two key look-ups, however long the log is.
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Chunk, LogBounds } from '../../ports/log-store.ts';
import type { DurableKv } from './durable-kv.ts';
import { chunksFrom, partitionStateKey, readChunkKey, readU64, writeU64 } from './keys.ts';
import { LOG, META, type Op } from './tables.ts';

export interface PartitionState extends LogBounds {
  /** The newest ownerEpoch given; 0 if none was. */
  readonly ownerEpoch: number;
}

export interface PendingChunk {
  readonly chunk: Chunk;
  readonly sequence: number;
}

export interface PartitionSlot {
  readonly id: PartitionId;
  durable: PartitionState;
  staged: PartitionState;
  /** In offset order; all behind what LMDB has. */
  pending: PendingChunk[];
}

const STATE_BYTES = 40;
const NEVER_WRITTEN: PartitionState = { ownerEpoch: 0, headOffset: 0, endOffset: 0, headByte: 0, endByte: 0 };

export class PartitionTable {
  readonly #kv: DurableKv;
  readonly #slots = new Map<string, PartitionSlot>();
  readonly #withPending = new Set<PartitionSlot>();

  constructor(kv: DurableKv) {
    this.#kv = kv;
    kv.onMerged((sequence) => this.#dropMerged(sequence));
  }

  slot(id: PartitionId): PartitionSlot {
    const name = formatPartitionId(id);
    let slot = this.#slots.get(name);
    if (!slot) {
      const state = this.#load(id);
      slot = { id, durable: state, staged: state, pending: [] };
      this.#slots.set(name, slot);
    }
    return slot;
  }

  /** The commit that was planned last for this slot is durable, or was not written. */
  settle(slot: PartitionSlot, state: PartitionState, durable: boolean): void {
    if (durable) slot.durable = state;
    else slot.staged = slot.durable;
  }

  addPending(slot: PartitionSlot, chunks: readonly Chunk[], sequence: number): void {
    for (const chunk of chunks) slot.pending.push({ chunk, sequence });
    this.#withPending.add(slot);
  }

  /** A topic's incarnation is gone: its partitions are as if never written. */
  forget(logEpoch: number): void {
    for (const [name, slot] of this.#slots) {
      if (slot.id.logEpoch !== logEpoch) continue;
      slot.durable = NEVER_WRITTEN;
      slot.staged = NEVER_WRITTEN;
      slot.pending = [];
      this.#slots.delete(name);
      this.#withPending.delete(slot);
    }
  }

  #dropMerged(sequence: number): void {
    for (const slot of this.#withPending) {
      slot.pending = slot.pending.filter((pending) => pending.sequence > sequence);
      if (slot.pending.length === 0) this.#withPending.delete(slot);
    }
  }

  #load(id: PartitionId): PartitionState {
    const stored = this.#kv.get(META, partitionStateKey(id));
    const state = stored ? decodeState(Buffer.from(stored)) : NEVER_WRITTEN;
    const lastKey = this.#kv.tables.lastKey(LOG, chunksFrom(id, state.headOffset));
    if (!lastKey) return { ...state, headOffset: state.endOffset, headByte: state.endByte };
    const last = readChunkKey(lastKey);
    return {
      ...state,
      endOffset: last.firstOffset + last.count,
      endByte: last.startByte + last.byteLength,
    };
  }
}

export function stateOp(id: PartitionId, state: PartitionState): Op {
  const value = Buffer.allocUnsafe(STATE_BYTES);
  writeU64(value, state.ownerEpoch, 0);
  writeU64(value, state.headOffset, 8);
  writeU64(value, state.endOffset, 16);
  writeU64(value, state.headByte, 24);
  writeU64(value, state.endByte, 32);
  return { table: META, key: partitionStateKey(id), value };
}

function decodeState(value: Buffer): PartitionState {
  return {
    ownerEpoch: readU64(value, 0),
    headOffset: readU64(value, 8),
    endOffset: readU64(value, 16),
    headByte: readU64(value, 24),
    endByte: readU64(value, 32),
  };
}
