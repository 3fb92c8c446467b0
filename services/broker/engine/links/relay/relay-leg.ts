// One owner's part of a relayed consumer: a leg over a link (RemoteLeg), or the session at this broker
// (LocalLeg). core/consumer-part decides for a leg over a link; here is what it decided on done.
import type { ConsumerClient } from '../../../core/consumer-client.ts';
import {
  ConsumerPart,
  type PartEffect,
  type PartEvent,
  type PartLimits,
} from '../../../core/consumer-part.ts';
import type { LeasesOnLeave } from '../../../core/delivery-events.ts';
import { assertNever, type BrokerError } from '../../../core/errors.ts';
import type { PartitionId } from '../../../core/partition.ts';
import type { SettleOperation } from '../../../core/settle-request.ts';
import type { Clock } from '../../../ports/clock.ts';
import type { ConsumerSink } from '../../delivery/consumer.ts';
import type { DeliveredMessages } from '../../delivery/delivered-messages.ts';
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
  writableAgain(): void;
}

export type Leg = RemoteLeg | LocalLeg;

export class RemoteLeg implements AttachedConsumer, LinkUser {
  readonly route: Route;
  readonly #host: LegHost;
  readonly #peers: RelayLinks;
  readonly #clock: Clock;
  readonly #part = new ConsumerPart();
  #release: () => void = () => undefined;
  #link: RelayLink | undefined;
  /** The consumer's number on the link. */
  #number = 0;
  #cancelRest: () => void = () => undefined;

  constructor(route: Route, host: LegHost, peers: RelayLinks, clock: Clock) {
    this.route = route;
    this.#host = host;
    this.#peers = peers;
    this.#clock = clock;
  }

  /** It may be attached, and even end everything, before this returns. */
  open(): void {
    const release = this.#peers.use(this.route, this);
    if (this.#part.state.kind === 'over') release();
    else this.#release = release;
  }

  /** Whether settles can be sent now. */
  get writable(): boolean {
    return this.#part.state.kind === 'attached' && this.#link!.writable;
  }

  up(link: RelayLink): void {
    this.#link = link;
    this.#on({ kind: 'up', opening: this.#host.fresh });
  }

  writableAgain(): void {
    if (this.#part.state.kind === 'attached') this.#host.writableAgain();
  }

  credit(sequence: number, limits: PartLimits): void {
    this.#on({ kind: 'credit', sequence, limits });
  }

  sayDeadline(ackDeadlineMs: number): void {
    this.#on({ kind: 'deadline', ackDeadlineMs });
  }

  settle(operations: readonly SettleOperation[]): void {
    this.#on({ kind: 'settle', operations });
  }

  /** The consumer's stream has taken what was delivered through this leg. */
  took(bytes: number): void {
    const taken = this.#part.took(bytes);
    if (taken > 0) this.#link!.tell({ kind: 'taken', consumer: this.#number, bytes: taken });
  }

  /** Ends the leg: it is not one of the consumer's any more. */
  leave(leases: LeasesOnLeave): void {
    this.#on({ kind: 'leave', leases });
  }

  deliver(messages: DeliveredMessages): void {
    this.#part.delivered();
    this.#host.delivered(this, messages);
  }

  credited(sequence: number, outstandingMessages: number): void {
    this.#part.heard();
    this.#host.credited(this, sequence, outstandingMessages);
  }

  wants(more: boolean): void {
    this.#part.heard();
    this.#host.wants(this, more);
  }

  bounced(operations: readonly SettleOperation[]): void {
    this.#host.bounced(operations);
  }

  ended(error: BrokerError): void {
    this.#on({ kind: 'ended', code: error.code, linkIsUp: this.#link!.state === 'up' }, error);
  }

  #on(event: PartEvent, error?: BrokerError): void {
    for (const effect of this.#part.step(event)) this.#perform(effect, error);
  }

  #perform(effect: PartEffect, error: BrokerError | undefined): void {
    switch (effect.kind) {
      case 'attach': {
        const { subscription, incarnation, client, resumes } = this.#host;
        const { fresh } = effect;
        this.#number = this.#link!.attach(this, { subscription, incarnation, client, resumes, fresh });
        break;
      }
      case 'credit':
        this.#tell({ kind: 'credit', sequence: effect.sequence, ...effect.limits });
        break;
      case 'settle':
      case 'detach':
        this.#tell(effect);
        break;
      case 'joined':
        this.#host.joined(this);
        break;
      case 'left':
        this.#host.left(this);
        break;
      case 'bounced':
        this.#host.bounced(effect.operations);
        break;
      case 'end':
        this.#host.ended(error!);
        break;
      case 'rest':
        this.#cancelRest = this.#clock.setTimer(effect.forMs, () => {
          if (this.#link!.state === 'up') this.up(this.#link!);
        });
        break;
      case 'stop resting':
        this.#cancelRest();
        break;
      case 'release':
        this.#release();
        break;
      default:
        assertNever(effect);
    }
  }

  #tell(
    what:
      | ({ readonly kind: 'credit'; readonly sequence: number } & PartLimits)
      | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] }
      | { readonly kind: 'detach'; readonly leases: LeasesOnLeave },
  ): void {
    this.#link!.tell({ ...what, consumer: this.#number });
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

  credit(sequence: number, limits: PartLimits): void {
    this.#sequence = sequence;
    this.#session.limits = limits;
    this.#runtime.drain(this.#session, limits.draining);
    this.#runtime.pumpFor(this.#session);
  }

  sayDeadline(ackDeadlineMs: number): void {
    this.#session.limits = { ...this.#session.limits, ackDeadlineMs };
  }

  owns(id: PartitionId): boolean {
    return this.#runtime.owns(id);
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
