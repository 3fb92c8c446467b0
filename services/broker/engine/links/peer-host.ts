// What both ends of links need of this broker: the partitions that it owns, and what it knows of topics and subscriptions.
import type { TopicDefinition } from '../../core/definitions.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../../core/settle-request.ts';
import type { ConsumerDrain } from '../delivery/draining-consumers.ts';
import type { SubscriptionRuntime } from '../delivery/subscription-runtime.ts';
import type { PartitionOwner } from '../log/partition-owner.ts';

export interface PeerHost {
  /** Of a partition that is owned here. */
  owner(id: PartitionId): PartitionOwner | undefined;
  /** How many the topic has; 0 if it is not known. */
  partitionsOf(logEpoch: number): number;
  /** Throws NOT_FOUND, UNAVAILABLE. */
  topicDefinition(name: string): TopicDefinition;
  /** Throws NOT_FOUND, UNAVAILABLE. */
  runtimeOf(subscription: string): SubscriptionRuntime;
  /** Settles what concerns partitions owned here, durably, and returns the rest. Rejects with NOT_FOUND, UNAVAILABLE. */
  settleOwned(
    subscription: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]>;
  /** Of which something of the subscription can be settled, if there are as many as `least` or not. Rejects with UNAVAILABLE. */
  partitionsToSettle(subscription: SettledSubscription, least: number): Promise<number>;
  /** Of the consumers whose streams end here. */
  readonly draining: ConsumerDrain;
}
