// A session that has only a share of its consumer's credit, and says what the share is worth: whether more of
// it would be of use, and when what was outstanding above a lowered limit has ended.

import type { ConsumerClient } from '../../core/consumer-client.ts';
import type { ConsumerLimits } from '../../core/credit.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ConsumerSink } from '../delivery/consumer.ts';
import { Session } from '../delivery/session.ts';
import type { SubscriptionRuntime } from '../delivery/subscription-runtime.ts';

/** Hears, at the end of a turn, what has changed in it. */
export interface ShareListener {
  /** The limit is lower than what is outstanding, or was when this was last called: so many are left. */
  outstanding(messages: number): void;
  wants(more: boolean): void;
}

export class ShareSession extends Session {
  readonly #runtime: SubscriptionRuntime;
  readonly #clock: Clock;
  readonly #listener: ShareListener;
  #looking = false;
  /** Limits were given. Before, a lack of credit is no news. */
  #begun = false;
  #wants = false;
  #outstandingTold = 0;
  #overdrawn = false;

  constructor(
    id: number,
    client: ConsumerClient,
    sink: ConsumerSink,
    ackDeadlineMs: number,
    runtime: SubscriptionRuntime,
    clock: Clock,
    listener: ShareListener,
  ) {
    super(id, client, sink, { maxOutstandingMessages: 0, maxOutstandingBytes: 0, ackDeadlineMs });
    this.#runtime = runtime;
    this.#clock = clock;
    this.#listener = listener;
  }

  override get limits(): ConsumerLimits {
    return super.limits;
  }

  /** The caller confirms new limits with `outstandingMessages` after a pump. */
  override set limits(limits: ConsumerLimits) {
    super.limits = limits;
    this.#begun = true;
    this.#outstandingTold = this.outstandingMessages;
    this.#overdrawn = this.outstandingMessages > limits.maxOutstandingMessages;
    this.#look();
  }

  /**
   * Whether it may be given something now. It is asked whenever there may be something, and notices a lack of
   * credit by that.
   */
  override get ready(): boolean {
    const ready = super.ready;
    if (!ready || this.#wants) this.#look();
    return ready;
  }

  /** A share of nothing is no lack where there is nothing to give out. */
  override get withoutCredit(): boolean {
    return super.withoutCredit && (this.limits.maxOutstandingMessages > 0 || this.#wants);
  }

  override leaseEnded(messages: number, bytes: number): void {
    super.leaseEnded(messages, bytes);
    if (this.#overdrawn || this.#wants) this.#look();
  }

  #look(): void {
    if (this.#looking || !this.#begun) return;
    this.#looking = true;
    this.#clock.defer(() => {
      this.#looking = false;
      if (this.closed) return;
      if (this.#overdrawn && this.outstandingMessages !== this.#outstandingTold) {
        this.#outstandingTold = this.outstandingMessages;
        this.#overdrawn = this.outstandingMessages > this.limits.maxOutstandingMessages;
        this.#listener.outstanding(this.outstandingMessages);
      }
      // A session whose transport takes nothing lacks that, not credit.
      const wants = this.sink.writable && !this.draining && !super.ready && this.#hasMore();
      if (wants === this.#wants) return;
      this.#wants = wants;
      this.#listener.wants(wants);
    });
  }

  #hasMore(): boolean {
    for (const { delivery } of this.#runtime.dispatchers.values())
      if (delivery.peek(this.id) !== undefined) return true;
    return false;
  }
}
