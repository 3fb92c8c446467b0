// The controllers' caches, and the indexes by which objects are found in them.
import { FANFARES, type Fanfare } from '../api/v1alpha1/fanfare.ts';
import { SUBSCRIPTIONS, type Subscription } from '../api/v1alpha1/subscription.ts';
import { TOPICS, type Topic } from '../api/v1alpha1/topic.ts';
import { subscriptionId } from '../core/plan-subscription.ts';
import { topicId } from '../core/plan-topic.ts';
import type { Clock, Random } from '../kube/clock.ts';
import type { KubeHttp } from '../kube/http.ts';
import { createInformer, type Informer, withoutManagedFields } from '../kube/informer.ts';
import type { Logger } from '../kube/logger.ts';
import type { Metrics } from '../kube/metrics.ts';
import { DEPLOYMENTS, type KubeObject, STATEFUL_SETS } from '../kube/objects.ts';
import { resourceOf } from './context.ts';
import {
  AUTOSCALERS,
  type Autoscaler,
  cutAutoscaler,
  cutWorkload,
  targetKey,
  type Workload,
} from './targets.ts';

export interface InformersOptions {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Empty: all namespaces. */
  readonly namespaces: readonly string[];
}

export interface Informers {
  readonly fanfares: Informer<Fanfare>;
  readonly topics: Informer<Topic>;
  readonly subscriptions: Informer<Subscription>;
  readonly deployments: Informer<Workload>;
  readonly statefulSets: Informer<Workload>;
  readonly autoscalers: Informer<Autoscaler>;
  readonly all: readonly Informer<KubeObject>[];
}

export function createInformers(options: InformersOptions): Informers {
  const fanfares = createInformer<Fanfare>({
    ...options,
    resource: resourceOf(FANFARES),
    transform: withoutManagedFields,
  });
  const topics = createInformer<Topic>({
    ...options,
    resource: resourceOf(TOPICS),
    transform: withoutManagedFields,
    indexes: { id: (topic) => [topicId(topic)], connection: connectionOf },
  });
  const subscriptions = createInformer<Subscription>({
    ...options,
    resource: resourceOf(SUBSCRIPTIONS),
    transform: withoutManagedFields,
    indexes: {
      id: (subscription) => [subscriptionId(subscription)],
      connection: connectionOf,
      topic: ({ metadata, spec }) =>
        spec.topicRef.external ? [] : [`${metadata.namespace}/${spec.topicRef.name}`],
      target: ({ metadata, spec }) =>
        spec.consumers === undefined ? [] : [targetKey(metadata.namespace, spec.consumers.scaleTargetRef)],
    },
  });
  const workloads = (resource: typeof DEPLOYMENTS) =>
    createInformer<Workload>({ ...options, resource, transform: cutWorkload });
  const deployments = workloads(DEPLOYMENTS);
  const statefulSets = workloads(STATEFUL_SETS);
  const autoscalers = createInformer<Autoscaler>({
    ...options,
    resource: AUTOSCALERS,
    transform: cutAutoscaler,
    indexes: { target: ({ targetKey: key }) => [key] },
  });
  const all = [
    fanfares,
    topics,
    subscriptions,
    deployments,
    statefulSets,
    autoscalers,
  ] as unknown as Informer<KubeObject>[];
  return { fanfares, topics, subscriptions, deployments, statefulSets, autoscalers, all };
}

/** The key of the Fanfare that the resource refers to. */
function connectionOf({ metadata, spec }: Topic | Subscription): readonly string[] {
  return [`${metadata.namespace}/${spec.connectionRef.name}`];
}
