// This broker's lease as it counts it itself: from before the heartbeat was sent, by its own monotonic clock, less a margin. So it
// always ends here before the store gives anything to others. Used by membership-keeper.
//
//        renewed in time                        its time is up, or end()
//   ended ─────────────▶ held (renewed again and again) ─────────────▶ ended
//
// A process that was paused finds out when it goes on: at the timer, or at a late answer, whichever comes first.
import type { Clock } from '../ports/clock.ts';

/** Of the lease: what clocks may drift and a busy event loop may be late. */
const MARGIN_PART = 0.1;

export class MemberLease {
  readonly #clock: Clock;
  readonly #usableMs: number;
  readonly #ended: (reason: string) => void;
  #held = false;
  #untilMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: () => void = () => {};

  /** `ended` is called each time a lease that was held is lost. */
  constructor(clock: Clock, leaseMs: number, ended: (reason: string) => void) {
    this.#clock = clock;
    this.#usableMs = leaseMs * (1 - MARGIN_PART);
    this.#ended = ended;
  }

  /** This very moment. */
  get holds(): boolean {
    return this.#held && this.#clock.monotonicMs() < this.#untilMs;
  }

  /** A heartbeat that was sent then was answered. Returns whether there is a lease now where there was none. */
  renewed(sentMs: number): boolean {
    // The former lease ended before this one was known to have begun: others may have been here.
    if (!this.holds) this.end('the lease ran out before it was renewed');
    this.#untilMs = sentMs + this.#usableMs;
    if (this.#held || this.#clock.monotonicMs() >= this.#untilMs) return false;
    this.#held = true;
    this.#arm();
    return true;
  }

  /** It can't be relied on any more. */
  end(reason: string): void {
    if (!this.#held) return;
    this.stop();
    this.#ended(reason);
  }

  /** Ends it without a word. */
  stop(): void {
    this.#held = false;
    this.#cancelTimer();
  }

  #arm(): void {
    const leftMs = this.#untilMs - this.#clock.monotonicMs();
    this.#cancelTimer = this.#clock.setTimer(leftMs, () => {
      if (this.holds) this.#arm();
      else this.end('the lease ran out: the store did not answer in time');
    });
  }
}
