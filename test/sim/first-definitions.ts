// Puts a scenario's topics and subscriptions into the stores before there is a broker.
//
// They go past the admin API, whose limits are made for people: a simulation wants retention of a few chunks
// and leases of milliseconds.
import { encodeDefinition } from '../../services/broker/core/definition-codec.ts';
import type { DurabilityLevel } from '../../services/broker/core/definitions.ts';
import type { DefinitionStore } from '../../services/broker/ports/definition-store.ts';
import type { SubscriptionPlan, TopicPlan } from './cluster/scenario.ts';

type FirstSubscription = Pick<SubscriptionPlan, 'name' | 'ordering' | 'ackDeadlineMs'>;

interface FirstTopic extends Pick<TopicPlan, 'name' | 'partitions' | 'retentionMs' | 'retentionBytes'> {
  readonly durability: DurabilityLevel;
  readonly subscriptions: readonly FirstSubscription[];
}

export async function putDefinitions(store: DefinitionStore, topics: readonly FirstTopic[]): Promise<void> {
  for (const topic of topics) {
    const logEpoch = await store.nextIncarnation();
    await store.put('topic', topic.name, topicBody(topic, logEpoch), 0);
    for (const subscription of topic.subscriptions) {
      const incarnation = await store.nextIncarnation();
      const body = subscriptionBody(subscription, topic.name, logEpoch, incarnation);
      await store.put('subscription', subscription.name, body, 0);
    }
  }
}

function topicBody(topic: FirstTopic, logEpoch: number): string {
  return encodeDefinition({
    name: topic.name,
    partitions: topic.partitions,
    retentionMs: topic.retentionMs,
    retentionBytesPerPartition: topic.retentionBytes,
    durability: topic.durability,
    minReplicas: 0,
    labels: {},
    logEpoch,
    createTimeMs: 0,
    revision: 0,
  });
}

function subscriptionBody(
  subscription: FirstSubscription,
  topic: string,
  topicEpoch: number,
  incarnation: number,
): string {
  return encodeDefinition({
    name: subscription.name,
    topic,
    ackDeadlineMs: subscription.ackDeadlineMs,
    ordering: subscription.ordering,
    start: 'earliest',
    labels: {},
    incarnation,
    createTimeMs: 0,
    topicEpoch,
    revision: 0,
  });
}
