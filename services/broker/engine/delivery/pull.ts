// Pull without a stream: each call is a consumer with credit for what it asks for, which leaves with its
// answer; the leases stay.
import type { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Consumer, ConsumerSink } from './consumer.ts';
import type { DeliveredMessages } from './delivered-messages.ts';

/**
 * Resolves with frames as soon as there are any, or with none after waitMs, or when the caller has gone
 * (`onGone` is given what to call then). Rejects with the status with which the consumer is closed. `join`
 * makes the consumer, with credit for what may be answered with.
 */
export function pull(
  join: (sink: ConsumerSink) => Consumer,
  waitMs: number,
  clock: Clock,
  onGone: (over: () => void) => void,
): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const call = new PullCall(clock, resolve, reject);
    call.begin(join(call), waitMs);
    onGone(() => call.gone());
  });
}

class PullCall implements ConsumerSink {
  readonly #clock: Clock;
  readonly #resolve: (frames: Buffer[]) => void;
  readonly #reject: (error: BrokerError) => void;
  readonly #frames: Buffer[] = [];
  #consumer: Consumer | undefined;
  #cancelTimer: () => void = () => undefined;
  /** open → (messages, time) → closing: what is still on its way is waited for → over */
  #state: 'open' | 'closing' | 'over' = 'open';

  constructor(clock: Clock, resolve: (frames: Buffer[]) => void, reject: (error: BrokerError) => void) {
    this.#clock = clock;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(consumer: Consumer, waitMs: number): void {
    this.#consumer = consumer;
    if (this.#state === 'open') this.#cancelTimer = this.#clock.setTimer(waitMs, () => void this.#finish());
  }

  get writable(): boolean {
    return this.#state !== 'over';
  }

  deliver(messages: DeliveredMessages): void {
    this.#frames.push(messages.frames);
    // What else is at hand in this turn goes into the same answer.
    if (this.#frames.length === 1) this.#clock.defer(() => void this.#finish());
  }

  close(error: BrokerError): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#cancelTimer();
    this.#reject(error);
  }

  /** Nobody waits for the answer: others are given the messages. */
  gone(): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#cancelTimer();
    this.#consumer?.leave();
    this.#resolve([]);
  }

  async #finish(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'closing';
    this.#cancelTimer();
    await this.#consumer!.quiesce();
    if ((this.#state as 'closing' | 'over') === 'over') return;
    this.#state = 'over';
    this.#consumer!.leave('stay');
    this.#resolve(this.#frames);
  }
}
