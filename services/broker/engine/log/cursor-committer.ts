// Commits cursors: soon after an ack, at once where a redelivery or an Acknowledge call waits for it, all
// that have moved in one commit. One loop for the broker. Invariant: one commit at most is under way.
//
// A store that can go back (a failover) may forget the last commit of a cursor that then does not move again,
// and nothing else would show it. So each cursor is committed once more when it has rested for longer than a
// failover forgets.
import { BrokerError } from '../../core/errors.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { EngineContext } from '../context.ts';
import type { PartitionOwner } from './partition-owner.ts';

/** Somebody with a cursor: a dispatcher, or a partition's eras. */
export interface CursorHolder {
  readonly owner: PartitionOwner;
  /** The incarnation under which the store keeps the cursor: the subscription's, or for eras the topic's. */
  readonly subscription: number;
  readonly closed: boolean;
  /** The record to commit now. */
  snapshot(): Uint8Array;
  /** The last snapshot is durable. */
  committed(): void;
  /** The owner's claim is stale: nothing of the holder is written any more. */
  lost(): void;
}

const RETRY_MS = 250;
/** Longer than a replica may lag behind when it takes over. */
const REPEAT_MS = 10_000;

export class CursorCommitter {
  readonly #store: CursorStore;
  readonly #context: EngineContext;
  #dirty = new Set<CursorHolder>();
  /** Calls that wait for what is dirty to be committed. */
  #waiting: (() => void)[] = [];
  /**
   * resting ─soon─▶ waiting ─timer, now─▶ committing ─▶ resting, or failed ─RETRY_MS─▶ committing. A store
   * that fails is not asked more often, however many cursors move.
   */
  #state: 'resting' | 'waiting' | 'committing' | 'failed' = 'resting';
  #cancelTimer: () => void = () => undefined;
  /** Another commit was asked for while one was under way. */
  #again = false;
  /** Holders whose cursor was committed, and when to commit it once more: the soonest first. */
  readonly #resting = new Map<CursorHolder, number>();
  /** Holders that are dirty only because their cursor is to be committed once more. */
  readonly #repeated = new Set<CursorHolder>();
  #cancelRepeat: (() => void) | undefined;
  #stopped = false;

  constructor(store: CursorStore, context: EngineContext) {
    this.#store = store;
    this.#context = context;
  }

  /** The holder's cursor has moved: commit it within cursorCommitMs. */
  soon(holder: CursorHolder): void {
    if (this.#stopped) return;
    this.#repeated.delete(holder);
    this.#dirty.add(holder);
    if (this.#state === 'resting') this.#wait(this.#context.limits.cursorCommitMs);
  }

  /** The holder's cursor has moved, and somebody waits for its commit: commit it at the end of the turn. */
  now(holder: CursorHolder): void {
    if (this.#stopped) return;
    this.#repeated.delete(holder);
    this.#dirty.add(holder);
    this.#hurry();
  }

  /**
   * Resolves when everything that is dirty now has been committed. Does not reject: an unreachable store is
   * waited for.
   */
  flushed(): Promise<void> {
    if (this.#dirty.size === 0 && this.#state !== 'committing') return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#hurry();
    });
  }

  /** Commits nothing any more. Whoever wants what is dirty to be committed waits for flushed() before. */
  stop(): void {
    this.#stopped = true;
    this.#cancelRepeat?.();
    this.#cancelTimer();
    this.#resting.clear();
  }

  /**
   * The cursors of the holders were committed lately, by this broker or by the partition's former owner:
   * commits each once more when it has rested.
   */
  rest(holders: readonly CursorHolder[]): void {
    if (this.#context.limits.recentBytes === 0) return;
    const dueMs = this.#context.clock.monotonicMs() + REPEAT_MS;
    for (const holder of holders) {
      this.#resting.delete(holder);
      if (!this.#repeated.delete(holder) && !holder.closed) this.#resting.set(holder, dueMs);
    }
    this.#armRepeat();
  }

  #armRepeat(): void {
    const [soonest] = this.#resting.values();
    if (soonest === undefined || this.#cancelRepeat !== undefined) return;
    const { clock } = this.#context;
    this.#cancelRepeat = clock.setTimer(Math.max(0, soonest - clock.monotonicMs()), () => {
      this.#cancelRepeat = undefined;
      this.#repeat();
      this.#armRepeat();
    });
  }

  #repeat(): void {
    const nowMs = this.#context.clock.monotonicMs();
    for (const [holder, dueMs] of this.#resting) {
      if (dueMs > nowMs) return;
      this.#resting.delete(holder);
      // A holder that is dirty anyway is committed as such.
      if (holder.closed || this.#dirty.has(holder)) continue;
      this.soon(holder);
      this.#repeated.add(holder);
    }
  }

  #wait(delayMs: number, state: 'waiting' | 'failed' = 'waiting'): void {
    this.#state = state;
    this.#cancelTimer = this.#context.clock.setTimer(delayMs, () => void this.#run());
  }

  #hurry(): void {
    if (this.#state === 'committing') {
      this.#again = true;
      return;
    }
    if (this.#state === 'failed') return;
    this.#cancelTimer();
    this.#state = 'committing';
    // The commit is made at the end of the turn: several dispatchers, one commit.
    this.#context.clock.defer(() => void this.#run());
  }

  async #run(): Promise<void> {
    this.#state = 'committing';
    this.#again = false;
    const holders = [...this.#dirty].filter((holder) => !holder.closed);
    const waiting = this.#waiting;
    this.#dirty = new Set();
    this.#waiting = [];
    const done = await this.#commit(holders);
    if (!done) {
      for (const holder of holders) this.#dirty.add(holder);
      this.#waiting = waiting.concat(this.#waiting);
      this.#wait(RETRY_MS, 'failed');
      return;
    }
    this.#state = 'resting';
    this.rest(holders);
    for (const resolve of waiting) resolve();
    for (const holder of holders) holder.committed();
    // committed() may have asked for another one.
    if (this.#again || this.#waiting.length > 0) this.#hurry();
    else if (this.#dirty.size > 0 && this.#state === 'resting')
      this.#wait(this.#context.limits.cursorCommitMs);
  }

  async #commit(holders: readonly CursorHolder[]): Promise<boolean> {
    if (holders.length === 0) return true;
    const { logger, stats } = this.#context;
    const commits = holders.map((holder) => ({
      partition: holder.owner.id,
      ownerEpoch: holder.owner.ownerEpoch,
      subscription: holder.subscription,
      record: holder.snapshot(),
    }));
    stats.cursorCommits += commits.length;
    try {
      const stale = await this.#store.commit(commits);
      for (const index of stale) holders[index]!.lost();
      return true;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      stats.cursorCommitFailures += 1;
      logger.warn({ reason: error.message }, 'cursors cannot be committed: trying again');
      // The store went back: owners claim their partitions again, and restore what is missing.
      if (error.code === 'FAILED_PRECONDITION') for (const { owner } of holders) owner.verify(true);
      return false;
    }
  }
}
