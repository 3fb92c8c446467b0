// One topic at work on this broker: the owners of its partitions that are here, its subscriptions, and the way of a batch to
// the owners.
import { type Slice, sliceBytes } from '../core/chunk.ts';
import type { TopicDefinition } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import { type PartitionId, partitionOfKey } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import { admit } from './admission.ts';
import type { EngineContext } from './context.ts';
import type { PartitionOwner, PendingPublish } from './partition-owner.ts';
import type { SubscriptionRuntime } from './subscription-runtime.ts';

/** Consecutive messages of a batch with consecutive offsets of one partition. */
export interface PublishedRun {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
}

/** Messages without a key stay with one partition for so many bytes or so long: large chunks, and all get their share. */
const STICKY_BYTES = 256 * 1024;
const STICKY_MS = 50;

export class TopicRuntime {
  definition: TopicDefinition;
  /** By partition: those that are owned here. */
  readonly owners = new Map<number, PartitionOwner>();
  /** Of these, partitions that were opened a moment ago: earlier publishes may be on their way to a former owner yet. */
  readonly opening = new Set<number>();
  readonly subscriptions = new Map<string, SubscriptionRuntime>();
  readonly #context: EngineContext;
  readonly #elsewhere: (id: PartitionId, publish: PendingPublish) => void;
  #sticky = 0;
  #stickyBytes = 0;
  #stickySinceMs = 0;

  /** `elsewhere` takes publishes for partitions that are not owned here. */
  constructor(
    definition: TopicDefinition,
    context: EngineContext,
    elsewhere: (id: PartitionId, publish: PendingPublish) => void,
  ) {
    this.definition = definition;
    this.#context = context;
    this.#elsewhere = elsewhere;
  }

  /**
   * Hands the batch to the owners; `done` or `failed` is called once. RESOURCE_EXHAUSTED: nothing of it was stored. A batch
   * that is spread over partitions may fail in one and succeed in another, or nobody knows: UNAVAILABLE, and messages that were
   * stored will be stored again when it is published again.
   */
  publish(
    batch: PublishBatch,
    done: (runs: PublishedRun[]) => void,
    failed: (error: BrokerError) => void,
  ): void {
    this.#context.stats.publishRequests += 1;
    let release: () => void;
    try {
      release = admit(this.#context, batch);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      failed(error);
      return;
    }
    const { partitions } = this.definition;
    const keyless = this.#stickyPartition();
    if (!batch.keyed || partitions === 1) {
      const slice = { batch, indexes: undefined };
      this.#stickyBytes += sliceBytes(slice);
      this.#give(keyless, {
        slice,
        done: (firstOffset) => {
          release();
          done([{ partition: keyless, firstOffset, count: batch.count }]);
        },
        failed: (error) => {
          release();
          failed(error);
        },
      });
      return;
    }
    const partitionOf = new Uint16Array(batch.count);
    const counts = new Uint32Array(partitions);
    for (let i = 0; i < batch.count; i += 1) {
      const hash = batch.keyHashes[i]!;
      const partition = hash === 0 ? keyless : partitionOfKey(hash, partitions);
      partitionOf[i] = partition;
      counts[partition] = counts[partition]! + 1;
    }
    const slices = sliceByPartition(batch, partitionOf, counts);
    const firstOffsets = new Float64Array(partitions);
    let waiting = slices.length;
    const failures: BrokerError[] = [];
    const arrived = (): void => {
      waiting -= 1;
      if (waiting > 0) return;
      release();
      if (failures.length > 0) failed(failureOf(failures, slices.length));
      else done(runsOf(partitionOf, firstOffsets));
    };
    for (const { partition, slice } of slices) {
      this.#give(partition, {
        slice,
        done: (firstOffset) => {
          firstOffsets[partition] = firstOffset;
          arrived();
        },
        failed: (error) => {
          failures.push(error);
          arrived();
        },
      });
    }
  }

  #give(partition: number, publish: PendingPublish): void {
    const owner = this.owners.get(partition);
    if (owner !== undefined && !this.opening.has(partition)) owner.publish(publish);
    else this.#elsewhere({ logEpoch: this.definition.logEpoch, partition }, publish);
  }

  #stickyPartition(): number {
    const { partitions } = this.definition;
    if (partitions === 1) return 0;
    const nowMs = this.#context.clock.monotonicMs();
    if (this.#stickyBytes >= STICKY_BYTES || nowMs - this.#stickySinceMs >= STICKY_MS) {
      this.#sticky = (this.#sticky + 1) % partitions;
      this.#stickyBytes = 0;
      this.#stickySinceMs = nowMs;
    }
    return this.#sticky;
  }
}

const PARTLY_STORED = new BrokerError(
  'UNAVAILABLE',
  'part of the batch may have been stored, the rest was refused: publish it again a little later',
);

/** What is said of a batch of which not all slices were stored. */
function failureOf(failures: readonly BrokerError[], slices: number): BrokerError {
  const gone = failures.find(({ code }) => code === 'NOT_FOUND');
  const unknown = gone ?? failures.find(({ code }) => code === 'UNAVAILABLE');
  if (unknown !== undefined) return unknown;
  return failures.length === slices ? failures[0]! : PARTLY_STORED;
}

function sliceByPartition(
  batch: PublishBatch,
  partitionOf: Uint16Array,
  counts: Uint32Array,
): { partition: number; slice: Slice }[] {
  const slices: { partition: number; slice: Slice }[] = [];
  const indexesOf: (Uint32Array | undefined)[] = [];
  for (let partition = 0; partition < counts.length; partition += 1) {
    const count = counts[partition]!;
    if (count === 0) continue;
    const indexes = count === batch.count ? undefined : new Uint32Array(count);
    indexesOf[partition] = indexes;
    slices.push({ partition, slice: { batch, indexes } });
  }
  if (slices.length > 1) {
    const filled = new Uint32Array(counts.length);
    for (let i = 0; i < batch.count; i += 1) {
      const partition = partitionOf[i]!;
      indexesOf[partition]![filled[partition]!] = i;
      filled[partition] = filled[partition]! + 1;
    }
  }
  return slices;
}

function runsOf(partitionOf: Uint16Array, firstOffsets: Float64Array): PublishedRun[] {
  const next = firstOffsets;
  const runs: PublishedRun[] = [];
  let from = 0;
  for (let i = 1; i <= partitionOf.length; i += 1) {
    const partition = partitionOf[from]!;
    if (i < partitionOf.length && partitionOf[i] === partition) continue;
    runs.push({ partition, firstOffset: next[partition]!, count: i - from });
    next[partition] = next[partition]! + (i - from);
    from = i;
  }
  return runs;
}
