// The state of each partition in memory: bounds, newest ownerEpoch and its holder, and the chunks that are in
// the journal but not yet in LMDB.
//
// There are two copies: `durable` is what readers see, `staged` what the next commit is planned against. They
// differ only while a batch is being written; ended() makes them one again, forwards or backwards.
//
// In LMDB a state is written when a partition is acquired, released or trimmed. Its end is not written with
// each append: it follows from the last chunk. So loading a state costs three key look-ups, however long the
// log is.
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Chunk, LogBounds } from '../../ports/log-store.ts';
import type { DurableKv } from './durable-kv.ts';
import { chunksFrom, holderKey, partitionStateKey, readChunkKey, readU64, writeU64 } from './keys.ts';
import { LOG, META, type Op } from './tables.ts';

export interface PartitionState extends LogBounds {
  /** The newest ownerEpoch given; 0 if none was. */
  readonly ownerEpoch: number;
  /** The member with the newest claim; empty: released, or never owned. */
  readonly holder: string;
  /** What the holder before left when it released the partition. */
  readonly handOver: Uint8Array | undefined;
}

export interface PendingChunk {
  readonly chunk: Chunk;
  readonly key: Buffer;
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
export const NEVER_WRITTEN: PartitionState = {
  ownerEpoch: 0,
  holder: '',
  handOver: undefined,
  headOffset: 0,
  endOffset: 0,
  headByte: 0,
  endByte: 0,
};
const RELEASED = 0;
const HELD = 1;

export class PartitionTable {
  readonly #kv: DurableKv;
  readonly #slots = new Map<string, PartitionSlot>();
  readonly #withPending = new Set<PartitionSlot>();
  /** Dropped in this life of the process; after a restart nobody is left who could own one of them. */
  readonly #dropped = new Set<number>();

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

  /** Ends the commit that was planned for this slot: it is durable, or was not written. */
  ended(slot: PartitionSlot, state: PartitionState, durable: boolean): void {
    if (durable) slot.durable = state;
    else slot.staged = slot.durable;
  }

  addPending(slot: PartitionSlot, chunks: readonly Chunk[], keys: readonly Buffer[], sequence: number): void {
    for (const [index, chunk] of chunks.entries()) slot.pending.push({ chunk, key: keys[index]!, sequence });
    this.#withPending.add(slot);
  }

  /** Whether its topic's incarnation was dropped: everybody's claim on it is stale then. */
  isDropped({ logEpoch }: PartitionId): boolean {
    return this.#dropped.has(logEpoch);
  }

  /**
   * What speaks against a write with that claim, staged changes included: ABORTED if the claim is stale, the
   * partition was released or its topic dropped; FAILED_PRECONDITION if the store does not know of the claim
   * yet.
   */
  refusal(id: PartitionId, ownerEpoch: number): BrokerError | undefined {
    const { ownerEpoch: newest, holder } = this.slot(id).staged;
    const name = formatPartitionId(id);
    if (this.isDropped(id)) return new BrokerError('ABORTED', `the topic of ${name} was dropped`);
    if (ownerEpoch < newest) {
      return new BrokerError(
        'ABORTED',
        `ownerEpoch ${ownerEpoch} of ${name} is stale: ${newest} was given since`,
      );
    }
    if (ownerEpoch > newest) {
      return new BrokerError(
        'FAILED_PRECONDITION',
        `ownerEpoch ${ownerEpoch} of ${name} is not known: the newest is ${newest}`,
      );
    }
    if (newest > 0 && holder === '') return new BrokerError('ABORTED', `${name} was released`);
    return undefined;
  }

  /** A topic's incarnation is about to be deleted: from now on nothing is written to it or read from it. */
  markDropped(logEpoch: number): void {
    this.#dropped.add(logEpoch);
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
    const state = {
      ...(stored ? decodeState(Buffer.from(stored)) : NEVER_WRITTEN),
      ...decodeHolder(this.#kv.get(META, holderKey(id))),
    };
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

/** Written together with stateOp when a partition changes hands. */
export function holderOp(id: PartitionId, { holder, handOver }: PartitionState): Op {
  const rest = holder === '' ? (handOver ?? Buffer.alloc(0)) : Buffer.from(holder);
  const value = Buffer.concat([Buffer.of(holder === '' ? RELEASED : HELD), rest]);
  return { table: META, key: holderKey(id), value };
}

function decodeHolder(value: Uint8Array | undefined): Pick<PartitionState, 'holder' | 'handOver'> {
  if (!value) return { holder: '', handOver: undefined };
  const rest = Buffer.from(value.subarray(1));
  if (value[0] === HELD) return { holder: rest.toString(), handOver: undefined };
  return { holder: '', handOver: rest };
}

function decodeState(value: Buffer): Omit<PartitionState, 'holder' | 'handOver'> {
  return {
    ownerEpoch: readU64(value, 0),
    headOffset: readU64(value, 8),
    endOffset: readU64(value, 16),
    headByte: readU64(value, 24),
    endByte: readU64(value, 32),
  };
}
