// What a consumer has said of messages whose partition nobody could be told of just now, as its owner is
// changing: kept until the new owner is there.
//
// An ack stands against everything, a nack against an extension; among words of one kind the last one counts.
// Bounded: beyond, what comes is dropped, and its messages are delivered again when their leases end.
import { type Interval, IntervalMap, IntervalSet } from './intervals.ts';
import type { SettleOperation } from './settle-request.ts';

/** The most intervals that are kept of one consumer. */
export const MAX_KEPT_SETTLES = 10_000;

interface Kept {
  readonly logEpoch: number;
  readonly acks: IntervalSet;
  /** Each with the attempt that is meant; undefined: whichever it is. */
  readonly nacks: IntervalMap<number | undefined>;
  readonly extensions: IntervalMap<{ readonly untilMs: number; readonly attempt: number | undefined }>;
}

export class KeptSettles {
  /** By partition. */
  readonly #kept = new Map<number, Kept>();
  /** How many operations were dropped because there were too many. */
  dropped = 0;

  get empty(): boolean {
    return this.#kept.size === 0;
  }

  get partitions(): number[] {
    return [...this.#kept.keys()];
  }

  has(partition: number): boolean {
    return this.#kept.has(partition);
  }

  add({ kind, logEpoch, partition, first, last, seconds, attempt }: SettleOperation, nowMs: number): void {
    if (this.#size() >= MAX_KEPT_SETTLES) {
      this.dropped += 1;
      return;
    }
    const kept = this.#of(partition, logEpoch);
    if (kind === 'ack') {
      kept.acks.add(first, last);
      kept.nacks.cut(first, last);
      kept.extensions.cut(first, last);
      return;
    }
    for (const part of kept.acks.gaps(first, last)) {
      if (kind === 'nack') {
        kept.nacks.cut(part.first, part.last);
        kept.nacks.insert(part.first, part.last, attempt);
        kept.extensions.cut(part.first, part.last);
      } else {
        for (const open of kept.nacks.gaps(part.first, part.last)) {
          kept.extensions.cut(open.first, open.last);
          kept.extensions.insert(open.first, open.last, { untilMs: nowMs + seconds * 1000, attempt });
        }
      }
    }
  }

  /** Keeps nothing of those partitions any longer. */
  drop(partitions: Iterable<number>): void {
    for (const partition of partitions) this.#kept.delete(partition);
  }

  /** What is kept of the partition, to be sent now; it is not kept any longer. */
  take(partition: number, nowMs: number): SettleOperation[] {
    const kept = this.#kept.get(partition);
    if (kept === undefined) return [];
    this.#kept.delete(partition);
    const { logEpoch } = kept;
    const operation = (
      kind: SettleOperation['kind'],
      { first, last }: Interval,
      seconds: number,
      attempt?: number,
    ): SettleOperation => {
      const bare = { kind, logEpoch, partition, first, last, seconds };
      return attempt === undefined ? bare : { ...bare, attempt };
    };
    const operations = [
      ...[...kept.acks].map((each) => operation('ack', each, 0)),
      ...[...kept.nacks].map((each) => operation('nack', each, 0, each.value)),
    ];
    for (const each of kept.extensions) {
      const seconds = Math.ceil((each.value.untilMs - nowMs) / 1000);
      if (seconds > 0) operations.push(operation('extend', each, seconds, each.value.attempt));
    }
    return operations;
  }

  #of(partition: number, logEpoch: number): Kept {
    let kept = this.#kept.get(partition);
    if (kept === undefined) {
      kept = {
        logEpoch,
        acks: new IntervalSet(),
        nacks: new IntervalMap(),
        extensions: new IntervalMap(),
      };
      this.#kept.set(partition, kept);
    }
    return kept;
  }

  #size(): number {
    let size = 0;
    for (const { acks, nacks, extensions } of this.#kept.values())
      size += acks.length + nacks.length + extensions.length;
    return size;
  }
}
