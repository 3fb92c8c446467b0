// The messages of a subscription as an async iterable.
import type { Connection } from './connection.ts';
import type { FanfareError } from './errors.ts';
import { MessageSource, type SubscribeOptions, type SubscriptionDefinition } from './message-source.ts';
import { maxOutstandingMessages as messagesRule } from './option-rules.ts';
import type { ReceivedMessage } from './received-message.ts';

interface Waiter {
  readonly resolve: (message: IteratorResult<ReceivedMessage>) => void;
  readonly reject: (error: FanfareError) => void;
}

export class Subscription implements AsyncIterableIterator<ReceivedMessage>, AsyncDisposable {
  readonly #source: MessageSource;
  readonly #waiting: Waiter[] = [];
  #isBreathing = false;

  constructor(
    connection: Connection,
    subscription: string,
    options: SubscribeOptions,
    definitionOf: (subscription: string) => Promise<SubscriptionDefinition>,
  ) {
    this.#source = new MessageSource(connection, subscription, options, definitionOf, {
      onMessages: () => this.#deliver(),
      onEnd: () => this.#deliver(),
      settlesAll: false,
    });
  }

  /** The subscription's full name. */
  get name(): string {
    return this.#source.name;
  }

  /** Resolves when it is closed, however that came about; its error goes to whoever iterates. */
  get closed(): Promise<void> {
    return this.#source.closed;
  }

  /**
   * The next message. It is done after close() or an abort of the signal. Rejects with a FanfareError after
   * failures that trying again does not help against (NOT_FOUND, INVALID_ARGUMENT, PERMISSION_DENIED, ...);
   * after all others it is tried again here.
   */
  next(): Promise<IteratorResult<ReceivedMessage>> {
    if (this.#waiting.length === 0 && !this.#source.mustBreathe()) {
      const message = this.#take();
      if (message !== undefined) return Promise.resolve({ value: message, done: false });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#deliver();
    });
  }

  /**
   * Sets how many messages may be outstanding here from now on: 1 to 1,000,000. What is outstanding beyond a
   * lower limit stays so. A consumer that wants only so many more lowers it before it acknowledges, so that
   * nothing more is taken from others.
   */
  limitMessages(maxOutstandingMessages: number): void {
    messagesRule('maxOutstandingMessages', maxOutstandingMessages);
    this.#source.limitMessages(maxOutstandingMessages);
  }

  /**
   * Ends the messages: next() is done, and what was not handed out is given back. The stream stays until
   * close(), and leases are extended, so that what was handed out can be settled.
   */
  end(): void {
    this.#source.end();
  }

  /** Closes it when a `for await` loop is left. */
  async return(): Promise<IteratorResult<ReceivedMessage>> {
    await this.close();
    return { value: undefined, done: true };
  }

  /**
   * Sends what was settled and ends, within 4 s whatever the broker does; messages that were not settled are
   * delivered again. Idempotent.
   */
  close(): Promise<void> {
    return this.#source.close();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(): ReceivedMessage | undefined {
    for (;;) {
      const message = this.#source.take();
      if (message === undefined || this.#source.begin(message)) return message;
    }
  }

  /** Gives those who wait what there is for them. */
  #deliver(): void {
    while (this.#waiting.length > 0 && !this.#isBreathing) {
      const { isOver, error } = this.#source;
      if (!isOver && this.#source.mustBreathe()) {
        this.#breathe();
        return;
      }
      const message = isOver ? undefined : this.#take();
      if (message !== undefined) this.#waiting.shift()!.resolve({ value: message, done: false });
      else if (!isOver) return;
      else if (error !== undefined) this.#waiting.shift()!.reject(error);
      else this.#waiting.shift()!.resolve({ value: undefined, done: true });
    }
  }

  #breathe(): void {
    this.#isBreathing = true;
    void this.#source.breathe().then(() => {
      this.#isBreathing = false;
      this.#deliver();
    });
  }
}
