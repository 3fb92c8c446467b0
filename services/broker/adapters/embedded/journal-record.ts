// The bytes of a journal record: one batch's puts and deletes, guarded by a checksum. Pure.
//
//   magic u32 · payloadBytes u32 · payloadCrc u32 · ops u32 · sequence u64 · headerCrc u32 · 0 u32
//   · payload · zeros up to a multiple of 16
//   payload, per op: table u8 · deletes u8 · keyBytes u16 · valueBytes u32 · key · value
//
// Both checksums begin with the store's salt. So a journal record that someone published as a message's data,
// or one from another store's journal, is not taken for one of ours. The header has a checksum of its own, so
// that a search through damaged bytes never sums up payloads that a publisher made look like records.
import { crc32 } from 'node:zlib';
import { combineCrc32 } from './crc32.ts';
import { readU64, writeU64 } from './keys.ts';
import type { Op, Table } from './tables.ts';

const MAGIC = 0x46_4a_52_31;
const HEADER_BYTES = 32;
const HEADER_CRC_AT = 24;
const OP_HEADER_BYTES = 8;
const ALIGNMENT = 16;
/** Summing up fewer bytes again is quicker than combining with their known sum. */
const WORTH_COMBINING_BYTES = 8_192;

export interface JournalRecord {
  readonly sequence: number;
  readonly ops: readonly Op[];
}

/** The bytes that an op takes in a record; a batch's size is their sum. */
export function opBytes(op: Op): number {
  return OP_HEADER_BYTES + op.key.length + (op.value?.length ?? 0);
}

/** The bytes of a record whose ops take `payloadBytes` together. */
export function recordBytes(payloadBytes: number): number {
  return Math.ceil((HEADER_BYTES + payloadBytes) / ALIGNMENT) * ALIGNMENT;
}

/** Writes a record to the beginning of `target`, which has room for it. Returns the record's bytes. */
export function encodeRecord(target: Buffer, salt: Buffer, sequence: number, ops: readonly Op[]): Buffer {
  const seed = crc32(salt);
  let at = HEADER_BYTES;
  let sum = seed;
  let summedTo = at;
  for (const op of ops) {
    target[at] = op.table;
    target[at + 1] = op.value ? 0 : 1;
    target.writeUInt16BE(op.key.length, at + 2);
    target.writeUInt32BE(op.value?.length ?? 0, at + 4);
    target.set(op.key, at + OP_HEADER_BYTES);
    const valueAt = at + OP_HEADER_BYTES + op.key.length;
    if (op.value) target.set(op.value, valueAt);
    at += opBytes(op);
    if (op.valueSum === undefined || at - valueAt < WORTH_COMBINING_BYTES) continue;
    sum = combineCrc32(crc32(target.subarray(summedTo, valueAt), sum), op.valueSum, at - valueAt);
    summedTo = at;
  }
  sum = crc32(target.subarray(summedTo, at), sum);
  const end = recordBytes(at - HEADER_BYTES);
  target.fill(0, at, end);
  target.writeUInt32BE(MAGIC, 0);
  target.writeUInt32BE(at - HEADER_BYTES, 4);
  target.writeUInt32BE(sum, 8);
  target.writeUInt32BE(ops.length, 12);
  writeU64(target, sequence, 16);
  target.writeUInt32BE(crc32(target.subarray(0, HEADER_CRC_AT), seed), HEADER_CRC_AT);
  target.writeUInt32BE(0, HEADER_CRC_AT + 4);
  return target.subarray(0, end);
}

/**
 * All whole records of a journal file, earlier uses' leftovers included, in file order. Where there is no
 * record the search goes on 16 bytes further, so damage in the middle does not hide what is behind it.
 */
export function* scanRecords(file: Buffer, salt: Buffer): Generator<JournalRecord> {
  const seed = crc32(salt);
  let at = 0;
  while (at + HEADER_BYTES <= file.length) {
    const payloadBytes = wholeRecordAt(file, at, seed);
    if (payloadBytes === undefined) {
      at += ALIGNMENT;
      continue;
    }
    const payload = file.subarray(at + HEADER_BYTES, at + HEADER_BYTES + payloadBytes);
    yield { sequence: readU64(file, at + 16), ops: decodeOps(payload, file.readUInt32BE(at + 12)) };
    at += recordBytes(payloadBytes);
  }
}

function wholeRecordAt(file: Buffer, at: number, seed: number): number | undefined {
  if (file.readUInt32BE(at) !== MAGIC) return undefined;
  const header = file.subarray(at, at + HEADER_CRC_AT);
  if (crc32(header, seed) !== file.readUInt32BE(at + HEADER_CRC_AT)) return undefined;
  const payloadBytes = file.readUInt32BE(at + 4);
  const end = at + HEADER_BYTES + payloadBytes;
  if (end > file.length) return undefined;
  const payloadCrc = crc32(file.subarray(at + HEADER_BYTES, end), seed);
  return payloadCrc === file.readUInt32BE(at + 8) ? payloadBytes : undefined;
}

function decodeOps(payload: Buffer, count: number): Op[] {
  const ops: Op[] = [];
  let at = 0;
  while (ops.length < count) {
    const keyAt = at + OP_HEADER_BYTES;
    const valueAt = keyAt + payload.readUInt16BE(at + 2);
    const end = valueAt + payload.readUInt32BE(at + 4);
    ops.push({
      table: payload[at] as Table,
      key: payload.subarray(keyAt, valueAt),
      value: payload[at + 1] === 1 ? undefined : payload.subarray(valueAt, end),
    });
    at = end;
  }
  return ops;
}
