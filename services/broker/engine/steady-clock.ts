// The time by which messages are dated and by which they age: the machine's wall clock without its steps.
//
// A wall clock may be set by seconds or years in either direction: by hand, by a time server or at the end of
// a suspension. Elapsed time is counted by the monotonic clock, so no step makes a message older or younger.
// Dates follow a step once it has lasted: a clock that is wrong for a moment dates nothing wrongly, and one
// that was put right is right a minute later.
//
//   dated = elapsed + shift      a step of more than 2 s that lasts a minute goes into the shift;
//                                a smaller difference is followed slowly, by elapsed
import type { Clock } from '../ports/clock.ts';
import type { EngineLogger } from './context.ts';

/** A greater difference from the wall clock is a step, a smaller one drift. */
const STEP_MS = 2_000;
/** How long a step must last to be taken over. */
const LASTING_MS = 60_000;
/** To follow a drift, elapsed time is corrected by at most this part of the time that has passed. */
const SLEW_PART = 0.01;

interface Step {
  readonly byMs: number;
  readonly sinceMs: number;
}

export class SteadyClock {
  readonly #clock: Clock;
  readonly #logger: EngineLogger;
  readonly #startMs: number;
  /** Elapsed time minus the monotonic clock's time. */
  #offsetMs: number;
  #lookedMs: number;
  #shiftMs = 0;
  #lowestShiftMs = 0;
  #step: Step | undefined;

  constructor(clock: Clock, logger: EngineLogger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#startMs = clock.monotonicMs();
    this.#lookedMs = this.#startMs;
    this.#offsetMs = clock.nowMs() - this.#startMs;
  }

  /**
   * Whole milliseconds since 1970, for dating messages. They go back only when a clock was set back and has
   * stayed there for a minute.
   */
  datedMs(): number {
    this.look();
    return Math.floor(this.#elapsedMs + this.#shiftMs);
  }

  /** Whole milliseconds on the scale that datedMs() had when this broker started; never steps. */
  elapsedMs(): number {
    this.look();
    return Math.floor(this.#elapsedMs);
  }

  /** How long this broker has been running. */
  get runningMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }

  /** How much later than elapsedMs() a date given now is; negative: earlier. */
  get shiftMs(): number {
    return this.#shiftMs;
  }

  /**
   * The lowest shift so far, with that of a step that has not lasted yet; at most 0. By this much the clock
   * may have been ahead when this broker started.
   */
  get lowestShiftMs(): number {
    this.look();
    return Math.min(this.#lowestShiftMs, this.#shiftMs + (this.#step?.byMs ?? 0));
  }

  /** Notices steps. To be called now and then, for times in which nothing is dated. */
  look(): void {
    const monotonicMs = this.#clock.monotonicMs();
    const byMs = this.#clock.nowMs() - (monotonicMs + this.#offsetMs + this.#shiftMs);
    const mostMs = (monotonicMs - this.#lookedMs) * SLEW_PART;
    this.#lookedMs = monotonicMs;
    if (Math.abs(byMs) <= STEP_MS) {
      this.#step = undefined;
      this.#offsetMs += Math.max(-mostMs, Math.min(mostMs, byMs));
      return;
    }
    if (this.#step === undefined || Math.abs(this.#step.byMs - byMs) > STEP_MS) {
      this.#step = { byMs, sinceMs: monotonicMs };
      this.#logger.warn(
        { byMs: Math.round(byMs) },
        'the clock of this machine was set: messages age by the time that passes, and are dated by the new time if it lasts a minute',
      );
      return;
    }
    if (monotonicMs - this.#step.sinceMs < LASTING_MS) return;
    this.#step = undefined;
    this.#shiftMs += byMs;
    this.#lowestShiftMs = Math.min(this.#lowestShiftMs, this.#shiftMs);
    this.#logger.info({ byMs: Math.round(byMs) }, 'messages are dated by the new time of this machine');
  }

  get #elapsedMs(): number {
    return this.#clock.monotonicMs() + this.#offsetMs;
  }
}
