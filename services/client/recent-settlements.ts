// What was settled in the last few seconds. Nothing on a stream says that a settlement has been taken: one
// that was under way when its broker stopped is told again on the next stream (twice does no harm). It also
// tells that a message which comes again was acknowledged just now.
import type { MessageRange } from './frames.ts';
import { Settlements } from './settlements.ts';

/** Longer than it takes to notice a broker that is gone. */
const KEEP_MS = 5_000;
/** How many ranges are kept at most, the newest, when settling has no order at all. */
const MAX_RANGES = 50_000;

export class RecentSettlements {
  #newer = new Settlements();
  #older = new Settlements();
  #sinceMs = performance.now();

  add(ranges: readonly MessageRange[]): void {
    this.#turn();
    this.#newer.addRanges(ranges);
  }

  /** The ranges of the last 5 s, and maybe of the 5 s before, merged. They stay. */
  ranges(): MessageRange[] {
    this.#turn();
    const all = new Settlements();
    for (const part of [this.#older, this.#newer]) all.addRanges(part.ranges());
    return all.ranges();
  }

  has(logEpoch: number, partition: number, offset: number): boolean {
    this.#turn();
    return this.#newer.has(logEpoch, partition, offset) || this.#older.has(logEpoch, partition, offset);
  }

  /** The settlement of this offset does not count any more. */
  remove(logEpoch: number, partition: number, offset: number): void {
    this.#newer.remove(logEpoch, partition, offset);
    this.#older.remove(logEpoch, partition, offset);
  }

  clear(): void {
    this.#newer = new Settlements();
    this.#older = new Settlements();
  }

  #turn(): void {
    const ageMs = performance.now() - this.#sinceMs;
    if (ageMs < KEEP_MS && this.#newer.rangeCount < MAX_RANGES / 2) return;
    this.#older = ageMs < 2 * KEEP_MS ? this.#newer : new Settlements();
    this.#newer = new Settlements();
    this.#sinceMs = performance.now();
  }
}
