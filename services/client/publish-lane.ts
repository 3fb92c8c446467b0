// Messages whose order matters to each other, on their way into requests: those of one partition, or all of a topic where
// brokers are left to find the owners. Gathers them into batches and hands these, in order, to the stream that carries the
// lane. Made by publish-router.ts, filled by publisher.ts, emptied by publish-stream.ts.
//
// The order of an ordering key: two batches that share a key are never in flight together, so neither a refusal nor a
// broken stream can put the later one in front. Everything unanswered is sent again before anything new. And all that is in
// flight is on one stream: the lane changes to another only while nothing is.
import { Backoff, type BackoffOptions } from './backoff.ts';
import { Batch, type PublishResult } from './batch.ts';
import type { FanfareError } from './errors.ts';
import type { MeasuredMessage } from './message-codec.ts';

export interface LaneOptions {
  readonly topic: string;
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly lingerMs: number;
  readonly nextRequestId: () => number;
  readonly backoff: BackoffOptions;
  /** The batch was answered or given up, its messages know. */
  readonly onSettled: (batch: Batch) => void;
}

/** What sends a lane's batches: publish-stream.ts. */
export interface LaneCarrier {
  /** The lane may have something to send: it is asked soon. */
  wake(lane: PublishLane): void;
}

export class PublishLane {
  /** Undefined: any. */
  readonly partition: number | undefined;
  carrier: LaneCarrier | undefined;
  /** Why something is to be sent again. */
  lastError: FanfareError | undefined;
  readonly #backoff: Backoff;
  readonly #options: LaneOptions;
  /** To be sent again, in the order of their request ids. */
  #again: Batch[] = [];
  readonly #full: Batch[] = [];
  #open: Batch | undefined;
  #openIsDue = false;
  /** Of the last batch: a good guess for the next. */
  #usualBytes = 0;
  #inFlight = 0;
  readonly #busyKeys = new Set<string>();
  #isHeld: boolean;
  #pause: NodeJS.Timeout | undefined;

  /** A held lane sends nothing until release(). */
  constructor(partition: number | undefined, options: LaneOptions, isHeld = false) {
    this.partition = partition;
    this.#backoff = new Backoff(options.backoff);
    this.#options = options;
    this.#isHeld = isHeld;
  }

  get isEmpty(): boolean {
    return this.isIdle && this.#open === undefined && this.#full.length === 0 && this.#again.length === 0;
  }

  /** Nothing is in flight. */
  get isIdle(): boolean {
    return this.#inFlight === 0;
  }

  add(
    measured: MeasuredMessage,
    resolve: (result: PublishResult) => void,
    reject: (error: FanfareError) => void,
  ): void {
    const { maxBytes, maxMessages } = this.#options;
    if (this.#open !== undefined && this.#open.byteLength + measured.fieldBytes > maxBytes) this.#seal();
    this.#open ??= this.#openBatch();
    this.#open.add(measured, resolve, reject);
    if (this.#open.count >= maxMessages) this.#seal();
    this.#wake();
  }

  release(): void {
    this.#isHeld = false;
    this.#wake();
  }

  /**
   * The next batch to send, in flight from now on until stored(), failed(), refused() or back(); undefined: none now. A new one whose keys are in
   * flight stays here, and grows meanwhile.
   */
  next(): Batch | undefined {
    if (this.#isHeld || this.#pause !== undefined) return undefined;
    for (;;) {
      const batch = this.#again.shift() ?? this.#takeNew();
      if (batch === undefined) return undefined;
      // All its messages may have been taken out since it was filled.
      if (batch.count === 0) {
        this.#options.onSettled(batch);
        continue;
      }
      this.#inFlight++;
      for (const key of batch.keys) this.#busyKeys.add(key);
      return batch;
    }
  }

  /** The batch, which was in flight, has been stored. */
  stored(batch: Batch): void {
    this.#backoff.reset();
    this.lastError = undefined;
    this.#land(batch);
    this.#wake();
  }

  /** The batch, which was in flight, has failed for good. */
  failed(batch: Batch): void {
    this.#land(batch);
    this.#wake();
  }

  /** Batches that were in flight on a stream that broke are to be sent again. */
  back(batches: readonly Batch[], error: FanfareError): void {
    for (const batch of batches) this.#land(batch);
    // In flight together with those to be sent again already, but they may be older.
    this.#again = [...this.#again, ...batches].sort((a, b) => a.requestId - b.requestId);
    this.lastError = error;
    this.#wake();
  }

  /** The batch was refused for now: nothing is sent for a while, which is returned; 0: it has begun already. */
  refused(batch: Batch, error: FanfareError): number {
    this.back([batch], error);
    if (this.#pause !== undefined) return 0;
    const delayMs = this.#backoff.nextMs();
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#wake();
    }, delayMs);
    return delayMs;
  }

  /** Rejects the messages of failed keys that are not in flight, so that nothing of a key overtakes its failure. */
  rejectKeys(failed: ReadonlySet<string>, error: () => FanfareError): void {
    for (const batch of this.#waiting()) batch.rejectKeys(failed, error);
  }

  /** Gives up what has been tried and whose deadline has passed; returns it. */
  takeExpired(nowMs: number): Batch[] {
    const isLate = (batch: Batch) => batch.deadlineMs !== 0 && batch.deadlineMs <= nowMs;
    const expired = this.#again.filter(isLate);
    if (expired.length > 0) this.#again = this.#again.filter((batch) => !isLate(batch));
    return expired;
  }

  /** Everything that is not in flight, for good. */
  takeAll(): Batch[] {
    clearTimeout(this.#pause);
    const all = [...this.#waiting()];
    this.#again = [];
    this.#full.length = 0;
    this.#open = undefined;
    return all;
  }

  *#waiting(): Iterable<Batch> {
    yield* this.#again;
    yield* this.#full;
    if (this.#open !== undefined) yield this.#open;
  }

  #land(batch: Batch): void {
    this.#inFlight--;
    for (const key of batch.keys) this.#busyKeys.delete(key);
  }

  #takeNew(): Batch | undefined {
    const batch = this.#full[0] ?? (this.#openIsDue ? this.#open : undefined);
    if (batch === undefined || batch.hasAnyOf(this.#busyKeys)) return undefined;
    if (batch === this.#open) {
      this.#usualBytes = batch.byteLength;
      this.#open = undefined;
    } else this.#full.shift();
    return batch;
  }

  #openBatch(): Batch {
    const { lingerMs, nextRequestId, topic } = this.#options;
    this.#openIsDue = lingerMs === 0;
    const batch = new Batch(nextRequestId(), topic, this.#usualBytes);
    if (!this.#openIsDue) {
      setTimeout(() => {
        if (this.#open !== batch) return;
        this.#openIsDue = true;
        this.#wake();
      }, lingerMs);
    }
    return batch;
  }

  #seal(): void {
    this.#usualBytes = this.#open!.byteLength;
    this.#full.push(this.#open!);
    this.#open = undefined;
  }

  #wake(): void {
    this.carrier?.wake(this);
  }
}
