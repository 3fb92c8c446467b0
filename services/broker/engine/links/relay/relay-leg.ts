// One owner's part of a relayed consumer: a leg over a link (RemoteLeg), or the session at this broker
// (LocalLeg).
//
//   RemoteLeg:  down ─link is up→ attached ─link closed, ended for now→ down ─┐ (again, after a while)
//                                    └─ended for good→ the consumer ends       └─ released → over
import type { ConsumerClient } from '../../../core/consumer-client.ts';
import type { LeasesOnLeave } from '../../../core/delivery-events.ts';
import type { BrokerError } from '../../../core/errors.ts';
import type { SettleOperation } from '../../../core/settle-request.ts';
import type { Clock } from '../../../ports/clock.ts';
import type { ConsumerSink, DeliveredMessages } from '../../delivery/consumer.ts';
import type { SessionLimits } from '../../delivery/session.ts';
import type { SubscriptionRuntime } from '../../delivery/subscription-runtime.ts';
import type { Route } from '../../membership/routes.ts';
import { ShareSession } from '../share-session.ts';
import type { AttachedConsumer, RelayLink } from './relay-link.ts';
import type { LinkUser, RelayLinks } from './relay-links.ts';

/** What a leg tells its consumer. */
export interface LegHost {
  readonly subscription: string;
  readonly incarnation: number;
  readonly client: ConsumerClient;
  /** Its client has everything that it was given on the stream before. */
  readonly resumes: boolean;
  /**
   * Its client has nothing of what it was given before: see DeliveryEvent. So only for legs that are made as
   * the consumer opens.
   */
  readonly fresh: boolean;
  /** The leg can deliver now, or no longer. */
  joined(leg: RemoteLeg): void;
  left(leg: RemoteLeg): void;
  delivered(leg: RemoteLeg, messages: DeliveredMessages): void;
  credited(leg: Leg, sequence: number, outstandingMessages: number): void;
  wants(leg: Leg, more: boolean): void;
  bounced(operations: readonly SettleOperation[]): void;
  /** The consumer is ended for good. */
  ended(error: BrokerError): void;
  /** A leg that could not be told of settles can be told again. */
  drained(): void;
}

export type Leg = RemoteLeg | LocalLeg;

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1_000;
/**
 * The owner is told each time this many bytes were taken: well below its window, well above a word for each
 * message.
 */
const TELL_TAKEN_BYTES = 256 * 1024;

export class RemoteLeg implements AttachedConsumer, LinkUser {
  readonly route: Route;
  readonly #host: LegHost;
  readonly #clock: Clock;
  readonly #release: () => void;
  #link: RelayLink | undefined;
  /** The consumer's number on the link. */
  #number = 0;
  #backoffMs = FIRST_BACKOFF_MS;
  #cancelRetry: () => void = () => undefined;
  #taken = 0;
  #toldTaken = 0;
  #newest: { readonly sequence: number; readonly limits: SessionLimits } | undefined;
  /**
   * What was settled since it attached, while the owner has not answered: it may refuse, and hears none of it
   * then.
   */
  #unheard: SettleOperation[] | undefined;
  #over = false;
  #fresh: boolean;

  constructor(route: Route, host: LegHost, peers: RelayLinks, clock: Clock) {
    this.route = route;
    this.#host = host;
    this.#clock = clock;
    this.#fresh = host.fresh;
    this.#release = peers.use(route, this);
  }

  get attached(): boolean {
    return this.#number !== 0;
  }

  /** Whether settles can be sent now. */
  get writable(): boolean {
    return this.attached && this.#link!.writable;
  }

  up(link: RelayLink): void {
    if (this.#over || this.attached) return;
    this.#cancelRetry();
    this.#link = link;
    this.#taken = 0;
    this.#toldTaken = 0;
    this.#newest = undefined;
    this.#unheard = [];
    const { subscription, incarnation, client, resumes } = this.#host;
    // Later its client may have a newer stream, whose messages are not to be given back.
    const isFresh = this.#fresh && this.#host.fresh;
    this.#number = link.attach(this, { subscription, incarnation, client, resumes, fresh: isFresh });
    this.#fresh = false;
    this.#host.joined(this);
  }

  drained(): void {
    if (this.attached) this.#host.drained();
  }

  credit(sequence: number, limits: SessionLimits): void {
    this.#newest = { sequence, limits };
    this.#tell({ kind: 'credit', sequence, ...limits });
  }

  settle(operations: readonly SettleOperation[]): void {
    this.#unheard?.push(...operations);
    this.#tell({ kind: 'settle', operations });
  }

  /** The consumer's stream has taken what was delivered through this leg. */
  took(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken - this.#toldTaken < TELL_TAKEN_BYTES) return;
    this.#toldTaken = this.#taken;
    this.#tell({ kind: 'taken', bytes: this.#taken });
  }

  /** Ends the leg: it is not one of the consumer's any more. */
  leave(leases: LeasesOnLeave): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelRetry();
    this.#tell({ kind: 'detach', leases });
    this.#number = 0;
    this.#release();
  }

  deliver(messages: DeliveredMessages): void {
    this.#backoffMs = FIRST_BACKOFF_MS;
    this.#unheard = undefined;
    this.#host.delivered(this, messages);
  }

  credited(sequence: number, outstandingMessages: number): void {
    this.#unheard = undefined;
    this.#host.credited(this, sequence, outstandingMessages);
  }

  wants(more: boolean): void {
    this.#unheard = undefined;
    this.#host.wants(this, more);
  }

  bounced(operations: readonly SettleOperation[]): void {
    this.#host.bounced(operations);
  }

  ended(error: BrokerError): void {
    if (this.#over) return;
    this.#number = 0;
    this.#host.left(this);
    const unheard = this.#unheard ?? [];
    this.#unheard = undefined;
    if (unheard.length > 0) this.#host.bounced(unheard);
    const isFinal = error.code !== 'UNAVAILABLE';
    if (isFinal) this.#host.ended(error);
    if (this.#over) return;
    const link = this.#link!;
    // A link that has closed comes up again by itself.
    if (link.state !== 'up') return;
    this.#cancelRetry = this.#clock.setTimer(this.#backoffMs, () => {
      if (link.state === 'up') this.up(link);
    });
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAX_BACKOFF_MS);
  }

  /** Repeats the order that is in force, with another deadline. */
  sayDeadline(ackDeadlineMs: number): void {
    if (this.#newest === undefined) return;
    const { sequence, limits } = this.#newest;
    this.credit(sequence, { ...limits, ackDeadlineMs });
  }

  #tell(
    what:
      | ({ readonly kind: 'credit'; readonly sequence: number } & SessionLimits)
      | { readonly kind: 'taken'; readonly bytes: number }
      | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] }
      | { readonly kind: 'detach'; readonly leases: LeasesOnLeave },
  ): void {
    if (this.attached) this.#link!.tell({ ...what, consumer: this.#number });
  }
}

export class LocalLeg {
  readonly #session: ShareSession;
  readonly #runtime: SubscriptionRuntime;
  /** The sequence of the newest order for credit. */
  #sequence = 0;

  constructor(host: LegHost, runtime: SubscriptionRuntime, sink: ConsumerSink, clock: Clock) {
    this.#runtime = runtime;
    const { ackDeadlineMs } = runtime.definition;
    this.#session = new ShareSession(
      runtime.nextSessionId(),
      host.client,
      sink,
      ackDeadlineMs,
      runtime,
      clock,
      {
        outstanding: (messages) => host.credited(this, this.#sequence, messages),
        wants: (more) => host.wants(this, more),
      },
    );
    this.#session.resumes = host.resumes;
    this.#session.fresh = host.fresh;
    runtime.join(this.#session);
  }

  get outstandingMessages(): number {
    return this.#session.outstandingMessages;
  }

  credit(sequence: number, limits: SessionLimits): void {
    this.#sequence = sequence;
    this.#session.limits = limits;
    this.#runtime.drain(this.#session, limits.draining ?? false);
    this.#runtime.pumpFor(this.#session);
  }

  sayDeadline(ackDeadlineMs: number): void {
    this.#session.limits = { ...this.#session.limits, ackDeadlineMs };
  }

  owns(operation: SettleOperation): boolean {
    return this.#runtime.owns(operation);
  }

  settle(operations: readonly SettleOperation[]): void {
    this.#runtime.settle(this.#session.id, { operations });
  }

  pump(): void {
    this.#runtime.pumpFor(this.#session);
  }

  leave(leases: LeasesOnLeave): void {
    this.#runtime.leave(this.#session, leases);
  }
}
