// Messages whose order matters to each other, on their way into requests: those of one partition, or all of a
// topic where brokers are left to find the owners. Gathers them into batches and hands these, in order, to
// the stream that carries the lane; decides what becomes of a batch that came back.
//
// The order of an ordering key: two batches that share a key are never in flight together, so neither a
// refusal nor a broken stream can put the later one in front. Everything unanswered is sent again before
// anything new. And all that is in flight is on one stream: the lane changes to another only while nothing
// is. A batch of which a message was refused is sent again without it, in its place; what is behind that
// message, of its key, fails too.
import { Backoff, type BackoffOptions } from './backoff.ts';
import { Batch, type PublishResult } from './batch.ts';
import { FanfareError } from './errors.ts';
import type { MeasuredMessage, PublishAnswer } from './message-codec.ts';

export interface LaneOptions {
  readonly topic: string;
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly lingerMs: number;
  /**
   * How long a batch is tried, from its first sending. One that was not sent yet is given up when
   * nothing was stored for so long.
   */
  readonly retryDeadlineMs: number;
  readonly nextRequestId: () => number;
  readonly backoff: BackoffOptions;
  readonly onOpened: (batch: Batch) => void;
  /** Called when all messages of the batch are stored or rejected. */
  readonly onSettled: (batch: Batch) => void;
  /** Messages of these ordering keys failed: nothing of the keys that is not in flight may be sent now. */
  readonly onKeysFailed: (keys: ReadonlySet<string>, error: FanfareError) => void;
}

/** What sends a lane's batches. */
export interface LaneCarrier {
  /** The lane may have something to send: the carrier asks it soon. */
  wake(lane: PublishLane): void;
}

export class PublishLane {
  /** Undefined: all of the topic's. */
  readonly partition: number | undefined;
  carrier: LaneCarrier | undefined;
  readonly #backoff: Backoff;
  readonly #options: LaneOptions;
  /**
   * Batches to be sent again, in the order of their request ids. No two of them, and of those in
   * flight, share an ordering key.
   */
  #again: Batch[] = [];
  #full: Batch[] = [];
  #open: Batch | undefined;
  #openIsDue = false;
  #linger: NodeJS.Timeout | undefined;
  /** The bytes of the last batch: a good guess for the next. */
  #usualBytes = 0;
  #inFlight = 0;
  readonly #busyKeys = new Set<string>();
  #isHeld: boolean;
  #pause: NodeJS.Timeout | undefined;
  /** Why something is to be sent again. */
  #lastError: FanfareError | undefined;
  /** When something was stored last, or the lane was released, by performance.now(). */
  #storedAtMs = 0;

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

  /** Whether nothing is in flight. */
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

  /** What is here need not linger. */
  flush(): void {
    if (this.#open === undefined || this.#openIsDue) return;
    this.#openIsDue = true;
    clearTimeout(this.#linger);
    this.#wake();
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    // The lane has not had its chance yet.
    this.#storedAtMs = performance.now();
    this.#wake();
  }

  /**
   * The next batch to send; undefined: none now. It is in flight from now on until stored(),
   * failed(), abandoned(), isolated(), refused() or back(). A new one whose keys are in flight stays
   * here, and grows meanwhile.
   */
  next(): Batch | undefined {
    if (this.#isHeld || this.#pause !== undefined) return undefined;
    const batch = this.#again.shift() ?? this.#takeNew();
    if (batch === undefined) return undefined;
    this.#inFlight++;
    for (const key of batch.keys) this.#busyKeys.add(key);
    return batch;
  }

  /** What was sent of the batch has been stored; the rest, if there is one, is to be sent next. */
  stored(batch: Batch, answer: PublishAnswer): void {
    this.#backoff.reset();
    this.#lastError = undefined;
    this.#storedAtMs = performance.now();
    this.#land(batch);
    batch.resolve(answer);
    this.#sendRest(batch);
  }

  /** The batch has failed for good. */
  failed(batch: Batch, error: FanfareError): void {
    this.#land(batch);
    this.#fail(batch, error);
    this.#wake();
  }

  /** The batch has failed because everything ends. */
  abandoned(batch: Batch, error: FanfareError): void {
    this.#land(batch);
    this.#settle(batch, error);
  }

  /**
   * The batch was refused because of one message, at that place if it is known: the others are sent again.
   */
  isolated(batch: Batch, error: FanfareError, index: number | undefined): void {
    const at = batch.sentCount === 1 ? 0 : index;
    if (at === undefined || at >= batch.sentCount) {
      if (batch.narrow()) this.back([batch], error);
      else this.failed(batch, error);
      return;
    }
    this.#land(batch);
    const key = batch.takeOut(at, error);
    if (key !== undefined) this.#options.onKeysFailed(new Set([key]), error);
    this.#sendRest(batch);
  }

  /** Batches that were in flight on a stream that broke are to be sent again. */
  back(batches: readonly Batch[], error: FanfareError): void {
    for (const batch of batches) this.#land(batch);
    this.#sendAgain(batches);
    this.#lastError = error;
  }

  /**
   * The batch was refused for now. Nothing is sent for as many ms as are returned; 0:
   * such a pause is under way.
   */
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

  /**
   * Rejects the messages of failed keys that are not in flight, so that nothing of a
   * key overtakes its failure.
   */
  rejectKeys(failed: ReadonlySet<string>, cause: FanfareError): void {
    for (const batch of this.#waiting()) batch.rejectKeys(failed, cause);
    for (const batch of this.#take((each) => each.count === 0)) this.#options.onSettled(batch);
  }

  /**
   * Gives up what has been tried until its deadline, and what waits behind that: nothing was stored for as
   * long as a message may be tried.
   */
  giveUpLate(nowMs: number): void {
    const sinceMs = nowMs - this.#options.retryDeadlineMs;
    const isStuck = !this.#isHeld && this.#storedAtMs <= sinceMs;
    const isLate = (batch: Batch): boolean => {
      if (batch.deadlineMs !== 0) return batch.deadlineMs <= nowMs;
      return isStuck && batch.openedAtMs <= sinceMs && (batch !== this.#open || this.#openIsDue);
    };
    for (const batch of this.#take(isLate)) this.#fail(batch, this.#lastError ?? this.#notSent());
  }

  /** Rejects everything that is not in flight. */
  close(error: FanfareError): void {
    clearTimeout(this.#pause);
    for (const batch of this.#take(() => true)) this.#settle(batch, error);
  }

  *#waiting(): Iterable<Batch> {
    yield* this.#again;
    yield* this.#full;
    if (this.#open !== undefined) yield this.#open;
  }

  /** Takes such batches out of those that are not in flight. */
  #take(isWanted: (batch: Batch) => boolean): Batch[] {
    const taken = [...this.#waiting()].filter(isWanted);
    if (taken.length === 0) return taken;
    const isLeft = (batch: Batch) => !taken.includes(batch);
    this.#again = this.#again.filter(isLeft);
    this.#full = this.#full.filter(isLeft);
    if (this.#open !== undefined && !isLeft(this.#open)) this.#endOpen();
    return taken;
  }

  #fail(batch: Batch, error: FanfareError): void {
    const keys = new Set(batch.keys);
    this.#settle(batch, error);
    if (keys.size > 0) this.#options.onKeysFailed(keys, error);
  }

  #settle(batch: Batch, error: FanfareError): void {
    batch.reject(error);
    this.#options.onSettled(batch);
  }

  #sendRest(batch: Batch): void {
    if (batch.count === 0) this.#options.onSettled(batch);
    else this.#sendAgain([batch]);
    this.#wake();
  }

  #sendAgain(batches: readonly Batch[]): void {
    // They were in flight together with those that are to be sent again already, and may be older.
    this.#again = [...this.#again, ...batches].sort((a, b) => a.requestId - b.requestId);
    this.#wake();
  }

  #land(batch: Batch): void {
    this.#inFlight--;
    for (const key of batch.keys) this.#busyKeys.delete(key);
  }

  #takeNew(): Batch | undefined {
    const batch = this.#full[0] ?? (this.#openIsDue ? this.#open : undefined);
    if (batch === undefined || batch.hasAnyOf(this.#busyKeys)) return undefined;
    if (batch === this.#open) this.#endOpen();
    else this.#full.shift();
    return batch;
  }

  #openBatch(): Batch {
    const { lingerMs, nextRequestId, topic, onOpened } = this.#options;
    const batch = new Batch(nextRequestId(), topic, this.#usualBytes);
    this.#openIsDue = lingerMs === 0;
    if (!this.#openIsDue) {
      this.#linger = setTimeout(() => {
        this.#openIsDue = true;
        this.#wake();
      }, lingerMs);
    }
    onOpened(batch);
    return batch;
  }

  #seal(): void {
    this.#full.push(this.#open!);
    this.#endOpen();
  }

  #endOpen(): void {
    clearTimeout(this.#linger);
    this.#usualBytes = this.#open!.byteLength;
    this.#open = undefined;
  }

  #notSent(): FanfareError {
    const { retryDeadlineMs } = this.#options;
    return new FanfareError('UNAVAILABLE', `no broker has taken it within ${retryDeadlineMs} ms`);
  }

  #wake(): void {
    this.carrier?.wake(this);
  }
}
