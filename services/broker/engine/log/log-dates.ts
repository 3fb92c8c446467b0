// The dates of one partition's chunks, and their ages. Invariant: dates rise, unless a clock was set back for
// good; an age is elapsed time, so that steps of this machine's clock make nothing older or younger.
import type { ChunkInfo } from '../../ports/log-store.ts';
import type { SteadyClock } from '../steady-clock.ts';

/**
 * How much the clocks of brokers may differ, or one may be put back little by little, without dates in a
 * partition going back.
 */
const MAX_AHEAD_MS = 5_000;

export class LogDates {
  readonly #steady: SteadyClock;
  #lastMs: number;
  /**
   * The shifts of the clock: what was appended from fromOffset on is dated later than elapsed time by
   * shiftMs.
   */
  readonly #shifts: { readonly fromOffset: number; readonly shiftMs: number }[] = [];
  /**
   * What lies below #ownFrom was dated before this broker had the partition, perhaps by another clock; at
   * #ownSinceMs the broker took it over.
   */
  readonly #ownFrom: number;
  readonly #ownSinceMs: number;

  /** `newestMs`: the date of the newest chunk, 0 if there is none; `endOffset`: the log's end. */
  constructor(steady: SteadyClock, newestMs: number, endOffset: number) {
    this.#steady = steady;
    this.#lastMs = newestMs;
    this.#ownFrom = endOffset;
    this.#ownSinceMs = steady.elapsedMs();
  }

  /** The date of the chunks that are cut now, from that offset on. */
  next(endOffset: number): number {
    const nowMs = Math.floor(this.#steady.datedMs());
    const { shiftMs } = this.#steady;
    const ahead = this.#lastMs - nowMs;
    if (ahead <= 0 || ahead > MAX_AHEAD_MS) this.#lastMs = nowMs;
    if ((this.#shifts.at(-1)?.shiftMs ?? 0) !== shiftMs)
      this.#shifts.push({ fromOffset: endOffset, shiftMs });
    return this.#lastMs;
  }

  /** See PartitionOwner.ageMs. */
  ageMs({ firstOffset, publishTimeMs }: ChunkInfo, doubtedMs: number): number | undefined {
    const steady = this.#steady;
    if (firstOffset < this.#ownFrom) {
      if (steady.runningMs < doubtedMs) return undefined;
      // A date later than #ownSinceMs was given by a clock that was ahead.
      return steady.elapsedMs() - Math.min(this.#ownSinceMs, publishTimeMs - steady.lowestShiftMs);
    }
    const dated = this.#shifts.findLast(({ fromOffset }) => fromOffset <= firstOffset);
    return steady.elapsedMs() - (publishTimeMs - (dated?.shiftMs ?? 0));
  }
}
