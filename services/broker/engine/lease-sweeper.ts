// Ends leases whose deadline has passed: one loop for the broker, awake only while something is outstanding. Told by
// dispatchers.
import type { EngineContext } from './context.ts';
import type { Dispatcher } from './dispatcher.ts';

export class LeaseSweeper {
  readonly #context: EngineContext;
  readonly #watched = new Set<Dispatcher>();
  #ticking = false;

  constructor(context: EngineContext) {
    this.#context = context;
  }

  /** The dispatcher has leases. */
  watch(dispatcher: Dispatcher): void {
    this.#watched.add(dispatcher);
    if (!this.#ticking) this.#arm();
  }

  #arm(): void {
    this.#ticking = true;
    this.#context.clock.setTimer(this.#context.limits.leaseSweepMs, () => this.#sweep());
  }

  #sweep(): void {
    this.#ticking = false;
    const { clock, stats } = this.#context;
    const nowMs = clock.monotonicMs();
    for (const dispatcher of this.#watched) {
      const { delivery } = dispatcher;
      if (dispatcher.closed || delivery.outstandingMessages === 0) {
        this.#watched.delete(dispatcher);
      } else if (delivery.earliestDeadlineMs <= nowMs) {
        const before = delivery.outstandingMessages;
        dispatcher.apply({ kind: 'expire' });
        stats.expiredLeases += before - delivery.outstandingMessages;
      }
    }
    if (this.#watched.size > 0) this.#arm();
  }
}
