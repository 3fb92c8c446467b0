// A chunk as an entry of a stream. Its id is its end offset; its info is text: "count publishTimeMs startByte
// byteLength sum". All numbers are below 2^53 and written in full. The sum is a CRC-32 of the text before it
// and the frames; chunks that were written before there were checksums have none, and a broker version
// without them does not look at it.
import { crc32 } from 'node:zlib';
import { areFrames } from '../../core/chunk.ts';
import type { Chunk, ChunkInfo } from '../../ports/log-store.ts';
import type { BufferReply } from './connection.ts';

export function chunkId(chunk: Pick<ChunkInfo, 'firstOffset' | 'count'>): string {
  return `${chunk.firstOffset + chunk.count}`;
}

/** The smallest id that the chunk with this offset, or one behind it, can have. */
export function firstIdAt(offset: number): string {
  return `${offset + 1}`;
}

export function chunkInfo({ count, publishTimeMs, startByte, bytes }: Chunk): string {
  const text = `${count} ${publishTimeMs} ${startByte} ${bytes.length}`;
  return `${text} ${sumOf(text, bytes)}`;
}

function sumOf(text: string, frames: Uint8Array): number {
  return crc32(frames, crc32(text));
}

/** Reads an info. `id` is as Redis writes it: "17-0". Undefined if it is no chunk's. */
export function readChunkInfo(id: string, info: string): ChunkInfo | undefined {
  const endOffset = Number(id.slice(0, id.indexOf('-')));
  const [count, publishTimeMs, startByte, byteLength] = info.split(' ').map(Number);
  if (![endOffset, count, publishTimeMs, startByte, byteLength].every(Number.isSafeInteger)) return undefined;
  return {
    firstOffset: endOffset - count!,
    count: count!,
    publishTimeMs: publishTimeMs!,
    startByte: startByte!,
    byteLength: byteLength!,
  };
}

/** Reads an entry of the index, as XRANGE gives it. Undefined if it is no chunk's. */
export function readIndexEntry([id, fields]: [id: string, fields: string[]]): ChunkInfo | undefined {
  return readChunkInfo(id, fields[1] ?? '');
}

/** Reads an entry of the log, as XRANGE gives it in Buffers. Undefined if it is not what was appended. */
export function readLogEntry(entry: BufferReply): Chunk | undefined {
  const [id, fields] = entry as [Buffer, Buffer[]];
  const text = fields[1]?.toString('latin1') ?? '';
  const info = readChunkInfo(id.toString('latin1'), text);
  const frames = fields[3];
  if (info === undefined || frames?.length !== info.byteLength) return undefined;
  const sumAt = text.split(' ', 4).join(' ').length;
  const sum = text.slice(sumAt + 1);
  const isWhole =
    sum === '' ? areFrames(frames, info.count) : Number(sum) === sumOf(text.slice(0, sumAt), frames);
  if (!isWhole) return undefined;
  const { byteLength: _, ...rest } = info;
  // A small part of a large receive buffer would keep all of it in memory.
  const bytes = frames.length * 2 < frames.buffer.byteLength ? Buffer.from(frames) : frames;
  return { ...rest, bytes };
}
