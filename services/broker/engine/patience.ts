// One time limit that several waits share.
import type { Clock } from '../ports/clock.ts';

export class Patience {
  readonly #over: Promise<false>;
  readonly #cancel: () => void;

  /** The time begins now. An infinite forMs: it never ends. */
  constructor(clock: Clock, forMs: number) {
    const { promise, resolve } = Promise.withResolvers<false>();
    this.#over = promise;
    this.#cancel = Number.isFinite(forMs) ? clock.setTimer(forMs, () => resolve(false)) : () => undefined;
  }

  /**
   * Resolves to whether the wait ended in time; rejects as the wait does. What becomes of it later is
   * ignored.
   */
  async lasts(wait: Promise<unknown>): Promise<boolean> {
    return Promise.race([wait.then(() => true), this.#over]);
  }

  end(): void {
    this.#cancel();
  }
}
