// The messages of a subscription that are served together, as a fluid in order of arrival: waiting, then
// being processed, then settled.

interface Waiting {
  /** Second of arrival. */
  readonly at: number;
  count: number;
}

interface Processing {
  readonly at: number;
  readonly doneAt: number;
  count: number;
}

const NOTHING = 1e-9;

export class Lane {
  /** Ages count from here for the objective: what was stuck before is nobody's fault. */
  releasedAt = 0;
  #waiting: Waiting[] = [];
  #head = 0;
  #total = 0;
  #processing: Processing[] = [];

  get waiting(): number {
    return this.#total;
  }

  get processing(): number {
    let sum = 0;
    for (const { count } of this.#processing) sum += count;
    return sum;
  }

  arrive(at: number, count: number): void {
    if (count <= 0) return;
    this.#waiting.push({ at, count });
    this.#total += count;
  }

  /**
   * Begins at most so many messages, which are done at `doneAt`; undefined: at once. Returns how many it
   * began.
   */
  begin(most: number, doneAt: number | undefined): number {
    let left = most;
    while (left > 0 && this.#head < this.#waiting.length) {
      const first = this.#waiting[this.#head]!;
      const begun = Math.min(left, first.count);
      first.count -= begun;
      left -= begun;
      if (doneAt !== undefined) this.#processing.push({ at: first.at, doneAt, count: begun });
      if (first.count <= NOTHING) this.#head += 1;
    }
    if (this.#head > 1000) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
    const begun = most - left;
    this.#total = this.#head < this.#waiting.length ? Math.max(0, this.#total - begun) : 0;
    return begun;
  }

  /** Takes out what is done by now and returns how many messages that is. */
  settle(at: number): number {
    let settled = 0;
    for (const { doneAt, count } of this.#processing) if (doneAt <= at) settled += count;
    if (settled > 0) this.#processing = this.#processing.filter(({ doneAt }) => doneAt > at);
    return settled;
  }

  /** Makes so many of those being processed, the newest, wait again. */
  giveBack(count: number): void {
    let left = count;
    while (left > NOTHING && this.#processing.length > 0) {
      const last = this.#processing.at(-1)!;
      const back = Math.min(left, last.count);
      last.count -= back;
      left -= back;
      this.#total += back;
      this.#waiting.splice(this.#head, 0, { at: last.at, count: back });
      if (last.count <= NOTHING) this.#processing.pop();
    }
  }

  /** Second of arrival of the oldest message that waits. */
  oldestWaiting(): number | undefined {
    return this.#waiting[this.#head]?.at;
  }

  /** Second of arrival of the oldest message that waits or is being processed. */
  oldest(): number | undefined {
    let oldest = this.oldestWaiting();
    for (const { at } of this.#processing) if (oldest === undefined || at < oldest) oldest = at;
    return oldest;
  }
}
