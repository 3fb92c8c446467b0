// Ends leases whose deadline has passed: one loop for the broker, awake only while something is outstanding.
import type { EngineContext } from '../context.ts';

/** Somebody with leases: a dispatcher. */
export interface LeaseHolder {
  readonly closed: boolean;
  readonly outstandingMessages: number;
  /** No lease ends before this, by the monotonic clock. */
  readonly earliestDeadlineMs: number;
  /** Ends the leases whose deadline has passed. */
  expire(): void;
}

export class LeaseSweeper {
  readonly #context: EngineContext;
  readonly #watched = new Set<LeaseHolder>();
  #ticking = false;
  #stopped = false;
  #cancelTimer: () => void = () => undefined;

  constructor(context: EngineContext) {
    this.#context = context;
  }

  /** The holder has leases from now on. */
  watch(holder: LeaseHolder): void {
    if (this.#stopped) return;
    this.#watched.add(holder);
    if (!this.#ticking) this.#arm();
  }

  /** Ends no lease any more: those that last longer than this broker (Pull) are the next owner's business. */
  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
    this.#watched.clear();
  }

  #arm(): void {
    this.#ticking = true;
    this.#cancelTimer = this.#context.clock.setTimer(this.#context.limits.leaseSweepMs, () => this.#sweep());
  }

  #sweep(): void {
    this.#ticking = false;
    const { clock, stats } = this.#context;
    const nowMs = clock.monotonicMs();
    for (const holder of this.#watched) {
      const before = holder.outstandingMessages;
      if (holder.closed || before === 0) this.#watched.delete(holder);
      else if (holder.earliestDeadlineMs <= nowMs) {
        holder.expire();
        stats.expiredLeases += before - holder.outstandingMessages;
      }
    }
    if (this.#watched.size > 0) this.#arm();
  }
}
