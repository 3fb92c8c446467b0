// What both ends of links need of this broker: the partitions that it owns, and what it knows of topics and
// subscriptions.
import type { TopicDefinition } from '../../core/definitions.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../../core/settle-request.ts';
import type { ConsumerDrain } from '../delivery/draining-consumers.ts';
import type { SubscriptionRuntime } from '../delivery/subscription-runtime.ts';
import type { PartitionOwner } from '../log/partition-owner.ts';

export interface PeerHost {
  /** The partition's owner; undefined: it is not owned here. */
  owner(id: PartitionId): PartitionOwner | undefined;
  /** How many partitions the topic has; 0 if it is not known. */
  partitionsOf(logEpoch: number): number;
  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  topicDefinition(name: string): TopicDefinition;
  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  runtimeOf(subscription: string): SubscriptionRuntime;
  /**
   * Settles what concerns partitions owned here, durably, and returns the rest. Rejects with NOT_FOUND,
   * UNAVAILABLE.
   */
  settleOwned(
    subscription: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]>;
  /**
   * How many partitions the subscription's topic has; 0 if the subscription is gone. The store is asked where
   * fewer than `least` are known. Rejects with UNAVAILABLE.
   */
  partitionsToSettle(subscription: SettledSubscription, least: number): Promise<number>;
  /** The drain of consumers whose streams end here. */
  readonly draining: ConsumerDrain;
}
