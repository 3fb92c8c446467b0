// Sends the batches of lanes over one PublishStream, to the owner of their partitions or to any broker, and
// gives them back to their lanes with what became of them.
//
// state            left by
// idle             a batch to send → open
// open             stream ended → paused, or idle if nothing was in flight or trying again can't help
// paused           the backoff is over → idle
// any of these     close(), abandon() → closed
// closed           –
import { Backoff, type BackoffOptions } from './backoff.ts';
import type { Batch } from './batch.ts';
import type { ByteStream, Connection } from './connection.ts';
import { codeName, FanfareError, toFanfareError } from './errors.ts';
import { decodePublishAnswer } from './message-codec.ts';
import type { LaneCarrier, PublishLane } from './publish-lane.ts';

const PATH = '/fanfare.v1.Publisher/PublishStream';
/** Enough to keep broker and network busy with full batches; beyond it batches should grow instead. */
const MAX_REQUESTS_IN_FLIGHT = 8;
/** The same with many lanes, whose batches are smaller. */
const MAX_REQUESTS_OF_LANES = 64;
const CLOSE_GRACE_MS = 1_000;
/**
 * A broker that refuses so many batches in a row as UNAVAILABLE or ABORTED, for so long, is left for another.
 */
const MAX_REFUSALS = 3;
const REFUSING_MS = 1_000;

/** Codes that a stream ends with when trying again cannot help. */
const FINAL_CODES = new Set([
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'FAILED_PRECONDITION',
  'UNIMPLEMENTED',
]);

export interface PublishStreamOptions {
  /** host:port; undefined: any broker. */
  readonly address: string | undefined;
  /** How long a batch is tried, from its first sending. */
  readonly retryDeadlineMs: number;
  readonly backoff: BackoffOptions;
  /** The stream broke so many times in a row, without an answer between them. */
  readonly onBroken: (stream: PublishStream, times: number) => void;
  /** The lane has nothing in flight any more. */
  readonly onIdle: (lane: PublishLane) => void;
  readonly onRetry: (error: FanfareError, delayMs: number) => void;
}

interface Sent {
  readonly lane: PublishLane;
  readonly batch: Batch;
}

export class PublishStream implements LaneCarrier {
  readonly address: string | undefined;
  /** The lanes that it carries, added and taken away from outside. */
  readonly lanes = new Set<PublishLane>();
  readonly #connection: Connection;
  readonly #options: PublishStreamOptions;
  readonly #backoff: Backoff;
  /** Lanes that may have something to send, in the order of their turns. */
  readonly #ready = new Set<PublishLane>();
  #pumpScheduled = false;
  /** What was sent on the open stream and not answered, in order, by request id. */
  readonly #sent = new Map<number, Sent>();
  #stream: ByteStream | undefined;
  /** The address where the stream was opened. */
  #openedAt = '';
  /**
   * Something was stored on this stream. Even a broker that forgets the topic of a request which
   * it refuses knows it now.
   */
  #topicKnown = false;
  #writable = true;
  #pause: NodeJS.Timeout | undefined;
  #lastError: FanfareError | undefined;
  #broken = 0;
  #refusals = 0;
  #refusedSinceMs = 0;
  #closed = false;

  constructor(connection: Connection, options: PublishStreamOptions) {
    this.address = options.address;
    this.#connection = connection;
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
  }

  /** The lane is asked at the end of this turn, so that what is published in one turn goes in one request. */
  wake(lane: PublishLane): void {
    this.#ready.add(lane);
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    setImmediate(() => {
      this.#pumpScheduled = false;
      this.#pump();
    });
  }

  get isIdle(): boolean {
    return this.#sent.size === 0;
  }

  /** Ends the stream gently: nothing is in flight. */
  close(): void {
    this.#stop();
    const stream = this.#stream;
    if (stream === undefined) return;
    stream.end();
    // The program need not wait for a broker that says nothing.
    const cancel = setTimeout(() => stream.cancel(), CLOSE_GRACE_MS).unref();
    stream.on('status', () => clearTimeout(cancel));
  }

  /** Rejects what is in flight and ends the stream. */
  abandon(error: FanfareError): void {
    if (this.isIdle) {
      this.close();
      return;
    }
    this.#stop();
    const unanswered = [...this.#sent.values()];
    this.#sent.clear();
    for (const { lane, batch } of unanswered) lane.abandoned(batch, error);
    this.#stream?.cancel();
  }

  /** Breaks the stream off if a batch has been waiting for its answer beyond its deadline. */
  checkDeadlines(nowMs: number): void {
    for (const { batch } of this.#sent.values()) {
      if (batch.deadlineMs > nowMs) continue;
      const before = this.#lastError === undefined ? '' : `; before: ${this.#lastError.message}`;
      const text = `the broker gave no answer within ${this.#options.retryDeadlineMs} ms${before}`;
      this.#breakOff(new FanfareError('DEADLINE_EXCEEDED', text, { cause: this.#lastError }));
      return;
    }
  }

  #pump(): void {
    const most = this.lanes.size > 1 ? MAX_REQUESTS_OF_LANES : MAX_REQUESTS_IN_FLIGHT;
    while (this.#pause === undefined && this.#writable && this.#sent.size < most && !this.#closed) {
      const [lane] = this.#ready;
      if (lane === undefined) return;
      this.#ready.delete(lane);
      // Another stream may carry the lane by now.
      const batch = this.lanes.has(lane) ? lane.next() : undefined;
      if (batch === undefined) continue;
      this.#ready.add(lane);
      this.#send(lane, batch);
    }
  }

  #send(lane: PublishLane, batch: Batch): void {
    batch.deadlineMs ||= performance.now() + this.#options.retryDeadlineMs;
    this.#stream ??= this.#open();
    this.#sent.set(batch.requestId, { lane, batch });
    this.#writable = this.#stream.write(batch.toRequest(!this.#topicKnown));
  }

  #open(): ByteStream {
    this.#openedAt = this.address ?? this.#connection.address;
    const stream = this.#connection.openStream(PATH, this.#openedAt);
    this.#topicKnown = false;
    this.#writable = true;
    stream.on('data', (bytes: Buffer) => {
      if (stream === this.#stream) this.#onAnswer(bytes);
    });
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#writable = true;
      this.#pump();
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
    const sent = this.#sent.get(answer.requestId);
    if (sent === undefined) return;
    const { lane, batch } = sent;
    if (answer.error !== undefined) {
      this.#sent.delete(answer.requestId);
      const { code, message, messageIndex } = answer.error;
      this.#onRefused(sent, new FanfareError(codeName(code), message), messageIndex);
    } else if (batch.isAnsweredBy(answer)) {
      this.#sent.delete(answer.requestId);
      this.#topicKnown = true;
      this.#backoff.reset();
      this.#broken = 0;
      this.#refusals = 0;
      this.#lastError = undefined;
      lane.stored(batch, answer);
      this.#landed(lane);
    } else {
      this.#breakOff(new FanfareError('INTERNAL', 'the broker gave an answer to another batch'));
    }
  }

  #onRefused({ lane, batch }: Sent, error: FanfareError, messageIndex: number | undefined): void {
    if (messageIndex !== undefined || error.code === 'INVALID_ARGUMENT') {
      lane.isolated(batch, error, messageIndex);
    } else if (!error.retriable || performance.now() >= batch.deadlineMs) {
      lane.failed(batch, error);
    } else {
      this.#lastError = error;
      const delayMs = lane.refused(batch, error);
      if (delayMs > 0) this.#options.onRetry(error, delayMs);
      if (error.code !== 'RESOURCE_EXHAUSTED') this.#considerLeaving(error);
    }
    this.#landed(lane);
  }

  /**
   * Leaves a broker that goes on refusing, say because it is cut off from the store: another may do better.
   */
  #considerLeaving(error: FanfareError): void {
    if (this.#refusals++ === 0) this.#refusedSinceMs = performance.now();
    const refusingMs = performance.now() - this.#refusedSinceMs;
    if (this.#refusals < MAX_REFUSALS || refusingMs < REFUSING_MS) return;
    if (this.address === undefined && this.#connection.addresses.length === 1) return;
    this.#connection.avoid(this.#openedAt);
    this.#breakOff(error);
  }

  #onEnd(error: FanfareError | undefined): void {
    this.#stream = undefined;
    this.#writable = true;
    this.#refusals = 0;
    const unanswered = new Map<PublishLane, Batch[]>();
    for (const { lane, batch } of this.#sent.values()) {
      const batches = unanswered.get(lane);
      if (batches === undefined) unanswered.set(lane, [batch]);
      else batches.push(batch);
    }
    this.#sent.clear();
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      for (const [lane, batches] of unanswered) {
        for (const batch of batches) lane.failed(batch, error);
        this.#landed(lane);
      }
      return;
    }
    const reason = error ?? new FanfareError('UNAVAILABLE', 'the broker ended the stream');
    for (const [lane, batches] of unanswered) lane.back(batches, reason);
    // A stream may end at any time (its maximum age); without work there is no hurry to open another.
    if (unanswered.size > 0) {
      this.#broken++;
      this.#pauseAfter(reason);
      this.#options.onBroken(this, this.#broken);
    }
    for (const lane of unanswered.keys()) this.#landed(lane);
  }

  #stop(): void {
    this.#closed = true;
    clearTimeout(this.#pause);
  }

  #landed(lane: PublishLane): void {
    if (lane.isIdle) this.#options.onIdle(lane);
  }

  #pauseAfter(error: FanfareError): void {
    this.#lastError = error;
    if (this.#pause !== undefined || this.#closed) return;
    const delayMs = this.#backoff.nextMs();
    this.#options.onRetry(error, delayMs);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#pump();
    }, delayMs);
  }

  /** Ends the stream from this side; what was in flight is sent again. */
  #breakOff(error: FanfareError): void {
    const stream = this.#stream;
    this.#onEnd(new FanfareError('UNAVAILABLE', error.message, { cause: error }));
    stream?.cancel();
  }
}
