// Runs a handler for each message: so many at once, those of one ordering key one after the other; acks on
// success, gives back on failure. After a failure, in a subscription with ordering, nothing later of the key
// is handled before the failed message was.
//
// A handler that runs has a slot, and so has a key with messages here: its handlers run in one
// slot, one after the other.
import { tell } from './callbacks.ts';
import type { Connection } from './connection.ts';
import { MessageSource, type SubscribeOptions, type SubscriptionDefinition } from './message-source.ts';
import { STOP } from './option-rules.ts';
import { checkOptions } from './options.ts';
import type { ReceivedMessage } from './received-message.ts';
import { activeTracing, processInSpan } from './telemetry.ts';

/**
 * Handles a message; if it throws or rejects, the message is given back. While a handler keeps the event loop
 * nothing of this process goes out: for longer than two thirds of the ack deadline in one go, and leases run
 * out. What comes again because of that is recognised while the first handling lasts and for some seconds
 * after it; another consumer may be given it.
 */
export type MessageHandler = (message: ReceivedMessage) => void | Promise<void>;

export interface SubscriberOptions extends SubscribeOptions {
  /** How many handlers run at once. Default 16. */
  readonly concurrency?: number;
  /** Told what a handler threw; the message is given back either way. */
  readonly onHandlerError?: (error: unknown, message: ReceivedMessage) => void;
}

export interface StopOptions {
  /** Handlers that still run after so long are waited for no longer. Default: no limit. */
  readonly timeoutMs?: number;
  /** When it is aborted, handlers that still run are waited for no longer. */
  readonly signal?: AbortSignal;
}

const NOTHING: ReceivedMessage[] = [];

export class Subscriber implements AsyncDisposable {
  /** Resolves when it has stopped; rejects with the FanfareError that ended the subscription for good. */
  readonly closed: Promise<void>;
  readonly #source: MessageSource;
  readonly #handler: MessageHandler;
  readonly #options: SubscriberOptions;
  /** The messages that wait for the slot of their key, by key. */
  readonly #queues = new Map<string, ReceivedMessage[]>();
  #slots = 0;
  #isStopping = false;
  /** Nobody waits for handlers any more. */
  #isAbandoned = false;
  #wake: (() => void) | undefined;

  constructor(
    connection: Connection,
    subscription: string,
    handler: MessageHandler,
    options: SubscriberOptions,
    definitionOf: (subscription: string) => Promise<SubscriptionDefinition>,
  ) {
    this.#handler = handler;
    this.#options = options;
    this.#source = new MessageSource(connection, subscription, options, definitionOf, {
      onMessages: () => this.#wake?.(),
      onEnd: () => this.#wake?.(),
      settlesAll: true,
    });
    this.closed = this.#run();
    // Somebody who doesn't ask for `closed` is not told of a failure; that must not end the process.
    this.closed.catch(() => {});
  }

  /**
   * Begins no more handlers, gives back what was not begun, waits for those that run, and tells the broker
   * what they did. Without a limit that takes as long as the handlers do, and up to 4 s more. Messages of
   * handlers that were not waited for are delivered again. Idempotent.
   */
  async stop(how: StopOptions = {}): Promise<void> {
    checkOptions('stop()', how, STOP);
    const { timeoutMs, signal } = how;
    this.#isStopping = true;
    this.#source.end();
    this.#wake?.();
    const abandon = () => {
      this.#isAbandoned = true;
      this.#wake?.();
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(abandon, timeoutMs);
    signal?.addEventListener('abort', abandon, { once: true });
    if (signal?.aborted) abandon();
    await this.#idle();
    clearTimeout(timer);
    signal?.removeEventListener('abort', abandon);
    await this.#source.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #run(): Promise<void> {
    const concurrency = this.#options.concurrency ?? 16;
    while (!this.#isStopping && !this.#source.isOver) {
      if (this.#slots >= concurrency) await this.#change();
      else if (this.#source.mustBreathe()) await this.#source.breathe();
      else {
        const message = this.#source.take();
        if (message !== undefined) this.#accept(message);
        // A broker that sends nonsense makes take() end the source.
        else if (!this.#source.isOver) await this.#change();
      }
    }
    this.#isStopping = true;
    await this.#idle();
    await this.#source.close();
    if (this.#source.error !== undefined) throw this.#source.error;
  }

  #accept(message: ReceivedMessage): void {
    const queue = this.#queues.get(message.orderingKey);
    if (queue !== undefined) queue.push(message);
    else void this.#work(message);
  }

  /** Takes a slot for a message, or for the messages of a key, until they are handled. */
  async #work(first: ReceivedMessage): Promise<void> {
    const key = first.orderingKey;
    const queue = key === '' ? NOTHING : [];
    if (key !== '') this.#queues.set(key, queue);
    this.#slots++;
    let message: ReceivedMessage | undefined = first;
    while (message !== undefined) {
      if (this.#isStopping) message.nack();
      else if (this.#source.begin(message)) await this.#handle(message);
      message = queue.shift();
      while (message !== undefined && this.#source.mustBreathe()) await this.#source.breathe();
    }
    if (key !== '') this.#queues.delete(key);
    this.#slots--;
    this.#wake?.();
  }

  async #handle(message: ReceivedMessage): Promise<void> {
    try {
      await processInSpan(activeTracing(), this.#source.name, message, async () => this.#handler(message));
      message.ack();
    } catch (error) {
      message.nack();
      tell('onHandlerError', this.#options.onHandlerError, error, message);
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const earlier = this.#wake;
      this.#wake = () => {
        this.#wake = undefined;
        earlier?.();
        resolve();
      };
    });
  }

  async #idle(): Promise<void> {
    while (this.#slots > 0 && !this.#isAbandoned) await this.#change();
  }
}
