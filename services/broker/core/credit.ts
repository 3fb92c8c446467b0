// How much of a chunk a consumer may be given: its credit in messages and bytes, spent frame by frame within
// one lease event.

/**
 * What delivery must know of a chunk. ends and keyHashes are called only where they are needed: they may walk
 * the frames.
 */
export interface ChunkView {
  readonly firstOffset: number;
  readonly count: number;
  readonly byteLength: number;
  ends(): Uint32Array;
  keyHashes(): Uint32Array;
}

/** What may be outstanding at a consumer, and how long its leases last. */
export interface ConsumerLimits {
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly ackDeadlineMs: number;
}

/**
 * What a consumer may still be given in one lease event. Nothing overtakes a message that does not fit:
 * smaller ones behind it would take the credit again and again, and it would never go out. An idle consumer
 * is given one message of any size.
 */
export class LeaseBudget {
  messages: number;
  #bytes: number;
  #idle: boolean;

  constructor(messages: number, bytes: number, idle: boolean) {
    this.messages = messages;
    this.#bytes = bytes;
    this.#idle = idle;
  }

  /** Takes one message if it fits. */
  spend(chunk: ChunkView, offset: number): boolean {
    if (this.messages < 1) return false;
    const bytes = bytesOf(chunk, offset, offset);
    if (bytes > this.#bytes && !this.#idle) {
      this.messages = 0;
      return false;
    }
    this.messages -= 1;
    this.#bytes -= bytes;
    this.#idle = false;
    return true;
  }

  /** Takes as many messages from `first` to `last` as fit, and returns how many. */
  spendRun(chunk: ChunkView, first: number, last: number): number {
    if (this.messages < 1) return 0;
    let end = Math.min(last, first + this.messages - 1);
    let bytes = bytesOf(chunk, first, end);
    if (bytes > this.#bytes) {
      const ends = chunk.ends();
      const start = frameStart(chunk, first);
      while (end >= first && ends[end - chunk.firstOffset]! - start > this.#bytes) end -= 1;
      if (end < first && this.#idle) end = first;
      this.messages = 0;
      if (end < first) return 0;
      bytes = bytesOf(chunk, first, end);
    } else this.messages -= end - first + 1;
    this.#bytes -= bytes;
    this.#idle = false;
    return end - first + 1;
  }
}

/** The bytes of the frames of first..last, all of which the chunk holds. */
export function bytesOf(chunk: ChunkView, first: number, last: number): number {
  if (first === chunk.firstOffset && last === chunk.firstOffset + chunk.count - 1) return chunk.byteLength;
  return chunk.ends()[last - chunk.firstOffset]! - frameStart(chunk, first);
}

/** Where the frame of that offset begins in the chunk's bytes. */
export function frameStart(chunk: ChunkView, offset: number): number {
  return offset === chunk.firstOffset ? 0 : chunk.ends()[offset - chunk.firstOffset - 1]!;
}
