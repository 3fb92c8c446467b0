// What a subscriber has settled and not yet told: acks (or nacks) gathered into ranges. Filled message by message, emptied
// by subscribe-stream.ts. Acknowledging in order costs no more than raising a number.
import type { MessageRange } from './frames.ts';

/** The ranges of one partition, in the order in which they were begun. May overlap or touch until merged. */
interface PartitionRanges {
  readonly logEpoch: number;
  readonly partition: number;
  readonly firsts: number[];
  readonly lasts: number[];
}

/** A topic has at most this many partitions (admin.proto). */
const MAX_PARTITIONS = 1024;

export class Settlements {
  readonly #byPartition = new Map<number, PartitionRanges>();
  #recent: PartitionRanges | undefined;
  /** How many messages wait to be told. */
  messages = 0;
  /** In how many ranges, before merging. */
  rangeCount = 0;

  get isEmpty(): boolean {
    return this.messages === 0;
  }

  /** Adds consecutive offsets. */
  add(logEpoch: number, partition: number, firstOffset: number, lastOffset: number): void {
    const ranges = this.#rangesOf(logEpoch, partition);
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

  /** Empties it into merged ranges. */
  drain(): MessageRange[] {
    const drained = this.ranges();
    this.#byPartition.clear();
    this.#recent = undefined;
    this.messages = 0;
    this.rangeCount = 0;
    return drained;
  }

  /** What it holds, merged. */
  ranges(): MessageRange[] {
    const merged: MessageRange[] = [];
    for (const ranges of this.#byPartition.values()) appendMerged(ranges, merged);
    return merged;
  }

  #rangesOf(logEpoch: number, partition: number): PartitionRanges {
    const recent = this.#recent;
    if (recent !== undefined && recent.partition === partition && recent.logEpoch === logEpoch) return recent;
    const key = logEpoch * MAX_PARTITIONS + partition;
    let ranges = this.#byPartition.get(key);
    if (ranges === undefined) {
      ranges = { logEpoch, partition, firsts: [], lasts: [] };
      this.#byPartition.set(key, ranges);
    }
    this.#recent = ranges;
    return ranges;
  }
}

function appendMerged({ logEpoch, partition, firsts, lasts }: PartitionRanges, to: MessageRange[]): void {
  const order = firsts.map((_, index) => index);
  if (order.length > 1) order.sort((a, b) => firsts[a]! - firsts[b]!);
  let firstOffset = firsts[order[0]!]!;
  let lastOffset = lasts[order[0]!]!;
  for (const index of order) {
    if (firsts[index]! > lastOffset + 1) {
      to.push({ logEpoch, partition, firstOffset, lastOffset });
      firstOffset = firsts[index]!;
      lastOffset = lasts[index]!;
    } else if (lasts[index]! > lastOffset) lastOffset = lasts[index]!;
  }
  to.push({ logEpoch, partition, firstOffset, lastOffset });
}
