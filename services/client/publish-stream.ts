// Sends batches over one PublishStream, in order, and again after whatever went wrong. Made by publisher.ts, which fills
// the batches.
//
// The order of an ordering key: two batches that share a key are never in flight together, so neither a refusal nor a
// broken stream can put the later one in front. Everything unanswered is sent again before anything new.
//
// state            left by
// idle             a batch to send → open
// open             stream ended → paused, or failed batches → idle;  a batch refused for now → paused
// paused           the backoff is over → idle or open
// closed           –
import { Backoff, type BackoffOptions } from './backoff.ts';
import type { Batch } from './batch.ts';
import type { ByteStream, Connection } from './connection.ts';
import { codeName, FanfareError, toFanfareError } from './errors.ts';
import { decodePublishAnswer } from './message-codec.ts';

const PATH = '/fanfare.v1.Publisher/PublishStream';
/** Enough to keep broker and network busy with full batches; beyond it batches should grow instead. */
const MAX_REQUESTS_IN_FLIGHT = 8;
const DEADLINE_CHECK_MS = 1_000;
const CLOSE_GRACE_MS = 1_000;

/** Of a stream: trying again cannot help. */
const FINAL_CODES = new Set([
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'FAILED_PRECONDITION',
  'UNIMPLEMENTED',
]);

export interface PublishStreamOptions {
  readonly topic: string;
  /** From a batch's first sending until it is given up. */
  readonly retryDeadlineMs: number;
  readonly backoff?: BackoffOptions;
  /** The next batch, if there is one to send now and it has none of the keys in flight. */
  readonly take: (busyKeys: ReadonlySet<string>) => Batch | undefined;
  /** The batch was answered or given up, its messages know. */
  readonly onSettled: (batch: Batch) => void;
  /** The batch failed for good: nothing of its keys may be sent any more. */
  readonly onFailed: (batch: Batch) => void;
  readonly onRetry: (error: FanfareError, delayMs: number) => void;
}

export class PublishStream {
  readonly #connection: Connection;
  readonly #options: PublishStreamOptions;
  readonly #backoff: Backoff;
  /** To be sent again, in the order of their request ids. */
  #again: Batch[] = [];
  /** Sent on the open stream and not answered, in order. */
  readonly #sent = new Map<number, Batch>();
  /** The keys of all of them. */
  readonly #busyKeys = new Set<string>();
  #stream: ByteStream | undefined;
  #topicSent = false;
  #writable = true;
  #pause: NodeJS.Timeout | undefined;
  #deadlineCheck: NodeJS.Timeout | undefined;
  #lastError: FanfareError | undefined;
  #closed = false;

  constructor(connection: Connection, options: PublishStreamOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
  }

  /** Sends what there is to send and may be sent now. */
  pump(): void {
    while (this.#pause === undefined && this.#writable && this.#sent.size < MAX_REQUESTS_IN_FLIGHT) {
      if (this.#closed) return;
      const batch = this.#again.shift() ?? this.#options.take(this.#busyKeys);
      if (batch === undefined) return;
      // All its messages may have been taken out since it was filled.
      if (batch.count === 0) this.#options.onSettled(batch);
      else this.#send(batch);
    }
  }

  /** Batches that wait to be sent again: messages may be taken out of them. */
  get held(): readonly Batch[] {
    return this.#again;
  }

  /** Ends the stream: gently when everything was answered, and rejects what was not with the given error. */
  close(error: FanfareError): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#pause);
    clearInterval(this.#deadlineCheck);
    const unanswered = [...this.#sent.values(), ...this.#again];
    this.#sent.clear();
    this.#again = [];
    const stream = this.#stream;
    if (stream !== undefined) {
      stream.end();
      const cancel = setTimeout(() => stream.cancel(), unanswered.length > 0 ? 0 : CLOSE_GRACE_MS);
      stream.on('status', () => clearTimeout(cancel));
    }
    for (const batch of unanswered) {
      batch.reject(error);
      this.#options.onSettled(batch);
    }
  }

  #send(batch: Batch): void {
    batch.deadlineMs ||= Date.now() + this.#options.retryDeadlineMs;
    this.#deadlineCheck ??= setInterval(() => this.#checkDeadlines(), DEADLINE_CHECK_MS);
    this.#stream ??= this.#open();
    this.#sent.set(batch.requestId, batch);
    for (const key of batch.keys) this.#busyKeys.add(key);
    this.#writable = this.#stream.write(batch.toRequest(!this.#topicSent));
    this.#topicSent = true;
  }

  #open(): ByteStream {
    const stream = this.#connection.openStream(PATH);
    this.#topicSent = false;
    this.#writable = true;
    stream.on('data', (bytes: Buffer) => {
      if (stream === this.#stream) this.#onAnswer(bytes);
    });
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#writable = true;
      this.pump();
    });
    // 'status' comes in any case and says the same; without a listener an error would end the process.
    stream.on('error', () => {});
    stream.on('status', (status) => {
      if (stream === this.#stream) this.#onEnd(status.code === 0 ? undefined : toFanfareError(status));
    });
    return stream;
  }

  #onAnswer(bytes: Buffer): void {
    let answer: ReturnType<typeof decodePublishAnswer>;
    try {
      answer = decodePublishAnswer(bytes);
    } catch (error) {
      this.#breakOff(toFanfareError(error));
      return;
    }
    const batch = this.#sent.get(answer.requestId);
    if (batch === undefined) return;
    if (answer.error !== undefined) {
      const error = new FanfareError(codeName(answer.error.code), answer.error.message);
      if (error.retriable && Date.now() < batch.deadlineMs) {
        this.#sendLater(batch, error);
        return;
      }
      this.#forget(batch);
      this.#fail(batch, error);
    } else if (batch.resolve(answer)) {
      this.#forget(batch);
      this.#backoff.reset();
      this.#lastError = undefined;
      this.#options.onSettled(batch);
    } else {
      this.#breakOff(new FanfareError('INTERNAL', 'the broker gave an answer to another batch'));
      return;
    }
    this.#settledOne();
  }

  /** What answers set free is sent in the next turn, together with what their callers publish now. */
  #settledOne(): void {
    if (this.#sent.size === 0 && this.#again.length === 0) {
      clearInterval(this.#deadlineCheck);
      this.#deadlineCheck = undefined;
    }
    setImmediate(() => this.pump());
  }

  /** Refused for now: back to its place among those to be sent again, and nothing is sent for a while. */
  #sendLater(batch: Batch, error: FanfareError): void {
    this.#forget(batch);
    this.#again.push(batch);
    this.#again.sort((a, b) => a.requestId - b.requestId);
    this.#pauseAfter(error);
  }

  #onEnd(error: FanfareError | undefined): void {
    this.#stream = undefined;
    this.#writable = true;
    const unanswered = [...this.#sent.values()];
    this.#sent.clear();
    this.#busyKeys.clear();
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      for (const batch of unanswered) this.#fail(batch, error);
      this.#settledOne();
      return;
    }
    // In flight together with those to be sent again, but they may be older.
    this.#again = [...this.#again, ...unanswered].sort((a, b) => a.requestId - b.requestId);
    // A stream may end at any time (its maximum age); without work there is no hurry to open another.
    if (this.#again.length > 0) {
      this.#pauseAfter(error ?? new FanfareError('UNAVAILABLE', 'the broker ended the stream'));
    }
  }

  #pauseAfter(error: FanfareError): void {
    this.#lastError = error;
    if (this.#pause !== undefined || this.#closed) return;
    const delayMs = this.#backoff.nextMs();
    this.#options.onRetry(error, delayMs);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#checkDeadlines();
      this.pump();
    }, delayMs);
  }

  #checkDeadlines(): void {
    const nowMs = Date.now();
    const late = (batch: Batch) => batch.deadlineMs !== 0 && batch.deadlineMs <= nowMs;
    if ([...this.#sent.values()].some(late)) {
      this.#breakOff(
        this.#lastError ??
          new FanfareError(
            'DEADLINE_EXCEEDED',
            `the broker gave no answer within ${this.#options.retryDeadlineMs} ms`,
          ),
      );
      return;
    }
    const expired = this.#again.filter(late);
    if (expired.length === 0) return;
    this.#again = this.#again.filter((batch) => !late(batch));
    for (const batch of expired) this.#fail(batch, this.#lastError!);
    this.#settledOne();
  }

  /** Ends the stream from this side; what was in flight is sent again or, past its deadline, given up. */
  #breakOff(error: FanfareError): void {
    const stream = this.#stream;
    this.#onEnd(new FanfareError('UNAVAILABLE', error.message, { cause: error }));
    stream?.cancel();
    this.#checkDeadlines();
  }

  #forget(batch: Batch): void {
    this.#sent.delete(batch.requestId);
    for (const key of batch.keys) this.#busyKeys.delete(key);
  }

  #fail(batch: Batch, error: FanfareError): void {
    batch.reject(error);
    this.#options.onFailed(batch);
    this.#options.onSettled(batch);
  }
}
