// One consumer: a Subscribe stream that is opened again whenever it breaks, and the settlements that go out on it. Made
// by subscription.ts (messages) and raw-subscriber.ts (bytes). Acks go out as ranges, every few milliseconds or as soon as
// half of the credit is acked, so that the broker never runs out of credit while we are busy.
//
// state      left by
// open       status of the stream → waiting, or closed for good;  close() → closed
// waiting    the backoff is over → open;  close() → closed
// closed     –
import { randomUUID } from 'node:crypto';
import { Backoff, type BackoffOptions } from './backoff.ts';
import type { ByteStream, Connection } from './connection.ts';
import { FanfareError, toFanfareError } from './errors.ts';
import type { MessageRange } from './frames.ts';
import { Settlements } from './settlements.ts';
import {
  ACK_RANGES,
  EXTEND_RANGES,
  encodeFirstRequest,
  encodeRanges,
  MAX_RANGES,
  NACK_RANGES,
} from './subscribe-codec.ts';

const PATH = '/fanfare.v1.Subscriber/Subscribe';
const ACK_DELAY_MS = 5;
const CLOSE_GRACE_MS = 2_000;
/** A stream that lived this long was a good one: the next delay is a short one again. */
const GOOD_STREAM_MS = 10_000;

const FINAL_CODES = new Set([
  'NOT_FOUND',
  'INVALID_ARGUMENT',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'FAILED_PRECONDITION',
  'UNIMPLEMENTED',
]);

export interface ConsumerOptions {
  /** How many messages may be outstanding here: delivered and not settled. Default 10,000. */
  readonly maxOutstandingMessages?: number;
  /** The same, in bytes. Default 16 MiB. */
  readonly maxOutstandingBytes?: number;
  /** Length of this consumer's leases, 1 to 600 s. Default: as the subscription says. */
  readonly ackDeadlineSeconds?: number;
  /** Ordering keys stay with it over reconnections. Default: a random one. */
  readonly clientId?: string;
  readonly backoff?: BackoffOptions;
  /** Aborted: no more messages; what was not settled is delivered again. */
  readonly signal?: AbortSignal;
  /** Told whenever the stream broke and will be opened again. */
  readonly onRetry?: (error: FanfareError, delayMs: number) => void;
}

export interface StreamListener {
  onResponse(bytes: Buffer): void;
  /** The stream broke: leases of its generation are gone. */
  onInterrupted(): void;
  /** It will not be opened again; error is undefined after close(). */
  onEnd(error: FanfareError | undefined): void;
}

export class SubscribeStream {
  readonly subscription: string;
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  /** Rises each time a stream breaks: leases belong to one generation and end with it. */
  generation = 1;
  readonly #connection: Connection;
  readonly #options: ConsumerOptions;
  readonly #listener: StreamListener;
  readonly #backoff: Backoff;
  readonly #clientId: string;
  readonly #acks = new Settlements();
  readonly #nacks = new Settlements();
  #ackedBytes = 0;
  #stream: ByteStream | undefined;
  #openedMs = 0;
  #writable = false;
  #flushTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    connection: Connection,
    subscription: string,
    options: ConsumerOptions,
    listener: StreamListener,
  ) {
    this.subscription = connection.subscriptionName(subscription);
    this.maxOutstandingMessages = options.maxOutstandingMessages ?? 10_000;
    this.maxOutstandingBytes = options.maxOutstandingBytes ?? 16 * 1024 * 1024;
    this.#connection = connection;
    this.#options = options;
    this.#listener = listener;
    this.#backoff = new Backoff(options.backoff);
    this.#clientId = options.clientId ?? randomUUID();
  }

  open(): void {
    if (this.#closed) return;
    const stream = this.#connection.openStream(PATH);
    this.#stream = stream;
    this.#openedMs = performance.now();
    stream.on('data', (bytes: Buffer) => {
      if (stream === this.#stream) this.#listener.onResponse(bytes);
    });
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#writable = true;
      this.#flush();
    });
    // 'status' comes in any case and says the same; without a listener an error would end the process.
    stream.on('error', () => {});
    stream.on('status', (status) => {
      if (stream === this.#stream) this.#onStatus(status.code === 0 ? undefined : toFanfareError(status));
    });
    this.#writable = stream.write(
      encodeFirstRequest({
        subscription: this.subscription,
        clientId: this.#clientId,
        ackDeadlineSeconds: this.#options.ackDeadlineSeconds ?? 0,
        maxOutstandingMessages: this.maxOutstandingMessages,
        maxOutstandingBytes: this.maxOutstandingBytes,
      }),
    );
    // What was acked while there was no stream; leases ended with theirs, so there is nothing else to tell.
    this.#flush();
  }

  /** Tells the broker, soon, that messages (with that many bytes) are processed. */
  ack(logEpoch: number, partition: number, firstOffset: number, lastOffset: number, bytes: number): void {
    if (this.#closed) return;
    this.#acks.add(logEpoch, partition, firstOffset, lastOffset);
    this.#ackedBytes += bytes;
    const urgent =
      this.#acks.messages * 2 >= this.maxOutstandingMessages ||
      this.#ackedBytes * 2 >= this.maxOutstandingBytes;
    if (urgent) this.#flush();
    else this.#flushSoon();
  }

  /** Gives messages back, soon. Nothing is sent if their leases ended with an earlier stream. */
  nack(generation: number, range: MessageRange): void {
    if (this.#closed || generation !== this.generation) return;
    this.#nacks.add(range.logEpoch, range.partition, range.firstOffset, range.lastOffset);
    this.#flushSoon();
  }

  /** Lets leases of the current generation end extendSeconds from now. */
  extend(ranges: readonly MessageRange[], extendSeconds: number): void {
    if (this.#writable && !this.#closed) this.#writeRanges(EXTEND_RANGES, ranges, extendSeconds);
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  /**
   * Sends what was settled and ends the stream; resolves once the broker has confirmed the end, or after 2 s. What was
   * not settled is delivered again. Idempotent.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#writable = true;
    this.#flush();
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#flushTimer);
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream !== undefined) {
      // What still arrives must be read, or the status would wait behind it.
      stream.resume();
      stream.end();
      await new Promise<void>((resolve) => {
        const cancel = setTimeout(() => stream.cancel(), CLOSE_GRACE_MS);
        stream.on('status', () => {
          clearTimeout(cancel);
          resolve();
        });
      });
    }
    this.#listener.onEnd(undefined);
  }

  #onStatus(error: FanfareError | undefined): void {
    this.#stream = undefined;
    this.#writable = false;
    this.generation++;
    this.#nacks.drain();
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      this.#closed = true;
      clearTimeout(this.#flushTimer);
      this.#listener.onEnd(error);
      return;
    }
    this.#listener.onInterrupted();
    if (performance.now() - this.#openedMs > GOOD_STREAM_MS) this.#backoff.reset();
    const delayMs = this.#backoff.nextMs();
    this.#options.onRetry?.(error ?? new FanfareError('UNAVAILABLE', 'the broker ended the stream'), delayMs);
    this.#retryTimer = setTimeout(() => this.open(), delayMs);
  }

  #flushSoon(): void {
    this.#flushTimer ??= setTimeout(() => this.#flush(), ACK_DELAY_MS);
  }

  #flush(): void {
    if (this.#flushTimer !== undefined) {
      clearTimeout(this.#flushTimer);
      this.#flushTimer = undefined;
    }
    if (!this.#writable || this.#stream === undefined) return;
    if (!this.#acks.isEmpty) {
      this.#ackedBytes = 0;
      this.#writeRanges(ACK_RANGES, this.#acks.drain());
    }
    if (!this.#nacks.isEmpty) this.#writeRanges(NACK_RANGES, this.#nacks.drain());
  }

  /** A full buffer of the stream is left to grow by these few requests; the next flush waits for 'drain'. */
  #writeRanges(field: number, ranges: readonly MessageRange[], extendSeconds?: number): void {
    for (let from = 0; from < ranges.length; from += MAX_RANGES) {
      const some = ranges.length > MAX_RANGES ? ranges.slice(from, from + MAX_RANGES) : ranges;
      this.#writable = this.#stream?.write(encodeRanges(field, some, extendSeconds)) ?? false;
    }
  }
}
