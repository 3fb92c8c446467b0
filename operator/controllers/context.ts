// What all controllers share: caches, brokers, clock, where to write.
import type { Fanfare } from '../api/v1alpha1/fanfare.ts';
import { FANFARES } from '../api/v1alpha1/fanfare.ts';
import type { KindNames } from '../api/v1alpha1/group.ts';
import { FORCE_SYNC_ANNOTATION, PAUSED_ANNOTATION } from '../api/v1alpha1/group.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import type { BacklogWatch } from '../broker/backlog-watch.ts';
import type { BrokerLinks, Place } from '../broker/links.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Clock } from '../kube/clock.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { Informer } from '../kube/informer.ts';
import type { Logger } from '../kube/logger.ts';
import type { Metrics } from '../kube/metrics.ts';
import type { KubeObject, Resource } from '../kube/objects.ts';
import type { Change } from '../kube/store.ts';
import type { Latest } from './latest.ts';
import type { StatusWriter } from './status-writer.ts';

export interface ControllerContext {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly events: EventRecorder;
  readonly links: BrokerLinks;
  readonly backlog: BacklogWatch;
  readonly status: StatusWriter;
  /** The client whose field manager is `fanfare-operator/<controller>`. */
  readonly client: (controller: string) => KubeClient;
  readonly fanfares: Informer<Fanfare>;
  readonly topics: Informer<Topic>;
  readonly subscriptions: Informer<Subscription>;
  readonly latestTopics: Latest<Topic>;
  readonly latestSubscriptions: Latest<Subscription>;
  /** The uid of the namespace kube-system: what tells this cluster from others. */
  readonly clusterId: (signal: AbortSignal) => Promise<string>;
  /** Whether this operator sees the namespace's resources. */
  readonly watches: (namespace: string) => boolean;
  readonly finalizers: boolean;
  readonly finalizerTimeoutMs: number;
  readonly podDeletionCost: boolean;
}

/** A kind's names as operator/kube wants them. */
export function resourceOf({ group, version, kind, plural, namespaced }: KindNames): Resource {
  return { group, version, kind, plural, namespaced };
}

/** A resource's broker and project; undefined: none that can be used now. */
export function placeOf(ctx: ControllerContext, resource: Topic | Subscription): Place | undefined {
  const { namespace, deletionTimestamp } = resource.metadata;
  const { name } = resource.spec.connectionRef;
  return ctx.links.placeOf(
    namespace,
    name,
    hasFanfare(ctx, namespace, name),
    deletionTimestamp !== undefined,
  );
}

export function hasFanfare({ fanfares }: ControllerContext, namespace: string, name: string): boolean {
  return fanfares.get(`${namespace}/${name}`) !== undefined;
}

export function isPaused({ metadata, spec }: Topic | Subscription): boolean {
  return spec.paused || metadata.annotations?.[PAUSED_ANNOTATION] === 'true';
}

/** The value of the annotation fanfare.dev/force-sync. */
export function forceSyncOf({ metadata }: KubeObject): string | undefined {
  return metadata.annotations?.[FORCE_SYNC_ANNOTATION];
}

/**
 * Whether a change may need a reconcile: all but an update of status, which is mostly our own, or of labels.
 */
export function isNews({ type, object, previous, listed }: Change<KubeObject>): boolean {
  if (type !== 'updated' || previous === undefined || listed) return true;
  const [now, before] = [object.metadata, previous.metadata];
  return (
    now.uid !== before.uid ||
    now.generation !== before.generation ||
    now.deletionTimestamp !== before.deletionTimestamp ||
    JSON.stringify(now.annotations) !== JSON.stringify(before.annotations) ||
    JSON.stringify(now.finalizers) !== JSON.stringify(before.finalizers)
  );
}

/** Deletions come first, news next, what only comes round again last. */
export function priorityOf({ object, listed }: Pick<Change<KubeObject>, 'object' | 'listed'>) {
  if (object.metadata.deletionTimestamp !== undefined) return 'high' as const;
  return listed ? ('low' as const) : ('normal' as const);
}

export const FANFARE_RESOURCE = resourceOf(FANFARES);
