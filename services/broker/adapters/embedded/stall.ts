// Why and for how long the store does not accept all commits, and when it tries again.
//
//   running ──begin(cause)──▶ stalled (full | failed) ──retry due──▶ attempt ──fails──▶ stalled, delay × 2
//                                                                       └──works──▶ end() ──▶ running
import type { BrokerError } from '../../core/errors.ts';
import type { Disk } from './disk.ts';
import { failedError, fullError, isFull, messageOf } from './storage-errors.ts';

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;
/**
 * A store that stalls again this soon after it recovered goes on with the longer delay, and logs no new
 * stall.
 */
const RELAPSE_MS = 10_000;

export type Warn = (message: string, fields: object) => void;

export class Stall {
  /** The error that refused commits get; undefined while the store runs. */
  error: BrokerError | undefined;
  /**
   * full: every outcome is known, and commits that need no room are accepted. failed: the outcome of the last
   * write may be unknown, and nothing is accepted.
   */
  kind: 'full' | 'failed' | undefined;
  /** How often the store stalled since it was opened. */
  count = 0;

  readonly #dir: string;
  readonly #disk: Disk;
  readonly #warn: Warn;
  readonly #onRetryDue: () => void;
  #retryDue = false;
  /** The next retry was brought forward. */
  #hastened = false;
  #timer: NodeJS.Timeout | undefined;
  #delayMs = FIRST_RETRY_MS;
  #endedAtMs = Number.NEGATIVE_INFINITY;

  constructor(dir: string, disk: Disk, warn: Warn, onRetryDue: () => void) {
    this.#dir = dir;
    this.#disk = disk;
    this.#warn = warn;
    this.#onRetryDue = onRetryDue;
  }

  get active(): boolean {
    return this.error !== undefined;
  }

  get retryDue(): boolean {
    return this.active && this.#retryDue;
  }

  /** Stalls because a write of `neededBytes` failed. Resolves with the error for its callers. */
  async begin(cause: unknown, neededBytes: number): Promise<BrokerError> {
    const free = await this.#disk.freeBytes(this.#dir).catch(() => Number.POSITIVE_INFINITY);
    const full = isFull(cause, free, neededBytes);
    const error = full ? fullError(this.#dir, cause) : failedError(this.#dir, cause);
    if (this.kind !== 'failed') {
      this.kind = full ? 'full' : 'failed';
      this.error = error;
    }
    this.#begun(messageOf(cause));
    return error;
  }

  /**
   * Stalls because there is no room for messages, before a write fails. Only while nothing else stalls the
   * store.
   */
  beginFull(): BrokerError {
    this.kind = 'full';
    this.error = fullError(this.#dir, undefined);
    this.#begun('the space that is left is the reserve');
    return this.error;
  }

  #begun(cause: string): void {
    this.count++;
    if (performance.now() - this.#endedAtMs > RELAPSE_MS) {
      this.#delayMs = FIRST_RETRY_MS;
      this.#warn(
        this.kind === 'full'
          ? 'the disk is full: no messages are accepted for now'
          : 'the store accepts nothing for now',
        { reason: this.kind, cause },
      );
    }
    this.retryLater();
  }

  /** A write turned out to have happened, or nobody can say; "full" would promise that it did not. */
  becomeFailed(cause: unknown): BrokerError {
    this.kind = 'failed';
    this.error = failedError(this.#dir, cause);
    return this.error;
  }

  retryLater(): void {
    this.#hastened = false;
    this.#retryIn(this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, MAX_RETRY_MS);
  }

  /** Brings the next retry forward: what has just been written may have made room. */
  hasten(): void {
    if (!this.active || this.#retryDue || this.#hastened) return;
    this.#hastened = true;
    this.#retryIn(FIRST_RETRY_MS);
  }

  #retryIn(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#retryDue = false;
    this.#timer = setTimeout(() => {
      this.#retryDue = true;
      this.#onRetryDue();
    }, delayMs).unref();
  }

  end(): void {
    if (!this.active) return;
    this.stopTimer();
    this.error = undefined;
    this.kind = undefined;
    this.#endedAtMs = performance.now();
    this.#warn('the store accepts commits again', {});
  }

  stopTimer(): void {
    clearTimeout(this.#timer);
    this.#retryDue = false;
  }
}
