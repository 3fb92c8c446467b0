// The messages of a subscription on their way to whoever handles them: taken from the streams, kept
// undecoded (bounded by the credit that was given to the broker), leases extended, settlements passed
// on. Before each is handled, begin() decides whether it is to be: that is the one place where order
// and repetitions are judged.
//
//   response ─▶ queue ─ take() ▶ a message ─ begin() ▶ in hand ─ ack, nack ▶ settled
//                                               └ not to be handled: it was handled, its lease is over, it is
//                                                 in hand, or something of its key comes first. It is dealt
//                                                 with, and the next one is asked for
import type { Connection } from './connection.ts';
import { type ConsumerOptions, type ConsumerStream, type Leases, makeConsumer } from './consumer-stream.ts';
import { type FanfareError, toFanfareError } from './errors.ts';
import { countFrames } from './frames.ts';
import { InHand } from './in-hand.ts';
import { KeyGate } from './key-gate.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { Pace } from './pace.ts';
import { type HeldResponse, type MessageHome, ReceivedMessage } from './received-message.ts';
import type { SubscriptionProperties } from './subscribe-codec.ts';
import { BYTES, WireReader } from './wire.ts';

export interface SubscribeOptions extends ConsumerOptions {
  /**
   * How long leases of messages that are here and not settled are extended. Default
   * 3,600,000 (an hour); 0: never.
   */
  readonly maxExtensionMs?: number;
}

/** What a consumer may need to know of its subscription. */
export interface SubscriptionDefinition {
  /** The topic's full name. */
  readonly topic: string;
  readonly ackDeadlineSeconds: number;
}

export interface SourceListener {
  /** take() may have something. */
  onMessages(): void;
  /** take() will have nothing more; see `error`. */
  onEnd(): void;
  /** Whether it settles in the end whatever it begins to handle. */
  readonly settlesAll: boolean;
}

/** The largest response (subscriber.proto); one may be under way when the credit is used up. */
const MAX_RESPONSE_BYTES = 3 * 1024 * 1024;

export class MessageSource implements MessageHome {
  /** Resolves when the stream has ended, however that came about. */
  readonly closed: Promise<void>;
  readonly #resolveClosed: () => void;
  readonly #listener: SourceListener;
  readonly #stream: ConsumerStream;
  readonly #keeper: LeaseKeeper;
  readonly #gate = new KeyGate();
  readonly #inHand: InHand;
  readonly #pace = new Pace();
  readonly #signal: AbortSignal | undefined;
  readonly #pauseAtBytes: number;
  /** Undefined: the broker has not said. Then the order of keys may matter. */
  #isOrdered: boolean | undefined;
  /** What was received and not taken. */
  #queue: HeldResponse[] = [];
  #queuedBytes = 0;
  #isPaused = false;
  #current: { readonly held: HeldResponse; readonly reader: WireReader } | undefined;
  /** Deliveries that waited for an earlier one of the same message, which failed. */
  #again: ReceivedMessage[] = [];
  #isOver = false;
  #error: FanfareError | undefined;

  constructor(
    connection: Connection,
    subscription: string,
    options: SubscribeOptions,
    definitionOf: (subscription: string) => Promise<SubscriptionDefinition>,
    listener: SourceListener,
  ) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    this.#listener = listener;
    const topicOf = async (name: string) => (await definitionOf(name)).topic;
    this.#stream = makeConsumer(connection, subscription, options, topicOf, {
      onProperties: (properties) => this.#onProperties(properties),
      onResponse: (bytes, leases) => this.#onResponse(bytes, leases),
      onInterrupted: (leases) => this.#onInterrupted(leases),
      onEnd: (error) => {
        this.#end(error);
        this.#stop();
        this.#resolveClosed();
      },
    });
    this.#keeper = new LeaseKeeper(this.#stream, {
      ackDeadlineSeconds: options.ackDeadlineSeconds,
      fetchDeadlineSeconds: async () => (await definitionOf(this.name)).ackDeadlineSeconds,
      maxExtensionMs: options.maxExtensionMs ?? 3_600_000,
    });
    this.#pauseAtBytes = this.#stream.maxOutstandingBytes + MAX_RESPONSE_BYTES;
    this.#inHand = new InHand({ maxBytes: 2 * this.#pauseAtBytes, areSettled: listener.settlesAll });
    this.#signal = options.signal;
    if (this.#signal?.aborted) {
      this.#isOver = true;
      resolve();
    } else {
      this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
      this.#stream.open();
    }
  }

  /** The subscription's full name. */
  get name(): string {
    return this.#stream.subscription;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What ended it, once it is over; undefined: the caller did. */
  get error(): FanfareError | undefined {
    return this.#error;
  }

  /**
   * Whether the event loop was kept so long that breathe() must come before the next
   * message. Ask once before each.
   */
  mustBreathe(): boolean {
    return this.#pace.isDue();
  }

  /** Tells what was settled, and resolves when timers and sockets have had their turn. */
  breathe(): Promise<void> {
    this.#stream.flush();
    return this.#pace.turn();
  }

  /** The next message that is here. Ask begin() before it is handled. */
  take(): ReceivedMessage | undefined {
    try {
      return this.#again.shift() ?? this.#takeQueued();
    } catch (error) {
      // The broker sent nonsense: there is no use in asking for it again.
      this.#end(toFanfareError(error));
      void this.close();
      return undefined;
    }
  }

  /** Whether the message is to be handled now; ask just after mustBreathe(). If not, it was dealt with. */
  begin(message: ReceivedMessage): boolean {
    if (message.deliveryAttempt > 1 && this.#stream.wasAcked(message)) {
      // The acknowledgement may have been lost.
      message.ack();
      return false;
    }
    if (message.isStaleAt(this.#pace.nowMs)) {
      message.nack();
      return false;
    }
    if (this.#inHand.holds(message)) return false;
    if (!this.#gate.isEmpty && message.orderingKey !== '' && !this.#gate.admits(message)) {
      message.nack();
      return false;
    }
    this.#inHand.add(message);
    return true;
  }

  limitMessages(maxOutstandingMessages: number): void {
    this.#stream.limitMessages(maxOutstandingMessages);
  }

  /**
   * Ends the taking: take() gives nothing more, and what was not taken is given back. The stream stays until
   * close(), and leases are extended, so that what was taken can be settled.
   */
  end(): void {
    if (this.#isOver) return;
    this.#stream.takeNoMore();
    for (let rest = this.take(); rest !== undefined; rest = this.take()) rest.nack();
    this.#end(undefined);
  }

  /** Tells what was settled and ends; messages that were not settled are delivered again. Idempotent. */
  close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#end(undefined);
    this.#stop();
    return this.#stream.close();
  }

  acked(message: ReceivedMessage): void {
    const { leases, logEpoch, partition, offset, byteLength } = message;
    this.#stream.ack(leases, logEpoch, partition, offset, offset, byteLength);
    this.#inHand.takeWaiting(message)?.discard();
  }

  gaveBack(message: ReceivedMessage): void {
    this.#stream.nack(message.leases, message.range);
    if (this.#isOrdered !== false && message.orderingKey !== '') this.#gate.threwAway(message);
    const waiting = this.#inHand.takeWaiting(message);
    if (waiting === undefined) return;
    this.#again.push(waiting);
    // Whoever gives a message back may be about to ask for the next one.
    queueMicrotask(() => this.#listener.onMessages());
  }

  extended(message: ReceivedMessage, seconds: number): void {
    this.#stream.extend([message.range], seconds);
  }

  released(held: HeldResponse): void {
    this.#keeper.remove(held);
    this.#inHand.released(held);
  }

  readonly #onAbort = (): void => void this.close();

  #onProperties({ ordering, ackDeadlineSeconds }: SubscriptionProperties): void {
    this.#isOrdered = ordering;
    if (!ordering) this.#gate.clear();
    this.#keeper.deadlineSeconds = ackDeadlineSeconds;
  }

  #onResponse(bytes: Buffer, leases: Leases): void {
    // The response was on its way when the source ended; close() gives it back.
    if (this.#isOver) return;
    let unsettled: number;
    try {
      unsettled = countFrames(bytes);
    } catch (error) {
      this.#end(toFanfareError(error));
      void this.close();
      return;
    }
    if (unsettled === 0) return;
    const receivedMs = performance.now();
    const held: HeldResponse = {
      bytes,
      leases,
      receivedMs,
      extendAtMs: receivedMs,
      leaseEndsMs: Number.POSITIVE_INFINITY,
      unsettled,
      inHand: [],
      home: this,
    };
    this.#keeper.add(held);
    this.#queue.push(held);
    this.#queuedBytes += bytes.length;
    this.#listener.onMessages();
    if (this.#queuedBytes > this.#pauseAtBytes) {
      this.#isPaused = true;
      this.#stream.pause();
    }
  }

  #takeQueued(): ReceivedMessage | undefined {
    for (;;) {
      if (this.#current === undefined) {
        const held = this.#queue.shift();
        if (held === undefined) return undefined;
        this.#dequeued(held.bytes.length);
        this.#current = { held, reader: new WireReader(held.bytes) };
      }
      const { held, reader } = this.#current;
      while (reader.next()) {
        if (reader.field !== 1 || reader.wireType !== BYTES) {
          reader.skip();
          continue;
        }
        const end = reader.lengthDelimitedEnd();
        const message = new ReceivedMessage(held, reader.position, end);
        reader.position = end;
        return message;
      }
      this.#current = undefined;
    }
  }

  #dequeued(bytes: number): void {
    this.#queuedBytes -= bytes;
    if (this.#isPaused && this.#queuedBytes <= this.#pauseAtBytes) {
      this.#isPaused = false;
      this.#stream.resume();
    }
  }

  /** Drops what was not taken and has no lease any more: it comes again. */
  #onInterrupted(leases: Leases): void {
    let bytes = 0;
    this.#queue = this.#queue.filter((held) => {
      if (!held.leases.gone) return true;
      bytes += held.bytes.length;
      return false;
    });
    if (this.#current?.held.leases.gone) this.#current = undefined;
    this.#again = this.#again.filter((message) => !message.leases.gone);
    this.#gate.forget(leases);
    this.#inHand.interrupted(leases);
    this.#dequeued(bytes);
  }

  /** Hands nothing out any more. What is in hand keeps its leases. */
  #end(error: FanfareError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    for (const held of this.#queue) this.#keeper.remove(held);
    this.#queue = [];
    this.#current = undefined;
    this.#again = [];
    this.#dequeued(this.#queuedBytes);
    this.#listener.onEnd();
  }

  /** Ends everything: nothing is extended, and what is settled from now on means nothing. */
  #stop(): void {
    this.#keeper.stop();
    this.#inHand.clear();
    this.#gate.clear();
  }
}
