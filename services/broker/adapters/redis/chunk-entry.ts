// A chunk as an entry of a stream. Its id is its end offset; its info is text: "count publishTimeMs startByte byteLength".
// Called by log-store.ts. All numbers are below 2^53 and written in full.
import { assert } from '../../core/errors.ts';
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
  return `${count} ${publishTimeMs} ${startByte} ${bytes.length}`;
}

/** `id` as Redis writes it: "17-0". */
export function readChunkInfo(id: string, info: string): ChunkInfo {
  const endOffset = Number(id.slice(0, id.indexOf('-')));
  const [count, publishTimeMs, startByte, byteLength] = info.split(' ').map(Number);
  assert(
    [endOffset, count, publishTimeMs, startByte, byteLength].every(Number.isSafeInteger),
    `the entry ${id} of a log is not a chunk: ${info.slice(0, 100)}`,
  );
  return {
    firstOffset: endOffset - count!,
    count: count!,
    publishTimeMs: publishTimeMs!,
    startByte: startByte!,
    byteLength: byteLength!,
  };
}

/** An entry of the index, as XRANGE gives it. */
export function readIndexEntry([id, fields]: [id: string, fields: string[]]): ChunkInfo {
  return readChunkInfo(id, fields[1] ?? '');
}

/** An entry of the log, as XRANGE gives it in Buffers. */
export function readLogEntry(entry: BufferReply): Chunk {
  const [id, fields] = entry as [Buffer, Buffer[]];
  const { byteLength, ...info } = readChunkInfo(id.toString('latin1'), fields[1]!.toString('latin1'));
  const frames = fields[3]!;
  assert(frames.length === byteLength, `the chunk at ${info.firstOffset} is not whole`);
  // A small part of a large receive buffer would keep all of it in memory.
  const bytes = frames.length * 2 < frames.buffer.byteLength ? Buffer.from(frames) : frames;
  return { ...info, bytes };
}
