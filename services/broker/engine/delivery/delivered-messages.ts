// Messages on their way to one consumer, and the bytes that are sent for them. Invariant: a chunk's bytes are
// copied only where attempts have to be written into frames, or runs are not in one piece.
import { recutFrame } from '../../core/chunk.ts';
import { frameStart } from '../../core/credit.ts';
import type { DeliveredRun } from '../../core/delivery-events.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { CachedChunk } from '../log/chunk-cache.ts';

/** Runs of one chunk on their way to one consumer. The bytes are shared with others: read only. */
export class DeliveredMessages {
  readonly partition: PartitionId;
  readonly chunk: CachedChunk;
  /** The runs in order, all in the chunk. */
  readonly runs: readonly DeliveredRun[];
  readonly messages: number;
  /** The bytes as counted against the consumer's credit. */
  readonly bytes: number;
  #frames: Buffer | undefined;

  constructor(
    partition: PartitionId,
    chunk: CachedChunk,
    runs: readonly DeliveredRun[],
    messages: number,
    bytes: number,
  ) {
    this.partition = partition;
    this.chunk = chunk;
    this.runs = runs;
    this.messages = messages;
    this.bytes = bytes;
  }

  /**
   * The frames to send: the chunk itself or a part of it where the runs are in one piece, else put together.
   */
  get frames(): Buffer {
    this.#frames ??= framesOf(this.chunk, this.runs);
    return this.#frames;
  }
}

function framesOf(chunk: CachedChunk, runs: readonly DeliveredRun[]): Buffer {
  const only = runs[0]!;
  if (runs.length === 1 && only.attempt === 1) {
    if (only.first === chunk.firstOffset && only.last === chunk.endOffset - 1) return chunk.bytes;
    return chunk.frames(only.first, only.last);
  }
  const parts: Uint8Array[] = [];
  for (const { first, last, attempt } of runs) {
    if (attempt === 1) {
      parts.push(chunk.frames(first, last));
      continue;
    }
    const ends = chunk.ends();
    for (let offset = first; offset <= last; offset += 1) {
      const end = ends[offset - chunk.firstOffset]!;
      parts.push(recutFrame(chunk.bytes, frameStart(chunk, offset), end, attempt));
    }
  }
  return Buffer.concat(parts);
}
