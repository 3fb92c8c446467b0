// How much is written to a pipe at a time, so that a reader that goes away, as `head` does, is noticed before
// much was given to it: one message, a moment later two, then four, …; and the last of what is at hand always
// a moment later and by itself, so that even what ends there is followed by another write. Once rounds are
// large there are no moments between them.
//
// Pure: the clock is an argument.

/** Longer than a reader takes to read what it is given, find that it has enough, and end. */
export const ROUND_MS = 25;
const MAX_ROUND_BYTES = 64 * 1024;
const LARGE_ROUND = 1024;

export class PipeRounds {
  #size = 1;
  #isOpen = false;
  #lastMs = Number.NEGATIVE_INFINITY;

  /** The most messages that the next round has, until rounds are large. */
  get size(): number {
    return this.#size;
  }

  /** When the next round may be written, if so many messages wait. */
  nextMs(waiting: number): number {
    return this.#isOpen && waiting > 1 ? this.#lastMs : this.#lastMs + ROUND_MS;
  }

  /**
   * Begins a round; returns how many of the waiting messages it has. `bytesOf`: the
   * size of the nth, from 0 on.
   */
  begin(waiting: number, bytesOf: (at: number) => number, nowMs: number): number {
    let count = 0;
    let total = 0;
    const most = this.#isOpen ? waiting : Math.min(waiting, this.#size);
    while (count < most && total < MAX_ROUND_BYTES) {
      total += bytesOf(count);
      count += 1;
    }
    if (this.#size >= LARGE_ROUND || total >= MAX_ROUND_BYTES) this.#isOpen = true;
    else this.#size *= 2;
    this.#lastMs = nowMs;
    return count === waiting && count > 1 ? count - 1 : count;
  }

  /**
   * Everything was read, so rounds begin small again: what comes now may be all that the reader waits for.
   */
  rest(): void {
    this.#size = 1;
    this.#isOpen = false;
  }
}
