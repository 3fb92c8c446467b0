// Publishes to one topic: bounds what is not acknowledged, and stops an ordering key that failed.
// publish-lane.ts gathers messages into batches, publish-router.ts finds the brokers,
// publish-stream.ts does the sending.
//
// A key is stopped from the rejection of one of its messages, for whatever reason, until resumeKey(): so what
// is stored of a key is what was published up to there, and nothing behind a hole.
import type { BackoffOptions } from './backoff.ts';
import type { Batch, PublishResult } from './batch.ts';
import type { Connection } from './connection.ts';
import { callBack, cancelledBy, FanfareError, keyStopped } from './errors.ts';
import { isOrderingKey, type MeasuredMessage, measure, type OutgoingMessage } from './message-codec.ts';
import { CLOSE, orderingKey as orderingKeyRule, WAIT } from './option-rules.ts';
import { checkOptions } from './options.ts';
import { PublishRouter } from './publish-router.ts';
import { activeTracing, endPublishSpan, startPublishSpan, type Tracing } from './telemetry.ts';

export interface PublisherOptions {
  readonly batch?: {
    /** 1 to 1,000. Default 1,000. */
    readonly maxMessages?: number;
    /** The length of an encoded request: 1 byte to 3 MiB; a larger message goes alone. Default 256 KiB. */
    readonly maxBytes?: number;
    /**
     * How long a batch that is not full waits for more, at most 60,000; flush() and close() don't wait.
     * Default 0: until the end of this turn of the event loop.
     */
    readonly lingerMs?: number;
  };
  /** `ready()` waits while this much or more is not acknowledged. Default 64 MiB. */
  readonly maxOutstandingBytes?: number;
  /** The same, in messages. Default 20,000: more only gives the garbage collector more to carry. */
  readonly maxOutstandingMessages?: number;
  /**
   * How long a message is tried to be published, from its first sending, before its promise is rejected; a
   * message that waits for its turn is given up when nothing was stored for as long. Default 60,000.
   */
  readonly retryDeadlineMs?: number;
  /** Delays are a quarter of retryDeadlineMs at most, so that there are several tries. */
  readonly backoff?: BackoffOptions;
  /** When it is aborted, everything unacknowledged is rejected with CANCELLED and the publisher closes. */
  readonly signal?: AbortSignal;
  /** Told about every failure that is tried again. */
  readonly onRetry?: (error: FanfareError, delayMs: number) => void;
}

export interface WaitOptions {
  readonly signal?: AbortSignal;
}

export interface CloseOptions {
  /**
   * What is not acknowledged after so long is rejected with CANCELLED. Default: only
   * retryDeadlineMs is a limit.
   */
  readonly timeoutMs?: number;
  /** When it is aborted, what is not acknowledged is rejected with CANCELLED. */
  readonly signal?: AbortSignal;
}

const TRACING_CHECK_MESSAGES = 100;

export class Publisher implements AsyncDisposable {
  /** The topic's full name. */
  readonly topic: string;
  /** Resolves when it is closed, by close() or by its signal. */
  readonly closed: Promise<void>;
  readonly #maxOutstandingBytes: number;
  readonly #maxOutstandingMessages: number;
  readonly #router: PublishRouter;
  readonly #signal: AbortSignal | undefined;
  #nextRequestId = 1;
  #outstandingBytes = 0;
  #outstandingMessages = 0;
  /** Looked for anew now and then. */
  #tracing: Tracing | undefined;
  #untilTracingCheck = 0;
  readonly #waiting = new Set<() => void>();
  readonly #resolveClosed: () => void;
  /** The keys that are stopped, each with the error of its message that failed first. */
  readonly #stoppedKeys = new Map<string, FanfareError>();
  /** Batches with messages that are neither stored nor rejected, in the order of their request ids. */
  readonly #unsettled = new Set<Batch>();
  /** Why nothing more is taken; undefined: more is taken. */
  #ending: FanfareError | undefined;
  #isClosed = false;

  constructor(connection: Connection, topic: string, options: PublisherOptions = {}) {
    this.topic = connection.topicName(topic);
    this.#maxOutstandingBytes = options.maxOutstandingBytes ?? 64 * 1024 * 1024;
    this.#maxOutstandingMessages = options.maxOutstandingMessages ?? 20_000;
    this.#signal = options.signal;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    const retryDeadlineMs = options.retryDeadlineMs ?? 60_000;
    const backoff: BackoffOptions = { ...connection.backoffDefaults, ...options.backoff };
    this.#router = new PublishRouter(connection, {
      topic: this.topic,
      maxMessages: options.batch?.maxMessages ?? 1_000,
      maxBytes: options.batch?.maxBytes ?? 256 * 1024,
      lingerMs: options.batch?.lingerMs ?? 0,
      nextRequestId: () => this.#nextRequestId++,
      retryDeadlineMs,
      backoff: { ...backoff, maxMs: Math.min(backoff.maxMs ?? 5_000, retryDeadlineMs / 4) },
      onOpened: (batch) => this.#unsettled.add(batch),
      onSettled: (batch) => this.#onSettled(batch),
      onKeysFailed: (keys, error) => this.#stopKeys(keys, error),
      onRetry: (error, delayMs) => callBack(options.onRetry, error, delayMs),
    });
    if (this.#signal?.aborted) this.#onAbort();
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** What is not acknowledged yet. */
  get outstanding(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#outstandingMessages, bytes: this.#outstandingBytes };
  }

  /**
   * Publishes a message; resolves once it is as durable as its topic asks. Messages are sent in the order of
   * the calls, and stored at least once: after a lost connection one may be stored twice.
   *
   * Rejected with a FanfareError: INVALID_ARGUMENT (the message is not valid, and was not stored),
   * RESOURCE_EXHAUSTED (twice maxOutstanding… is unacknowledged here: await ready() before publishing more;
   * or the broker was full until the deadline), FAILED_PRECONDITION (an earlier message of its ordering key
   * failed, which is the error's cause), NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE (not reached until the
   * deadline, may have been stored), CANCELLED (closed).
   *
   * A message that is rejected, here or by the broker, harms no other but those of its ordering key: once one
   * failed, for whatever reason, those behind it fail with FAILED_PRECONDITION until resumeKey(), so that
   * nothing of a key is stored behind a hole. Those before it are published.
   *
   * What was taken can't be called back: signals end the waiting (ready, flush) or the whole
   * publisher (its own, or close's).
   */
  publish(message: OutgoingMessage): Promise<PublishResult> {
    if (this.#outstandingMessages === 0 || this.#untilTracingCheck-- === 0) {
      this.#tracing = activeTracing();
      this.#untilTracingCheck = TRACING_CHECK_MESSAGES;
    }
    const tracing = this.#tracing;
    if (tracing === undefined) return this.#publish(message);
    const { span, message: traced } = startPublishSpan(tracing, this.topic, message);
    const result = this.#publish(message, traced);
    result.then(
      (published) => endPublishSpan(tracing, span, published),
      (error: FanfareError) => endPublishSpan(tracing, span, error),
    );
    return result;
  }

  /** Whether ready() would wait. */
  get isFull(): boolean {
    return this.#isOverBound();
  }

  /**
   * Resolves, at once or later, when less than maxOutstanding… is unacknowledged: await it before each
   * publish. CANCELLED when the signal is aborted.
   */
  async ready(options?: WaitOptions): Promise<void> {
    if (options !== undefined) checkOptions('ready()', options, WAIT);
    while (this.#isOverBound()) await this.#settled(options?.signal);
  }

  /**
   * Sends everything published so far without lingering; resolves when all of it was answered, one way or
   * another, or was given up: without a broker about retryDeadlineMs later. CANCELLED when the signal is
   * aborted; the messages stay on their way.
   */
  async flush(options: WaitOptions = {}): Promise<void> {
    checkOptions('flush()', options, WAIT);
    this.#router.flush();
    const end = this.#nextRequestId;
    for (;;) {
      const [oldest] = this.#unsettled;
      if (oldest === undefined || oldest.requestId >= end) return;
      await this.#settled(options.signal);
    }
  }

  /**
   * Lets an ordering key be published again after one of its messages failed; it is remembered until then.
   */
  resumeKey(orderingKey: string): void {
    orderingKeyRule('orderingKey', orderingKey);
    this.#stoppedKeys.delete(orderingKey);
  }

  /**
   * Takes no more messages, sends those it has without lingering, waits for their answers, and ends the
   * stream. Resolves when it is closed, whatever became of the messages: without a broker they are given up
   * about retryDeadlineMs later; the options end it earlier. Idempotent.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    checkOptions('close()', options, CLOSE);
    const { timeoutMs, signal } = options;
    this.#ending ??= new FanfareError('CANCELLED', 'the publisher is closed');
    const onTimeout = () =>
      this.#finish(new FanfareError('CANCELLED', `not acknowledged within ${timeoutMs} ms of close()`));
    const onAbort = () => this.#finish(cancelledBy(signal!));
    const timer = timeoutMs === undefined ? undefined : setTimeout(onTimeout, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    await this.flush();
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    this.#finish(this.#ending);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** `traced`: the message with the context of its trace. */
  #publish(message: OutgoingMessage, traced?: OutgoingMessage): Promise<PublishResult> {
    let measured: MeasuredMessage;
    try {
      measured = this.#admit(message);
      if (traced !== undefined) measured = measuredIfValid(traced) ?? measured;
    } catch (error) {
      this.#onRejected(message, error as FanfareError);
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#outstandingMessages++;
      this.#outstandingBytes += measured.fieldBytes;
      this.#router.laneFor(message.orderingKey, measured.fieldBytes).add(measured, resolve, reject);
    });
  }

  #admit(message: OutgoingMessage): MeasuredMessage {
    if (this.#ending !== undefined) throw this.#ending;
    const measured = measure(message);
    const { orderingKey } = message;
    const failure = orderingKey && this.#stoppedKeys.get(orderingKey);
    if (failure) throw keyStopped(orderingKey, failure);
    if (
      this.#outstandingMessages >= 2 * this.#maxOutstandingMessages ||
      this.#outstandingBytes >= 2 * this.#maxOutstandingBytes
    ) {
      throw new FanfareError(
        'RESOURCE_EXHAUSTED',
        `${this.#outstandingMessages} messages (${this.#outstandingBytes} bytes) are not acknowledged yet: await publisher.ready() before publishing more`,
      );
    }
    return measured;
  }

  /** The message was rejected here, at once: nothing of its key is behind it yet. */
  #onRejected(message: OutgoingMessage, error: FanfareError): void {
    const orderingKey = message?.orderingKey;
    if (this.#ending !== undefined || !isOrderingKey(orderingKey)) return;
    if (!this.#stoppedKeys.has(orderingKey)) this.#stoppedKeys.set(orderingKey, error);
  }

  #onSettled(batch: Batch): void {
    this.#unsettled.delete(batch);
    this.#outstandingMessages -= batch.acceptedCount;
    this.#outstandingBytes -= batch.acceptedBytes;
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Rejects what is here of the keys, and what comes, until they are resumed. */
  #stopKeys(keys: ReadonlySet<string>, error: FanfareError): void {
    for (const key of keys) this.#stoppedKeys.set(key, error);
    this.#router.rejectKeys(keys, error);
  }

  readonly #onAbort = (): void => this.#finish(cancelledBy(this.#signal!));

  /** Rejects what is left, and ends. */
  #finish(error: FanfareError): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#ending = error;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#router.close(error);
    this.#resolveClosed();
  }

  #isOverBound(): boolean {
    return (
      this.#outstandingMessages >= this.#maxOutstandingMessages ||
      this.#outstandingBytes >= this.#maxOutstandingBytes
    );
  }

  /** Resolves when all messages of some batch are stored or rejected. */
  #settled(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelledBy(signal));
      const wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        this.#waiting.delete(wake);
        reject(cancelledBy(signal!));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.add(wake);
    });
  }
}

/**
 * The message measured; undefined: with the context of its trace it is not valid, and a
 * trace is not worth a message.
 */
function measuredIfValid(message: OutgoingMessage): MeasuredMessage | undefined {
  try {
    return measure(message);
  } catch {
    return undefined;
  }
}
