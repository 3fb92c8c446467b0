// One topic at work on this broker: the owners of the partitions that are owned here, the subscriptions, and
// the routing of publish batches to owners.
//
// When the topic has grown, a key may belong to another partition. Invariant: nothing is routed by the new
// count before everything that was routed by an older one has been answered or has come back (misrouted), and
// what came back goes first. What is published meanwhile waits here, as it does while new partitions are
// being opened.
import { type Slice, sliceBytes, sliceLength } from '../core/chunk.ts';
import type { TopicDefinition } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import { type PartitionId, partitionOfKey } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import { admit } from './admission.ts';
import type { EngineContext } from './context.ts';
import type { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import type { PendingPublish } from './log/publish-group.ts';
import { PartitionPhases } from './partition-phases.ts';
import { type PublishedRun, RoutedBatch } from './routed-batch.ts';

/**
 * Messages without a key stay with one partition for this many bytes or this long: chunks get large, and
 * every partition gets its share.
 */
const STICKY_BYTES = 256 * 1024;
const STICKY_MS = 50;

interface Returned {
  /** The number of the slice; slices are numbered in the order in which they were sent. */
  readonly number: number;
  readonly routed: RoutedBatch;
  readonly slice: Slice;
}

export class TopicRuntime {
  /** Changed by grow() alone. */
  definition: TopicDefinition;
  readonly partitions = new PartitionPhases();
  readonly subscriptions = new Map<string, SubscriptionRuntime>();
  readonly #context: EngineContext;
  readonly #elsewhere: (id: PartitionId, publish: PendingPublish) => void;
  #sticky = 0;
  #stickyBytes = 0;
  #stickySinceMs = 0;
  /** How many slices were ever sent, and how many of them have no answer yet. */
  #sent = 0;
  #unanswered = 0;
  /** Some of the unanswered slices were routed by an older count. */
  #growing = false;
  #returned: Returned[] = [];
  /** New partitions are being opened: nothing is routed. */
  #held = false;
  /** Batches that wait while #growing or #held. */
  #waiting: RoutedBatch[] = [];
  #closed: BrokerError | undefined;

  /**
   * `elsewhere` takes publishes for partitions that are not open here, or that still catch up.
   */
  constructor(
    definition: TopicDefinition,
    context: EngineContext,
    elsewhere: (id: PartitionId, publish: PendingPublish) => void,
  ) {
    this.definition = definition;
    this.#context = context;
    this.#elsewhere = elsewhere;
  }

  /** Takes over a changed definition. */
  grow(definition: TopicDefinition): void {
    const hasGrown = definition.partitions > this.definition.partitions;
    this.definition = definition;
    if (hasGrown && this.#unanswered > 0) this.#growing = true;
  }

  /** Keeps what is published until the returned function is called. */
  hold(): () => void {
    this.#held = true;
    return () => {
      this.#held = false;
      this.#goOnIfQuiet();
    };
  }

  /** Fails what waits here, now and later. */
  close(reason: BrokerError): void {
    this.#closed = reason;
    this.#goOn();
  }

  /**
   * Hands the batch to the owners; exactly one of `done` and `failed` is called, once. RESOURCE_EXHAUSTED:
   * nothing of it was stored. UNAVAILABLE: part of it may have been stored, for a batch that is spread over
   * partitions may fail in one and succeed in another, and an outcome may be unknown; if it is published
   * again, these messages are stored twice.
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
    const routed = new RoutedBatch(
      batch,
      (runs) => {
        release();
        done(runs);
      },
      (error) => {
        release();
        failed(error);
      },
    );
    if (this.#growing || this.#held) this.#waiting.push(routed);
    else this.#route(routed, { batch, indexes: undefined });
  }

  /**
   * Routes messages anew whose publisher was answered early, and that their partition has not stored: they
   * may belong to another one by now.
   */
  publishAgain(slice: Slice, ends: { done(): void; failed(error: BrokerError): void }): void {
    const routed = new RoutedBatch(
      slice.batch,
      () => ends.done(),
      (error) => ends.failed(error),
    );
    this.#route(routed, slice);
  }

  #route(routed: RoutedBatch, slice: Slice): void {
    const { partitions } = this.definition;
    const keyless = this.#stickyPartition();
    if (!slice.batch.keyed || partitions === 1) {
      this.#stickyBytes += sliceBytes(slice);
      this.#give(keyless, routed, slice);
      return;
    }
    const slices = sliceByPartition(slice, partitions, keyless);
    routed.split(slices.length);
    for (const { partition, slice: part } of slices) this.#give(partition, routed, part);
  }

  #give(partition: number, routed: RoutedBatch, slice: Slice): void {
    this.#sent += 1;
    this.#unanswered += 1;
    const number = this.#sent;
    const { logEpoch, partitions } = this.definition;
    const publish: PendingPublish = {
      slice,
      partitions,
      done: (firstOffset) => {
        routed.stored(partition, firstOffset, slice);
        this.#answered();
      },
      failed: (error) => {
        routed.refused(error);
        this.#answered();
      },
      misrouted: () => {
        this.#returned.push({ number, routed, slice });
        this.#growing = true;
        this.#answered();
      },
    };
    const phase = this.partitions.of(partition);
    if (phase?.kind === 'open') phase.owner.publish(publish);
    else this.#elsewhere({ logEpoch, partition }, publish);
  }

  #answered(): void {
    this.#unanswered -= 1;
    if (this.#growing) this.#goOnIfQuiet();
  }

  #goOnIfQuiet(): void {
    if (this.#growing && this.#unanswered > 0) return;
    if (!this.#held) this.#goOn();
  }

  /** Nothing is under way by an older count any more. */
  #goOn(): void {
    const returned = this.#returned.sort((a, b) => a.number - b.number);
    const waiting = this.#waiting;
    this.#returned = [];
    this.#waiting = [];
    this.#growing = false;
    if (this.#closed !== undefined) {
      for (const { routed } of returned) routed.refused(this.#closed);
      for (const routed of waiting) routed.refused(this.#closed);
      return;
    }
    for (const { routed, slice } of returned) this.#route(routed, slice);
    for (const routed of waiting) this.#route(routed, { batch: routed.batch, indexes: undefined });
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

function sliceByPartition(
  slice: Slice,
  partitions: number,
  keyless: number,
): { partition: number; slice: Slice }[] {
  const { batch, indexes } = slice;
  const length = sliceLength(slice);
  const partitionOf = new Uint16Array(length);
  const counts = new Uint32Array(partitions);
  for (let i = 0; i < length; i += 1) {
    const hash = batch.keyHashes[indexes === undefined ? i : indexes[i]!]!;
    const partition = hash === 0 ? keyless : partitionOfKey(hash, partitions);
    partitionOf[i] = partition;
    counts[partition] = counts[partition]! + 1;
  }
  const slices: { partition: number; slice: Slice }[] = [];
  const indexesOf: Uint32Array[] = [];
  for (let partition = 0; partition < partitions; partition += 1) {
    const count = counts[partition]!;
    if (count === length) return [{ partition, slice }];
    if (count === 0) continue;
    indexesOf[partition] = new Uint32Array(count);
    slices.push({ partition, slice: { batch, indexes: indexesOf[partition] } });
  }
  const filled = new Uint32Array(partitions);
  for (let i = 0; i < length; i += 1) {
    const partition = partitionOf[i]!;
    indexesOf[partition]![filled[partition]!] = indexes === undefined ? i : indexes[i]!;
    filled[partition] = filled[partition]! + 1;
  }
  return slices;
}
