// A Subscribe stream that is opened again whenever it breaks, and the settlements that go out on it:
// a consumer at any broker, or one leg of a consumer, at an owner. Acks go out as ranges, every few
// milliseconds or as soon as half of the credit is acked, so that the broker never runs out of
// credit while we are busy.
//
// state      left by
// open       status of the stream → waiting, or closed for good;  close() → closed
// waiting    the backoff is over → open;  close() → closed
// closed     –
//
// After takeNoMore() no stream is opened any more: what is settled without one is told by close().
import { randomUUID } from 'node:crypto';
import type { StatusObject } from '@grpc/grpc-js';
import { Backoff } from './backoff.ts';
import { tell } from './callbacks.ts';
import type { ByteStream, Connection } from './connection.ts';
import type { ConsumerListener, ConsumerOptions, ConsumerStream, Leases } from './consumer-stream.ts';
import { FanfareError, toFanfareError } from './errors.ts';
import type { MessagePlace, MessageRange } from './frames.ts';
import { OutgoingSettles, pagesOf } from './outgoing-settles.ts';
import {
  decodeProperties,
  EXTEND_RANGES,
  encodeFirstRequest,
  encodeLimits,
  encodeRanges,
  encodeTakesNoMore,
  type SubscriptionProperties,
} from './subscribe-codec.ts';

const PATH = '/fanfare.v1.Subscriber/Subscribe';
const ACKNOWLEDGE_PATH = '/fanfare.v1.Subscriber/Acknowledge';
const ACK_DELAY_MS = 5;
const CLOSE_GRACE_MS = 2_000;
/** A stream that lived this long was a good one: the next delay is a short one again. */
const GOOD_STREAM_MS = 1_000;
/** The trailer by which a broker says that the leases of a stream that it ends last until their deadlines. */
const LEASES_TRAILER = 'fanfare-leases';
const LEASES_KEPT = 'kept';

/** Codes after which trying again cannot help. */
const FINAL_CODES = new Set([
  'NOT_FOUND',
  'INVALID_ARGUMENT',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'FAILED_PRECONDITION',
  'UNIMPLEMENTED',
]);

/** What one stream among several has beyond the options of every consumer. */
export interface StreamOptions extends ConsumerOptions {
  /** host:port of an owner, of whose partitions alone it delivers; undefined: any broker, everything. */
  readonly owner?: string;
  /** Gives numbers for Leases. */
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
  readonly #settles = new OutgoingSettles();
  #number = 0;
  #leases: OwnLeases;
  #stream: ByteStream | undefined;
  #openedMs = 0;
  #writable = false;
  #isPaused = false;
  /** Whether the last stream that there was ended with its leases kept. */
  #resumes = false;
  #failingSinceMs: number | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #takesNoMore = false;
  #closed = false;
  #closing: Promise<void> | undefined;

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

  /** How long there has been no good stream, in ms; 0: there is one. */
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
      if (stream === this.#stream) this.#onResponse(bytes);
    });
    stream.on('drain', () => {
      if (stream !== this.#stream) return;
      this.#writable = true;
      this.flush();
    });
    // 'status' comes in any case and says the same; without a listener an error would end the process.
    stream.on('error', () => {});
    stream.on('status', (status) => {
      if (stream !== this.#stream) return;
      // What came before the status may still be in the stream's buffer; reading
      // tells the listener of 'data'.
      while (stream.read() !== null);
      if (stream === this.#stream) this.#onStatus(status);
    });
    if (this.#isPaused) stream.pause();
    const first = encodeFirstRequest({
      subscription: this.subscription,
      clientId: this.#clientId,
      ackDeadlineSeconds: this.#options.ackDeadlineSeconds ?? 0,
      maxOutstandingMessages: this.maxOutstandingMessages,
      maxOutstandingBytes: this.maxOutstandingBytes,
      ownedOnly: this.owner !== undefined,
      resumes: this.#resumes,
    });
    const [settles, ...more] = this.#settles.takeAgain(this.#resumes);
    this.#write([settles === undefined ? first : Buffer.concat([first, settles]), ...more]);
    this.flush();
  }

  /** Sets the limits from now on, on this stream and those after it. */
  setLimits(maxOutstandingMessages: number, maxOutstandingBytes: number): void {
    const isSame =
      maxOutstandingMessages === this.maxOutstandingMessages &&
      maxOutstandingBytes === this.maxOutstandingBytes;
    if (isSame) return;
    this.maxOutstandingMessages = maxOutstandingMessages;
    this.maxOutstandingBytes = maxOutstandingBytes;
    this.#write([encodeLimits(maxOutstandingMessages, maxOutstandingBytes)]);
  }

  limitMessages(maxOutstandingMessages: number): void {
    this.setLimits(maxOutstandingMessages, this.maxOutstandingBytes);
  }

  takeNoMore(): void {
    if (this.#takesNoMore) return;
    this.#takesNoMore = true;
    clearTimeout(this.#retryTimer);
    this.#write([encodeTakesNoMore()]);
  }

  ack(
    leases: Leases,
    logEpoch: number,
    partition: number,
    firstOffset: number,
    lastOffset: number,
    bytes: number,
  ): void {
    if (this.#closed) return;
    this.#settles.ack(leases, logEpoch, partition, firstOffset, lastOffset, bytes);
    const urgent =
      this.#settles.ackedMessages * 2 >= this.maxOutstandingMessages ||
      this.#settles.ackedBytes * 2 >= this.maxOutstandingBytes;
    if (urgent) this.flush();
    else this.#flushSoon();
  }

  nack(leases: Leases, range: MessageRange): void {
    if (this.#closed || leases.gone) return;
    this.#settles.nack(leases, range);
    this.#flushSoon();
  }

  wasAcked(place: MessagePlace): boolean {
    return this.#settles.wasAcked(place);
  }

  extend(ranges: readonly MessageRange[], extendSeconds: number): boolean {
    if (!this.#writable || this.#closed) return false;
    const { incarnation } = this.#settles;
    this.#write(
      pagesOf(ranges).map((page) => encodeRanges(EXTEND_RANGES, page, { extendSeconds, incarnation })),
    );
    return true;
  }

  flush(): void {
    if (this.#flushTimer !== undefined) {
      clearTimeout(this.#flushTimer);
      this.#flushTimer = undefined;
    }
    if (this.#writable && this.#stream !== undefined) this.#write(this.#settles.take());
  }

  pause(): void {
    this.#isPaused = true;
    this.#stream?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#stream?.resume();
  }

  /** With leasesMoved the leases stay: another stream of the consumer goes on with them. */
  close({ leasesMoved = false } = {}): Promise<void> {
    this.#closing ??= this.#closed ? Promise.resolve() : this.#close(leasesMoved);
    return this.#closing;
  }

  async #close(leasesMoved: boolean): Promise<void> {
    this.takeNoMore();
    this.#writable = true;
    this.flush();
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#flushTimer);
    const stream = this.#stream;
    this.#stream = undefined;
    const isConfirmed = stream !== undefined && (await endOf(stream));
    if (!isConfirmed) await this.#acknowledgeRecent();
    if (!leasesMoved) this.#leases.gone = true;
    this.#listener.onEnd(undefined);
  }

  /**
   * Tells recent acks by unary calls: there is no stream, or it broke while it ended, and no acked
   * message is to come again.
   */
  async #acknowledgeRecent(): Promise<void> {
    const untilMs = performance.now() + CLOSE_GRACE_MS;
    try {
      for (const request of this.#settles.acknowledgeRequests(this.subscription)) {
        const timeoutMs = Math.max(1, untilMs - performance.now());
        await this.#connection.unary(ACKNOWLEDGE_PATH, request, { timeoutMs });
      }
    } catch (error) {
      // It is not known whether they count: the messages come again, as after any loss. Nobody can do more.
      tell('onRetry', this.#options.onRetry, toFanfareError(error), 0);
    }
  }

  #onResponse(bytes: Buffer): void {
    this.#failingSinceMs = undefined;
    let properties: SubscriptionProperties | undefined;
    try {
      properties = decodeProperties(bytes);
    } catch (error) {
      this.#endFor(toFanfareError(error));
      return;
    }
    if (properties === undefined) this.#listener.onResponse(bytes, this.#leases);
    else this.#onProperties(properties);
  }

  #onProperties(properties: SubscriptionProperties): void {
    // Whatever was leased to us was leased by a subscription that is gone.
    if (this.#settles.belongsTo(properties.incarnation)) this.#endLeases();
    this.#leases.incarnation = properties.incarnation;
    this.#listener.onProperties(properties);
  }

  #onStatus(status: StatusObject): void {
    const error = status.code === 0 ? undefined : toFanfareError(status);
    this.#stream = undefined;
    this.#writable = false;
    if (error !== undefined && FINAL_CODES.has(error.code)) {
      this.#endFor(error);
      return;
    }
    if (status.metadata.get(LEASES_TRAILER).includes(LEASES_KEPT)) this.#resumes = true;
    // Leases that were kept are not lost by a try that found no broker.
    else if (!this.#resumes || error?.notSent !== true) this.#endLeases();
    if (performance.now() - this.#openedMs > GOOD_STREAM_MS) {
      this.#backoff.reset();
      this.#failingSinceMs = undefined;
    }
    this.#failingSinceMs ??= performance.now();
    // What is settled from here on is told by close().
    if (this.#takesNoMore) return;
    const delayMs = this.#backoff.nextMs();
    this.#retryTimer = setTimeout(() => this.open(), delayMs);
    const reason = error ?? new FanfareError('UNAVAILABLE', 'the broker ended the stream');
    tell('onRetry', this.#options.onRetry, reason, delayMs);
  }

  /** Ends it for good: trying again is of no use. */
  #endFor(error: FanfareError): void {
    this.#closed = true;
    this.#stream?.cancel();
    this.#stream = undefined;
    clearTimeout(this.#flushTimer);
    this.#endLeases();
    this.#listener.onEnd(error);
  }

  #endLeases(): void {
    this.#resumes = false;
    const leases = this.#leases;
    leases.gone = true;
    this.#leases = this.#newLeases();
    this.#settles.dropNacks();
    this.#listener.onInterrupted(leases);
  }

  #newLeases(): OwnLeases {
    this.#number = this.#options.nextNumber?.() ?? this.#number + 1;
    return { number: this.#number, gone: false, incarnation: 0 };
  }

  #flushSoon(): void {
    this.#flushTimer ??= setTimeout(() => this.flush(), ACK_DELAY_MS);
  }

  /**
   * Writes even into a full buffer of the stream, which grows by these few requests; the next
   * flush waits for 'drain'.
   */
  #write(requests: readonly Buffer[]): void {
    for (const request of requests) this.#writable = this.#stream?.write(request) ?? false;
  }
}

interface OwnLeases extends Leases {
  gone: boolean;
  incarnation: number;
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
