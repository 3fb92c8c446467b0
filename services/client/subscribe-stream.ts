// A Subscribe stream that is opened again whenever it breaks, and the settlements that go out on it: a consumer at any broker,
// or the part of one at an owner (direct-consumer.ts). Made through consumer-stream.ts. Acks go out as ranges, every few
// milliseconds or as soon as half of the credit is acked, so that the broker never runs out of credit while we are busy.
//
// state      left by
// open       status of the stream → waiting, or closed for good;  close() → closed
// waiting    the backoff is over → open;  close() → closed
// closed     –
import { randomUUID } from 'node:crypto';
import type { StatusObject } from '@grpc/grpc-js';
import { Backoff } from './backoff.ts';
import type { ByteStream, Connection } from './connection.ts';
import type { ConsumerListener, ConsumerOptions, ConsumerStream, Leases } from './consumer-stream.ts';
import { FanfareError, toFanfareError } from './errors.ts';
import type { MessageRange } from './frames.ts';
import { RecentAcks } from './recent-acks.ts';
import { Settlements } from './settlements.ts';
import {
  ACK_RANGES,
  EXTEND_RANGES,
  encodeAcknowledge,
  encodeFirstRequest,
  encodeLimits,
  encodeRanges,
  encodeTakesNoMore,
  MAX_RANGES,
  NACK_RANGES,
} from './subscribe-codec.ts';

const PATH = '/fanfare.v1.Subscriber/Subscribe';
const ACKNOWLEDGE_PATH = '/fanfare.v1.Subscriber/Acknowledge';
const ACK_DELAY_MS = 5;
const CLOSE_GRACE_MS = 2_000;
/** A stream that lived this long was a good one: the next delay is a short one again. */
const GOOD_STREAM_MS = 1_000;
/** A trailer with which a broker says that the leases of a stream that it ends last until their deadlines. */
const LEASES_TRAILER = 'fanfare-leases';
const LEASES_KEPT = 'kept';

const FINAL_CODES = new Set([
  'NOT_FOUND',
  'INVALID_ARGUMENT',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'FAILED_PRECONDITION',
  'UNIMPLEMENTED',
]);

/** Beyond what every consumer has: of one stream among several. */
export interface StreamOptions extends ConsumerOptions {
  /** host:port of an owner, of whose partitions alone it delivers; undefined: any broker, everything. */
  readonly owner?: string;
  /** Numbers for Leases. */
  readonly nextNumber?: () => number;
}

export class SubscribeStream implements ConsumerStream {
  readonly subscription: string;
  readonly owner: string | undefined;
  maxOutstandingMessages: number;
  maxOutstandingBytes: number;
  readonly #connection: Connection;
  readonly #options: StreamOptions;
  readonly #listener: ConsumerListener;
  readonly #backoff: Backoff;
  readonly #clientId: string;
  readonly #acks = new Settlements();
  readonly #nacks = new Settlements();
  readonly #recentAcks = new RecentAcks();
  #ackedBytes = 0;
  #number = 0;
  #leases: { readonly number: number; gone: boolean };
  #stream: ByteStream | undefined;
  #openedMs = 0;
  #writable = false;
  #isPaused = false;
  /** The last stream that there was ended with its leases kept. */
  #resumes = false;
  #failingSinceMs: number | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #takesNoMore = false;
  #closed = false;

  constructor(
    connection: Connection,
    subscription: string,
    options: StreamOptions,
    listener: ConsumerListener,
  ) {
    this.subscription = connection.subscriptionName(subscription);
    this.owner = options.owner;
    this.maxOutstandingMessages = options.maxOutstandingMessages ?? 10_000;
    this.maxOutstandingBytes = options.maxOutstandingBytes ?? 16 * 1024 * 1024;
    this.#connection = connection;
    this.#options = options;
    this.#listener = listener;
    this.#backoff = new Backoff({ ...connection.backoffDefaults, ...options.backoff });
    this.#clientId = options.clientId ?? randomUUID();
    this.#leases = this.#newLeases();
  }

  /** For how long it has not had a good stream. */
  get failingMs(): number {
    if (this.#stream !== undefined && performance.now() - this.#openedMs > GOOD_STREAM_MS) return 0;
    return this.#failingSinceMs === undefined ? 0 : performance.now() - this.#failingSinceMs;
  }

  get isOpen(): boolean {
    return this.#stream !== undefined;
  }

  open(): void {
    if (this.#closed || this.#takesNoMore) return;
    const stream = this.#connection.openStream(PATH, this.owner);
    this.#stream = stream;
    this.#openedMs = performance.now();
    stream.on('data', (bytes: Buffer) => {
      if (stream !== this.#stream) return;
      this.#failingSinceMs = undefined;
      this.#listener.onResponse(bytes, this.#leases);
    });
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#writable = true;
      this.#flush();
    });
    // 'status' comes in any case and says the same; without a listener an error would end the process.
    stream.on('error', () => {});
    stream.on('status', (status) => {
      if (stream !== this.#stream) return;
      // What came before the status may still be in the stream's buffer; reading tells the listener of 'data'.
      while (stream.read() !== null);
      if (stream === this.#stream) this.#onStatus(status);
    });
    if (this.#isPaused) stream.pause();
    // With the first request, before the broker can deliver anything: what was acked while there was no stream, and once more
    // what was acked on one that may not have heard of it.
    this.#recentAcks.add(this.#acks.drain());
    this.#ackedBytes = 0;
    const acks = this.#recentAcks.ranges();
    const first = encodeFirstRequest({
      subscription: this.subscription,
      clientId: this.#clientId,
      ackDeadlineSeconds: this.#options.ackDeadlineSeconds ?? 0,
      maxOutstandingMessages: this.maxOutstandingMessages,
      maxOutstandingBytes: this.maxOutstandingBytes,
      ownedOnly: this.owner !== undefined,
      resumes: this.#resumes,
    });
    const firstAcks = encodeRanges(ACK_RANGES, acks.slice(0, MAX_RANGES));
    this.#writable = stream.write(acks.length === 0 ? first : Buffer.concat([first, firstAcks]));
    this.#writeRanges(ACK_RANGES, acks.slice(MAX_RANGES));
    this.#flush();
  }

  /** From now on, on this stream and those after it. */
  setLimits(maxOutstandingMessages: number, maxOutstandingBytes: number): void {
    const isSame =
      maxOutstandingMessages === this.maxOutstandingMessages &&
      maxOutstandingBytes === this.maxOutstandingBytes;
    if (isSame) return;
    this.maxOutstandingMessages = maxOutstandingMessages;
    this.maxOutstandingBytes = maxOutstandingBytes;
    if (this.#stream !== undefined) {
      this.#writable = this.#stream.write(encodeLimits(maxOutstandingMessages, maxOutstandingBytes));
    }
  }

  limitMessages(maxOutstandingMessages: number): void {
    this.setLimits(maxOutstandingMessages, this.maxOutstandingBytes);
  }

  takeNoMore(): void {
    if (this.#takesNoMore) return;
    this.#takesNoMore = true;
    clearTimeout(this.#retryTimer);
    if (this.#stream !== undefined) this.#writable = this.#stream.write(encodeTakesNoMore());
  }

  ack(
    _leases: Leases,
    logEpoch: number,
    partition: number,
    firstOffset: number,
    lastOffset: number,
    bytes: number,
  ): void {
    if (this.#closed) return;
    this.#acks.add(logEpoch, partition, firstOffset, lastOffset);
    this.#ackedBytes += bytes;
    const urgent =
      this.#acks.messages * 2 >= this.maxOutstandingMessages ||
      this.#ackedBytes * 2 >= this.maxOutstandingBytes;
    if (urgent) this.#flush();
    else this.#flushSoon();
  }

  nack(leases: Leases, range: MessageRange): void {
    if (this.#closed || leases.gone) return;
    this.#nacks.add(range.logEpoch, range.partition, range.firstOffset, range.lastOffset);
    this.#flushSoon();
  }

  extend(ranges: readonly MessageRange[], extendSeconds: number): boolean {
    if (!this.#writable || this.#closed) return false;
    this.#writeRanges(EXTEND_RANGES, ranges, extendSeconds);
    return true;
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#stream?.resume();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.takeNoMore();
    this.#writable = true;
    this.#flush();
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#flushTimer);
    const stream = this.#stream;
    this.#stream = undefined;
    const isConfirmed = stream !== undefined && (await endOf(stream));
    if (!isConfirmed) await this.#acknowledgeRecent();
    this.#leases.gone = true;
    this.#listener.onEnd(undefined);
  }

  /** There is no stream to say it on, or it broke when it was to end: so that nothing acknowledged is delivered again. */
  async #acknowledgeRecent(): Promise<void> {
    const ranges = [...this.#recentAcks.ranges(), ...this.#acks.drain()];
    for (let from = 0; from < ranges.length; from += MAX_RANGES) {
      const request = encodeAcknowledge(this.subscription, ranges.slice(from, from + MAX_RANGES));
      try {
        await this.#connection.unary(ACKNOWLEDGE_PATH, request, { timeoutMs: CLOSE_GRACE_MS });
      } catch (error) {
        // Not known to be acknowledged: delivered again, as after any loss. Nobody can do more.
        this.#options.onRetry?.(toFanfareError(error), 0);
        return;
      }
    }
  }

  #onStatus(status: StatusObject): void {
    const error = status.code === 0 ? undefined : toFanfareError(status);
    this.#stream = undefined;
    this.#writable = false;
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      this.#closed = true;
      this.#leases.gone = true;
      clearTimeout(this.#flushTimer);
      this.#listener.onEnd(error);
      return;
    }
    if (status.metadata.get(LEASES_TRAILER).includes(LEASES_KEPT)) this.#resumes = true;
    // What is kept is not lost by trying where nobody is.
    else if (!this.#resumes || error?.notSent !== true) this.#endLeases();
    if (performance.now() - this.#openedMs > GOOD_STREAM_MS) {
      this.#backoff.reset();
      this.#failingSinceMs = undefined;
    }
    this.#failingSinceMs ??= performance.now();
    // What is settled from here on close() tells.
    if (this.#takesNoMore) return;
    const delayMs = this.#backoff.nextMs();
    this.#retryTimer = setTimeout(() => this.open(), delayMs);
    this.#options.onRetry?.(error ?? new FanfareError('UNAVAILABLE', 'the broker ended the stream'), delayMs);
  }

  #endLeases(): void {
    this.#resumes = false;
    const leases = this.#leases;
    leases.gone = true;
    this.#leases = this.#newLeases();
    this.#nacks.drain();
    this.#listener.onInterrupted(leases);
  }

  #newLeases(): { number: number; gone: boolean } {
    this.#number = this.#options.nextNumber?.() ?? this.#number + 1;
    return { number: this.#number, gone: false };
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
      const ranges = this.#acks.drain();
      this.#recentAcks.add(ranges);
      this.#writeRanges(ACK_RANGES, ranges);
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

/** Ends the stream; resolves to whether the broker has confirmed the end. */
async function endOf(stream: ByteStream): Promise<boolean> {
  // What still arrives must be read, or the status would wait behind it.
  stream.resume();
  stream.end();
  const cancel = setTimeout(() => stream.cancel(), CLOSE_GRACE_MS);
  const { code } = await new Promise<StatusObject>((resolve) => stream.on('status', resolve));
  clearTimeout(cancel);
  return code === 0;
}
