// What a subscriber has settled and not yet told: acks (or nacks) gathered into ranges, message by message.
// Acknowledging in order costs no more than raising a number.
import type { MessageRange } from './frames.ts';

/**
 * The ranges of one partition and delivery, in the order in which they were begun; until
 * merged they may overlap.
 */
interface PartitionRanges {
  readonly logEpoch: number;
  readonly partition: number;
  readonly attempt: number;
  readonly firsts: number[];
  readonly lasts: number[];
}

/** The most partitions that a topic can have (admin.proto). */
const MAX_PARTITIONS = 1024;

export class Settlements {
  /** The ranges, by log epoch, partition and attempt. */
  readonly #byPlace = new Map<number | string, PartitionRanges>();
  #recent: PartitionRanges | undefined;
  /** How many messages wait to be told. */
  messages = 0;
  /** How many ranges these are, before merging. */
  rangeCount = 0;

  get isEmpty(): boolean {
    return this.messages === 0;
  }

  /** Adds consecutive offsets. `attempt`: the delivery that is meant; 0: whichever. */
  add(logEpoch: number, partition: number, firstOffset: number, lastOffset: number, attempt = 0): void {
    const ranges = this.#rangesOf(logEpoch, partition, attempt);
    const { firsts, lasts } = ranges;
    const newest = lasts.length - 1;
    if (newest >= 0 && lasts[newest]! + 1 === firstOffset) lasts[newest] = lastOffset;
    else {
      firsts.push(firstOffset);
      lasts.push(lastOffset);
      this.rangeCount++;
    }
    this.messages += lastOffset - firstOffset + 1;
  }

  addRanges(ranges: readonly MessageRange[]): void {
    for (const { logEpoch, partition, firstOffset, lastOffset, deliveryAttempt } of ranges) {
      this.add(logEpoch, partition, firstOffset, lastOffset, deliveryAttempt);
    }
  }

  /**
   * Whether the offset was added without an attempt. Not for the hot path: looks at
   * every range of the partition.
   */
  has(logEpoch: number, partition: number, offset: number): boolean {
    const ranges = this.#byPlace.get(placeOf(logEpoch, partition, 0));
    return ranges?.lasts.some((last, at) => offset <= last && offset >= ranges.firsts[at]!) ?? false;
  }

  /** Takes out an offset that was added without an attempt; the counts stay. */
  remove(logEpoch: number, partition: number, offset: number): void {
    const ranges = this.#byPlace.get(placeOf(logEpoch, partition, 0));
    if (ranges === undefined) return;
    const { firsts, lasts } = ranges;
    for (let at = firsts.length - 1; at >= 0; at--) {
      const first = firsts[at]!;
      const last = lasts[at]!;
      if (offset < first || offset > last) continue;
      firsts.splice(at, 1, ...(first < offset ? [first] : []), ...(last > offset ? [offset + 1] : []));
      lasts.splice(at, 1, ...(first < offset ? [offset - 1] : []), ...(last > offset ? [last] : []));
    }
    if (firsts.length > 0) return;
    this.#byPlace.delete(placeOf(logEpoch, partition, 0));
    this.#recent = undefined;
  }

  /** Empties it; returns what it held as merged ranges. */
  drain(): MessageRange[] {
    const drained = this.ranges();
    this.#byPlace.clear();
    this.#recent = undefined;
    this.messages = 0;
    this.rangeCount = 0;
    return drained;
  }

  /** What it holds, as merged ranges. */
  ranges(): MessageRange[] {
    const merged: MessageRange[] = [];
    for (const ranges of this.#byPlace.values()) appendMerged(ranges, merged);
    return merged;
  }

  #rangesOf(logEpoch: number, partition: number, attempt: number): PartitionRanges {
    const recent = this.#recent;
    if (recent?.partition === partition && recent.logEpoch === logEpoch && recent.attempt === attempt) {
      return recent;
    }
    const place = placeOf(logEpoch, partition, attempt);
    let ranges = this.#byPlace.get(place);
    if (ranges === undefined) {
      ranges = { logEpoch, partition, attempt, firsts: [], lasts: [] };
      this.#byPlace.set(place, ranges);
    }
    this.#recent = ranges;
    return ranges;
  }
}

function placeOf(logEpoch: number, partition: number, attempt: number): number | string {
  const place = logEpoch * MAX_PARTITIONS + partition;
  return attempt === 0 ? place : `${place}-${attempt}`;
}

function appendMerged(ranges: PartitionRanges, to: MessageRange[]): void {
  const { logEpoch, partition, attempt, firsts, lasts } = ranges;
  const order = firsts.map((_, index) => index);
  if (order.length > 1) order.sort((a, b) => firsts[a]! - firsts[b]!);
  let firstOffset = firsts[order[0]!]!;
  let lastOffset = lasts[order[0]!]!;
  const append = (): void => {
    const range = { logEpoch, partition, firstOffset, lastOffset };
    to.push(attempt === 0 ? range : { ...range, deliveryAttempt: attempt });
  };
  for (const index of order) {
    if (firsts[index]! > lastOffset + 1) {
      append();
      firstOffset = firsts[index]!;
      lastOffset = lasts[index]!;
    } else if (lasts[index]! > lastOffset) lastOffset = lasts[index]!;
  }
  append();
}
