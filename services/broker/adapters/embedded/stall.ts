// Why and for how long the store accepts nothing, and when it tries again. Owned by durable-kv.ts.
//
//   running ──begin(cause)──▶ stalled (full | failed) ──retry due──▶ one attempt ──fails──▶ stalled, twice the delay
//                                                                        └──works──▶ end() ──▶ running
import type { BrokerError } from '../../core/errors.ts';
import type { Disk } from './disk.ts';
import { failedError, fullError, isFull, messageOf } from './storage-errors.ts';

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;
/** A store that stalls again this soon after it recovered goes on with the longer delay, and says nothing new. */
const RELAPSE_MS = 10_000;

export type Warn = (message: string, fields: object) => void;

export class Stall {
  /** What callers get meanwhile; undefined while the store runs. */
  error: BrokerError | undefined;
  /** full: every outcome is known. failed: that of the last write may not be. */
  kind: 'full' | 'failed' | undefined;
  /** How often the store stalled since it was opened. */
  count = 0;

  readonly #dir: string;
  readonly #disk: Disk;
  readonly #warn: Warn;
  readonly #onRetryDue: () => void;
  #retryDue = false;
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

  /** A write of `neededBytes` failed. Resolves with what its callers are told. */
  async begin(cause: unknown, neededBytes: number): Promise<BrokerError> {
    const free = await this.#disk.freeBytes(this.#dir).catch(() => Number.POSITIVE_INFINITY);
    const full = isFull(cause, free, neededBytes);
    const error = full ? fullError(this.#dir, cause) : failedError(this.#dir, cause);
    if (this.kind !== 'failed') {
      this.kind = full ? 'full' : 'failed';
      this.error = error;
    }
    this.count++;
    if (performance.now() - this.#endedAtMs > RELAPSE_MS) {
      this.#delayMs = FIRST_RETRY_MS;
      this.#warn('the store accepts nothing for now', { reason: this.kind, cause: messageOf(cause) });
    }
    this.retryLater();
    return error;
  }

  /** A write turned out to have happened, or nobody can say: no "full" any more, which promises that it did not. */
  becomeFailed(cause: unknown): BrokerError {
    this.kind = 'failed';
    this.error = failedError(this.#dir, cause);
    return this.error;
  }

  retryLater(): void {
    clearTimeout(this.#timer);
    this.#retryDue = false;
    this.#timer = setTimeout(() => {
      this.#retryDue = true;
      this.#onRetryDue();
    }, this.#delayMs).unref();
    this.#delayMs = Math.min(this.#delayMs * 2, MAX_RETRY_MS);
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
