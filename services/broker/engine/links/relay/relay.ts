// The way to partitions that other brokers own, for the clients of this one: publishes, consumers, settles,
// drain, backlog.
//
//   publish ─▶ RelayedPublishes ───┐
//   consumer ─▶ RelayedConsumer ───┼─▶ RelayLinks ─▶ RelayLink ─▶ the owner, by Routes
//   settle, backlog ───────────────┤
//   drain ─────────────────────────┘            ─▶ every living member, by Routes

import type { BacklogReport, PartitionQuestion } from '../../../core/backlog-report.ts';
import type { ConsumerClient } from '../../../core/consumer-client.ts';
import type { ConsumerLimits } from '../../../core/credit.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../../core/definitions.ts';
import type { DrainReport, DrainRequest, OpeningConsumer } from '../../../core/draining.ts';
import { BrokerError } from '../../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../../../core/settle-request.ts';
import type { PeerConnector } from '../../../ports/peer.ts';
import type { EngineContext } from '../../context.ts';
import type { Consumer, ConsumerSink } from '../../delivery/consumer.ts';
import type { DrainableConsumer } from '../../delivery/draining-consumers.ts';
import type { PartitionOwner } from '../../log/partition-owner.ts';
import type { PendingPublish } from '../../log/publish-group.ts';
import type { Route, Routes } from '../../membership/routes.ts';
import type { Remote } from '../../remote.ts';
import type { PeerHost } from '../peer-host.ts';
import { RelayLinks } from './relay-links.ts';
import { RelayedBacklog, targetsOf } from './relayed-backlog.ts';
import { RelayedConsumer } from './relayed-consumer.ts';
import { drainRemotely } from './relayed-drain.ts';
import { settleRemotely } from './relayed-settles.ts';
import { RoutedPartition } from './routed-partition.ts';

export interface RelayOptions {
  readonly connector: PeerConnector;
  readonly routes: Routes;
  readonly host: PeerHost;
  readonly context: EngineContext;
  readonly topics: () => Iterable<TopicDefinition>;
}

const TURN_MS = 100;
/** How long at most a partition that was added goes without its consumers. */
const LOOK_MS = 500;
/** How long a broker that stops waits for what it has passed on to owners to be answered. */
const END_PUBLISHES_MS = 2_000;
/** From this many partitions on, those that nothing waits for are forgotten. */
const MAX_EMPTY_PARTITIONS = 1_000;
/** Ranges of offsets, about 100 bytes each. */
const MAX_SETTLING_OPERATIONS = 100_000;
const STOPPING = new BrokerError('UNAVAILABLE', 'the broker is stopping: connect again');

export class Relay implements Remote {
  readonly #options: RelayOptions;
  readonly #peers: RelayLinks;
  readonly #backlog: RelayedBacklog;
  readonly #partitions = new Map<string, RoutedPartition>();
  readonly #consumers = new Set<RelayedConsumer>();
  readonly #restless = new Set<RelayedConsumer>();
  readonly #settlingLater = new Set<Promise<void>>();
  /** How many operations these are about. */
  #settlingOperations = 0;
  #consumersMade = 0;
  #streams = 0;
  /** The targets of topics by logEpoch, until routes change. */
  readonly #targets = new Map<number, { readonly partitions: number; readonly routes: Map<string, Route> }>();
  #turning: (() => void) | undefined;
  #looking: (() => void) | undefined;
  #routing = false;
  #closed = false;
  readonly #stopListening: () => void;

  constructor(options: RelayOptions) {
    const { connector, routes, host, context, topics } = options;
    this.#options = options;
    this.#peers = new RelayLinks(connector, context, (subscription) =>
      this.#backlog.firstMessage(subscription),
    );
    this.#backlog = new RelayedBacklog({ peers: this.#peers, routes, host, clock: context.clock, topics });
    this.#stopListening = routes.onChange(() => this.#routesChanged());
  }

  publish(topic: TopicDefinition, id: PartitionId, publish: PendingPublish): void {
    if (this.#closed) {
      publish.failed(STOPPING);
      return;
    }
    const key = formatPartitionId(id);
    let partition = this.#partitions.get(key);
    if (partition === undefined) {
      this.#forgetEmpty();
      partition = new RoutedPartition(topic.name, id, this.#peers, this.#options);
      this.#partitions.set(key, partition);
    }
    partition.publishes.publish(publish);
  }

  /**
   * What waits goes to the owner now. Resolves when nothing is on its way to a former owner any more, at once
   * but for a moment after a move: publishes that go to the owner directly before that could overtake.
   */
  opened(_topic: TopicDefinition, owner: PartitionOwner): Promise<void> {
    const partition = this.#partitions.get(formatPartitionId(owner.id));
    if (partition === undefined) return Promise.resolve();
    return partition.publishes.opened();
  }

  nextStream(): string {
    this.#streams += 1;
    // A member's id is another one after each start.
    return `${this.#options.routes.selfId}/${this.#streams}`;
  }

  consumer(
    definition: SubscriptionDefinition,
    client: ConsumerClient,
    sink: ConsumerSink,
    limits: ConsumerLimits,
    opening: OpeningConsumer,
  ): Consumer {
    const { host, routes, context } = this.#options;
    const topic = host.topicDefinition(definition.topic);
    const consumer: RelayedConsumer = new RelayedConsumer({
      definition,
      runtime: host.runtimeOf(definition.name),
      client,
      sink,
      limits,
      opening,
      peers: this.#peers,
      routes,
      context,
      topic: () => this.#topicNow(topic),
      targets: (now) => this.#targetsOf(now),
      partitions: (least) => host.partitionsToSettle(definition, least),
      settleLater: (operations) => this.settleLater(definition, operations),
      turn: this.#consumersMade++,
      onRestless: () => this.#turnLater(consumer),
      onLeft: () => {
        this.#consumers.delete(consumer);
        this.#restless.delete(consumer);
        if (this.#consumers.size > 0) return;
        this.#looking?.();
        this.#looking = undefined;
      },
    });
    consumer.routed();
    if (!consumer.over) {
      this.#consumers.add(consumer);
      this.#lookLater();
    }
    return consumer;
  }

  settle(subscription: SettledSubscription, operations: readonly SettleOperation[]): Promise<void> {
    const { routes, context, host } = this.#options;
    const over = (): boolean => this.#closed;
    const options = { peers: this.#peers, routes, clock: context.clock, host, over };
    return settleRemotely(options, subscription, operations);
  }

  settleLater(subscription: SettledSubscription, acks: readonly SettleOperation[]): void {
    if (this.#closed) return;
    const { logger } = this.#options.context;
    const { name } = subscription;
    if (this.#settlingOperations + acks.length > MAX_SETTLING_OPERATIONS) {
      logger.warn(
        { subscription: name, acks: acks.length },
        'too many acks wait for owners: some are dropped',
      );
      return;
    }
    this.#settlingOperations += acks.length;
    const settling = this.settle(subscription, acks)
      .catch((error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
        logger.warn(
          { subscription: name, reason: error.message },
          'what was settled while its partition moved, or its consumer left, is delivered again',
        );
      })
      .finally(() => {
        this.#settlingLater.delete(settling);
        this.#settlingOperations -= acks.length;
      });
    this.#settlingLater.add(settling);
  }

  backlog(parent: string, names: readonly string[], question?: PartitionQuestion): Promise<BacklogReport[]> {
    return this.#backlog.report(parent, names, question);
  }

  onFirstMessage(listener: (subscription: string) => void): () => void {
    return this.#backlog.onFirstMessage(listener);
  }

  *consumersOf(subscription: string): Iterable<DrainableConsumer> {
    for (const consumer of this.#consumers) if (consumer.subscription === subscription) yield consumer;
  }

  drain(request: DrainRequest): Promise<DrainReport> {
    const { routes, context } = this.#options;
    return drainRemotely({ peers: this.#peers, routes, clock: context.clock }, request);
  }

  subscriptionEnded({ incarnation }: SubscriptionDefinition, reason: BrokerError): void {
    for (const consumer of [...this.#consumers])
      if (consumer.incarnation === incarnation) consumer.ended(reason);
  }

  topicGrown({ logEpoch }: TopicDefinition): void {
    for (const { publishes } of [...this.#partitions.values()])
      if (publishes.id.logEpoch === logEpoch) publishes.grown();
  }

  topicEnded({ logEpoch }: TopicDefinition, reason: BrokerError): void {
    for (const [key, partition] of [...this.#partitions]) {
      if (partition.publishes.id.logEpoch !== logEpoch) continue;
      this.#partitions.delete(key);
      partition.close(reason);
    }
  }

  async endPublishes(): Promise<void> {
    const publishes = [...this.#partitions.values()].map((partition) => partition.publishes);
    for (const each of publishes) each.close(STOPPING);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const cancelTimer = this.#options.context.clock.setTimer(END_PUBLISHES_MS, resolve);
    await Promise.race([
      late,
      Promise.all([...publishes.map((each) => each.emptied()), ...this.#settlingLater]),
    ]);
    cancelTimer();
  }

  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#turning?.();
    this.#looking?.();
    for (const consumer of [...this.#consumers]) consumer.ended(STOPPING);
    for (const partition of this.#partitions.values()) partition.close(STOPPING);
    this.#partitions.clear();
    this.#peers.close();
  }

  /** The topic as it is now: partitions may have been added since. */
  #topicNow(topic: TopicDefinition): TopicDefinition {
    try {
      const now = this.#options.host.topicDefinition(topic.name);
      return now.logEpoch === topic.logEpoch ? now : topic;
    } catch (error) {
      // Deleted: its subscriptions end soon.
      if (error instanceof BrokerError) return topic;
      throw error;
    }
  }

  #targetsOf(topic: TopicDefinition): ReadonlyMap<string, Route> {
    const known = this.#targets.get(topic.logEpoch);
    if (known?.partitions === topic.partitions) return known.routes;
    const routes = targetsOf([topic], this.#options.routes);
    this.#targets.set(topic.logEpoch, { partitions: topic.partitions, routes });
    return routes;
  }

  /** Acts at the end of the turn: a change of routes may be told in several parts. */
  #routesChanged(): void {
    this.#targets.clear();
    if (this.#routing) return;
    this.#routing = true;
    this.#options.context.clock.defer(() => {
      this.#routing = false;
      if (this.#closed) return;
      for (const partition of this.#partitions.values()) partition.routed();
      for (const consumer of [...this.#consumers]) consumer.routed();
      this.#backlog.routed();
    });
  }

  #turnLater(consumer: RelayedConsumer): void {
    this.#restless.add(consumer);
    this.#turning ??= this.#options.context.clock.setTimer(TURN_MS, () => {
      this.#turning = undefined;
      for (const each of [...this.#restless]) {
        if (each.turn()) this.#turnLater(each);
        else this.#restless.delete(each);
      }
    });
  }

  #lookLater(): void {
    this.#looking ??= this.#options.context.clock.setTimer(LOOK_MS, () => {
      this.#looking = undefined;
      for (const consumer of [...this.#consumers]) consumer.look();
      if (this.#consumers.size > 0) this.#lookLater();
    });
  }

  #forgetEmpty(): void {
    if (this.#partitions.size < MAX_EMPTY_PARTITIONS) return;
    for (const [key, partition] of this.#partitions) {
      if (!partition.publishes.empty) continue;
      partition.close(STOPPING);
      this.#partitions.delete(key);
    }
  }
}
