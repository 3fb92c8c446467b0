// What was appended lately, for a store that can forget: a Redis failover may lose writes that it had
// acknowledged, and the owner then appends them again. One ring for all partitions, bounded in bytes for the
// whole broker and in time. Invariant: what is kept of a partition has no gap.
//
// What was appended outlives the claim: a failover may take longer than a lease, and then all owners lose
// their partitions and take them again.
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { CachedChunk } from './chunk-cache.ts';

interface Entry {
  readonly partition: RecentChunks;
  readonly chunk: CachedChunk;
  readonly untilMs: number;
}

/** How long a failover may take to show: beyond, a store that still has a chunk is not going to lose it. */
export const KEEP_MS = 300_000;

export class RecentRing {
  readonly #maxBytes: number;
  #entries: Entry[] = [];
  #head = 0;
  #bytes = 0;
  /** The partitions of which anything is kept, by name. */
  readonly #partitions = new Map<string, RecentChunks>();

  /** maxBytes 0: the store never forgets; nothing is kept. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get keeps(): boolean {
    return this.#maxBytes > 0;
  }

  /**
   * What is kept of a partition: as long as that is anything, the same object for each owner that the
   * partition has here in turn.
   */
  of(id: PartitionId): RecentChunks {
    return this.#partitions.get(formatPartitionId(id)) ?? new RecentChunks(this, formatPartitionId(id));
  }

  push(partition: RecentChunks, chunk: CachedChunk, nowMs: number): void {
    this.#entries.push({ partition, chunk, untilMs: nowMs + KEEP_MS });
    this.#partitions.set(partition.name, partition);
    this.#bytes += chunk.byteLength;
    for (let oldest = this.#entries[this.#head]; oldest !== undefined; oldest = this.#entries[this.#head]) {
      if (this.#bytes <= this.#maxBytes && oldest.untilMs > nowMs) break;
      this.#head += 1;
      this.#bytes -= oldest.chunk.byteLength;
      oldest.partition.forget(oldest.chunk);
      if (oldest.partition.length === 0) this.#partitions.delete(oldest.partition.name);
    }
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** The recent chunks of one partition, without a gap. */
export class RecentChunks {
  readonly name: string;
  readonly #ring: RecentRing;
  #chunks: CachedChunk[] = [];

  /** Use RecentRing.of. */
  constructor(ring: RecentRing, name: string) {
    this.#ring = ring;
    this.name = name;
  }

  /** Undefined: nothing is kept. */
  get endOffset(): number | undefined {
    return this.#chunks.at(-1)?.endOffset;
  }

  /** Forgets all chunks: the log has gone on without them. The ring lets go of them in their time. */
  clear(): void {
    this.#chunks = [];
  }

  get length(): number {
    return this.#chunks.length;
  }

  add(chunk: CachedChunk, nowMs: number): void {
    if (!this.#ring.keeps) return;
    // Where there is a gap others have had the partition in between.
    if (this.endOffset !== chunk.firstOffset) this.clear();
    this.#chunks.push(chunk);
    this.#ring.push(this, chunk, nowMs);
  }

  /** The ring lets go of the chunk: always the oldest, unless clear() has forgotten it already. */
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
