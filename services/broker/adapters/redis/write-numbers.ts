// Numbers that put a member's appends, and its cursor commits, in order. The scripts remember the last one of
// a partition and refuse smaller ones, because a command that its caller has given up may still be on its
// way: in the buffers of a connection that was closed since, or in the driver's queue.
import type { Clock } from '../../ports/clock.ts';

/** More writes than a broker makes in a millisecond, on average over its life. */
const PER_MS = 1_000;

export class WriteNumbers {
  #last: number;

  /** Begins above all numbers of a former run with the same member id, too. */
  constructor(clock: Clock) {
    this.#last = Math.floor(clock.nowMs()) * PER_MS;
  }

  /** Greater than all before, below 2^53. */
  next(): number {
    this.#last += 1;
    return this.#last;
  }
}
