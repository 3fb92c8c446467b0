// One consumer as the transport sees it: a Subscribe stream or a Pull call, wherever the messages come from.
//
// LocalConsumer has everything from the dispatchers of this broker; RelayedConsumer adds those of other
// brokers.
import { recutFrame } from '../../core/chunk.ts';
import type { SubscriptionDefinition } from '../../core/definitions.ts';
import type { DeliveredRun, LeasesOnLeave } from '../../core/delivery-events.ts';
import { type ConsumerOrigin, UNKNOWN_ORIGIN } from '../../core/draining.ts';
import type { BrokerError } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import { isOfAnother, type SettleOperation, type SettleRequest } from '../../core/settle-request.ts';
import type { Clock } from '../../ports/clock.ts';
import type { CachedChunk } from '../log/chunk-cache.ts';
import type { DrainableConsumer } from './draining-consumers.ts';
import type { Session, SessionLimits } from './session.ts';
import type { SubscriptionRuntime } from './subscription-runtime.ts';

/** Where a consumer's messages go: a stream of the transport, a Pull call, a link to another broker. */
export interface ConsumerSink {
  /** Takes the messages; to be called only while writable. */
  deliver(messages: DeliveredMessages): void;
  /**
   * Whether the transport accepts more. When it does again, whoever holds the consumer calls Consumer.pump.
   */
  readonly writable: boolean;
  /** What the subscription is like: once before anything is delivered, and again when it has changed. */
  describe?(definition: SubscriptionDefinition): void;
  /** Ends the stream with this status. */
  close(error: BrokerError): void;
}

export interface Consumer {
  /** What may be outstanding, over all brokers, and how long its leases last. */
  limits: SessionLimits;
  /** Performs what the client says of its messages. */
  settle(request: SettleRequest): void;
  /** The consumer's sink can take more. */
  pump(): void;
  /**
   * Takes all credit back; resolves when nothing more will be delivered, and owners were told what the client
   * has said.
   */
  quiesce(): Promise<void>;
  /** The consumer has gone. Idempotent. */
  leave(leases?: LeasesOnLeave): void;
}

/**
 * Longer than owners take to confirm that they send no more, shorter than anybody waits for a broker to stop.
 */
const QUIESCE_MS = 1_000;

/**
 * Ends a consumer whose stream is to be ended for this broker's sake: first nothing more is delivered, then
 * it leaves. Resolves to whether its leases wait for it: not if what was on its way could not be given to it
 * in time.
 */
export async function dismiss(consumer: Consumer, clock: Clock): Promise<boolean> {
  let timedOut = false;
  await new Promise<void>((resolve) => {
    const cancel = clock.setTimer(QUIESCE_MS, () => {
      timedOut = true;
      resolve();
    });
    void consumer.quiesce().then(() => {
      cancel();
      resolve();
    });
  });
  consumer.leave(timedOut ? 'end' : 'wait');
  return !timedOut;
}

export class LocalConsumer implements Consumer, DrainableConsumer {
  readonly session: Session;
  readonly #runtime: SubscriptionRuntime;
  readonly #elsewhere: ((acks: readonly SettleOperation[]) => void) | undefined;

  /** `elsewhere` takes acks for partitions that are not, or no longer, at work here. */
  constructor(
    session: Session,
    runtime: SubscriptionRuntime,
    elsewhere?: (acks: readonly SettleOperation[]) => void,
  ) {
    this.session = session;
    this.#runtime = runtime;
    this.#elsewhere = elsewhere;
  }

  get limits(): SessionLimits {
    return this.session.limits;
  }

  set limits(limits: SessionLimits) {
    this.session.limits = limits;
    this.#runtime.pumpFor(this.session);
  }

  settle(request: SettleRequest): void {
    if (isOfAnother(request, this.#runtime.incarnation)) return;
    this.#runtime.settle(this.session.id, request);
    // Alone a broker has everything, so that there is nothing to look for.
    if (this.#elsewhere === undefined) return;
    const { topicEpoch } = this.#runtime.definition;
    const moved = request.operations.filter(
      (each) => each.kind === 'ack' && each.logEpoch === topicEpoch && !this.#runtime.owns(each),
    );
    if (moved.length > 0) this.#elsewhere(moved);
  }

  pump(): void {
    this.#runtime.pumpFor(this.session);
  }

  quiesce(): Promise<void> {
    const { ackDeadlineMs } = this.session.limits;
    this.session.limits = { maxOutstandingMessages: 0, maxOutstandingBytes: 0, ackDeadlineMs };
    return Promise.resolve();
  }

  get origin(): ConsumerOrigin {
    return this.session.origin ?? UNKNOWN_ORIGIN;
  }

  drain(draining: boolean): void {
    this.#runtime.drain(this.session, draining);
  }

  outstanding(): Promise<number> {
    return Promise.resolve(this.session.outstandingMessages);
  }

  leave(leases: LeasesOnLeave = 'end'): void {
    this.#runtime.leave(this.session, leases);
  }
}

/** Runs of one chunk on their way to one consumer. The bytes are shared with others: read only. */
export class DeliveredMessages {
  readonly partition: PartitionId;
  readonly chunk: CachedChunk;
  /** The runs in order, all in the chunk. */
  readonly runs: readonly DeliveredRun[];
  readonly messages: number;
  /** The bytes as counted against the consumer's credit. */
  readonly bytes: number;
  #frames: Buffer | undefined;

  constructor(
    partition: PartitionId,
    chunk: CachedChunk,
    runs: readonly DeliveredRun[],
    messages: number,
    bytes: number,
  ) {
    this.partition = partition;
    this.chunk = chunk;
    this.runs = runs;
    this.messages = messages;
    this.bytes = bytes;
  }

  /**
   * The frames to send: the chunk itself or a part of it where the runs are in one piece, else put together.
   */
  get frames(): Buffer {
    this.#frames ??= framesOf(this.chunk, this.runs);
    return this.#frames;
  }
}

function framesOf(chunk: CachedChunk, runs: readonly DeliveredRun[]): Buffer {
  const only = runs[0]!;
  if (runs.length === 1 && only.attempt === 1) {
    if (only.first === chunk.firstOffset && only.last === chunk.endOffset - 1) return chunk.bytes;
    return frameRange(chunk, only.first, only.last);
  }
  const parts: Uint8Array[] = [];
  for (const { first, last, attempt } of runs) {
    if (attempt === 1) {
      parts.push(frameRange(chunk, first, last));
      continue;
    }
    const ends = chunk.ends();
    for (let offset = first; offset <= last; offset += 1) {
      const at = offset - chunk.firstOffset;
      parts.push(recutFrame(chunk.bytes, at === 0 ? 0 : ends[at - 1]!, ends[at]!, attempt));
    }
  }
  return Buffer.concat(parts);
}

function frameRange(chunk: CachedChunk, first: number, last: number): Buffer {
  const ends = chunk.ends();
  const from = first === chunk.firstOffset ? 0 : ends[first - chunk.firstOffset - 1]!;
  return chunk.bytes.subarray(from, ends[last - chunk.firstOffset]!);
}
