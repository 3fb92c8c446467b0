// A consumer that has everything from the dispatchers of this broker. Invariant: what it acknowledges of
// partitions that are not at work here is given away, and nothing else is.
import type { ConsumerLimits } from '../../core/credit.ts';
import type { LeasesOnLeave } from '../../core/delivery-events.ts';
import { type ConsumerOrigin, UNKNOWN_ORIGIN } from '../../core/draining.ts';
import { isOfAnother, type SettleOperation, type SettleRequest } from '../../core/settle-request.ts';
import type { Consumer } from './consumer.ts';
import type { DrainableConsumer } from './draining-consumers.ts';
import type { Session } from './session.ts';
import type { SubscriptionRuntime } from './subscription-runtime.ts';

export class LocalConsumer implements Consumer, DrainableConsumer {
  readonly session: Session;
  readonly #runtime: SubscriptionRuntime;
  readonly #elsewhere: ((acks: readonly SettleOperation[]) => void) | undefined;

  /** `elsewhere` takes acks for partitions that are not, or no longer, at work here. */
  constructor(
    session: Session,
    runtime: SubscriptionRuntime,
    elsewhere?: (acks: readonly SettleOperation[]) => void,
  ) {
    this.session = session;
    this.#runtime = runtime;
    this.#elsewhere = elsewhere;
  }

  get limits(): ConsumerLimits {
    return this.session.limits;
  }

  set limits(limits: ConsumerLimits) {
    this.session.limits = limits;
    this.#runtime.pumpFor(this.session);
  }

  settle(request: SettleRequest): void {
    if (isOfAnother(request, this.#runtime.incarnation)) return;
    this.#runtime.settle(this.session.id, request);
    // Alone a broker has everything, so that there is nothing to look for.
    if (this.#elsewhere === undefined) return;
    const { topicEpoch } = this.#runtime.definition;
    const moved = request.operations.filter(
      (each) => each.kind === 'ack' && each.logEpoch === topicEpoch && !this.#runtime.owns(each),
    );
    if (moved.length > 0) this.#elsewhere(moved);
  }

  pump(): void {
    this.#runtime.pumpFor(this.session);
  }

  quiesce(): Promise<void> {
    const { ackDeadlineMs } = this.session.limits;
    this.session.limits = { maxOutstandingMessages: 0, maxOutstandingBytes: 0, ackDeadlineMs };
    return Promise.resolve();
  }

  get origin(): ConsumerOrigin {
    return this.session.origin ?? UNKNOWN_ORIGIN;
  }

  drain(draining: boolean): void {
    this.#runtime.drain(this.session, draining);
  }

  outstanding(): Promise<number> {
    return Promise.resolve(this.session.outstandingMessages);
  }

  leave(leases: LeasesOnLeave = 'end'): void {
    this.#runtime.leave(this.session, leases);
  }
}
