// Writes one partition's log for its owner: every append ends with a known outcome. One call at a time.
//
//   append ─▶ done                               the usual case
//          ├▶ refused: nothing was written
//          ├▶ outcome unknown ─▶ look whether the log's last chunk is this one ─▶ confirm it, or append again
//          ├▶ the store went back ─▶ claim the partition again ─▶ append what it forgot ─▶ append again
//          └▶ the claim is stale ─▶ lost: somebody else owns the partition
//
// Between two tries there is a pause; a close ends the tries. Where a log ends says nothing of what is in it:
// chunks are taken for ours only after they have been compared.
//
// A store goes back when a failover loses writes that it had acknowledged (asynchronous replication): chunks,
// and perhaps the claim. What the owner still holds is appended again with the same offsets and bytes, so
// nobody notices. It holds what it has appended, and what it has found in the log that was appended lately by
// others.

import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import { sleep } from '../../ports/clock.ts';
import {
  type ChunkInfo,
  DamagedLog,
  type Durability,
  type LogBounds,
  type LogStore,
} from '../../ports/log-store.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import type { EngineContext } from '../context.ts';
import { CachedChunk } from './chunk-cache.ts';
import type { RecentChunks, RecentRing } from './recent-chunks.ts';

export type AppendOutcome =
  | { readonly kind: 'appended' }
  /** Nothing was written; the next append may go well. */
  | { readonly kind: 'refused'; readonly error: BrokerError }
  /**
   * The partition is somebody else's, or its owner was closed. `perhaps`: the chunks may have been written
   * before.
   */
  | { readonly kind: 'lost'; readonly perhaps: boolean };

export interface LogWriterOptions {
  readonly id: PartitionId;
  readonly ownerEpoch: number;
  readonly log: LogStore;
  readonly ownership: OwnershipStore;
  readonly recent: RecentRing;
  readonly durability: Durability;
  readonly context: EngineContext;
  /**
   * Resolves if this is still the store that the broker belongs to: one that was emptied by mistake is not to
   * be filled again.
   */
  readonly checkStore: () => Promise<void>;
}

export interface AppendWaiting {
  /** The outcome has been unknown for so long that publishers are told. Called at most once. */
  giveUp(): void;
  /** Whether the owner was closed: no further try is made. */
  readonly closed: boolean;
}

/**
 * What has been in the log for longer than this when it is opened a failover does not lose: replicas are not
 * so far behind.
 */
const TAIL_MS = 60_000;
/** The most bytes of a partition's tail that are read when its log is opened. */
const TAIL_BYTES = 4 * 1024 * 1024;

export interface OpenedLog {
  readonly bounds: LogBounds;
  /** The newest chunk; undefined: the log is empty, or its description is damaged. */
  readonly newest: ChunkInfo | undefined;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;

/** Thrown within this file. */
class LostClaim extends Error {}

export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #recent: RecentChunks;
  #ownerEpoch: number;
  /**
   * Since this was last read, what the store had forgotten was appended again, or the claim was taken again.
   */
  #restored = false;

  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#recent = options.recent.of(options.id);
    this.#ownerEpoch = options.ownerEpoch;
  }

  get ownerEpoch(): number {
    return this.#ownerEpoch;
  }

  /** Whether it holds anything that the store could have forgotten. */
  get holdsRecent(): boolean {
    return this.#recent.length > 0;
  }

  /**
   * Opens the log under a new claim. What this broker appended under an earlier one, and the store has
   * forgotten since, is appended again first. Rejects as the store does, to be called again; after ABORTED
   * with a new claim only.
   */
  async open(): Promise<OpenedLog> {
    const bounds = await this.#putRight();
    const { headOffset, endOffset } = bounds;
    const { id, log } = this.#options;
    const [newest] = headOffset === endOffset ? [] : await log.describe(id, endOffset - 1, 1);
    await this.#keepTail(bounds, newest);
    return { bounds, newest };
  }

  async #putRight(): Promise<LogBounds> {
    const { id, log, context } = this.#options;
    const bounds = await log.bounds(id);
    const expectedEnd = this.#recent.endOffset;
    if (expectedEnd === undefined) return bounds;
    const { headOffset, endOffset, endByte } = bounds;
    if (endOffset < expectedEnd) {
      const missing = await this.#missing(endOffset);
      if (missing?.[0]?.startByte === endByte) {
        await this.#appendAgain(endOffset, missing).catch(newClaimNeeded);
        return log.bounds(id);
      }
    } else if (headOffset >= expectedEnd || (await this.#isOurs(expectedEnd))) {
      return bounds;
    }
    this.#recent.clear();
    context.logger.error({ partition: formatPartitionId(id), storeEnd: endOffset, expectedEnd }, LOST_TAIL);
    return bounds;
  }

  async #keepTail(bounds: LogBounds, newest: ChunkInfo | undefined): Promise<void> {
    const { id, log, recent, context } = this.#options;
    if (!recent.keeps) return;
    const nowMs = context.clock.monotonicMs();
    const { endOffset } = bounds;
    const held = this.#recent.endOffset ?? 0;
    let from = held < endOffset ? Math.max(held, await this.#tailOf(bounds, newest)) : endOffset;
    while (from < endOffset) {
      try {
        const chunks = await log.read(id, from, TAIL_BYTES);
        if (chunks.length === 0) break;
        for (const chunk of chunks) this.#recent.add(new CachedChunk(chunk), nowMs);
        from = this.#recent.endOffset!;
      } catch (error) {
        if (!(error instanceof DamagedLog)) throw error;
        from = error.range.endOffset;
      }
    }
    // What is followed by something that is not kept cannot be brought back.
    if (this.#recent.endOffset !== endOffset) this.#recent.clear();
  }

  /**
   * The offset at which what was appended lately begins, looked for from the end in steps that double: it may
   * be up to twice as far back as TAIL_MS asks, or only half as far as TAIL_BYTES allows.
   */
  async #tailOf(
    { headOffset, endOffset, endByte }: LogBounds,
    newest: ChunkInfo | undefined,
  ): Promise<number> {
    const { id, log, context } = this.#options;
    const lateMs = context.steady.datedMs() - TAIL_MS;
    let tail = endOffset;
    let info = newest;
    while (info !== undefined && info.firstOffset < tail && endByte - info.startByte <= TAIL_BYTES) {
      const isOld = info.publishTimeMs < lateMs;
      if (isOld && tail === endOffset) break;
      tail = info.firstOffset;
      if (isOld || tail <= headOffset) break;
      [info] = await log.describe(id, Math.max(headOffset, 2 * tail - endOffset), 1);
    }
    return tail;
  }

  async append(
    expectedEnd: number,
    chunks: readonly CachedChunk[],
    waiting: AppendWaiting,
  ): Promise<AppendOutcome> {
    const { id, log, durability, context } = this.#options;
    const { clock, limits, logger, stats } = context;
    const newEnd = chunks.at(-1)!.endOffset;
    const giveUpMs = clock.monotonicMs() + limits.unknownOutcomeMs;
    let gaveUp = false;
    // What an earlier try has sent may be in the log.
    let perhaps = false;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      try {
        if (perhaps) perhaps = await this.#lookFor(expectedEnd, chunks);
        if (perhaps) await log.confirm(id, this.#ownerEpoch, newEnd, durability);
        else await log.append(id, this.#ownerEpoch, expectedEnd, chunks, durability);
        return this.#appended(chunks);
      } catch (error) {
        if (error instanceof LostClaim) return { kind: 'lost', perhaps };
        const failure = asBrokerError(error);
        stats.appendFailures += 1;
        const fields = { partition: formatPartitionId(id), reason: failure.message };
        if (failure.code === 'ABORTED') return { kind: 'lost', perhaps };
        if (failure.code === 'RESOURCE_EXHAUSTED' && !perhaps) {
          logger.warn(fields, 'the store refused an append: publishers are told to wait');
          return { kind: 'refused', error: failure };
        }
        if (failure.code === 'FAILED_PRECONDITION') {
          const restored = await this.#tryRestore(expectedEnd, chunks);
          if (restored === 'lost') return { kind: 'lost', perhaps };
          // The store has the chunks although it has said that they were not written, or said nothing yet.
          if (restored === 'written') perhaps = true;
        } else if (!perhaps) {
          perhaps = true;
          stats.unknownOutcomes += 1;
          logger.warn(fields, 'the outcome of an append is unknown: asking the store');
        }
      }
      if (!gaveUp && clock.monotonicMs() >= giveUpMs) {
        gaveUp = true;
        waiting.giveUp();
      }
      if (waiting.closed) return { kind: 'lost', perhaps };
      // Publishers hear when their time is up, not when the pause is over in which it ends.
      const pauseMs = gaveUp ? delayMs : Math.min(delayMs, giveUpMs - clock.monotonicMs());
      await sleep(clock, pauseMs);
    }
  }

  /**
   * Checks whether the store still has the claim and everything up to `end`, and puts right what it has not.
   * `later`: the store does not answer.
   */
  async verify(end: number): Promise<'same' | 'lost' | 'later'> {
    const outcome = await this.#tryRestore(end, []);
    return outcome === 'lost' || outcome === 'later' ? outcome : 'same';
  }

  /** Whether the store had gone back since the last call: it may have forgotten cursors, too. */
  takeRestored(): boolean {
    const restored = this.#restored;
    this.#restored = false;
    return restored;
  }

  #appended(chunks: readonly CachedChunk[]): AppendOutcome {
    const nowMs = this.#options.context.clock.monotonicMs();
    for (const chunk of chunks) this.#recent.add(chunk, nowMs);
    return { kind: 'appended' };
  }

  /**
   * Whether the log ends with these chunks. If it ends neither there nor at expectedEnd it is put right
   * first.
   */
  async #lookFor(expectedEnd: number, chunks: readonly CachedChunk[]): Promise<boolean> {
    const { endOffset } = await this.#options.log.bounds(this.#options.id);
    if (endOffset === expectedEnd) return false;
    return (await this.#restore(expectedEnd, chunks)) === 'written';
  }

  async #tryRestore(
    expectedEnd: number,
    chunks: readonly CachedChunk[],
  ): Promise<'restored' | 'written' | 'lost' | 'later'> {
    try {
      return await this.#restore(expectedEnd, chunks);
    } catch (error) {
      if (error instanceof LostClaim) return 'lost';
      const { code, message } = asBrokerError(error);
      if (code === 'ABORTED') return 'lost';
      const partition = formatPartitionId(this.#options.id);
      this.#options.context.logger.warn(
        { partition, reason: message },
        'a store that went back cannot be put right yet: trying again',
      );
      return 'later';
    }
  }

  /**
   * Claims the partition again if the store has forgotten that, and appends what it has forgotten below
   * expectedEnd. `written`: the log ends with `chunks` already, which begin at expectedEnd. Throws LostClaim
   * if somebody else has written.
   */
  async #restore(expectedEnd: number, chunks: readonly CachedChunk[]): Promise<'restored' | 'written'> {
    const { id, log } = this.#options;
    const claimedAgain = await this.#claimAgain();
    const { endOffset } = await log.bounds(id);
    const last = chunks.at(-1);
    if (last !== undefined && endOffset === last.endOffset) {
      if (await this.#endsWith(last)) return 'written';
      throw this.#lostTail(endOffset, expectedEnd);
    }
    if (endOffset === expectedEnd) {
      const isKept = claimedAgain && this.#recent.endingAt(endOffset) !== undefined;
      if (!isKept || (await this.#isOurs(endOffset))) return 'restored';
      throw this.#lostTail(endOffset, expectedEnd);
    }
    const missing = endOffset < expectedEnd ? await this.#missing(endOffset) : undefined;
    if (missing === undefined) throw this.#lostTail(endOffset, expectedEnd);
    await this.#appendAgain(endOffset, missing);
    return 'restored';
  }

  /** Claims the partition again if the store has forgotten the claim; returns whether it had. */
  async #claimAgain(): Promise<boolean> {
    const { id, ownership, context, checkStore } = this.#options;
    const [state] = await ownership.describe([id]);
    if (state!.ownerEpoch > this.#ownerEpoch) throw new LostClaim();
    if (state!.ownerEpoch === this.#ownerEpoch) return false;
    await checkStore();
    const before = this.#ownerEpoch;
    this.#ownerEpoch = (await ownership.acquire(id, { above: before }).catch(lostIfDropped)).ownerEpoch;
    this.#restored = true;
    context.logger.warn(
      { partition: formatPartitionId(id), before, ownerEpoch: this.#ownerEpoch },
      'the store had forgotten who owns the partition: claimed again',
    );
    return true;
  }

  #lostTail(storeEnd: number, expectedEnd: number): LostClaim {
    const { id, context } = this.#options;
    context.logger.error({ partition: formatPartitionId(id), storeEnd, expectedEnd }, LOST_TAIL);
    return new LostClaim();
  }

  /**
   * Whether the log's last chunk is this very one, as far as retention has left it. The bytes are compared:
   * another chunk may be as long and as old.
   */
  async #endsWith(chunk: CachedChunk): Promise<boolean> {
    const { id, log } = this.#options;
    try {
      const [found] = await log.read(id, chunk.endOffset - 1, 1);
      if (found === undefined) return true;
      return found.firstOffset === chunk.firstOffset && found.bytes.equals(chunk.bytes);
    } catch (error) {
      if (!(error instanceof DamagedLog)) throw error;
      // The stored chunk is damaged: its description has to do.
      const [found] = await log.describe(id, chunk.endOffset - 1, 1);
      return found === undefined || isSame(found, chunk);
    }
  }

  async #appendAgain(fromOffset: number, missing: readonly CachedChunk[]): Promise<void> {
    const { id, log, durability, context } = this.#options;
    let end = fromOffset;
    for (const chunk of missing) {
      await log.append(id, this.#ownerEpoch, end, [chunk], durability);
      end = chunk.endOffset;
    }
    this.#restored = true;
    context.stats.restoredMessages += end - fromOffset;
    context.logger.warn(
      { partition: formatPartitionId(id), fromOffset, messages: end - fromOffset },
      'the store had lost the end of the log: appended again from memory',
    );
  }

  /** What the store lacks; undefined if that is not in memory, or what the store has there is not ours. */
  async #missing(storeEnd: number): Promise<readonly CachedChunk[] | undefined> {
    const missing = this.#recent.from(storeEnd);
    if (missing === undefined || storeEnd === 0 || this.#recent.endingAt(storeEnd) === undefined)
      return missing;
    return (await this.#isOurs(storeEnd)) ? missing : undefined;
  }

  /**
   * Whether the store's chunk that ends there is the one that is kept here, as far as retention has left it.
   */
  async #isOurs(endOffset: number): Promise<boolean> {
    const ours = this.#recent.endingAt(endOffset);
    const [found] = await this.#options.log.describe(this.#options.id, endOffset - 1, 1);
    if (found === undefined) return true;
    return ours !== undefined && isSame(found, ours);
  }
}

function isSame(a: Description, b: Description): boolean {
  return (
    a.firstOffset === b.firstOffset && a.publishTimeMs === b.publishTimeMs && a.byteLength === b.byteLength
  );
}

type Description = Pick<ChunkInfo, 'firstOffset' | 'publishTimeMs' | 'byteLength'>;

const LOST_TAIL =
  'the store lost messages that were acknowledged and that no broker holds any more, or another broker wrote in between: see the page for operators, "lost tail"';

/**
 * Throws an error of a store that has gone back once more, to before this claim, as ABORTED; others as they
 * are.
 */
function newClaimNeeded(error: unknown): never {
  const failure = asBrokerError(error);
  if (failure.code !== 'FAILED_PRECONDITION') throw failure;
  throw new BrokerError('ABORTED', failure.message, { cause: failure });
}

/**
 * Throws LostClaim where the topic was deleted: the store gives no claim on it, now or ever. Other errors as
 * they are.
 */
function lostIfDropped(error: unknown): never {
  if (error instanceof BrokerError && error.code === 'FAILED_PRECONDITION') throw new LostClaim();
  throw error;
}

export function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  throw error;
}
