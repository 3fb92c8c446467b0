// The log of each partition on DurableKv. The comments of ports/log-store.ts are the contract.
//
// A partition's chunks are in LMDB, then, behind those, in the slot's pending list. Reads stop at the durable
// end, so what is still being written is never seen. Checks happen in plan(), when all earlier commits are
// known.
import { areFrames } from '../../core/chunk.ts';
import { assert, BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import {
  type Chunk,
  type ChunkInfo,
  DamagedLog,
  type LogBounds,
  type LogRange,
  type LogStore,
} from '../../ports/log-store.ts';
import type { Planned } from './commit.ts';
import { dropRange } from './drop-range.ts';
import type { DurableKv } from './durable-kv.ts';
import {
  type ChunkKey,
  chunkKey,
  chunksFrom,
  chunksOfLog,
  framesSum,
  holdersOfLog,
  partitionStatesOfLog,
  readChunkKey,
  readSkip,
  skipKey,
  skipsOf,
  skipsOfLog,
  writeU64,
} from './keys.ts';
import {
  NEVER_WRITTEN,
  type PartitionSlot,
  type PartitionState,
  type PartitionTable,
  stateOp,
} from './partition-table.ts';
import { LOG, META, type Op } from './tables.ts';

/** A chunk's place: in LMDB under a key, or pending. */
interface Located {
  readonly key: Buffer;
  readonly info: ChunkKey;
  readonly pending: Chunk | undefined;
}

/** About how many bytes a chunk's key and header add to a commit; for admission. */
const CHUNK_OVERHEAD_BYTES = 64;
const BAD_KEY = 'its description does not have the checksum that was stored';
/** Keys read from LMDB at a time by a walk along the log. */
const WALK_STEP = 256;

export class EmbeddedLogStore implements LogStore {
  readonly #kv: DurableKv;
  readonly #partitions: PartitionTable;

  constructor(kv: DurableKv, partitions: PartitionTable) {
    this.#kv = kv;
    this.#partitions = partitions;
  }

  async bounds(partition: PartitionId): Promise<LogBounds> {
    this.#kv.refuseWhileUnknown();
    return boundsOf(
      this.#partitions.isDropped(partition) ? NEVER_WRITTEN : this.#partitions.slot(partition).durable,
    );
  }

  append(
    partition: PartitionId,
    ownerEpoch: number,
    expectedEnd: number,
    chunks: readonly Chunk[],
  ): Promise<void> {
    let bytes = 0;
    for (const chunk of chunks) bytes += chunk.bytes.length + CHUNK_OVERHEAD_BYTES;
    let slot: PartitionSlot;
    let after: PartitionState;
    let keys: readonly Buffer[];
    return this.#kv.commit<void>({
      bytes,
      needsRoom: true,
      plan: () => {
        slot = this.#partitions.slot(partition);
        this.#refuse(partition, ownerEpoch);
        after = stateAfter(slot, expectedEnd, chunks);
        slot.staged = after;
        const ops = chunks.map((chunk): Op => {
          const valueSum = framesSum(chunk.bytes);
          const key = chunkKey(partition, infoOf(chunk), valueSum);
          return { table: LOG, key, value: chunk.bytes, valueSum };
        });
        keys = ops.map(({ key }) => key);
        return { ops, result: undefined };
      },
      applied: (sequence) => {
        this.#partitions.ended(slot, after, true);
        // After a direct write LMDB has them already. Otherwise they are pending until a merge.
        if (sequence > this.#kv.mergedSequence) this.#partitions.addPending(slot, chunks, keys, sequence);
      },
      failed: () => this.#partitions.ended(slot, after, false),
    });
  }

  /** A resolved append is on the disk already: nothing is more durable. */
  async confirm(partition: PartitionId, ownerEpoch: number, endOffset: number): Promise<void> {
    this.#kv.refuseWhileUnknown();
    this.#refuse(partition, ownerEpoch);
    const { durable } = this.#partitions.slot(partition);
    if (durable.endOffset >= endOffset) return;
    const message = `${formatPartitionId(partition)} ends at ${durable.endOffset}, before ${endOffset}`;
    throw new BrokerError('FAILED_PRECONDITION', message);
  }

  async read(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<Chunk[]> {
    const found: Chunk[] = [];
    const slot = this.#partitions.slot(partition);
    let bytes = 0;
    /** Where a chunk with a damaged description begins; only its neighbours tell its end. */
    let damagedFrom: number | undefined;
    for (const { key, info, pending } of this.#walk(slot, fromOffset)) {
      if (damagedFrom !== undefined && info.whole)
        throw new DamagedLog(partition, { firstOffset: damagedFrom, endOffset: info.firstOffset }, BAD_KEY);
      bytes += info.byteLength;
      if (found.length > 0 && (bytes > maxBytes || !info.whole)) return found;
      if (!info.whole) {
        damagedFrom ??= Math.max(fromOffset, slot.durable.headOffset);
        continue;
      }
      const chunk = pending ?? this.#chunkAt(key, info);
      if (chunk !== undefined) found.push(chunk);
      else if (found.length > 0) return found;
      else
        throw new DamagedLog(partition, rangeOf(info), 'its bytes do not have the checksum that was stored');
    }
    if (damagedFrom === undefined) return found;
    throw new DamagedLog(partition, { firstOffset: damagedFrom, endOffset: slot.durable.endOffset }, BAD_KEY);
  }

  async describe(partition: PartitionId, fromOffset: number, maxChunks: number): Promise<ChunkInfo[]> {
    const found: ChunkInfo[] = [];
    if (maxChunks < 1) return found;
    for (const { info } of this.#walk(this.#partitions.slot(partition), fromOffset)) {
      if (!info.whole) continue;
      const { firstOffset, count, publishTimeMs, startByte, byteLength } = info;
      found.push({ firstOffset, count, publishTimeMs, startByte, byteLength });
      if (found.length >= maxChunks) break;
    }
    return found;
  }

  trim(
    partition: PartitionId,
    ownerEpoch: number,
    beforeOffset: number,
    maxChunks: number,
  ): Promise<LogBounds> {
    let slot: PartitionSlot;
    let after: PartitionState;
    return this.#kv.commit<LogBounds>({
      bytes: CHUNK_OVERHEAD_BYTES,
      plan: () => {
        slot = this.#partitions.slot(partition);
        this.#refuse(partition, ownerEpoch);
        const planned = this.#planTrim(slot, beforeOffset, maxChunks);
        after = planned.result;
        slot.staged = after;
        return { ops: planned.ops, result: boundsOf(after) };
      },
      applied: () => {
        this.#partitions.ended(slot, after, true);
        slot.pending = slot.pending.filter(({ chunk }) => chunk.firstOffset >= after.headOffset);
      },
      failed: () => this.#partitions.ended(slot, after, false),
    });
  }

  skip(partition: PartitionId, { firstOffset, endOffset }: LogRange): Promise<void> {
    const value = Buffer.allocUnsafe(8);
    writeU64(value, endOffset, 0);
    const op: Op = { table: META, key: skipKey(partition, firstOffset), value };
    return this.#kv.commit<void>({
      bytes: CHUNK_OVERHEAD_BYTES,
      plan: () => {
        if (this.#partitions.isDropped(partition))
          throw new BrokerError('ABORTED', `the topic of ${formatPartitionId(partition)} was dropped`);
        return { ops: [op], result: undefined };
      },
    });
  }

  async skipped(partition: PartitionId): Promise<readonly LogRange[]> {
    const entries = this.#kv.entries(META, skipsOf(partition));
    return entries
      .map(({ key, value }) => readSkip(key, value))
      .sort((a, b) => a.firstOffset - b.firstOffset);
  }

  async drop(logEpoch: number): Promise<void> {
    this.#partitions.markDropped(logEpoch);
    await dropRange(this.#kv, LOG, chunksOfLog(logEpoch));
    await dropRange(this.#kv, META, partitionStatesOfLog(logEpoch));
    await dropRange(this.#kv, META, holdersOfLog(logEpoch));
    await dropRange(this.#kv, META, skipsOfLog(logEpoch));
    this.#partitions.forget(logEpoch);
  }

  #refuse(partition: PartitionId, ownerEpoch: number): void {
    const refusal = this.#partitions.refusal(partition, ownerEpoch);
    if (refusal) throw refusal;
  }

  /** Walks the durable chunks from the one that holds fromOffset, or from the first there is. */
  *#walk(slot: PartitionSlot, fromOffset: number): Generator<Located> {
    if (this.#partitions.isDropped(slot.id)) return;
    const { headOffset, endOffset } = slot.durable;
    const from = Math.max(fromOffset, headOffset);
    const firstPending = slot.pending[0]?.chunk.firstOffset ?? endOffset;
    let range = chunksFrom(slot.id, from);
    for (let more = from < firstPending; more; ) {
      let count = 0;
      let last = range.start;
      for (const lent of this.#kv.tables.keys(LOG, range, WALK_STEP)) {
        const key = Buffer.from(lent);
        const info = readChunkKey(key);
        if (info.whole && info.firstOffset >= firstPending) return yield* walkPending(slot, from);
        yield { key, info, pending: undefined };
        last = key;
        count++;
      }
      range = { start: Buffer.concat([last, Buffer.of(0)]), end: range.end };
      more = count === WALK_STEP;
    }
    yield* walkPending(slot, from);
  }

  /** Undefined if the bytes are not what was appended. */
  #chunkAt(key: Buffer, info: ChunkKey): Chunk | undefined {
    const bytes = this.#kv.tables.get(LOG, key);
    if (bytes?.length !== info.byteLength) return undefined;
    const { firstOffset, count, publishTimeMs, startByte } = info;
    const isWhole =
      info.framesSum === undefined ? areFrames(bytes, count) : framesSum(bytes) === info.framesSum;
    if (!isWhole) return undefined;
    return { firstOffset, count, publishTimeMs, startByte, bytes };
  }

  /** Plans the deletes and the state after them; no ops at all if no chunk is wholly below beforeOffset. */
  #planTrim(slot: PartitionSlot, beforeOffset: number, maxChunks: number): Planned<PartitionState> {
    const state = slot.staged;
    const ops: Op[] = [];
    // Behind the durable end there may be chunks of the same batch, which stay.
    let head = { headOffset: slot.durable.endOffset, headByte: slot.durable.endByte };
    /** The end of the last chunk that goes, as far as can be told. */
    let gone = { headOffset: state.headOffset, headByte: state.headByte };
    for (const { key, info } of this.#walk(slot, state.headOffset)) {
      const endOffset = info.firstOffset + info.count;
      if (endOffset > beforeOffset || ops.length >= maxChunks) {
        head = info.whole ? { headOffset: info.firstOffset, headByte: info.startByte } : gone;
        break;
      }
      ops.push({ table: LOG, key, value: undefined });
      if (info.whole) gone = { headOffset: endOffset, headByte: info.startByte + info.byteLength };
    }
    if (ops.length === 0) return { ops, result: state };
    const after = { ...state, ...head };
    ops.push(stateOp(slot.id, after));
    return { ops, result: after };
  }
}

function* walkPending(slot: PartitionSlot, from: number): Generator<Located> {
  for (const { chunk, key } of slot.pending) {
    if (chunk.firstOffset + chunk.count <= from) continue;
    yield { key, info: readChunkKey(key), pending: chunk };
  }
}

function rangeOf({ firstOffset, count }: ChunkInfo): LogRange {
  return { firstOffset, endOffset: firstOffset + count };
}

function infoOf(chunk: Chunk): ChunkInfo {
  const { firstOffset, count, publishTimeMs, startByte, bytes } = chunk;
  return { firstOffset, count, publishTimeMs, startByte, byteLength: bytes.length };
}

function stateAfter(slot: PartitionSlot, expectedEnd: number, chunks: readonly Chunk[]): PartitionState {
  let { endOffset, endByte } = slot.staged;
  if (expectedEnd !== endOffset) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `append to ${formatPartitionId(slot.id)} expects end ${expectedEnd}, which is ${endOffset}`,
    );
  }
  for (const chunk of chunks) {
    assert(chunk.firstOffset === endOffset && chunk.count >= 1, 'chunks are not contiguous in offsets');
    assert(chunk.startByte === endByte, 'chunks are not contiguous in bytes');
    endOffset += chunk.count;
    endByte += chunk.bytes.length;
  }
  return { ...slot.staged, endOffset, endByte };
}

function boundsOf(state: PartitionState): LogBounds {
  const { headOffset, endOffset, headByte, endByte } = state;
  return { headOffset, endOffset, headByte, endByte };
}
