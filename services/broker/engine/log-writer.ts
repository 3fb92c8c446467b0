// Writes one partition's log for its owner: every append ends with a known outcome. Called by partition-owner only, one call
// at a time.
//
//   append ─▶ done                               the usual case
//          ├▶ outcome unknown ─▶ look at the log's end ─▶ done, or append again
//          ├▶ the store went back ─▶ claim the partition again ─▶ append what it has forgotten ─▶ append again
//          └▶ the claim is stale ─▶ lost: somebody else owns the partition
//
// A store goes back when a failover loses writes that it had acknowledged (asynchronous replication): chunks, and perhaps the
// claim. What the owner still holds is appended again with the same offsets and bytes, so nobody notices.
import { BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';
import type { Durability, LogBounds, LogStore } from '../ports/log-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { CachedChunk } from './chunk-cache.ts';
import type { EngineContext } from './context.ts';
import type { RecentChunks, RecentRing } from './recent-chunks.ts';

export type AppendOutcome =
  | { readonly kind: 'appended' }
  /** Nothing was written; the next append may go well. */
  | { readonly kind: 'refused'; readonly error: BrokerError }
  /** The partition is somebody else's. `perhaps`: the chunks may have been written before it was. */
  | { readonly kind: 'lost'; readonly perhaps: boolean };

export interface LogWriterOptions {
  readonly id: PartitionId;
  readonly ownerEpoch: number;
  readonly log: LogStore;
  readonly ownership: OwnershipStore;
  readonly recent: RecentRing;
  readonly durability: Durability;
  readonly context: EngineContext;
  /** Resolves if this is still the store that the broker belongs to: one that was emptied by mistake is not to be filled again. */
  readonly checkStore: () => Promise<void>;
}

export interface AppendWaiting {
  /** The outcome has been unknown for so long that publishers are told. Called at most once. */
  giveUp(): void;
  /** Whether nobody is interested any more. */
  readonly closed: boolean;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;

/** Thrown within this file. */
class LostClaim extends Error {}

export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #recent: RecentChunks;
  #ownerEpoch: number;
  /** What the store has gone back over was appended again, or the claim was taken again, since this was last read. */
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
   * The log as it is found under a new claim. What this broker appended under an earlier one, and the store has forgotten since,
   * is appended again first. Rejects as the store does, to be called again; ABORTED: with a new claim only.
   */
  async open(): Promise<LogBounds> {
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
      if (endOffset > expectedEnd) this.#recent.clear();
      return bounds;
    }
    this.#recent.clear();
    context.logger.error({ partition: formatPartitionId(id), storeEnd: endOffset, expectedEnd }, LOST_TAIL);
    return bounds;
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
    let perhaps = false;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      try {
        if (perhaps && (await this.#lookFor(expectedEnd, newEnd))) {
          await log.confirm(id, this.#ownerEpoch, newEnd, durability);
          return this.#appended(chunks);
        }
        await log.append(id, this.#ownerEpoch, expectedEnd, chunks, durability);
        return this.#appended(chunks);
      } catch (error) {
        if (error instanceof LostClaim) return { kind: 'lost', perhaps };
        const failure = asBrokerError(error);
        stats.appendFailures += 1;
        const fields = { partition: formatPartitionId(id), reason: failure.message };
        if (failure.code === 'RESOURCE_EXHAUSTED') {
          logger.warn(fields, 'the store refused an append: publishers are told to wait');
          return { kind: 'refused', error: failure };
        }
        if (failure.code === 'ABORTED') return { kind: 'lost', perhaps };
        if (failure.code === 'UNAVAILABLE') {
          if (!perhaps) {
            stats.unknownOutcomes += 1;
            logger.warn(fields, 'the outcome of an append is unknown: asking the store');
          }
          perhaps = true;
        } else if (failure.code !== 'FAILED_PRECONDITION') {
          return { kind: 'refused', error: failure };
        } else {
          const restored = await this.#tryRestore(expectedEnd, newEnd);
          if (restored === 'lost') return { kind: 'lost', perhaps };
          if (restored === 'restored') continue;
        }
      }
      if (!gaveUp && clock.monotonicMs() >= giveUpMs) {
        gaveUp = true;
        waiting.giveUp();
      }
      if (waiting.closed) return { kind: 'lost', perhaps };
      await new Promise<void>((resolve) => clock.setTimer(delayMs, resolve));
    }
  }

  /**
   * Looks whether the store still has the claim and everything up to `end`, and puts right what it has not. `later`: the store
   * does not answer.
   */
  async verify(end: number): Promise<'same' | 'lost' | 'later'> {
    const outcome = await this.#tryRestore(end, end);
    return outcome === 'restored' ? 'same' : outcome;
  }

  /** Whether the store had gone back since the last call: cursors may have, too. */
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

  /** Whether the log ends at newEnd. If it ends neither there nor at expectedEnd it is put right first. */
  async #lookFor(expectedEnd: number, newEnd: number): Promise<boolean> {
    const { endOffset } = await this.#options.log.bounds(this.#options.id);
    if (endOffset === newEnd) return true;
    if (endOffset !== expectedEnd) await this.#restore(expectedEnd, newEnd);
    return false;
  }

  async #tryRestore(expectedEnd: number, newEnd: number): Promise<'restored' | 'lost' | 'later'> {
    try {
      await this.#restore(expectedEnd, newEnd);
      return 'restored';
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

  /** Claims the partition again if the store has forgotten that, and appends what it has forgotten below expectedEnd. */
  async #restore(expectedEnd: number, newEnd: number): Promise<void> {
    const { id, log, ownership, context } = this.#options;
    const partition = formatPartitionId(id);
    const [state] = await ownership.describe([id]);
    if (state!.ownerEpoch > this.#ownerEpoch) throw new LostClaim();
    if (state!.ownerEpoch < this.#ownerEpoch) {
      await this.#options.checkStore();
      const before = this.#ownerEpoch;
      this.#ownerEpoch = (await ownership.acquire(id, { above: before }).catch(lostIfDropped)).ownerEpoch;
      this.#restored = true;
      context.logger.warn(
        { partition, before, ownerEpoch: this.#ownerEpoch },
        'the store had forgotten who owns the partition: claimed again',
      );
    }
    const { endOffset } = await log.bounds(id);
    if (endOffset === expectedEnd || endOffset === newEnd) return;
    const missing = endOffset < expectedEnd ? await this.#missing(endOffset) : undefined;
    if (missing === undefined) {
      context.logger.error({ partition, storeEnd: endOffset, expectedEnd }, LOST_TAIL);
      throw new LostClaim();
    }
    await this.#appendAgain(endOffset, missing);
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

  /** Whether the store's chunk that ends there is the one that is kept here, as far as retention has left it. */
  async #isOurs(endOffset: number): Promise<boolean> {
    const ours = this.#recent.endingAt(endOffset);
    const [found] = await this.#options.log.describe(this.#options.id, endOffset - 1, 1);
    if (found === undefined) return true;
    return (
      found?.firstOffset === ours?.firstOffset &&
      found?.publishTimeMs === ours?.publishTimeMs &&
      found?.byteLength === ours?.byteLength
    );
  }
}

const LOST_TAIL =
  'the store lost messages that were acknowledged and that no broker holds any more, or another broker wrote in between: see the page for operators, "lost tail"';

/** The store has gone back once more, to before this claim. */
function newClaimNeeded(error: unknown): never {
  const failure = asBrokerError(error);
  if (failure.code !== 'FAILED_PRECONDITION') throw failure;
  throw new BrokerError('ABORTED', failure.message, { cause: failure });
}

/** Of a topic that was deleted the store gives no claim, now or ever. */
function lostIfDropped(error: unknown): never {
  if (error instanceof BrokerError && error.code === 'FAILED_PRECONDITION') throw new LostClaim();
  throw error;
}

export function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  throw error;
}
