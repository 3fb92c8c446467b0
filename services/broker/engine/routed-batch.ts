// One publish request on its way to partitions: what became of each of its slices, and the one answer.
// Invariant: it is answered once, after all of its slices have ended.
import type { Slice } from '../core/chunk.ts';
import { BrokerError } from '../core/errors.ts';
import type { PublishBatch } from '../core/publish-batch.ts';

/** Consecutive messages of a batch with consecutive offsets of one partition. */
export interface PublishedRun {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
}

interface StoredSlice {
  readonly partition: number;
  readonly firstOffset: number;
  readonly indexes: Uint32Array | undefined;
}

export class RoutedBatch {
  readonly batch: PublishBatch;
  readonly #done: (runs: PublishedRun[]) => void;
  readonly #failed: (error: BrokerError) => void;
  #slices = 1;
  #waiting = 1;
  readonly #stored: StoredSlice[] = [];
  readonly #failures: BrokerError[] = [];

  /** Begins as one slice. One of `done` and `failed` is called, once, when all slices have ended. */
  constructor(
    batch: PublishBatch,
    done: (runs: PublishedRun[]) => void,
    failed: (error: BrokerError) => void,
  ) {
    this.batch = batch;
    this.#done = done;
    this.#failed = failed;
  }

  /** One slice has become this many. */
  split(slices: number): void {
    this.#slices += slices - 1;
    this.#waiting += slices - 1;
  }

  stored(partition: number, firstOffset: number, { indexes }: Slice): void {
    this.#stored.push({ partition, firstOffset, indexes });
    this.#ended();
  }

  refused(error: BrokerError): void {
    this.#failures.push(error);
    this.#ended();
  }

  #ended(): void {
    this.#waiting -= 1;
    if (this.#waiting > 0) return;
    if (this.#failures.length > 0) this.#failed(failureOf(this.#failures, this.#slices));
    else this.#done(runsOf(this.#stored, this.batch.count));
  }
}

const PARTLY_STORED = new BrokerError(
  'UNAVAILABLE',
  'part of the batch may have been stored, the rest was refused: publish it again a little later',
);

/** The error for a batch of which not all slices were stored. */
function failureOf(failures: readonly BrokerError[], slices: number): BrokerError {
  const gone = failures.find(({ code }) => code === 'NOT_FOUND');
  const unknown = gone ?? failures.find(({ code }) => code === 'UNAVAILABLE');
  if (unknown !== undefined) return unknown;
  return failures.length === slices ? failures[0]! : PARTLY_STORED;
}

function runsOf(stored: readonly StoredSlice[], count: number): PublishedRun[] {
  const [first] = stored;
  if (first !== undefined && first.indexes === undefined)
    return [{ partition: first.partition, firstOffset: first.firstOffset, count }];
  const partitions = new Uint16Array(count);
  const offsets = new Float64Array(count);
  for (const { partition, firstOffset, indexes } of stored) {
    for (let i = 0; i < indexes!.length; i += 1) {
      partitions[indexes![i]!] = partition;
      offsets[indexes![i]!] = firstOffset + i;
    }
  }
  const runs: PublishedRun[] = [];
  let from = 0;
  for (let i = 1; i <= count; i += 1) {
    if (i < count && partitions[i] === partitions[from] && offsets[i] === offsets[from]! + (i - from))
      continue;
    runs.push({ partition: partitions[from]!, firstOffset: offsets[from]!, count: i - from });
    from = i;
  }
  return runs;
}
