// How long to wait before trying again: a random part of a bound that doubles, so that many clients
// do not come back together.
import { callBack, cancelledBy } from './errors.ts';

export interface BackoffOptions {
  /** The bound of the first delay. Default 100 ms. */
  readonly initialMs?: number;
  /** The largest bound. Default 5,000 ms. */
  readonly maxMs?: number;
  /** Returns a number of at least 0 and below 1. */
  readonly random?: () => number;
}

export class Backoff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #attempts = 0;

  constructor(options: BackoffOptions = {}) {
    this.#initialMs = options.initialMs ?? 100;
    this.#maxMs = options.maxMs ?? 5_000;
    this.#random = options.random ?? Math.random;
  }

  /** The next delay, between a tenth of its bound and its bound. */
  nextMs(): number {
    const bound = Math.min(this.#maxMs, this.#initialMs * 2 ** Math.min(this.#attempts++, 30));
    const random = callBack(this.#random) ?? Math.random();
    return bound * (0.1 + 0.9 * random);
  }

  /** To be called after a success: the next delay is a short one again. */
  reset(): void {
    this.#attempts = 0;
  }
}

/** Resolves after delayMs; rejects with CANCELLED when the signal is aborted. */
export function delay(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(cancelledBy(signal));
    const onAbort = () => {
      clearTimeout(timer);
      reject(cancelledBy(signal!));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
