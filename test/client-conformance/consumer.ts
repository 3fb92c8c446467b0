// A consumer of the driver, as the suite sees it: what it was handed and what it did with it, from the
// driver's events.
import type { Driver } from './driver.ts';
import type { DriverEvent, EndedEvent, MessageEvent, SettledEvent } from './protocol.ts';

export class Consumer {
  readonly name: string;
  readonly #driver: Driver;

  constructor(driver: Driver, name: string) {
    this.#driver = driver;
    this.name = name;
  }

  /** What was handed out so far, in order. */
  get messages(): readonly MessageEvent[] {
    return this.#driver.events.filter((event) => this.#isMessage(event));
  }

  /** The texts of `messages`. */
  get texts(): readonly string[] {
    return this.messages.map(({ data }) => data);
  }

  /** What was handed out and what was settled, in order. */
  get history(): readonly (MessageEvent | SettledEvent)[] {
    return this.#driver.events.filter(
      (event): event is MessageEvent | SettledEvent =>
        (event.event === 'message' || event.event === 'settled') && event.consumer === this.name,
    );
  }

  /** What was handed out and is not settled. */
  get outstanding(): readonly MessageEvent[] {
    const settled = new Set(
      this.history.flatMap((event) => (event.event === 'settled' ? [event.delivery] : [])),
    );
    return this.messages.filter(({ delivery }) => !settled.has(delivery));
  }

  get acked(): readonly string[] {
    const texts = new Map(this.messages.map(({ delivery, data }) => [delivery, data]));
    return this.history.flatMap((event) =>
      event.event === 'settled' && event.how === 'ack' ? [texts.get(event.delivery)!] : [],
    );
  }

  get retries(): number {
    return this.#driver.events.filter((event) => event.event === 'retry' && event.of === this.name).length;
  }

  /** Waits until so many messages were handed out. */
  async received(count: number, timeoutMs?: number): Promise<readonly MessageEvent[]> {
    return this.#driver.until(
      `${count} messages for ${this.name}`,
      () => this.messages.length >= count && this.messages,
      timeoutMs,
    );
  }

  /** Waits until messages with all these texts were acked. */
  async hasAcked(texts: readonly string[], timeoutMs?: number): Promise<void> {
    await this.#driver.until(
      `acks of ${texts.length} messages by ${this.name}`,
      () => {
        const acked = new Set(this.acked);
        return texts.every((text) => acked.has(text));
      },
      timeoutMs,
    );
  }

  /** Waits until the consumer has tried again for the nth time. */
  async retried(nth = 1): Promise<void> {
    await this.#driver.until(`retry ${nth} of ${this.name}`, () => this.retries >= nth);
  }

  async settle(message: MessageEvent, how: 'ack' | 'fail'): Promise<void> {
    await this.#driver.ask('settle', { consumer: this.name, delivery: message.delivery, how });
  }

  async close(timeoutMs?: number): Promise<void> {
    await this.#driver.ask('closeConsumer', { consumer: this.name }, timeoutMs);
  }

  async abort(): Promise<void> {
    await this.#driver.ask('abortConsumer', { consumer: this.name });
  }

  async ended(timeoutMs?: number): Promise<EndedEvent> {
    return this.#driver.until(
      `the end of ${this.name}`,
      (events) =>
        events.find((event): event is EndedEvent => event.event === 'ended' && event.consumer === this.name),
      timeoutMs,
    );
  }

  #isMessage(event: DriverEvent): event is MessageEvent {
    return event.event === 'message' && event.consumer === this.name;
  }
}
