// The messages of a subscription as an async iterable. Made by Client.subscribe(), and by subscriber.ts beneath its
// handlers. Responses wait here undecoded, bounded by the credit that was given to the broker.
import type { Connection } from './connection.ts';
import { type ConsumerOptions, type ConsumerStream, type Leases, makeConsumer } from './consumer-stream.ts';
import { type FanfareError, toFanfareError } from './errors.ts';
import { countFrames } from './frames.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { maxOutstandingMessages as messagesRule } from './option-rules.ts';
import { type HeldResponse, ReceivedMessage } from './received-message.ts';
import { BYTES, WireReader } from './wire.ts';

export interface SubscribeOptions extends ConsumerOptions {
  /**
   * Leases of messages that are here and not settled are extended for so long. Default 3,600,000 (an hour); 0: never.
   */
  readonly maxExtensionMs?: number;
}

/** What a consumer may need to know of its subscription. */
export interface SubscriptionDefinition {
  /** Full name. */
  readonly topic: string;
  readonly ackDeadlineSeconds: number;
}

/** The largest response (subscriber.proto); one may be under way when the credit is used up. */
const MAX_RESPONSE_BYTES = 3 * 1024 * 1024;

export class Subscription implements AsyncIterableIterator<ReceivedMessage>, AsyncDisposable {
  /** Resolves when it is closed, however that came about; its error goes to who iterates. */
  readonly closed: Promise<void>;
  readonly #resolveClosed: () => void;
  readonly #stream: ConsumerStream;
  readonly #keeper: LeaseKeeper;
  readonly #signal: AbortSignal | undefined;
  readonly #pauseAtBytes: number;
  /** Received, not begun. */
  #queue: HeldResponse[] = [];
  #queuedBytes = 0;
  #isPaused = false;
  #current: { readonly held: HeldResponse; readonly reader: WireReader } | undefined;
  #waiting: {
    resolve: (message: IteratorResult<ReceivedMessage>) => void;
    reject: (e: FanfareError) => void;
  }[] = [];
  #ended = false;
  #error: FanfareError | undefined;

  constructor(
    connection: Connection,
    subscription: string,
    options: SubscribeOptions,
    definitionOf: (subscription: string) => Promise<SubscriptionDefinition>,
  ) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    const topicOf = async (name: string) => (await definitionOf(name)).topic;
    this.#stream = makeConsumer(connection, subscription, options, topicOf, {
      onResponse: (bytes, leases) => this.#onResponse(bytes, leases),
      onInterrupted: () => this.#dropGone(),
      onEnd: (error) => {
        this.#onEnd(error);
        this.#resolveClosed();
      },
    });
    this.#keeper = new LeaseKeeper(this.#stream, {
      ackDeadlineSeconds: options.ackDeadlineSeconds,
      fetchDeadlineSeconds: async () => (await definitionOf(this.name)).ackDeadlineSeconds,
      maxExtensionMs: options.maxExtensionMs ?? 3_600_000,
    });
    this.#pauseAtBytes = this.#stream.maxOutstandingBytes + MAX_RESPONSE_BYTES;
    this.#signal = options.signal;
    if (this.#signal?.aborted) {
      this.#ended = true;
      resolve();
    } else {
      this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
      this.#stream.open();
    }
  }

  /** Full name. */
  get name(): string {
    return this.#stream.subscription;
  }

  /**
   * The next message. Done after close() or an abort of the signal. Rejects with a FanfareError that trying again does
   * not help against (NOT_FOUND, INVALID_ARGUMENT, PERMISSION_DENIED, ...); all others are tried again here.
   */
  next(): Promise<IteratorResult<ReceivedMessage>> {
    try {
      const message = this.#take();
      if (message !== undefined) return Promise.resolve({ value: message, done: false });
    } catch (error) {
      this.#failWith(error);
    }
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  /**
   * How many messages may be outstanding here from now on: 1 to 1,000,000. What a lower limit finds outstanding stays. A consumer
   * that wants only so many more lowers it before it acknowledges, so that nothing more is taken from others.
   */
  limitMessages(maxOutstandingMessages: number): void {
    messagesRule('maxOutstandingMessages', maxOutstandingMessages);
    this.#stream.limitMessages(maxOutstandingMessages);
  }

  /**
   * No more messages: next() is done, and what was not handed out is given back. The stream stays until close(), and leases are
   * extended, so that what was handed out can be settled.
   */
  end(): void {
    if (this.#ended) return;
    this.#stream.takeNoMore();
    try {
      for (let rest = this.#take(); rest !== undefined; rest = this.#take()) rest.nack();
    } catch (error) {
      this.#failWith(error);
      return;
    }
    this.#endIteration(undefined);
  }

  /** Called when a `for await` loop is left. */
  async return(): Promise<IteratorResult<ReceivedMessage>> {
    await this.close();
    return { value: undefined, done: true };
  }

  /** Sends what was settled and ends; messages that were not settled are delivered again. Idempotent. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#drop();
    await this.#stream.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #onAbort = (): void => {
    this.#onEnd(undefined);
    void this.close();
  };

  #onResponse(bytes: Buffer, leases: Leases): void {
    // It was on its way when end() was called; close() gives it back.
    if (this.#ended) return;
    let unsettled: number;
    try {
      unsettled = countFrames(bytes);
    } catch (error) {
      this.#failWith(error);
      return;
    }
    if (unsettled === 0) return;
    const held: HeldResponse = {
      bytes,
      leases,
      receivedMs: performance.now(),
      unsettled,
      release: (settled) => this.#keeper.remove(settled),
    };
    this.#keeper.add(held);
    this.#queue.push(held);
    this.#queuedBytes += bytes.length;
    this.#deliver();
    if (this.#queuedBytes > this.#pauseAtBytes) {
      this.#isPaused = true;
      this.#stream.pause();
    }
  }

  #deliver(): void {
    while (this.#waiting.length > 0) {
      let message: ReceivedMessage | undefined;
      try {
        message = this.#take();
      } catch (error) {
        this.#failWith(error);
        return;
      }
      if (message === undefined) return;
      this.#waiting.shift()!.resolve({ value: message, done: false });
    }
  }

  #take(): ReceivedMessage | undefined {
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
        const message = new ReceivedMessage(this.#stream, held, reader.position, end);
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

  /** What was not handed out and has no lease any more comes again. */
  #dropGone(): void {
    let bytes = 0;
    this.#queue = this.#queue.filter((held) => {
      if (!held.leases.gone) return true;
      bytes += held.bytes.length;
      return false;
    });
    if (this.#current?.held.leases.gone) this.#current = undefined;
    this.#dequeued(bytes);
  }

  /** The leases of what was not handed out end with the consumer. */
  #drop(): void {
    this.#queue = [];
    this.#current = undefined;
    this.#dequeued(this.#queuedBytes);
  }

  /** The broker sent nonsense: no use in asking for it again. */
  #failWith(error: unknown): void {
    this.#onEnd(toFanfareError(error));
    void this.#stream.close();
  }

  #onEnd(error: FanfareError | undefined): void {
    this.#keeper.stop();
    this.#endIteration(error);
  }

  #endIteration(error: FanfareError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#drop();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) {
      if (error !== undefined) waiter.reject(error);
      else waiter.resolve({ value: undefined, done: true });
    }
  }
}
