// The way to partitions that other brokers own, as an interface. A broker that is alone has none and owns
// everything.

import type { BacklogReport, PartitionQuestion } from '../core/backlog-report.ts';
import type { ConsumerClient } from '../core/consumer-client.ts';
import type { ConsumerLimits } from '../core/credit.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import type { DrainReport, DrainRequest, OpeningConsumer } from '../core/draining.ts';
import type { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../core/settle-request.ts';
import type { Consumer, ConsumerSink } from './delivery/consumer.ts';
import type { DrainableConsumer } from './delivery/draining-consumers.ts';
import type { PartitionOwner } from './log/partition-owner.ts';
import type { PendingPublish } from './log/publish-group.ts';

export interface Remote {
  /**
   * Brings the messages to the owner, or keeps them until there is one, in order with the partition's others.
   */
  publish(topic: TopicDefinition, id: PartitionId, publish: PendingPublish): void;

  /**
   * The partition is owned here from now on: what waits for it goes to this owner. Resolves once nothing is
   * on its way to a former owner any more; until then publishes must come by `publish`, or they could
   * overtake.
   */
  opened(topic: TopicDefinition, owner: PartitionOwner): Promise<void>;

  /** A name for a stream that ends at this broker, which no other one in the cluster ever has. */
  nextStream(): string;

  /** Makes a consumer that gets messages from all owners. */
  consumer(
    subscription: SubscriptionDefinition,
    client: ConsumerClient,
    sink: ConsumerSink,
    limits: ConsumerLimits,
    opening: OpeningConsumer,
  ): Consumer;

  /**
   * Brings the operations to the owners of their partitions; resolves when the owners have performed them,
   * acks durably. NOT_FOUND. UNAVAILABLE: not in time, some may have been performed.
   */
  settle(subscription: SettledSubscription, operations: readonly SettleOperation[]): Promise<void>;

  /**
   * As settle, of acks for which nobody waits: of a consumer that has left, or of a partition that is moving.
   * Bounded: what can't be brought in time, or is too much, is delivered again.
   */
  settleLater(subscription: SettledSubscription, acks: readonly SettleOperation[]): void;

  /** The subscription's consumers that `consumer` has made and that have not left. */
  consumersOf(subscription: string): Iterable<DrainableConsumer>;

  /**
   * Makes the named consumers whose streams end at other brokers drain. UNAVAILABLE: a broker does not
   * answer; see ConsumerDrain.
   */
  drain(request: DrainRequest): Promise<DrainReport>;

  /**
   * The backlog in other brokers' partitions. UNAVAILABLE: a broker does not answer, or a partition has no
   * owner.
   */
  backlog(parent: string, names: readonly string[], question?: PartitionQuestion): Promise<BacklogReport[]>;

  /**
   * Calls the listener with a subscription when one of its partitions at another broker was idle and gets a
   * first message. Returns a function that ends it.
   */
  onFirstMessage(listener: (subscription: string) => void): () => void;

  /** The subscription is not known any more: its consumers end. */
  subscriptionEnded(subscription: SubscriptionDefinition, reason: BrokerError): void;

  /**
   * The topic has more partitions than before: publishes that wait by an older count are given back, to be
   * routed anew.
   */
  topicGrown(topic: TopicDefinition): void;

  /** The topic is not known any more: what waits for its partitions fails. */
  topicEnded(topic: TopicDefinition, reason: BrokerError): void;

  /**
   * Fails publishes that wait; resolves when what was sent to owners is answered, or when that takes too
   * long.
   */
  endPublishes(): Promise<void>;

  /** Fails what waits and closes all links. */
  close(): void;
}
