// Publishes to one topic: bounds what is not acknowledged, stops an ordering key that failed. Made by Client.publisher().
// publish-lane.ts gathers messages into batches, publish-router.ts finds the brokers, publish-stream.ts does the sending.
import type { BackoffOptions } from './backoff.ts';
import type { Batch, PublishResult } from './batch.ts';
import type { Connection } from './connection.ts';
import { cancelledBy, FanfareError } from './errors.ts';
import { type MeasuredMessage, measure, type OutgoingMessage } from './message-codec.ts';
import { PublishRouter } from './publish-router.ts';
import { activeTracing, endPublishSpan, startPublishSpan, type Tracing } from './telemetry.ts';

export interface PublisherOptions {
  readonly batch?: {
    /** 1 to 1,000. Default 1,000. */
    readonly maxMessages?: number;
    /** Of a request as encoded: 1 byte to 3 MiB; a larger message goes alone. Default 256 KiB. */
    readonly maxBytes?: number;
    /** How long a batch that is not full waits for more. Default 0: until the end of this turn of the event loop. */
    readonly lingerMs?: number;
  };
  /** `ready()` waits while more than this is not acknowledged. Default 64 MiB. */
  readonly maxOutstandingBytes?: number;
  /** The same, in messages. Default 20,000: more only gives the garbage collector more to carry. */
  readonly maxOutstandingMessages?: number;
  /** How long a message is tried to be published before its promise is rejected. Default 60,000. */
  readonly retryDeadlineMs?: number;
  readonly backoff?: BackoffOptions;
  /** Aborted: everything unacknowledged is rejected with CANCELLED, the publisher is closed. */
  readonly signal?: AbortSignal;
  /** Told about every failure that is tried again. */
  readonly onRetry?: (error: FanfareError, delayMs: number) => void;
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
  #waiting: (() => void)[] = [];
  readonly #resolveClosed: () => void;
  readonly #stoppedKeys = new Set<string>();
  #closed: FanfareError | undefined;

  constructor(connection: Connection, topic: string, options: PublisherOptions = {}) {
    this.topic = connection.topicName(topic);
    this.#maxOutstandingBytes = options.maxOutstandingBytes ?? 64 * 1024 * 1024;
    this.#maxOutstandingMessages = options.maxOutstandingMessages ?? 20_000;
    this.#signal = options.signal;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    this.#router = new PublishRouter(connection, {
      topic: this.topic,
      maxMessages: options.batch?.maxMessages ?? 1_000,
      maxBytes: options.batch?.maxBytes ?? 256 * 1024,
      lingerMs: options.batch?.lingerMs ?? 0,
      nextRequestId: () => this.#nextRequestId++,
      retryDeadlineMs: options.retryDeadlineMs ?? 60_000,
      backoff: { ...connection.backoffDefaults, ...options.backoff },
      onSettled: (batch) => this.#onSettled(batch),
      onFailed: (batch) => this.#stopKeys(batch),
      onRetry: options.onRetry ?? (() => {}),
    });
    if (this.#signal?.aborted) this.#onAbort();
    else this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Not acknowledged yet. */
  get outstanding(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#outstandingMessages, bytes: this.#outstandingBytes };
  }

  /**
   * Publishes a message; resolves once it is as durable as its topic asks. Messages are sent in the order of the calls,
   * and stored at least once: after a lost connection one may be stored twice.
   *
   * Rejected with a FanfareError: INVALID_ARGUMENT (the message is not valid, nothing was sent), RESOURCE_EXHAUSTED
   * (more than twice maxOutstanding… is unacknowledged here: await ready() before publishing more; or the broker was full
   * until the deadline), FAILED_PRECONDITION (an earlier message of its ordering key failed: see resumeKey), NOT_FOUND,
   * PERMISSION_DENIED, UNAVAILABLE (not reached until the deadline, may have been stored), CANCELLED (closed).
   */
  publish(message: OutgoingMessage): Promise<PublishResult> {
    if (this.#outstandingMessages === 0 || this.#untilTracingCheck-- === 0) {
      this.#tracing = activeTracing();
      this.#untilTracingCheck = TRACING_CHECK_MESSAGES;
    }
    const tracing = this.#tracing;
    if (tracing === undefined) return this.#publish(message);
    const { span, message: traced } = startPublishSpan(tracing, this.topic, message);
    const result = this.#publish(traced, message);
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

  /** Resolves, at once or later, when less than maxOutstanding… is unacknowledged: await it before each publish. */
  async ready(options: { signal?: AbortSignal } = {}): Promise<void> {
    while (this.#isOverBound()) await this.#settled(options.signal);
  }

  /** Resolves when everything published so far was answered, one way or another. */
  async flush(options: { signal?: AbortSignal } = {}): Promise<void> {
    while (this.#outstandingMessages > 0) await this.#settled(options.signal);
  }

  /** Lets an ordering key be published again after one of its messages failed. */
  resumeKey(orderingKey: string): void {
    this.#stoppedKeys.delete(orderingKey);
  }

  /** Takes no more messages, waits for the answers to those it has, and ends the stream. Idempotent. */
  async close(): Promise<void> {
    this.#closed ??= new FanfareError('CANCELLED', 'the publisher is closed');
    await this.flush();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#router.close(this.#closed);
    this.#resolveClosed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** `given` is what the caller gave, where tracing has added to it: the limits and rules are for that too. */
  #publish(message: OutgoingMessage, given?: OutgoingMessage): Promise<PublishResult> {
    let measured: MeasuredMessage;
    try {
      if (given !== undefined) measure(given);
      measured = this.#admit(message);
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#outstandingMessages++;
      this.#outstandingBytes += measured.fieldBytes;
      this.#router.laneFor(message.orderingKey, measured.fieldBytes).add(measured, resolve, reject);
    });
  }

  #admit(message: OutgoingMessage): MeasuredMessage {
    if (this.#closed !== undefined) throw this.#closed;
    if (message.orderingKey && this.#stoppedKeys.has(message.orderingKey)) throw stopped();
    const measured = measure(message);
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

  #onSettled(batch: Batch): void {
    this.#outstandingMessages -= batch.acceptedCount;
    this.#outstandingBytes -= batch.acceptedBytes;
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** The keys of a batch that failed: what is here of them fails too, and what comes, until they are resumed. */
  #stopKeys(failed: Batch): void {
    if (failed.keys.size === 0) return;
    for (const key of failed.keys) this.#stoppedKeys.add(key);
    this.#router.rejectKeys(failed.keys, stopped);
  }

  readonly #onAbort = (): void => {
    const error = cancelledBy(this.#signal!);
    this.#closed = error;
    this.#router.close(error);
    this.#resolveClosed();
  };

  #isOverBound(): boolean {
    return (
      this.#outstandingMessages >= this.#maxOutstandingMessages ||
      this.#outstandingBytes >= this.#maxOutstandingBytes
    );
  }

  #settled(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelledBy(signal));
      const onAbort = () => reject(cancelledBy(signal!));
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
    });
  }
}

function stopped(): FanfareError {
  return new FanfareError(
    'FAILED_PRECONDITION',
    'held back to keep the order: an earlier message of its ordering key could not be published (see Publisher.resumeKey)',
  );
}
