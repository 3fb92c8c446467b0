// What broker.ts needs for partitions that other brokers own. engine/relay implements it over the peers; a broker that is
// alone has none and owns everything.
import type { BacklogReport, PartitionQuestion } from '../core/backlog-report.ts';
import type { ConsumerClient } from '../core/consumer-client.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import type { DrainReport, DrainRequest, OpeningConsumer } from '../core/draining.ts';
import type { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../core/settle-request.ts';
import type { Consumer, ConsumerSink } from './delivery/consumer.ts';
import type { DrainableConsumer } from './delivery/draining-consumers.ts';
import type { SessionLimits } from './delivery/session.ts';
import type { PartitionOwner, PendingPublish } from './log/partition-owner.ts';

export interface Remote {
  /** Brings the messages to the owner, or keeps them until there is one, in order with others of the partition. */
  publish(topic: TopicDefinition, id: PartitionId, publish: PendingPublish): void;

  /**
   * The partition is owned here from now on: what waits for it goes to this owner. Resolves once nothing is on its way to a
   * former one any more; publishes that come until then must come here, or they could overtake.
   */
  opened(topic: TopicDefinition, owner: PartitionOwner): Promise<void>;

  /** A consumer that gets messages of all owners. */
  consumer(
    subscription: SubscriptionDefinition,
    client: ConsumerClient,
    sink: ConsumerSink,
    limits: SessionLimits,
    opening: OpeningConsumer,
  ): Consumer;

  /**
   * Brings the operations to the owners of their partitions, which are not owned here, and resolves when they have settled
   * them. UNAVAILABLE: not in time.
   */
  settle(subscription: SettledSubscription, operations: readonly SettleOperation[]): Promise<void>;

  /** Consumers that `consumer` has made and that are still there. */
  consumersOf(subscription: string): Iterable<DrainableConsumer>;

  /** Has the consumers whose streams end at other brokers drain. UNAVAILABLE: one of them does not answer; see ConsumerDrain. */
  drain(request: DrainRequest): Promise<DrainReport>;

  /** What other brokers' partitions have of backlog. UNAVAILABLE: one of them does not answer. */
  backlog(parent: string, names: readonly string[], question?: PartitionQuestion): Promise<BacklogReport[]>;

  /** Calls the listener with a subscription that was idle and got its first message at another broker. */
  onFirstMessage(listener: (subscription: string) => void): () => void;

  /** The subscription is not known any more: its consumers end. */
  subscriptionEnded(subscription: SubscriptionDefinition, reason: BrokerError): void;

  /** The topic has more partitions than before: what waits for others is given back, to be routed anew. */
  topicGrown(topic: TopicDefinition): void;

  /** The topic is not known any more: what waits for its partitions fails. */
  topicEnded(topic: TopicDefinition, reason: BrokerError): void;

  /** Fails what waits to be published; resolves when what was sent is answered, or when that has taken too long. */
  settled(): Promise<void>;

  /** Fails what waits and closes all links. */
  close(): void;
}
