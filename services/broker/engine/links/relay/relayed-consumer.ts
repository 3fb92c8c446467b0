// A consumer whose messages come from several owners: it shares its credit out among them, queues what they
// send while its stream takes nothing, and brings what the client says to whom it concerns. Invariant:
// together the owners never have more credit than the consumer gave (core/credit-shares.ts).
//
//   client ◀─────── sink ─ RelayedConsumer ◀─┬─ LocalLeg: the partitions owned here
//          ─ limits, settles ─▶              ├─ RemoteLeg: those of one other broker, over the link to it
//                                            └─ …
//
// A leg stays for a while when its broker is to have no partition any more: until the hand-over it still
// delivers, and were the consumer to leave, its leases would end.

import type { ConsumerClient } from '../../../core/consumer-client.ts';
import { CreditShares, type ShareOrder } from '../../../core/credit-shares.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../../core/definitions.ts';
import type { LeasesOnLeave } from '../../../core/delivery-events.ts';
import type { ConsumerOrigin, OpeningConsumer } from '../../../core/draining.ts';
import { BrokerError } from '../../../core/errors.ts';
import { isOfAnother, type SettleOperation, type SettleRequest } from '../../../core/settle-request.ts';
import type { EngineContext } from '../../context.ts';
import type { Consumer, ConsumerSink, DeliveredMessages } from '../../delivery/consumer.ts';
import type { DrainableConsumer } from '../../delivery/draining-consumers.ts';
import type { SessionLimits } from '../../delivery/session.ts';
import type { SubscriptionRuntime } from '../../delivery/subscription-runtime.ts';
import type { Route, Routes } from '../../membership/routes.ts';
import { KeptSettles } from './kept-settles.ts';
import { OutstandingCount } from './outstanding-count.ts';
import { type Leg, type LegHost, LocalLeg, RemoteLeg } from './relay-leg.ts';
import type { RelayLinks } from './relay-links.ts';
import { RelayQueue } from './waiting-deliveries.ts';

export interface RelayedConsumerOptions {
  readonly definition: SubscriptionDefinition;
  readonly runtime: SubscriptionRuntime;
  readonly client: ConsumerClient;
  readonly sink: ConsumerSink;
  readonly limits: SessionLimits;
  readonly opening: OpeningConsumer;
  readonly peers: RelayLinks;
  readonly routes: Routes;
  readonly context: EngineContext;
  readonly topic: () => TopicDefinition;
  /** The owners of the topic's partitions, by member id. */
  readonly owners: (topic: TopicDefinition) => ReadonlyMap<string, Route>;
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
const FIRST_RETRY_MS = 10;
const MAX_RETRY_MS = 250;

export class RelayedConsumer implements Consumer, DrainableConsumer, LegHost {
  readonly subscription: string;
  readonly incarnation: number;
  readonly client: ConsumerClient;
  readonly #options: RelayedConsumerOptions;
  readonly #sink: ConsumerSink;
  readonly #shares: CreditShares<Leg>;
  readonly #local: LocalLeg;
  #localJoined = false;
  /** How many partitions the topic had when its owners were last looked up. */
  #partitions = 0;
  /** By member id. */
  readonly #legs = new Map<string, RemoteLeg>();
  /** Cancels the linger of a leg that is not wanted any more. */
  readonly #lingering = new Map<Leg, () => void>();
  readonly #queue = new RelayQueue<RemoteLeg>();
  readonly #kept = new KeptSettles();
  /** Whether it is being asked if partitions exist of which something is kept. */
  #asking = false;
  #retryMs = FIRST_RETRY_MS;
  #cancelRetry: (() => void) | undefined;
  #limits: SessionLimits;
  #localFirst = false;
  #begun = false;
  #left = false;
  #whenQuiet: (() => void)[] | undefined;
  /** The newest order of each leg that has not confirmed it. */
  readonly #unconfirmed = new Map<Leg, number>();
  /**
   * Legs that are there when it opens. They are given their shares together: one alone would be given
   * everything.
   */
  #opening: Leg[] | undefined = [];
  #draining: boolean;
  readonly #counts = new Set<OutstandingCount<Leg>>();

  constructor(options: RelayedConsumerOptions) {
    const { definition, runtime, client, sink, limits, context } = options;
    this.#options = options;
    this.subscription = definition.name;
    this.incarnation = definition.incarnation;
    this.client = client;
    this.#sink = sink;
    this.#limits = limits;
    this.#draining = options.opening.draining;
    this.#shares = new CreditShares(limits.maxOutstandingMessages, limits.maxOutstandingBytes);
    this.#local = new LocalLeg(this, runtime, this.#localSink(), context.clock);
  }

  get resumes(): boolean {
    return !this.#options.opening.fresh;
  }

  get fresh(): boolean {
    return this.#options.opening.fresh && !this.#begun;
  }

  get over(): boolean {
    return this.#left;
  }

  get origin(): ConsumerOrigin {
    return this.#options.opening.origin;
  }

  /** Every owner is told with its credit, new ones when they get some. */
  drain(draining: boolean): void {
    if (this.#left || this.#draining === draining) return;
    this.#draining = draining;
    this.#apply(this.#shares.again());
  }

  async outstanding(): Promise<number> {
    if (this.#left) return 0;
    const orders = this.#shares.again();
    const count = new OutstandingCount(orders, this.#options.context.clock);
    this.#counts.add(count);
    this.#apply(orders);
    try {
      return await count.messages;
    } finally {
      this.#counts.delete(count);
    }
  }

  get limits(): SessionLimits {
    return this.#limits;
  }

  set limits(limits: SessionLimits) {
    if (this.#left || this.#whenQuiet !== undefined) return;
    const isOtherDeadline = limits.ackDeadlineMs !== this.#limits.ackDeadlineMs;
    this.#limits = limits;
    this.#apply(this.#shares.setTotal(limits.maxOutstandingMessages, limits.maxOutstandingBytes));
    if (isOtherDeadline) this.#sayDeadline();
  }

  settle(request: SettleRequest): void {
    if (this.#left || isOfAnother(request, this.incarnation)) return;
    const { topicEpoch } = this.#options.definition;
    const sendable = new Map<Leg, SettleOperation[]>();
    for (const operation of request.operations) {
      // The operation is on an earlier incarnation of the topic: there is nothing to settle.
      if (operation.logEpoch !== topicEpoch) continue;
      const leg = this.#kept.has(operation.partition) ? undefined : this.#legFor(operation);
      if (leg === undefined) this.#keep(operation);
      else {
        const operations = sendable.get(leg);
        if (operations === undefined) sendable.set(leg, [operation]);
        else operations.push(operation);
      }
    }
    for (const [leg, operations] of sendable) leg.settle(operations);
    if (!this.#kept.empty) void this.#dropUnknown();
  }

  pump(): void {
    this.#localFirst = !this.#localFirst;
    if (this.#localFirst) this.#local.pump();
    this.#flush();
    if (!this.#localFirst) this.#local.pump();
  }

  quiesce(): Promise<void> {
    if (this.#left) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenQuiet ??= [];
      this.#whenQuiet.push(resolve);
      this.#apply(this.#shares.setTotal(0, 0));
      this.#checkQuiet();
    });
  }

  leave(leases: LeasesOnLeave = 'end'): void {
    if (this.#left) return;
    this.#left = true;
    this.#cancelRetry?.();
    for (const cancel of this.#lingering.values()) cancel();
    this.#lingering.clear();
    this.#queue.clear();
    this.#local.leave(leases);
    for (const leg of this.#legs.values()) leg.leave(leases);
    this.#legs.clear();
    const nowMs = this.#options.context.clock.monotonicMs();
    const kept = this.#kept.partitions.flatMap((partition) => this.#kept.take(partition, nowMs));
    this.#settleLater(kept);
    for (const count of this.#counts) count.over();
    this.#options.onLeft();
    for (const resolve of this.#whenQuiet?.splice(0) ?? []) resolve();
  }

  /** The stream ends with this status. */
  ended(error: BrokerError): void {
    if (this.#left) return;
    this.leave();
    this.#sink.close(error);
  }

  /** At first, and after every change of routes: a leg to every owner, and none for long to others. */
  routed(): void {
    if (this.#left) return;
    const { topic, owners, routes, peers, context } = this.#options;
    const now = topic();
    this.#partitions = now.partitions;
    const wanted = owners(now);
    for (const [memberId, route] of wanted) {
      if (memberId === routes.selfId) continue;
      const leg = this.#legs.get(memberId);
      if (leg !== undefined) this.#keepLeg(leg);
      else {
        // The leg may be attached, and even end everything, before its constructor returns.
        const made = new RemoteLeg(route, this, peers, context.clock);
        if (this.#left) made.leave('end');
        else this.#legs.set(memberId, made);
      }
      if (this.#left) return;
    }
    for (const [memberId, leg] of this.#legs) if (!wanted.has(memberId)) this.#linger(leg);
    if (wanted.has(routes.selfId)) {
      this.#keepLeg(this.#local);
      this.#joinLocal();
    } else if (this.#localJoined) this.#linger(this.#local);
    this.#begun = true;
    this.#openShares();
    this.#retryMs = FIRST_RETRY_MS;
    this.#sendKept();
  }

  /** Partitions may have been added to the topic, and their routes known before they were. */
  look(): void {
    if (!this.#left && this.#options.topic().partitions !== this.#partitions) this.routed();
  }

  /** Some time has passed. Returns whether it wants another turn. */
  turn(): boolean {
    if (this.#left || this.#whenQuiet !== undefined) return false;
    this.#apply(this.#shares.turn());
    return this.#shares.restless;
  }

  joined(leg: RemoteLeg): void {
    this.#join(leg);
    this.#sendKept();
  }

  left(leg: RemoteLeg): void {
    // The leases of what is queued have ended with the leg: others may have been given it by now.
    this.#queue.drop(leg);
    this.#unconfirmed.delete(leg);
    this.#opening = this.#opening?.filter((other) => other !== leg);
    for (const count of this.#counts) count.gone(leg);
    this.#apply(this.#shares.leave(leg));
    if (this.#lingering.has(leg)) this.#drop(leg);
    this.#checkQuiet();
  }

  delivered(leg: RemoteLeg, messages: DeliveredMessages): void {
    if (this.#left) return;
    if (this.#queue.length === 0 && this.#sink.writable) this.#give(leg, messages);
    else this.#queue.push(leg, messages);
  }

  credited(leg: Leg, sequence: number, outstandingMessages: number): void {
    if (this.#left) return;
    if (this.#unconfirmed.get(leg) === sequence) this.#unconfirmed.delete(leg);
    for (const count of this.#counts) count.answered(leg, sequence, outstandingMessages);
    this.#apply(this.#shares.credited(leg, sequence, outstandingMessages));
    this.#checkQuiet();
  }

  wants(leg: Leg, more: boolean): void {
    if (this.#left) return;
    this.#apply(this.#shares.wants(leg, more));
    this.#watchRestless();
  }

  bounced(operations: readonly SettleOperation[]): void {
    if (this.#left) this.#settleLater(operations);
    else for (const operation of operations) this.#keep(operation);
  }

  drained(): void {
    this.#sendKept();
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

  #joinLocal(): void {
    if (this.#localJoined) return;
    this.#localJoined = true;
    this.#join(this.#local);
  }

  #join(leg: Leg): void {
    if (this.#opening !== undefined) {
      this.#opening.push(leg);
      return;
    }
    this.#apply(this.#shares.join(leg));
    this.#watchRestless();
  }

  #openShares(): void {
    if (this.#opening === undefined) return;
    const legs = this.#opening;
    this.#opening = undefined;
    const first = this.#options.turn % Math.max(1, legs.length);
    this.#apply(this.#shares.join(...legs.slice(first), ...legs.slice(0, first)));
    this.#watchRestless();
  }

  #watchRestless(): void {
    if (this.#shares.restless && !this.#left) this.#options.onRestless();
  }

  /** Performs orders; a leg that is here confirms at once, which may give the next ones. */
  #apply(orders: readonly ShareOrder<Leg>[]): void {
    const { ackDeadlineMs } = this.#limits;
    const draining = this.#draining;
    // All of them are noted first: the leg that is here confirms while others have not been told.
    for (const { owner: leg, sequence } of orders) this.#unconfirmed.set(leg, sequence);
    for (const { owner: leg, sequence, messages, bytes } of orders) {
      if (this.#left) return;
      const limits = {
        maxOutstandingMessages: messages,
        maxOutstandingBytes: bytes,
        ackDeadlineMs,
        draining,
      };
      leg.credit(sequence, limits);
      if (leg === this.#local) this.credited(leg, sequence, leg.outstandingMessages);
    }
  }

  #sayDeadline(): void {
    const { ackDeadlineMs } = this.#limits;
    this.#local.sayDeadline(ackDeadlineMs);
    for (const leg of this.#legs.values()) leg.sayDeadline(ackDeadlineMs);
  }

  #give(leg: RemoteLeg, messages: DeliveredMessages): void {
    this.#sink.deliver(messages);
    leg.took(messages.bytes);
  }

  #flush(): void {
    while (this.#queue.length > 0 && this.#sink.writable && !this.#left) {
      const { leg, messages } = this.#queue.shift();
      this.#give(leg, messages);
    }
    this.#checkQuiet();
  }

  #checkQuiet(): void {
    if (this.#whenQuiet === undefined || this.#unconfirmed.size > 0) return;
    if (this.#queue.length > 0 || !this.#kept.empty) return;
    for (const resolve of this.#whenQuiet.splice(0)) resolve();
  }

  /** The leg that can be told of it now. */
  #legFor(operation: SettleOperation): Leg | undefined {
    if (this.#local.owns(operation)) return this.#local;
    const route = this.#options.routes.targetOf(operation);
    const leg = route === undefined ? undefined : this.#legs.get(route.memberId);
    return leg?.writable ? leg : undefined;
  }

  #keep(operation: SettleOperation): void {
    this.#kept.add(operation, this.#options.context.clock.monotonicMs());
    this.#retryLater();
  }

  /** The consumer has left: with its leases gone only its acks still mean something. */
  #settleLater(operations: readonly SettleOperation[]): void {
    const acks = operations.filter(({ kind }) => kind === 'ack');
    if (acks.length > 0) this.#options.settleLater(acks);
  }

  #sendKept(): void {
    const { clock } = this.#options.context;
    const { topicEpoch: logEpoch } = this.#options.definition;
    for (const partition of this.#kept.partitions) {
      const leg = this.#legFor({ kind: 'ack', logEpoch, partition, first: 0, last: 0, seconds: 0 });
      if (leg !== undefined) leg.settle(this.#kept.take(partition, clock.monotonicMs()));
    }
    if (!this.#kept.empty) {
      this.#retryLater();
      void this.#dropUnknown();
    } else {
      this.#retryMs = FIRST_RETRY_MS;
      this.#checkQuiet();
    }
  }

  /**
   * Drops what was said of partitions that the topic does not have, which means nothing and would be kept for
   * ever.
   */
  async #dropUnknown(): Promise<void> {
    const unknown = this.#kept.partitions.filter((partition) => partition >= this.#partitions);
    if (unknown.length === 0 || this.#asking || this.#left) return;
    this.#asking = true;
    try {
      const partitions = await this.#options.partitions(Math.max(...unknown) + 1);
      this.#kept.drop(unknown.filter((partition) => partition >= partitions));
    } catch (error) {
      // The next retry asks again.
      if (!(error instanceof BrokerError)) throw error;
    }
    this.#asking = false;
    this.#checkQuiet();
  }

  #retryLater(): void {
    if (this.#cancelRetry !== undefined || this.#left) return;
    this.#cancelRetry = this.#options.context.clock.setTimer(this.#retryMs, () => {
      this.#cancelRetry = undefined;
      this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
      this.#sendKept();
    });
  }

  #keepLeg(leg: Leg): void {
    this.#lingering.get(leg)?.();
    this.#lingering.delete(leg);
  }

  #linger(leg: Leg): void {
    if (this.#lingering.has(leg)) return;
    if (leg !== this.#local && !(leg as RemoteLeg).attached) {
      this.#drop(leg);
      return;
    }
    const cancel = this.#options.context.clock.setTimer(LEG_LINGER_MS, () => this.#drop(leg));
    this.#lingering.set(leg, cancel);
  }

  #drop(leg: Leg): void {
    this.#keepLeg(leg);
    this.#unconfirmed.delete(leg);
    for (const count of this.#counts) count.gone(leg);
    if (leg === this.#local) {
      this.#localJoined = false;
      const { ackDeadlineMs } = this.#limits;
      const draining = this.#draining;
      this.#local.credit(0, { maxOutstandingMessages: 0, maxOutstandingBytes: 0, ackDeadlineMs, draining });
    } else {
      const remote = leg as RemoteLeg;
      this.#legs.delete(remote.route.memberId);
      remote.leave('stay');
    }
    this.#apply(this.#shares.leave(leg));
    this.#checkQuiet();
  }
}
