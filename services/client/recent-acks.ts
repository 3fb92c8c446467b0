// What was acknowledged in the last few seconds. Nothing on a stream says that an acknowledgement has been taken: one that was
// under way when its broker stopped is sent again on the next stream (twice does no harm), so that nothing of it is delivered
// again. Kept by subscribe-stream.ts and direct-consumer.ts.
import type { MessageRange } from './frames.ts';
import { Settlements } from './settlements.ts';

/** Longer than it takes to notice a broker that is gone. */
const KEEP_MS = 5_000;
/** Acknowledged all over the place: only so many ranges are kept, the newest. */
const MAX_RANGES = 50_000;

export class RecentAcks {
  #newer = new Settlements();
  #older = new Settlements();
  #sinceMs = performance.now();

  add(ranges: readonly MessageRange[]): void {
    this.#turn();
    for (const { logEpoch, partition, firstOffset, lastOffset } of ranges) {
      this.#newer.add(logEpoch, partition, firstOffset, lastOffset);
    }
  }

  /** Those of the last 5 s, and maybe of the 5 s before, merged. They stay. */
  ranges(): MessageRange[] {
    this.#turn();
    const all = new Settlements();
    for (const part of [this.#older, this.#newer]) {
      for (const { logEpoch, partition, firstOffset, lastOffset } of part.ranges()) {
        all.add(logEpoch, partition, firstOffset, lastOffset);
      }
    }
    return all.ranges();
  }

  #turn(): void {
    const ageMs = performance.now() - this.#sinceMs;
    if (ageMs < KEEP_MS && this.#newer.rangeCount < MAX_RANGES / 2) return;
    this.#older = ageMs < 2 * KEEP_MS ? this.#newer : new Settlements();
    this.#newer = new Settlements();
    this.#sinceMs = performance.now();
  }
}
