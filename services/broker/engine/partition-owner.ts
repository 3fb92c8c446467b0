// The only writer of one partition: gives offsets, cuts frames, appends them in groups, then tells publishers and
// dispatchers. Made by broker.ts when it acquires the partition.
//
//   publish → pending → (one append under way) → store → publishers hear, dispatchers get the same chunk
//
// While an append is under way the next publishes gather: the slower the store, the larger the groups. An append of unknown
// outcome is looked up in the store before anything else is appended.
import { cutChunk, type Slice, sliceBytes, sliceLength, splitSlice } from '../core/chunk.ts';
import { assert, BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';
import type { ChunkInfo, LogBounds, LogStore } from '../ports/log-store.ts';
import { CachedChunk, type ChunkCache, PartitionChunks } from './chunk-cache.ts';
import type { EngineContext } from './context.ts';

export interface PendingPublish {
  readonly slice: Slice;
  /** The slice's messages have consecutive offsets from firstOffset on and are as durable as the topic asks. */
  done(firstOffset: number): void;
  failed(error: BrokerError): void;
}

/** Somebody who follows the log: a dispatcher. */
export interface LogFollower {
  /** It needs nothing below this any more. */
  readonly floor: number;
  appended(endOffset: number): void;
  trimmed(headOffset: number): void;
}

/** A publish on its way through the append. */
interface Waiting {
  readonly publish: PendingPublish;
  readonly bytes: number;
  /** It has heard: of two reasons to answer the first one counts. */
  answered: boolean;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;

export class PartitionOwner {
  readonly id: PartitionId;
  readonly ownerEpoch: number;
  readonly chunks: PartitionChunks;
  readonly followers = new Set<LogFollower>();
  readonly #log: LogStore;
  readonly #context: EngineContext;
  /** Answer publishers before the store has the messages: durability `memory`. */
  readonly #answerFirst: boolean;
  #bounds: LogBounds;
  /** Of the newest chunk: the next one's is not smaller, also when the clock was set back. */
  #lastPublishTimeMs: number;
  #pending: Waiting[] = [];
  #appending = false;
  #closed: BrokerError | undefined;
  #idle: (() => void)[] = [];

  constructor(
    id: PartitionId,
    ownerEpoch: number,
    bounds: LogBounds,
    cache: ChunkCache,
    context: EngineContext,
    answerFirst: boolean,
    lastPublishTimeMs: number,
  ) {
    this.id = id;
    this.#lastPublishTimeMs = lastPublishTimeMs;
    this.ownerEpoch = ownerEpoch;
    this.chunks = new PartitionChunks(id, cache);
    this.#log = cache.log;
    this.#bounds = bounds;
    this.#context = context;
    this.#answerFirst = answerFirst;
  }

  get bounds(): LogBounds {
    return this.#bounds;
  }

  /** Takes messages into the next append. Never throws: `failed` says why not. */
  publish(publish: PendingPublish): void {
    const { stats, limits } = this.#context;
    const bytes = sliceBytes(publish.slice);
    if (this.#closed !== undefined) {
      publish.failed(this.#closed);
      return;
    }
    if (stats.uncommittedBytes + bytes > limits.maxUncommittedBytes) {
      stats.refusedPublishes += 1;
      publish.failed(
        new BrokerError(
          'RESOURCE_EXHAUSTED',
          `the broker holds ${stats.uncommittedBytes} bytes that are not stored yet, at most ${limits.maxUncommittedBytes} are allowed: publish again a little later`,
        ),
      );
      return;
    }
    stats.uncommittedBytes += bytes;
    this.#pending.push({ publish, bytes, answered: false });
    if (!this.#appending) {
      this.#appending = true;
      this.#context.clock.defer(() => void this.#appendAll());
    }
  }

  /** Resolves when nothing is waiting for an append. */
  async flushed(): Promise<void> {
    while (this.#appending) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Refuses everything from now on, what waits included. An append under way is finished. */
  close(reason: BrokerError): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#fail(this.#pending.splice(0), reason);
  }

  /** A follower's floor has moved: chunks that all have settled need not stay in memory. */
  dropSettled(): void {
    let lowest = this.#bounds.endOffset;
    for (const follower of this.followers) lowest = Math.min(lowest, follower.floor);
    this.chunks.dropBelow(lowest);
  }

  /** The chunk with that offset, without its frames; undefined at the end of the log. */
  async describe(offset: number): Promise<ChunkInfo | undefined> {
    const [info] = await this.#log.describe(this.id, offset, 1);
    return info;
  }

  /** Deletes chunks below the offset; at most maxChunks. Returns whether there may be more. */
  async trim(beforeOffset: number, maxChunks: number): Promise<boolean> {
    const before = this.#bounds.headOffset;
    const bounds = await this.#log.trim(this.id, this.ownerEpoch, beforeOffset, maxChunks);
    if (bounds.headOffset === before) return false;
    this.#trimmed(bounds);
    return bounds.headOffset < beforeOffset;
  }

  /** Asks the store where the log begins: a trim of unknown outcome may have happened. */
  async findHead(): Promise<void> {
    const bounds = await this.#log.bounds(this.id);
    if (bounds.headOffset > this.#bounds.headOffset) this.#trimmed(bounds);
  }

  #trimmed({ headOffset, headByte }: LogBounds): void {
    this.#bounds = { ...this.#bounds, headOffset, headByte };
    this.chunks.dropBelow(headOffset);
    for (const follower of this.followers) follower.trimmed(headOffset);
  }

  async #appendAll(): Promise<void> {
    try {
      while (this.#pending.length > 0) await this.#appendGroup(this.#takeGroup());
    } finally {
      this.#appending = false;
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  #takeGroup(): Waiting[] {
    const { maxAppendBytes } = this.#context.limits;
    let bytes = 0;
    let count = 0;
    for (const waiting of this.#pending) {
      bytes += waiting.bytes;
      if (count > 0 && bytes > maxAppendBytes) break;
      count += 1;
    }
    return count === this.#pending.length ? this.#pending.splice(0) : this.#pending.splice(0, count);
  }

  async #appendGroup(group: readonly Waiting[]): Promise<void> {
    const { stats } = this.#context;
    const expectedEnd = this.#bounds.endOffset;
    const chunks = this.#cut(group);
    if (this.#answerFirst) this.#answer(group, expectedEnd);
    stats.appends += 1;
    try {
      await this.#log.append(this.id, this.ownerEpoch, expectedEnd, chunks);
    } catch (error) {
      const failure = await this.#resolve(error, group, expectedEnd, chunks);
      if (failure !== undefined) {
        if (!this.#answerFirst) this.#fail(group, failure);
        return;
      }
    }
    const last = chunks.at(-1)!;
    this.#bounds = {
      ...this.#bounds,
      endOffset: last.endOffset,
      endByte: last.startByte + last.byteLength,
    };
    stats.appendedChunks += chunks.length;
    stats.publishedMessages += last.endOffset - expectedEnd;
    stats.publishedBytes += this.#bounds.endByte - chunks[0]!.startByte;
    for (const chunk of chunks) this.chunks.add(chunk);
    if (!this.#answerFirst) this.#answer(group, expectedEnd);
    for (const follower of this.followers) follower.appended(last.endOffset);
  }

  /** Cuts chunks of at most maxChunkBytes, as far as the slices' bounds allow. */
  #cut(group: readonly Waiting[]): CachedChunk[] {
    const { clock, limits } = this.#context;
    this.#lastPublishTimeMs = Math.max(this.#lastPublishTimeMs, Math.floor(clock.nowMs()));
    const chunks: CachedChunk[] = [];
    let firstOffset = this.#bounds.endOffset;
    let startByte = this.#bounds.endByte;
    let slices: Slice[] = [];
    let bytes = 0;
    const cut = (): void => {
      const made = cutChunk(slices, this.id, firstOffset, this.#lastPublishTimeMs, Buffer.allocUnsafeSlow);
      const chunk = { firstOffset, count: made.count, publishTimeMs: this.#lastPublishTimeMs, startByte };
      chunks.push(new CachedChunk({ ...chunk, bytes: made.bytes as Buffer }, made.ends, made.keyHashes));
      firstOffset += made.count;
      startByte += made.bytes.length;
      slices = [];
      bytes = 0;
    };
    for (const waiting of group) {
      if (slices.length > 0 && bytes + waiting.bytes > limits.maxChunkBytes) cut();
      if (waiting.bytes > limits.maxChunkBytes) {
        const parts = splitSlice(waiting.publish.slice, limits.maxChunkBytes);
        for (const part of parts.slice(0, -1)) {
          slices.push(part);
          cut();
        }
        slices.push(parts.at(-1)!);
        bytes = sliceBytes(parts.at(-1)!);
      } else {
        slices.push(waiting.publish.slice);
        bytes += waiting.bytes;
      }
    }
    cut();
    return chunks;
  }

  /** Returns undefined if the append turns out to have happened, else why it has not. */
  async #resolve(
    error: unknown,
    group: readonly Waiting[],
    expectedEnd: number,
    chunks: readonly CachedChunk[],
  ): Promise<BrokerError | undefined> {
    const { clock, limits, logger, stats } = this.#context;
    stats.appendFailures += 1;
    let failure = asBrokerError(error);
    const partition = formatPartitionId(this.id);
    if (failure.code === 'RESOURCE_EXHAUSTED') {
      logger.warn(
        { partition, reason: failure.message },
        'the store refused an append: publishers are told to wait',
      );
      return failure;
    }
    if (failure.code === 'ABORTED' || failure.code === 'FAILED_PRECONDITION') {
      logger.error({ partition, ownerEpoch: this.ownerEpoch, reason: failure.message }, 'lost the ownership');
      this.close(new BrokerError('UNAVAILABLE', 'the partition has moved to another broker: try again'));
      return new BrokerError('UNAVAILABLE', 'the partition has moved to another broker: try again');
    }
    stats.unknownOutcomes += 1;
    logger.warn(
      { partition, reason: failure.message },
      'the outcome of an append is unknown: asking the store',
    );
    const newEnd = chunks.at(-1)!.endOffset;
    const giveUpMs = clock.monotonicMs() + limits.unknownOutcomeMs;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      try {
        const { endOffset } = await this.#log.bounds(this.id);
        if (endOffset === newEnd) return undefined;
        assert(endOffset === expectedEnd, `a log ends at ${endOffset}, neither ${expectedEnd} nor ${newEnd}`);
        // It has not happened. Try again rather than bother the publishers.
        await this.#log.append(this.id, this.ownerEpoch, expectedEnd, chunks);
        return undefined;
      } catch (next) {
        failure = asBrokerError(next);
        if (failure.code === 'RESOURCE_EXHAUSTED') return failure;
        if (failure.code !== 'UNAVAILABLE') {
          this.close(failure);
          return failure;
        }
      }
      if (clock.monotonicMs() >= giveUpMs) {
        // Publishers may try again elsewhere; this owner goes on until it knows.
        this.#fail(
          group,
          new BrokerError('UNAVAILABLE', 'the store does not answer: the messages may have been stored'),
        );
        this.#fail(this.#pending.splice(0), new BrokerError('UNAVAILABLE', 'the store does not answer'));
      }
      if (this.#closed !== undefined) return this.#closed;
      await new Promise<void>((resolve) => clock.setTimer(delayMs, resolve));
    }
  }

  #answer(group: readonly Waiting[], expectedEnd: number): void {
    let firstOffset = expectedEnd;
    for (const waiting of group) {
      const { publish } = waiting;
      if (this.#settle(waiting)) publish.done(firstOffset);
      firstOffset += sliceLength(publish.slice);
    }
  }

  #fail(group: readonly Waiting[], error: BrokerError): void {
    for (const waiting of group) {
      if (!this.#settle(waiting)) continue;
      this.#context.stats.refusedPublishes += 1;
      waiting.publish.failed(error);
    }
  }

  #settle(waiting: Waiting): boolean {
    if (waiting.answered) return false;
    waiting.answered = true;
    this.#context.stats.uncommittedBytes -= waiting.bytes;
    return true;
  }
}

export function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  throw error;
}
