// The Clock port on virtual time, for tests and simulations: nothing happens until the test moves the time,
// and then everything happens in one order. Timers fire by due time, those due together in the order they
// were set. Deferred calls run in the instant they were deferred in, before time moves on. Between any two of
// them all promise reactions run.
import type { Clock } from '../../services/broker/ports/clock.ts';

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly fn: () => void;
}

/** An arbitrary moment after 1970, so that a test shows it when nowMs and monotonicMs are mixed up. */
const EPOCH_MS = 1_700_000_000_000;

export class VirtualClock implements Clock {
  #elapsedMs = 0;
  #order = 0;
  /**
   * Kept sorted, the soonest last. A binary heap by (dueMs, order) would be quicker, but tests have few
   * timers.
   */
  readonly #timers: Timer[] = [];
  #deferred: (() => void)[] = [];
  #skewMs = EPOCH_MS;

  nowMs(): number {
    return this.#skewMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  setTimer(delayMs: number, fn: () => void): () => void {
    const timer = { dueMs: this.#elapsedMs + Math.max(0, delayMs), order: this.#order++, fn };
    this.#timers.splice(this.#placeOf(timer), 0, timer);
    return () => {
      const index = this.#timers.indexOf(timer);
      if (index >= 0) this.#timers.splice(index, 1);
    };
  }

  defer(fn: () => void): void {
    this.#deferred.push(fn);
  }

  /** The wall clock jumps; what runs on monotonic time notices nothing. */
  jumpWallClock(byMs: number): void {
    this.#skewMs += byMs;
  }

  /** How many timers are set and neither fired nor cancelled: a test's check that nothing was left behind. */
  get timerCount(): number {
    return this.#timers.length;
  }

  /** Moves time on by `ms` and runs everything that becomes due, including what that sets in motion. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#elapsedMs + ms;
    await reactions();
    while (this.#step(untilMs)) await reactions();
    this.#elapsedMs = untilMs;
  }

  /** Runs what is due now, without moving time. */
  settle(): Promise<void> {
    return this.advance(0);
  }

  /**
   * Moves time on, event by event, until the condition holds after one. Throws if it does not within
   * `limitMs`, or if nothing is left that could happen.
   */
  async runUntil(condition: () => boolean, limitMs = 3_600_000): Promise<void> {
    const untilMs = this.#elapsedMs + limitMs;
    await reactions();
    while (!condition()) {
      const happened = this.#step(untilMs);
      await reactions();
      if (happened) continue;
      throw new Error(`the condition did not come true within ${limitMs} ms of virtual time: ${condition}`);
    }
  }

  /** Moves time on until the work is done. Resolves or rejects as the work does; throws as runUntil does. */
  async finish<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const ended = work.finally(() => {
      done = true;
    });
    ended.catch(() => {});
    await this.runUntil(() => done);
    return ended;
  }

  /** Runs the next deferred call or due timer. False if there is none up to untilMs. */
  #step(untilMs: number): boolean {
    const deferred = this.#deferred.shift();
    if (deferred) {
      deferred();
      return true;
    }
    const next = this.#timers.at(-1);
    if (!next || next.dueMs > untilMs) return false;
    this.#timers.pop();
    this.#elapsedMs = Math.max(this.#elapsedMs, next.dueMs);
    next.fn();
    return true;
  }

  #placeOf(timer: Timer): number {
    let low = 0;
    let high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#timers[middle]!;
      if (other.dueMs > timer.dueMs || (other.dueMs === timer.dueMs && other.order > timer.order)) {
        low = middle + 1;
      } else high = middle;
    }
    return low;
  }
}

/**
 * Lets every promise reaction run, however long the chain: the microtask queue empties before an immediate
 * runs.
 */
function reactions(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
