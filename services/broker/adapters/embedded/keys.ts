// The keys of the embedded store's tables: the only place that knows their bytes. All numbers are big-endian,
// so LMDB's byte order is theirs.
//
//   log          logEpoch u32 · partition u32 · lastOffset u64 · count u32 · byteLength u32
//                · publishTimeMs u64 · startByte u64 · CRC-32 of the frames u32
//                · CRC-32 of the key up to here u32
//   cursors      subscription u64 · logEpoch u32 · partition u32
//   definitions  kind u8 · name
//   meta         1 · logEpoch u32 · partition u32   → the partition's state
//                2                                  → the last incarnation given
//                3                                  → the sequence of the last commit in LMDB
//                4 · logEpoch u32 · partition u32   → 1 · the member that holds it, or 0 · the note it left
//                5 · logEpoch u32 · partition u32 · firstOffset u64   → u64, where a range given up ends
//
// A chunk's description is in its key, behind what orders it: so the value is the frames alone (nothing is
// copied to store it), and describe() and trim() never touch the pages that hold frames. A key of 40 bytes
// belongs to a chunk that was written before there were checksums; a broker version without them reads the
// longer keys, too.
import { crc32 } from 'node:zlib';
import { assert } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { ChunkInfo, LogRange } from '../../ports/log-store.ts';

const U32 = 0x1_0000_0000;
const PREFIX_BYTES = 8;
const LOG_KEY_BYTES = 48;
const FRAMES_SUM_AT = 40;
const KEY_SUM_AT = 44;

export const INCARNATION_KEY = Buffer.of(2);
export const SEQUENCE_KEY = Buffer.of(3);

/** A half-open range of keys. */
export interface KeyRange {
  readonly start: Buffer;
  readonly end: Buffer;
}

export interface ChunkKey extends ChunkInfo {
  /** The checksum of the frames; undefined: the chunk is older than checksums. */
  readonly framesSum: number | undefined;
  /** False: the key is damaged. All of this may be wrong then; only the order of the keys holds. */
  readonly whole: boolean;
}

export function framesSum(frames: Uint8Array): number {
  return crc32(frames);
}

export function chunkKey(id: PartitionId, chunk: ChunkInfo, sum: number): Buffer {
  const key = Buffer.allocUnsafe(LOG_KEY_BYTES);
  writePartition(key, id, 0);
  writeU64(key, chunk.firstOffset + chunk.count - 1, 8);
  key.writeUInt32BE(chunk.count, 16);
  key.writeUInt32BE(chunk.byteLength, 20);
  writeU64(key, chunk.publishTimeMs, 24);
  writeU64(key, chunk.startByte, 32);
  key.writeUInt32BE(sum, FRAMES_SUM_AT);
  key.writeUInt32BE(crc32(key.subarray(0, KEY_SUM_AT)), KEY_SUM_AT);
  return key;
}

export function readChunkKey(key: Buffer): ChunkKey {
  const count = key.readUInt32BE(16);
  const isSummed = key.length >= LOG_KEY_BYTES;
  return {
    firstOffset: readU64(key, 8) - count + 1,
    count,
    byteLength: key.readUInt32BE(20),
    publishTimeMs: readU64(key, 24),
    startByte: readU64(key, 32),
    framesSum: isSummed ? key.readUInt32BE(FRAMES_SUM_AT) : undefined,
    whole: !isSummed || crc32(key.subarray(0, KEY_SUM_AT)) === key.readUInt32BE(KEY_SUM_AT),
  };
}

export function skipKey(id: PartitionId, firstOffset: number): Buffer {
  const key = Buffer.allocUnsafe(1 + PREFIX_BYTES + 8);
  key[0] = 5;
  writePartition(key, id, 1);
  writeU64(key, firstOffset, 1 + PREFIX_BYTES);
  return key;
}

export function readSkip(key: Buffer, value: Buffer): LogRange {
  return { firstOffset: readU64(key, 1 + PREFIX_BYTES), endOffset: readU64(value, 0) };
}

export function skipsOf(id: PartitionId): KeyRange {
  return prefixRange(skipKey(id, 0).subarray(0, 1 + PREFIX_BYTES));
}

export function skipsOfLog(logEpoch: number): KeyRange {
  return prefixRange(Buffer.concat([Buffer.of(5), u32(logEpoch)]));
}

/** The keys of the chunk that holds fromOffset and of all behind it. */
export function chunksFrom(id: PartitionId, fromOffset: number): KeyRange {
  const start = Buffer.allocUnsafe(PREFIX_BYTES + 8);
  writePartition(start, id, 0);
  writeU64(start, fromOffset, PREFIX_BYTES);
  return { start, end: endOf(start.subarray(0, PREFIX_BYTES)) };
}

/** The chunks of all partitions of a topic's incarnation. */
export function chunksOfLog(logEpoch: number): KeyRange {
  return prefixRange(u32(logEpoch));
}

export function partitionStateKey(id: PartitionId): Buffer {
  const key = Buffer.allocUnsafe(1 + PREFIX_BYTES);
  key[0] = 1;
  writePartition(key, id, 1);
  return key;
}

export function partitionStatesOfLog(logEpoch: number): KeyRange {
  return prefixRange(Buffer.concat([Buffer.of(1), u32(logEpoch)]));
}

export function holderKey(id: PartitionId): Buffer {
  const key = partitionStateKey(id);
  key[0] = 4;
  return key;
}

export function holdersOfLog(logEpoch: number): KeyRange {
  return prefixRange(Buffer.concat([Buffer.of(4), u32(logEpoch)]));
}

export function cursorKey(subscription: number, id: PartitionId): Buffer {
  const key = Buffer.allocUnsafe(8 + PREFIX_BYTES);
  writeU64(key, subscription, 0);
  writePartition(key, id, 8);
  return key;
}

export function cursorsOfSubscription(subscription: number): KeyRange {
  const prefix = Buffer.allocUnsafe(8);
  writeU64(prefix, subscription, 0);
  return prefixRange(prefix);
}

export function prefixRange(prefix: Buffer): KeyRange {
  return { start: prefix, end: endOf(prefix) };
}

export function writeU64(target: Buffer, value: number, at: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `not a number for a key: ${value}`);
  target.writeUInt32BE(Math.floor(value / U32), at);
  target.writeUInt32BE(value >>> 0, at + 4);
}

export function readU64(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * U32 + source.readUInt32BE(at + 4);
}

function writePartition(target: Buffer, id: PartitionId, at: number): void {
  target.writeUInt32BE(id.logEpoch, at);
  target.writeUInt32BE(id.partition, at + 4);
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

/**
 * Greater than every key with this prefix: no key goes on with nine bytes of 255, as every number is below
 * 2^53.
 */
function endOf(prefix: Buffer): Buffer {
  return Buffer.concat([prefix, Buffer.alloc(9, 255)]);
}
