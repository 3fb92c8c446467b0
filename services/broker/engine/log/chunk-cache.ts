// The chunks in memory: what owners have just appended and what dispatchers behind the tail have read, so
// that live delivery does not read the store. Bounded in bytes for the whole broker; the oldest chunk is
// dropped first, but one that was used meanwhile gets a second chance (as in the CLOCK algorithm).
import { frameEnds, frameKeyHashes } from '../../core/chunk.ts';
import { type ChunkView, frameStart } from '../../core/credit.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Chunk, LogStore } from '../../ports/log-store.ts';

/** A chunk with its index, which is made when somebody first asks and then serves all subscriptions. */
export class CachedChunk implements ChunkView {
  readonly firstOffset: number;
  readonly count: number;
  readonly publishTimeMs: number;
  readonly startByte: number;
  readonly bytes: Buffer;
  /** The chunk was asked for since the cache last looked for something to drop. */
  used = false;
  /** Its place in the cache's queue, while it is cached. */
  place: CachePlace | undefined;
  #ends: Uint32Array | undefined;
  #keyHashes: Uint32Array | undefined;

  constructor(chunk: Chunk, ends?: Uint32Array, keyHashes?: Uint32Array) {
    this.firstOffset = chunk.firstOffset;
    this.count = chunk.count;
    this.publishTimeMs = chunk.publishTimeMs;
    this.startByte = chunk.startByte;
    this.bytes = chunk.bytes;
    this.#ends = ends;
    this.#keyHashes = keyHashes;
  }

  get byteLength(): number {
    return this.bytes.length;
  }

  get endOffset(): number {
    return this.firstOffset + this.count;
  }

  ends(): Uint32Array {
    this.#ends ??= frameEnds(this.bytes, this.count);
    return this.#ends;
  }

  /** The frames of first..last, in the chunk's own memory. */
  frames(first: number, last: number): Buffer {
    return this.bytes.subarray(frameStart(this, first), this.ends()[last - this.firstOffset]!);
  }

  /** The frames of first..last as a chunk of their own: in this one's memory, or in a copy. */
  part(first: number, last: number, how: 'shared' | 'copied'): CachedChunk {
    const frames = this.frames(first, last);
    return new CachedChunk({
      firstOffset: first,
      count: last - first + 1,
      publishTimeMs: this.publishTimeMs,
      startByte: this.startByte + frameStart(this, first),
      bytes: how === 'shared' ? frames : Buffer.from(frames),
    });
  }

  keyHashes(): Uint32Array {
    this.#keyHashes ??= frameKeyHashes(this.bytes, this.ends());
    return this.#keyHashes;
  }
}

interface CachePlace {
  readonly partition: PartitionChunks;
  /** Undefined: the chunk was dropped before its turn in the queue came. */
  chunk: CachedChunk | undefined;
}

/** What a chunk costs beside its frames: object, index, place in the cache. */
const OVERHEAD_BYTES = 400;

export class ChunkCache {
  readonly log: LogStore;
  readonly #maxBytes: number;
  readonly readBytes: number;
  /**
   * The chunks' places in the order in which they came; the oldest is dropped first, unless it was used
   * meanwhile.
   */
  #queue: CachePlace[] = [];
  #queueHead = 0;
  #bytes = 0;
  hits = 0;
  misses = 0;

  /** `readBytes`: how much is read from the store at once. */
  constructor(log: LogStore, maxBytes: number, readBytes: number) {
    this.log = log;
    this.#maxBytes = maxBytes;
    this.readBytes = readBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  added(partition: PartitionChunks, chunk: CachedChunk): void {
    this.#bytes += chunk.byteLength + OVERHEAD_BYTES;
    chunk.place = { partition, chunk };
    this.#queue.push(chunk.place);
    while (this.#bytes > this.#maxBytes && this.#queueHead < this.#queue.length - 1) {
      const oldest = this.#queue[this.#queueHead]!;
      this.#queueHead += 1;
      if (oldest.chunk === undefined) continue;
      // The one just added stays, too: whoever has read it has had no turn to use it yet.
      if (oldest.chunk === chunk || oldest.chunk.used) {
        oldest.chunk.used = false;
        this.#queue.push(oldest);
      } else oldest.partition.drop(oldest.chunk);
    }
    // What was dropped meanwhile leaves empty places behind.
    while (this.#queue[this.#queueHead]?.chunk === undefined && this.#queueHead < this.#queue.length)
      this.#queueHead += 1;
    if (this.#queueHead > 1024 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
  }

  /** The partition has let go of the chunk. */
  dropped(chunk: CachedChunk): void {
    if (chunk.place === undefined) return;
    this.#bytes -= chunk.byteLength + OVERHEAD_BYTES;
    chunk.place.chunk = undefined;
    chunk.place = undefined;
  }
}

function endOf({ firstOffset, count }: Chunk): number {
  return firstOffset + count;
}

/** The cached chunks of one partition. */
export class PartitionChunks {
  readonly #id: PartitionId;
  readonly #cache: ChunkCache;
  /** Sorted by first offset, disjoint. */
  #chunks: CachedChunk[] = [];
  readonly #loading = new Map<number, Promise<CachedChunk | undefined>>();

  constructor(id: PartitionId, cache: ChunkCache) {
    this.#id = id;
    this.#cache = cache;
  }

  add(chunk: CachedChunk): void {
    const last = this.#chunks.at(-1);
    if (last === undefined || last.firstOffset < chunk.firstOffset) this.#chunks.push(chunk);
    else {
      const at = this.#indexOf(chunk.firstOffset);
      if (this.#chunks[at]?.firstOffset === chunk.firstOffset) return;
      this.#chunks.splice(at, 0, chunk);
    }
    this.#cache.added(this, chunk);
  }

  /** The chunk with that offset, if it is in memory. */
  get(offset: number): CachedChunk | undefined {
    let chunk = this.#chunks.at(-1);
    if (chunk === undefined || offset < chunk.firstOffset) {
      const at = this.#indexOf(offset + 1) - 1;
      chunk = this.#chunks[at];
    }
    if (chunk === undefined || offset < chunk.firstOffset || offset >= chunk.endOffset) return undefined;
    chunk.used = true;
    this.#cache.hits += 1;
    return chunk;
  }

  /**
   * The chunk with that offset, or the first one behind it if it was trimmed; undefined at the end of the
   * log.
   */
  load(offset: number): Promise<CachedChunk | undefined> {
    let loading = this.#loading.get(offset);
    if (loading === undefined) {
      this.#cache.misses += 1;
      loading = this.#read(offset).finally(() => this.#loading.delete(offset));
      this.#loading.set(offset, loading);
    }
    return loading;
  }

  async #read(offset: number): Promise<CachedChunk | undefined> {
    const chunks = await this.#cache.log.read(this.#id, offset, this.#cache.readBytes);
    // What is behind a gap is left out: whoever asks for it next finds the gap.
    const gap = chunks.findIndex(
      ({ firstOffset }, index) => index > 0 && firstOffset !== endOf(chunks[index - 1]!),
    );
    if (gap > 0) chunks.length = gap;
    // They are added backwards, so that the one that was asked for is the last that would be dropped.
    let first: CachedChunk | undefined;
    for (const chunk of chunks.reverse()) {
      first = this.get(chunk.firstOffset) ?? new CachedChunk(chunk);
      this.add(first);
    }
    return first;
  }

  drop(chunk: CachedChunk): void {
    const at = this.#indexOf(chunk.firstOffset);
    if (this.#chunks[at] === chunk) this.#chunks.splice(at, 1);
    this.#cache.dropped(chunk);
  }

  /** Forgets what lies below: retention has deleted it, or every subscription has settled it. */
  dropBelow(offset: number): void {
    let count = 0;
    while (count < this.#chunks.length && this.#chunks[count]!.endOffset <= offset) {
      this.#cache.dropped(this.#chunks[count]!);
      count += 1;
    }
    if (count > 0) this.#chunks.splice(0, count);
  }

  /** The index of the first chunk whose first offset is at least `offset`. */
  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#chunks[middle]!.firstOffset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
