// This broker's lease as it counts it itself: from before the heartbeat was sent, by its own monotonic clock,
// less a margin. Invariant: unless the machine is suspended, it ends here before the store gives anything to
// others.
//
//        renewed in time                        its time is up, or end()
//   ended ─────────────▶ held (renewed again and again) ─────────────▶ ended
//                        held ─the wall clock jumped ahead─▶ in doubt ─the store: nobody has missed it─▶ held
//                                                                └────────it was missed────────▶ ended
//
// A process that was paused finds out when it goes on: at the timer, or at a late answer, whichever comes
// first. A machine that was suspended can't: its monotonic clock stood still, too. But its wall clock has
// jumped ahead by then, so a lease that is over by the wall clock is in doubt until the next heartbeat is
// answered: nothing is delivered meanwhile, and nothing is given up for a clock that was merely set. A
// machine whose clock is set back while it is suspended notices nothing before that answer.
import type { Clock } from '../../ports/clock.ts';

/** The part of the lease that is not used: for clocks that drift and an event loop that is late. */
const MARGIN_PART = 0.1;

export class MemberLease {
  readonly #clock: Clock;
  readonly #usableMs: number;
  readonly #ended: (reason: string) => void;
  #held = false;
  #untilMs = Number.NEGATIVE_INFINITY;
  /** The end of the lease by the wall clock. */
  #wallUntilMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: () => void = () => {};

  /** `ended` is called each time a lease that was held is lost. */
  constructor(clock: Clock, leaseMs: number, ended: (reason: string) => void) {
    this.#clock = clock;
    this.#usableMs = leaseMs * (1 - MARGIN_PART);
    this.#ended = ended;
  }

  /** Whether the lease holds at this very moment. */
  get holds(): boolean {
    return this.#lasts && this.#clock.nowMs() < this.#wallUntilMs;
  }

  /** Whether the lease lasts by the monotonic clock alone. */
  get #lasts(): boolean {
    return this.#held && this.#clock.monotonicMs() < this.#untilMs;
  }

  /**
   * A heartbeat that was sent at sentMs was answered; `missed`: others have seen the former lease ended.
   * Returns whether there is a lease now where there was none.
   */
  renewed(sentMs: number, sentWallMs: number, missed: boolean): boolean {
    // The former lease ended before this one was known to have begun: others may have been here.
    if (!this.#lasts) this.end('the lease ran out before it was renewed');
    else if (missed) this.end('the lease had ended in the store: was this machine suspended?');
    this.#untilMs = sentMs + this.#usableMs;
    // The machine may have been suspended between the heartbeat and its answer.
    this.#wallUntilMs = sentWallMs + this.#usableMs;
    if (this.#held || this.#clock.monotonicMs() >= this.#untilMs) return false;
    this.#held = true;
    this.#arm();
    return true;
  }

  /** Ends the lease: it can't be relied on any more. */
  end(reason: string): void {
    if (!this.#held) return;
    this.stop();
    this.#ended(reason);
  }

  /** Ends the lease without calling `ended`. */
  stop(): void {
    this.#held = false;
    this.#cancelTimer();
  }

  #arm(): void {
    const leftMs = this.#untilMs - this.#clock.monotonicMs();
    this.#cancelTimer = this.#clock.setTimer(leftMs, () => {
      if (this.#lasts) this.#arm();
      else this.end('the lease ran out: the store did not answer in time');
    });
  }
}
