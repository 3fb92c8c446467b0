// One consumer at the dispatchers of this broker, with what may be outstanding on it. Known to one SubscriptionRuntime.
import type { ConsumerClient } from '../../core/consumer-client.ts';
import type { ConsumerOrigin } from '../../core/draining.ts';
import type { ConsumerSink } from './consumer.ts';

export interface SessionLimits {
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly ackDeadlineMs: number;
  /** Of a relayed consumer's share: see Session.draining. */
  readonly draining?: boolean | undefined;
}

export class Session {
  /** From 1 on, unique in this broker's life. */
  readonly id: number;
  readonly client: ConsumerClient;
  readonly sink: ConsumerSink;
  outstandingMessages = 0;
  outstandingBytes = 0;
  closed = false;
  /** Gets nothing new, and no ordering keys. Set by SubscriptionRuntime.drain; before it joins by whoever made it. */
  draining = false;
  /** When it joins it has nothing of what its like had before: see DeliveryEvent. */
  fresh = false;
  /** Its client has everything that it was given on the stream before, which it says only if that one was ended in good order. */
  resumes = false;
  /** Undefined: the consumer's stream does not end here. */
  origin: ConsumerOrigin | undefined;
  #limits: SessionLimits;
  /** A message was larger than what is left of the credit. Nothing overtakes it: smaller ones would take the credit again and again. */
  #short = false;

  /** Given to one that asks once (Pull), and its lease has ended: that gives it no more than it asked for. */
  #goneMessages = 0;
  #goneBytes = 0;

  constructor(id: number, client: ConsumerClient, sink: ConsumerSink, limits: SessionLimits) {
    this.id = id;
    this.client = client;
    this.sink = sink;
    this.#limits = limits;
  }

  get limits(): SessionLimits {
    return this.#limits;
  }

  set limits({ maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs }: SessionLimits) {
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
    // Parts of leases are counted in proportion: start from a whole number again whenever there is one.
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
