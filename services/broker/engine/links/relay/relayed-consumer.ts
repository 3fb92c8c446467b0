// A consumer whose messages come from several owners. core/consumer-parts decides who is given how much
// credit and is told what; here that is done, and what owners send is queued while the stream takes nothing.
// Invariant: a decision is performed in the order of its effects, and what a leg says meanwhile in between.
//
//   client ◀─────── sink ─ RelayedConsumer ◀─┬─ LocalLeg: the partitions owned here
//          ─ limits, settles ─▶              ├─ RemoteLeg: those of one other broker, over the link to it
//                                            └─ …
//
// A leg stays for a while when its broker is to have no partition any more: until the hand-over it still
// delivers, and were the consumer to leave, its leases would end.

import type { ConsumerClient } from '../../../core/consumer-client.ts';
import { type ConsumerEffect, type ConsumerEvent, ConsumerParts } from '../../../core/consumer-parts.ts';
import type { ConsumerLimits } from '../../../core/credit.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../../core/definitions.ts';
import type { LeasesOnLeave } from '../../../core/delivery-events.ts';
import type { ConsumerOrigin, OpeningConsumer } from '../../../core/draining.ts';
import { assertNever, BrokerError } from '../../../core/errors.ts';
import { isOfAnother, type SettleOperation, type SettleRequest } from '../../../core/settle-request.ts';
import type { EngineContext } from '../../context.ts';
import type { Consumer, ConsumerSink } from '../../delivery/consumer.ts';
import type { DeliveredMessages } from '../../delivery/delivered-messages.ts';
import type { DrainableConsumer } from '../../delivery/draining-consumers.ts';
import type { SubscriptionRuntime } from '../../delivery/subscription-runtime.ts';
import type { Route, Routes } from '../../membership/routes.ts';
import { OutstandingCount } from './outstanding-count.ts';
import { type Leg, type LegHost, LocalLeg, RemoteLeg } from './relay-leg.ts';
import type { RelayLinks } from './relay-links.ts';
import { WaitingDeliveries } from './waiting-deliveries.ts';

export interface RelayedConsumerOptions {
  readonly definition: SubscriptionDefinition;
  readonly runtime: SubscriptionRuntime;
  readonly client: ConsumerClient;
  readonly sink: ConsumerSink;
  readonly limits: ConsumerLimits;
  readonly opening: OpeningConsumer;
  readonly peers: RelayLinks;
  readonly routes: Routes;
  readonly context: EngineContext;
  readonly topic: () => TopicDefinition;
  /** The targets of the topic's partitions, by member id. */
  readonly targets: (topic: TopicDefinition) => ReadonlyMap<string, Route>;
  /** See PeerHost.partitionsToSettle. */
  readonly partitions: (least: number) => Promise<number>;
  /** Settles what nobody could be told of before the consumer left. */
  readonly settleLater: (operations: readonly SettleOperation[]) => void;
  /**
   * Another number for each consumer: which owner is the first to be given credit where there is not enough
   * for all.
   */
  readonly turn: number;
  /** It wants its turn() now and then: see CreditShares.restless. */
  readonly onRestless: () => void;
  readonly onLeft: () => void;
}

/** Longer than a hand-over takes at the most. */
export const LEG_LINGER_MS = 10_000;

export class RelayedConsumer implements Consumer, DrainableConsumer, LegHost {
  readonly subscription: string;
  readonly incarnation: number;
  readonly client: ConsumerClient;
  readonly #options: RelayedConsumerOptions;
  readonly #sink: ConsumerSink;
  readonly #parts: ConsumerParts;
  /** This broker's member id, under which the local leg goes. */
  readonly #here: string;
  readonly #local: LocalLeg;
  /** By member id. */
  readonly #legs = new Map<string, RemoteLeg>();
  /** Each cancels the linger of a leg that is not wanted any more. */
  readonly #lingering = new Map<string, () => void>();
  readonly #queue = new WaitingDeliveries<RemoteLeg>();
  readonly #counts = new Set<OutstandingCount<string>>();
  #cancelRetry: () => void = () => undefined;
  #localFirst = false;
  #begun = false;
  #whenQuiet: (() => void)[] = [];

  constructor(options: RelayedConsumerOptions) {
    const { definition, runtime, client, sink, limits, opening, context, routes, turn } = options;
    this.#options = options;
    this.subscription = definition.name;
    this.incarnation = definition.incarnation;
    this.client = client;
    this.#sink = sink;
    this.#here = routes.selfId;
    this.#parts = new ConsumerParts({
      here: this.#here,
      limits,
      draining: opening.draining,
      logEpoch: definition.topicEpoch,
      turn,
    });
    this.#local = new LocalLeg(this, runtime, this.#localSink(), context.clock);
  }

  get resumes(): boolean {
    return !this.#options.opening.fresh;
  }

  get fresh(): boolean {
    return this.#options.opening.fresh && !this.#begun;
  }

  get over(): boolean {
    return this.#parts.phase === 'left';
  }

  get origin(): ConsumerOrigin {
    return this.#options.opening.origin;
  }

  /** Every owner is told with its credit, new ones when they get some. */
  drain(draining: boolean): void {
    this.#on({ kind: 'drain', draining });
  }

  async outstanding(): Promise<number> {
    if (this.over) return 0;
    const effects = this.#decide({ kind: 'count' });
    const orders = effects.flatMap((effect) =>
      effect.kind === 'credit' ? [{ owner: effect.part, sequence: effect.sequence }] : [],
    );
    const count = new OutstandingCount(orders, this.#options.context.clock);
    this.#counts.add(count);
    this.#perform(effects);
    try {
      return await count.messages;
    } finally {
      this.#counts.delete(count);
    }
  }

  get limits(): ConsumerLimits {
    return this.#parts.limits;
  }

  set limits(limits: ConsumerLimits) {
    this.#on({ kind: 'limits', limits });
  }

  settle(request: SettleRequest): void {
    if (isOfAnother(request, this.incarnation)) return;
    this.#on({ kind: 'settle', operations: request.operations });
  }

  pump(): void {
    this.#localFirst = !this.#localFirst;
    if (this.#localFirst) this.#local.pump();
    this.#flush();
    if (!this.#localFirst) this.#local.pump();
  }

  quiesce(): Promise<void> {
    if (this.over) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenQuiet.push(resolve);
      this.#on({ kind: 'quiesce' });
    });
  }

  leave(leases: LeasesOnLeave = 'end'): void {
    this.#on({ kind: 'leave', leases });
  }

  /** The stream ends with this status. */
  ended(error: BrokerError): void {
    if (this.over) return;
    this.leave();
    this.#sink.close(error);
  }

  /** At first, and after every change of routes: a leg to every owner, and none for long to others. */
  routed(): void {
    const { topic, targets } = this.#options;
    const now = topic();
    this.#on({ kind: 'routed', owners: [...targets(now).keys()], partitions: now.partitions });
    this.#begun = true;
    this.#on({ kind: 'placed' });
  }

  /** Partitions may have been added to the topic, and their routes known before they were. */
  look(): void {
    if (!this.over && this.#options.topic().partitions !== this.#parts.partitions) this.routed();
  }

  /** Some time has passed. Returns whether it wants another turn. */
  turn(): boolean {
    this.#on({ kind: 'turn' });
    return this.#parts.restless;
  }

  joined({ route }: RemoteLeg): void {
    this.#on({ kind: 'joined', part: route.memberId });
  }

  left(leg: RemoteLeg): void {
    // The leases of what is queued have ended with the leg: others may have been given it by now.
    this.#queue.drop(leg);
    const part = leg.route.memberId;
    for (const count of this.#counts) count.gone(part);
    this.#on({ kind: 'left', part });
  }

  delivered(leg: RemoteLeg, messages: DeliveredMessages): void {
    if (this.over) return;
    if (this.#queue.length === 0 && this.#sink.writable) this.#give(leg, messages);
    else this.#queue.push(leg, messages);
  }

  credited(leg: Leg, sequence: number, outstandingMessages: number): void {
    if (this.over) return;
    const part = this.#nameOf(leg);
    for (const count of this.#counts) count.answered(part, sequence, outstandingMessages);
    this.#on({ kind: 'credited', part, sequence, outstandingMessages });
  }

  wants(leg: Leg, more: boolean): void {
    this.#on({ kind: 'wants', part: this.#nameOf(leg), more });
  }

  bounced(operations: readonly SettleOperation[]): void {
    this.#on({ kind: 'bounced', operations });
  }

  writableAgain(): void {
    this.#on({ kind: 'look', retried: false });
  }

  #nameOf(leg: Leg): string {
    return leg === this.#local ? this.#here : (leg as RemoteLeg).route.memberId;
  }

  #localSink(): ConsumerSink {
    const sink = this.#sink;
    return {
      deliver: (messages) => sink.deliver(messages),
      get writable() {
        return sink.writable;
      },
      describe: (definition) => sink.describe?.(definition),
      close: (error) => this.ended(error),
    };
  }

  #give(leg: RemoteLeg, messages: DeliveredMessages): void {
    this.#sink.deliver(messages);
    leg.took(messages.bytes);
  }

  #flush(): void {
    while (this.#queue.length > 0 && this.#sink.writable && !this.over) {
      const { leg, messages } = this.#queue.shift();
      this.#give(leg, messages);
    }
    if (this.#parts.phase === 'quiet') this.#on({ kind: 'flushed' });
  }

  #on(event: ConsumerEvent): void {
    this.#perform(this.#decide(event));
  }

  #decide(event: ConsumerEvent): readonly ConsumerEffect[] {
    return this.#parts.step(event, {
      nowMs: this.#options.context.clock.monotonicMs(),
      tellable: this.#tellable,
      queued: this.#queue.length,
    });
  }

  readonly #tellable = (partition: number): string | undefined => {
    const { definition, routes } = this.#options;
    const id = { logEpoch: definition.topicEpoch, partition };
    if (this.#local.owns(id)) return this.#here;
    const memberId = routes.targetOf(id)?.memberId;
    return memberId !== undefined && this.#legs.get(memberId)?.writable ? memberId : undefined;
  };

  /** The only place where what was decided is done. */
  #perform(effects: readonly ConsumerEffect[]): void {
    for (const effect of effects) {
      // An earlier one may have ended the consumer.
      if (this.over && effect.kind !== 'leave' && effect.kind !== 'settle later') continue;
      this.#do(effect);
    }
  }

  #do(effect: ConsumerEffect): void {
    const { clock } = this.#options.context;
    switch (effect.kind) {
      case 'make leg':
        this.#makeLeg(effect.part);
        break;
      case 'drop leg':
        this.#dropLeg(effect.part);
        break;
      case 'linger': {
        const { part } = effect;
        const cancel = clock.setTimer(LEG_LINGER_MS, () => this.#on({ kind: 'lingered', part }));
        this.#lingering.set(part, cancel);
        break;
      }
      case 'stop lingering':
        this.#lingering.get(effect.part)?.();
        this.#lingering.delete(effect.part);
        break;
      case 'credit': {
        const { part, sequence, limits } = effect;
        this.#legAt(part)?.credit(sequence, limits);
        if (part === this.#here) this.credited(this.#local, sequence, this.#local.outstandingMessages);
        break;
      }
      case 'deadline':
        this.#local.sayDeadline(effect.ackDeadlineMs);
        for (const leg of this.#legs.values()) leg.sayDeadline(effect.ackDeadlineMs);
        break;
      case 'settle':
        this.#legAt(effect.part)?.settle(effect.operations);
        break;
      case 'settle later':
        this.#options.settleLater(effect.acks);
        break;
      case 'retry':
        this.#cancelRetry = clock.setTimer(effect.afterMs, () => this.#on({ kind: 'look', retried: true }));
        break;
      case 'ask':
        void this.#ask(effect.least);
        break;
      case 'restless':
        this.#options.onRestless();
        break;
      case 'is quiet':
        for (const resolve of this.#whenQuiet.splice(0)) resolve();
        break;
      case 'leave':
        this.#end(effect.leases);
        break;
      default:
        assertNever(effect);
    }
  }

  #legAt(part: string): Leg | undefined {
    return part === this.#here ? this.#local : this.#legs.get(part);
  }

  #makeLeg(part: string): void {
    const { targets, topic, peers, context } = this.#options;
    const route = targets(topic()).get(part);
    if (route === undefined) return;
    const leg = new RemoteLeg(route, this, peers, context.clock);
    this.#legs.set(part, leg);
    leg.open();
  }

  #dropLeg(part: string): void {
    for (const count of this.#counts) count.gone(part);
    const leg = this.#legs.get(part);
    this.#legs.delete(part);
    leg?.leave('stay');
  }

  async #ask(least: number): Promise<void> {
    let partitions: number | undefined;
    try {
      partitions = await this.#options.partitions(least);
    } catch (error) {
      // The next retry asks again.
      if (!(error instanceof BrokerError)) throw error;
    }
    this.#on({ kind: 'known', partitions });
  }

  #end(leases: LeasesOnLeave): void {
    this.#cancelRetry();
    for (const cancel of this.#lingering.values()) cancel();
    this.#lingering.clear();
    this.#queue.clear();
    this.#local.leave(leases);
    for (const leg of this.#legs.values()) leg.leave(leases);
    this.#legs.clear();
    for (const count of this.#counts) count.over();
    this.#options.onLeft();
    for (const resolve of this.#whenQuiet.splice(0)) resolve();
  }
}
