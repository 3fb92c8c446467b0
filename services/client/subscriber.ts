// Runs a handler for each message: so many at once, those of one ordering key one after the other; acks on success, gives
// back on failure. Made by Client.subscriber().
//
// After a failure of a key nothing later of the key is handled before the failed message comes again: what is queued of
// it is given back, and so is what was under way to us when the broker learned of it (a first delivery behind the failure).
import type { ReceivedMessage } from './received-message.ts';
import type { SubscribeOptions, Subscription } from './subscription.ts';
import { activeTracing, processInSpan } from './telemetry.ts';

export type MessageHandler = (message: ReceivedMessage) => void | Promise<void>;

export interface SubscriberOptions extends SubscribeOptions {
  /** How many handlers run at once. Default 16. */
  readonly concurrency?: number;
  /** Told what a handler threw; the message is given back either way. */
  readonly onHandlerError?: (error: unknown, message: ReceivedMessage) => void;
}

interface Failure {
  readonly generation: number;
  readonly partition: number;
  readonly offset: number;
}

/** Failed keys that never come again (another consumer has them now) are forgotten, oldest first, beyond this. */
const MAX_FAILED_KEYS = 10_000;

export class Subscriber implements AsyncDisposable {
  /** Resolves when it has stopped; rejects with the FanfareError that ended the subscription for good. */
  readonly closed: Promise<void>;
  readonly #subscription: Subscription;
  readonly #handler: MessageHandler;
  readonly #options: SubscriberOptions;
  /** Of each key with a message in hand, those behind it. */
  readonly #queues = new Map<string, ReceivedMessage[]>();
  /** Keys that wait for a failed message to come again, and where it was. */
  readonly #failedKeys = new Map<string, Failure>();
  #running = 0;
  #stopping = false;
  #wake: (() => void) | undefined;

  constructor(subscription: Subscription, handler: MessageHandler, options: SubscriberOptions) {
    this.#subscription = subscription;
    this.#handler = handler;
    this.#options = options;
    this.closed = this.#run();
    this.closed.catch(() => {});
  }

  /** Begins no more handlers, waits for those that run, tells the broker what they did. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping = true;
    // Wakes the loop: in `next`, or waiting for a free handler.
    this.#wake?.();
    await this.#idle();
    await this.#subscription.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #run(): Promise<void> {
    const concurrency = this.#options.concurrency ?? 16;
    try {
      for (;;) {
        while (this.#running >= concurrency) await this.#change();
        const { value: message, done } = await this.#subscription.next();
        if (done) break;
        // Not begun: its lease ends with the stream.
        if (!this.#stopping) this.#accept(message);
      }
    } finally {
      this.#stopping = true;
      await this.#idle();
      await this.#subscription.close();
    }
  }

  #accept(message: ReceivedMessage): void {
    const key = message.orderingKey;
    if (key === '') {
      void this.#handle(message);
      return;
    }
    if (this.#isBehindFailure(key, message)) {
      message.nack();
      return;
    }
    const queue = this.#queues.get(key);
    if (queue !== undefined) queue.push(message);
    else {
      this.#queues.set(key, []);
      void this.#handleKey(key, message);
    }
  }

  #isBehindFailure(key: string, message: ReceivedMessage): boolean {
    const failed = this.#failedKeys.get(key);
    if (failed === undefined) return false;
    const underWay =
      message.deliveryAttempt === 1 &&
      message.generation === failed.generation &&
      message.partition === failed.partition &&
      message.offset > failed.offset;
    if (!underWay) this.#failedKeys.delete(key);
    return underWay;
  }

  async #handleKey(key: string, first: ReceivedMessage): Promise<void> {
    const queue = this.#queues.get(key)!;
    for (let message: ReceivedMessage | undefined = first; message !== undefined; message = queue.shift()) {
      // Of a stream that is gone: it comes again, in its place in the order.
      if (message.isStale || this.#stopping) continue;
      if (await this.#handle(message)) continue;
      this.#rememberFailure(key, message);
      for (const later of queue.splice(0)) later.nack();
    }
    this.#queues.delete(key);
  }

  #rememberFailure(key: string, { generation, partition, offset }: ReceivedMessage): void {
    this.#failedKeys.set(key, { generation, partition, offset });
    if (this.#failedKeys.size <= MAX_FAILED_KEYS) return;
    for (const oldest of this.#failedKeys.keys()) {
      this.#failedKeys.delete(oldest);
      return;
    }
  }

  async #handle(message: ReceivedMessage): Promise<boolean> {
    this.#running++;
    try {
      await processInSpan(activeTracing(), this.#subscription.name, message, async () =>
        this.#handler(message),
      );
      message.ack();
      return true;
    } catch (error) {
      message.nack();
      this.#options.onHandlerError?.(error, message);
      return false;
    } finally {
      this.#running--;
      this.#wake?.();
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
    while (this.#running > 0) await this.#change();
  }
}
