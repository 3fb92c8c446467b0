// One consumer at the dispatchers of this broker: its credit, and what is outstanding of it. It belongs to
// one SubscriptionRuntime.
import type { ConsumerClient } from '../../core/consumer-client.ts';
import type { ConsumerLimits } from '../../core/credit.ts';
import type { ConsumerOrigin } from '../../core/draining.ts';
import type { ConsumerSink } from './consumer.ts';

export class Session {
  /** From the subscription's runtime, which gives it to no other session. */
  readonly id: number;
  readonly client: ConsumerClient;
  readonly sink: ConsumerSink;
  outstandingMessages = 0;
  outstandingBytes = 0;
  closed = false;
  /**
   * It gets nothing new, and no more ordering keys. Once it has joined, SubscriptionRuntime.drain alone
   * changes it.
   */
  draining = false;
  /**
   * When it joins, its client has nothing of what it was given before, on another stream or by a former
   * owner: see DeliveryEvent.
   */
  fresh = false;
  /**
   * Its client has everything that it was given on the stream before. It says so only if that stream was
   * ended in good order.
   */
  resumes = false;
  /** The consumer's stream ends at another broker, which counts it. */
  relayed = false;
  /** Where the stream comes from; undefined: it is not a stream of its own, but a share of a consumer's. */
  origin: ConsumerOrigin | undefined;
  #limits: ConsumerLimits;
  /**
   * The next message is larger than what is left of the credit. Nothing overtakes it: smaller ones would take
   * the credit again and again.
   */
  #short = false;

  /**
   * Messages and bytes that a consumer which asks once (Pull) was given and whose lease has ended: it gets no
   * credit back for them, or it would be given more than it asked for.
   */
  #goneMessages = 0;
  #goneBytes = 0;

  constructor(id: number, client: ConsumerClient, sink: ConsumerSink, limits: ConsumerLimits) {
    this.id = id;
    this.client = client;
    this.sink = sink;
    this.#limits = limits;
  }

  get limits(): ConsumerLimits {
    return this.#limits;
  }

  set limits({ maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs }: ConsumerLimits) {
    this.#limits = {
      maxOutstandingMessages: maxOutstandingMessages - this.#goneMessages,
      maxOutstandingBytes: maxOutstandingBytes - this.#goneBytes,
      ackDeadlineMs,
    };
    this.#short = false;
  }

  /** Whether it may be given something now. */
  get ready(): boolean {
    return (
      !this.closed &&
      !this.draining &&
      !this.#short &&
      this.outstandingMessages < this.limits.maxOutstandingMessages &&
      (this.outstandingBytes < this.limits.maxOutstandingBytes || this.outstandingMessages === 0) &&
      this.sink.writable
    );
  }

  /** It would be given more if it accepted more. */
  get withoutCredit(): boolean {
    const { maxOutstandingMessages, maxOutstandingBytes } = this.limits;
    if (this.closed || this.draining) return false;
    if (this.#short || this.outstandingMessages >= maxOutstandingMessages) return true;
    return this.outstandingBytes >= maxOutstandingBytes && this.outstandingMessages > 0;
  }

  leased(messages: number, bytes: number): void {
    this.outstandingMessages += messages;
    this.outstandingBytes += bytes;
  }

  /** The next message does not fit: not ready until credit returns. */
  fellShort(): void {
    this.#short = true;
  }

  leaseEnded(messages: number, bytes: number): void {
    this.#short = false;
    this.outstandingMessages -= messages;
    // Parts of leases are counted in proportion, so the sum may be off: it begins anew whenever nothing is
    // outstanding.
    this.outstandingBytes = this.outstandingMessages === 0 ? 0 : this.outstandingBytes - bytes;
    if (this.client.kind !== 'pull') return;
    this.#goneMessages += messages;
    this.#goneBytes += bytes;
    const { maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs } = this.#limits;
    this.#limits = {
      maxOutstandingMessages: maxOutstandingMessages - messages,
      maxOutstandingBytes: maxOutstandingBytes - bytes,
      ackDeadlineMs,
    };
  }
}
