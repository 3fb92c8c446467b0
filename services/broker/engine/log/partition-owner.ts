// The only writer of one partition: gives offsets, cuts frames, appends them by group commit, then tells
// publishers and dispatchers.
//
//   publish → pending → (one append under way) → store → publishers hear, dispatchers get the same chunk
//
// While an append is under way the next publishes gather: the slower the store, the larger the groups.
// log-writer.ts sees to it that every append has a known outcome before anything else is appended.
//
// With the durability `memory` publishers hear before the append. Such a group is appended again and again,
// under its offsets, until the store takes it, and meanwhile nobody else hears early. If the partition moves
// before that, the messages are brought to the new owner, under other offsets. They are lost if this broker
// crashes, or if the new owner refuses them.

import type { Slice } from '../../core/chunk.ts';
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import { sleep } from '../../ports/clock.ts';
import type { ChunkInfo, LogBounds, LogRange, LogStore } from '../../ports/log-store.ts';
import { hold } from '../admission.ts';
import type { EngineContext } from '../context.ts';
import { type CachedChunk, type ChunkCache, PartitionChunks } from './chunk-cache.ts';
import { LogDamage } from './log-damage.ts';
import { LogDates } from './log-dates.ts';
import type { AppendOutcome, LogWriter } from './log-writer.ts';
import type { PartitionGrowth } from './partition-growth.ts';
import { type PendingPublish, type PublishGroup, PublishQueue } from './publish-group.ts';
import { KEEP_MS } from './recent-chunks.ts';

/** Somebody who follows the log: a dispatcher. */
export interface LogFollower {
  /** The follower needs nothing below this any more. */
  readonly floor: number;
  appended(endOffset: number): void;
  trimmed(headOffset: number): void;
  /** What comes from now on is of a new era: see core/growth.ts. */
  eraBegun(): void;
  /** What is in the range was given up. */
  skipped(range: LogRange): void;
  /** The store had gone back and was put right: what else was written lately may be gone, too. */
  restored(): void;
}

export interface PartitionOwnerOptions {
  readonly id: PartitionId;
  readonly writer: LogWriter;
  /** Whether the former owner has released the partition. One that has not may claim it once more. */
  readonly isReleased: boolean;
  readonly bounds: LogBounds;
  /** The newest chunk; undefined: the log is empty. */
  readonly newest: ChunkInfo | undefined;
  readonly cache: ChunkCache;
  readonly context: EngineContext;
  /** Answer publishers before the store has the messages: durability `memory`. */
  readonly answerFirst: boolean;
  /** The claim has gone to another broker. */
  readonly onLost: (owner: PartitionOwner) => void;
  /**
   * Takes each publish that was accepted here and not stored because the partition has moved, in their order:
   * certainly not stored, unless its publisher was answered early.
   */
  readonly onMoved: (publish: PendingPublish) => void;
  /**
   * Messages that were answered before they were stored, and that the next owner is to store; by how many
   * partitions they came here.
   */
  readonly onPassedOn: (slice: Slice, partitions: number | undefined) => void;
}

/**
 * A store that went back may give a claim that it had given to somebody else, who then claims the partition
 * once more, appends what was forgotten, and lets go. So much later that does not happen any more.
 */
const DOUBTFUL_MS = 10_000;

/** The reason with which a partition is closed whose publishes are to go on elsewhere. */
export const MOVED = new BrokerError('UNAVAILABLE', 'the partition has moved to another broker: try again');

/** The pause between tries to append what has been answered. */
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;

const NOTHING_STORED = new BrokerError('UNAVAILABLE', 'the store does not answer: nothing was stored');
const UNKNOWN = new BrokerError(
  'UNAVAILABLE',
  'the store does not answer: the messages may have been stored',
);

export class PartitionOwner {
  readonly id: PartitionId;
  readonly chunks: PartitionChunks;
  readonly followers = new Set<LogFollower>();
  /** Set before anything is published. */
  growth: PartitionGrowth | undefined;
  readonly #damage: LogDamage;
  readonly #options: PartitionOwnerOptions;
  readonly #log: LogStore;
  readonly #context: EngineContext;
  #bounds: LogBounds;
  #newest: ChunkInfo | undefined;
  readonly #dates: LogDates;
  readonly #pending: PublishQueue;
  #working = false;
  #verify = false;
  readonly #openedMs: number;
  /** When retention has deleted something last. */
  #trimmedMs = Number.NEGATIVE_INFINITY;
  #closed: BrokerError | undefined;
  #idle: (() => void)[] = [];
  /** The last append did not succeed at once: publishers hear after the next one, whatever the durability. */
  #troubled = false;

  constructor(options: PartitionOwnerOptions) {
    this.#options = options;
    this.id = options.id;
    this.#newest = options.newest;
    this.chunks = new PartitionChunks(options.id, options.cache);
    this.#log = options.cache.log;
    this.#damage = new LogDamage(options.id, options.cache.log, options.context);
    this.#bounds = options.bounds;
    this.#context = options.context;
    this.#pending = new PublishQueue(options.context);
    const newestMs = options.newest?.publishTimeMs ?? 0;
    this.#dates = new LogDates(options.context.steady, newestMs, options.bounds.endOffset);
    this.#openedMs = options.context.clock.monotonicMs();
  }

  /** Changes when a store that had forgotten the claim gives a new one. */
  get ownerEpoch(): number {
    return this.#options.writer.ownerEpoch;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  get bounds(): LogBounds {
    return this.#bounds;
  }

  /**
   * Chunks that tell this log from one that went on differently after the store went back, the newest first:
   * the last chunk, and the one that was the last when the partition was opened.
   */
  get marks(): readonly ChunkInfo[] {
    const marks = [this.#newest, this.#options.newest];
    return [...new Set(marks)].filter((mark) => mark !== undefined);
  }

  /**
   * How long the chunk's messages have been in the log; steps of this machine's clock do not count. For a
   * chunk that was dated before this broker had the partition: undefined during the first `doubtedMs` of the
   * broker's life, in which a clock that was wrong at the start is mostly put right; after that the least age
   * that it can have.
   */
  ageMs(chunk: ChunkInfo, doubtedMs: number): number | undefined {
    return this.#dates.ageMs(chunk, doubtedMs);
  }

  /** Takes messages into the next append. Never throws: `failed` says why not. */
  publish(publish: PendingPublish): void {
    if (this.#closed !== undefined) {
      if (this.#closed === MOVED) this.#options.onMoved(publish);
      else publish.failed(this.#closed);
      return;
    }
    if (this.growth?.admits(publish) === false) return;
    this.#pending.add(publish);
    this.#work();
  }

  /**
   * Checks whether the store still has what it has acknowledged; unless `suspected`, only if there is
   * something to lose, or the claim is new and may not be the last word.
   */
  verify(suspected = false): void {
    if (this.#closed !== undefined) return;
    const { writer, isReleased } = this.#options;
    const isDoubtful = !isReleased && this.#context.clock.monotonicMs() - this.#openedMs < DOUBTFUL_MS;
    if (!suspected && !writer.holdsRecent && !isDoubtful) return;
    this.#verify = true;
    this.#work();
  }

  /**
   * Checks, after the owner was closed, whether the store still has everything; resolves to whether something
   * had to be put right. Rejects with UNAVAILABLE: the store does not answer; ABORTED: the claim has gone.
   */
  async confirm(): Promise<boolean> {
    const { writer } = this.#options;
    const outcome = await writer.verify(this.#bounds.endOffset);
    if (outcome === 'later') throw new BrokerError('UNAVAILABLE', 'the store does not answer');
    if (outcome === 'lost')
      throw new BrokerError('ABORTED', `another broker owns partition ${formatPartitionId(this.id)}`);
    return writer.takeRestored();
  }

  /** Resolves when nothing is waiting for an append. */
  async flushed(): Promise<void> {
    while (this.#working) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /**
   * Takes nothing from now on: what waits goes to the new owner if the reason is MOVED, else it is refused.
   * An append under way ends with its present try.
   */
  close(reason: BrokerError): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#damage.gone(Number.POSITIVE_INFINITY);
    const held = this.growth?.close() ?? [];
    if (reason === MOVED) this.#move(this.#pending.takeAll(), false);
    else this.#pending.takeAll().fail(reason);
    for (const publish of held) this.publish(publish);
  }

  /** A follower's floor has moved: chunks that all have settled need not stay in memory. */
  dropSettled(): void {
    let lowest = this.#bounds.endOffset;
    for (const follower of this.followers) lowest = Math.min(lowest, follower.floor);
    this.chunks.dropBelow(lowest);
  }

  /**
   * The chunk with that offset, or the first one behind it if it was trimmed, without its frames; undefined
   * at the end of the log.
   */
  async describe(offset: number): Promise<ChunkInfo | undefined> {
    const [info] = await this.#log.describe(this.id, offset, 1);
    return info;
  }

  /** Deletes chunks below the offset; at most maxChunks. Returns whether there may be more. */
  async trim(beforeOffset: number, maxChunks: number): Promise<boolean> {
    const before = this.#bounds.headOffset;
    this.#trimmedMs = this.#context.clock.monotonicMs();
    const bounds = await this.#log.trim(this.id, this.ownerEpoch, beforeOffset, maxChunks);
    if (bounds.headOffset === before) return false;
    this.#trimmed(bounds);
    return bounds.headOffset < beforeOffset;
  }

  /** What was deleted lately a store that went back may have again: deletes that. At most maxChunks. */
  async trimAgain(maxChunks: number): Promise<void> {
    const { clock, limits } = this.#context;
    if (limits.recentBytes === 0 || clock.monotonicMs() - this.#trimmedMs > KEEP_MS) return;
    await this.#log.trim(this.id, this.ownerEpoch, this.#bounds.headOffset, maxChunks);
  }

  /**
   * Asks the store where the log begins: a trim of unknown outcome may have happened. Returns whether one
   * has.
   */
  async findHead(): Promise<boolean> {
    const bounds = await this.#log.bounds(this.id);
    if (bounds.headOffset <= this.#bounds.headOffset) return false;
    this.#trimmed(bounds);
    return true;
  }

  /**
   * To be called where nothing whole was found in the range, which begins in the log. True: the range was
   * deleted or given up, and followers have been told. False: it is damaged, which has been logged. Rejects
   * as the store does; UNAVAILABLE: the store has gone back to before the range.
   */
  async pass(range: LogRange, reason: string): Promise<boolean> {
    const bounds = await this.#log.bounds(this.id);
    if (bounds.headOffset > this.#bounds.headOffset) this.#trimmed(bounds);
    if (bounds.headOffset > range.firstOffset || this.closed) return true;
    if (bounds.endOffset <= range.firstOffset) {
      this.verify(true);
      throw new BrokerError('UNAVAILABLE', 'the store has gone back: what it has lost comes again');
    }
    const given = await this.#damage.lookAt(range, reason);
    if (given === undefined) return false;
    for (const follower of this.followers) follower.skipped(given);
    return true;
  }

  #trimmed({ headOffset, headByte }: LogBounds): void {
    this.#damage.gone(headOffset);
    this.#bounds = { ...this.#bounds, headOffset, headByte };
    this.chunks.dropBelow(headOffset);
    for (const follower of this.followers) follower.trimmed(headOffset);
  }

  #work(): void {
    if (this.#working) return;
    this.#working = true;
    this.#context.clock.defer(() => void this.#workAll());
  }

  async #workAll(): Promise<void> {
    try {
      for (;;) {
        if (!this.#pending.isEmpty) await this.#appendGroup(this.#pending.takeGroup());
        else if (this.#verify && this.#closed === undefined) {
          this.#verify = false;
          if ((await this.#options.writer.verify(this.#bounds.endOffset)) === 'lost') this.lose();
        } else break;
        if (this.#options.writer.takeRestored()) {
          for (const follower of this.followers) follower.restored();
          this.growth?.restored();
        }
      }
    } finally {
      this.#working = false;
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  async #appendGroup(group: PublishGroup): Promise<void> {
    const { stats, mayServe } = this.#context;
    const expectedEnd = this.#bounds.endOffset;
    const publishTimeMs = this.#dates.next(expectedEnd);
    const { endByte: startByte } = this.#bounds;
    const chunks = group.cut({ partition: this.id, firstOffset: expectedEnd, startByte, publishTimeMs });
    const early = this.#options.answerFirst && !this.#troubled && mayServe?.() !== false;
    // What was answered is no longer counted as received, but it is still held.
    const heldBytes = early ? chunks.reduce((bytes, { byteLength }) => bytes + byteLength, 0) : 0;
    if (early) group.answerEarly(expectedEnd);
    const release = hold(stats, heldBytes);
    const outcome = early
      ? await this.#appendForSure(group, expectedEnd, chunks)
      : await this.#append(group, expectedEnd, chunks);
    release();
    this.#troubled = outcome.kind !== 'appended';
    if (outcome.kind === 'refused') {
      group.fail(outcome.error);
      return;
    }
    if (outcome.kind === 'lost') {
      if (outcome.perhaps) group.fail(UNKNOWN);
      this.#move(group, outcome.perhaps);
      this.lose();
      return;
    }
    const last = chunks.at(-1)!;
    this.#bounds = {
      ...this.#bounds,
      endOffset: last.endOffset,
      endByte: last.startByte + last.byteLength,
    };
    const { firstOffset, count, byteLength } = last;
    this.#newest = { firstOffset, count, publishTimeMs, startByte: last.startByte, byteLength };
    stats.appendedChunks += chunks.length;
    stats.publishedMessages += last.endOffset - expectedEnd;
    stats.publishedBytes += this.#bounds.endByte - chunks[0]!.startByte;
    for (const chunk of chunks) this.chunks.add(chunk);
    if (!early) group.answer(expectedEnd);
    const { headOffset } = this.#bounds;
    for (const follower of this.followers) {
      follower.appended(last.endOffset);
      // Retention has deleted it when nobody knew yet that it was there.
      if (headOffset > expectedEnd) follower.trimmed(headOffset);
    }
  }

  #append(group: PublishGroup, expectedEnd: number, chunks: readonly CachedChunk[]): Promise<AppendOutcome> {
    this.#context.stats.appends += 1;
    const isClosed = (): boolean => this.#closed !== undefined;
    return this.#options.writer.append(expectedEnd, chunks, {
      giveUp: () => {
        this.#troubled = true;
        // Publishers may try again elsewhere; this owner goes on until it knows.
        group.fail(UNKNOWN);
        this.#pending.takeAll().fail(NOTHING_STORED);
      },
      get closed() {
        return isClosed();
      },
    });
  }

  /**
   * Appends publishes that were answered already, again and again until they are stored or the partition is
   * closed. Those behind them are refused meanwhile.
   */
  async #appendForSure(
    group: PublishGroup,
    expectedEnd: number,
    chunks: readonly CachedChunk[],
  ): Promise<AppendOutcome> {
    const { clock } = this.#context;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      const outcome = await this.#append(group, expectedEnd, chunks);
      if (outcome.kind !== 'refused') return outcome;
      this.#pending.takeAll().fail(outcome.error);
      if (this.#closed !== undefined) return { kind: 'lost', perhaps: false };
      await sleep(clock, delayMs);
    }
  }

  /** Gives the partition up: a write was refused because the claim is stale. */
  lose(): void {
    if (this.#closed !== undefined) return;
    this.#context.stats.lostClaims += 1;
    this.#context.logger.error(
      { partition: formatPartitionId(this.id), ownerEpoch: this.ownerEpoch },
      'a write was refused: another broker owns the partition now',
    );
    // Before what waits is moved nobody must find this owner any more, or it would come back here.
    this.#options.onLost(this);
    this.close(MOVED);
  }

  /** Brings what was not stored to the new owner. */
  #move(group: PublishGroup, perhapsStored: boolean): void {
    group.move(perhapsStored, {
      moved: this.#options.onMoved,
      passedOn: (publish) => this.#passOn(publish),
    });
  }

  /** It gets another offset than its publisher was told, at the end of what the new owner has by then. */
  #passOn({ slice, partitions }: PendingPublish): void {
    if (this.#closed?.code === 'NOT_FOUND') return;
    this.#options.onPassedOn(slice, partitions ?? this.growth?.eras.at(-1)?.partitions);
  }
}
