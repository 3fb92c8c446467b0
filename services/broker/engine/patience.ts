// How long several waits may take together.
import type { Clock } from '../ports/clock.ts';

export class Patience {
  readonly #over: Promise<false>;
  readonly #cancel: () => void;

  /** Begins now. */
  constructor(clock: Clock, forMs: number) {
    const { promise, resolve } = Promise.withResolvers<false>();
    this.#over = promise;
    this.#cancel = Number.isFinite(forMs) ? clock.setTimer(forMs, () => resolve(false)) : () => undefined;
  }

  /** Whether it settled in time; rejects as it does. What becomes of it later is of no interest. */
  async lasts(wait: Promise<unknown>): Promise<boolean> {
    return Promise.race([wait.then(() => true), this.#over]);
  }

  end(): void {
    this.#cancel();
  }
}
