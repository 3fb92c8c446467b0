// What was appended lately, for a store that can forget: a Redis failover may lose writes that it had acknowledged, and the
// owner then appends them again. Bounded in bytes for the whole broker and in time; one ring for all partitions. Used by
// partition-owner.
import type { CachedChunk } from './chunk-cache.ts';

interface Entry {
  readonly partition: RecentChunks;
  readonly chunk: CachedChunk;
  readonly untilMs: number;
}

/** How long a failover may take to show: beyond, a store that still has a chunk is not going to lose it. */
const KEEP_MS = 60_000;

export class RecentRing {
  readonly #maxBytes: number;
  #entries: Entry[] = [];
  #head = 0;
  #bytes = 0;

  /** 0: the store never forgets; nothing is kept. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get keeps(): boolean {
    return this.#maxBytes > 0;
  }

  push(partition: RecentChunks, chunk: CachedChunk, nowMs: number): void {
    this.#entries.push({ partition, chunk, untilMs: nowMs + KEEP_MS });
    this.#bytes += chunk.byteLength;
    for (let oldest = this.#entries[this.#head]; oldest !== undefined; oldest = this.#entries[this.#head]) {
      if (this.#bytes <= this.#maxBytes && oldest.untilMs > nowMs) break;
      this.#head += 1;
      this.#bytes -= oldest.chunk.byteLength;
      oldest.partition.forget(oldest.chunk);
    }
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** Those of one partition. */
export class RecentChunks {
  readonly #ring: RecentRing;
  #chunks: CachedChunk[] = [];

  constructor(ring: RecentRing) {
    this.#ring = ring;
  }

  get length(): number {
    return this.#chunks.length;
  }

  add(chunk: CachedChunk, nowMs: number): void {
    if (!this.#ring.keeps) return;
    this.#chunks.push(chunk);
    this.#ring.push(this, chunk, nowMs);
  }

  /** Told by the ring: always the oldest. */
  forget(chunk: CachedChunk): void {
    if (this.#chunks[0] === chunk) this.#chunks.shift();
  }

  endingAt(offset: number): CachedChunk | undefined {
    return this.#chunks.find((chunk) => chunk.endOffset === offset);
  }

  /** The chunks from that offset on; undefined if the one that begins there is not kept any more. */
  from(offset: number): CachedChunk[] | undefined {
    const at = this.#chunks.findIndex((chunk) => chunk.firstOffset === offset);
    return at === -1 ? undefined : this.#chunks.slice(at);
  }
}
