// What is scaled, and who else scales it. Deployments and StatefulSets come from caches that hold a few
// fields of each; other kinds, of which only /scale is known, are asked for.

import { TRANSFER_OWNERSHIP_ANNOTATION } from '../api/v1alpha1/group.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Refusal, Target } from '../core/plan-replicas.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Clock } from '../kube/clock.ts';
import { isNotFound, KubeError } from '../kube/errors.ts';
import type { KubeHttp } from '../kube/http.ts';
import type { Informer } from '../kube/informer.ts';
import {
  DEPLOYMENTS,
  type KubeObject,
  type ObjectRef,
  type Resource,
  STATEFUL_SETS,
} from '../kube/objects.ts';

/** A Deployment or StatefulSet, cut down. */
export interface Workload extends KubeObject {
  readonly target: Target;
}

/** A HorizontalPodAutoscaler, cut down. */
export interface Autoscaler extends KubeObject {
  readonly targetKey: string;
}

export const AUTOSCALERS: Resource = {
  group: 'autoscaling',
  version: 'v2',
  plural: 'horizontalpodautoscalers',
  kind: 'HorizontalPodAutoscaler',
  namespaced: true,
};
const SCALED_OBJECTS: Resource = {
  group: 'keda.sh',
  version: 'v1alpha1',
  plural: 'scaledobjects',
  kind: 'ScaledObject',
  namespaced: true,
};

interface TargetRef {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly name: string;
}

/** A target, and the resource of its kind, for writing. */
export interface FoundTarget {
  readonly resource: Resource;
  readonly target: Target;
}

export interface TargetsOptions {
  readonly deployments: Informer<Workload>;
  readonly statefulSets: Informer<Workload>;
  readonly autoscalers: Informer<Autoscaler>;
  readonly subscriptions: Informer<Subscription>;
  readonly client: KubeClient;
  readonly http: KubeHttp;
  readonly clock: Clock;
}

/** A namespace's ScaledObjects are listed again after this time: they are seldom made. */
const LOOKED_UP_MS = 300_000;

export class Targets {
  readonly #options: TargetsOptions;
  readonly #resources = new Map<string, Promise<Resource | undefined>>();
  readonly #scaledObjects = new Map<
    string,
    { readonly atMs: number; readonly targets: Promise<Map<string, string>> }
  >();

  constructor(options: TargetsOptions) {
    this.#options = options;
  }

  /** Undefined: there is none, or none that can be scaled. */
  async find(namespace: string, ref: TargetRef, signal: AbortSignal): Promise<FoundTarget | undefined> {
    const resource = await this.#resourceOf(ref, signal);
    if (resource === undefined) return undefined;
    const target = await this.#targetOf(resource, { namespace, name: ref.name }, signal);
    return target && { resource, target };
  }

  /** Undefined: the API server has no such kind. */
  async #resourceOf(ref: TargetRef, signal: AbortSignal): Promise<Resource | undefined> {
    const { apiVersion, kind } = withDefaults(ref);
    if (apiVersion === 'apps/v1' && kind === 'Deployment') return DEPLOYMENTS;
    if (apiVersion === 'apps/v1' && kind === 'StatefulSet') return STATEFUL_SETS;
    const id = `${apiVersion} ${kind}`;
    let found = this.#resources.get(id);
    if (found === undefined) {
      found = this.#discover(apiVersion, kind, signal);
      this.#resources.set(id, found);
      // A kind that is not found is asked for again next time: it may be installed later.
      found
        .then((resource) => resource ?? this.#resources.delete(id))
        .catch(() => this.#resources.delete(id));
    }
    return found;
  }

  async #targetOf(resource: Resource, at: ObjectRef, signal: AbortSignal): Promise<Target | undefined> {
    const key = `${at.namespace}/${at.name}`;
    if (resource === DEPLOYMENTS) return this.#options.deployments.get(key)?.target;
    if (resource === STATEFUL_SETS) return this.#options.statefulSets.get(key)?.target;
    const scale = await this.#options.client.getScale(resource, at, signal);
    if (scale === undefined) return undefined;
    const replicas = scale.spec?.replicas ?? 0;
    const { replicas: present = 0, selector = '' } = scale.status ?? {};
    return {
      replicas,
      statusReplicas: present,
      // How many are ready is not known of other kinds; what runs is taken to be ready.
      readyReplicas: Math.min(replicas, present),
      selector,
      revision: undefined,
      rolling: false,
      managers: [],
    };
  }

  /** Why this Subscription must not scale its target. Undefined: it may. */
  async refusalOf(subscription: Subscription, signal: AbortSignal): Promise<Refusal | undefined> {
    const { namespace } = subscription.metadata;
    const ref = subscription.spec.consumers?.scaleTargetRef;
    if (ref === undefined) return undefined;
    const key = targetKey(namespace, ref);
    const what = `${ref.kind} ${ref.name}`;
    const older = this.#options.subscriptions
      .byIndex('target', key)
      .filter((other) => other.metadata.uid !== subscription.metadata.uid && isOlder(other, subscription))[0];
    if (older !== undefined) {
      const message = `${what} is scaled by the Subscription ${older.metadata.name}, which is older: give each its own target`;
      return { reason: 'ScaleTargetOwnedBySubscription', message };
    }
    if (subscription.metadata.annotations?.[TRANSFER_OWNERSHIP_ANNOTATION] === 'true') return undefined;
    const hpa = this.#options.autoscalers.byIndex('target', key)[0];
    const scaler =
      hpa === undefined
        ? (await this.#scaledObjectTargets(namespace, signal)).get(key)
        : `the HorizontalPodAutoscaler ${hpa.metadata.name}`;
    if (scaler === undefined) return undefined;
    const message = `${what} is scaled by ${scaler}: delete it, or let it scale this Subscription instead (strategy: None), or set the annotation ${TRANSFER_OWNERSHIP_ANNOTATION}: "true" while you move`;
    return { reason: 'ScaleTargetOwnedByHPA', message };
  }

  async #discover(apiVersion: string, kind: string, signal: AbortSignal): Promise<Resource | undefined> {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    const path = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    try {
      const { resources } = await this.#options.http.json<{
        resources: readonly { name: string; kind: string; namespaced: boolean }[];
      }>({ verb: 'get', resource: 'discovery', path, signal });
      const found = resources.find(
        (each) => each.kind === kind && !each.name.includes('/') && each.namespaced,
      );
      return found && { group: group!, version: version!, plural: found.name, kind, namespaced: true };
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** The ScaledObjects' names by their targets; empty where there is no KEDA, or we may not look. */
  #scaledObjectTargets(namespace: string, signal: AbortSignal): Promise<Map<string, string>> {
    const { client, clock } = this.#options;
    const known = this.#scaledObjects.get(namespace);
    if (known !== undefined && clock.monotonicMs() - known.atMs < LOOKED_UP_MS) return known.targets;
    const targets = scaledObjects(client, namespace, signal);
    this.#scaledObjects.set(namespace, { atMs: clock.monotonicMs(), targets });
    targets.catch(() => this.#scaledObjects.delete(namespace));
    return targets;
  }
}

async function scaledObjects(
  client: KubeClient,
  namespace: string,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const targets = new Map<string, string>();
  try {
    const found = await client.list<KubeObject & { spec?: { scaleTargetRef?: TargetRef } }>(
      SCALED_OBJECTS,
      { namespace },
      signal,
    );
    for (const { metadata, spec } of found) {
      if (spec?.scaleTargetRef === undefined) continue;
      targets.set(targetKey(namespace, spec.scaleTargetRef), `the ScaledObject ${metadata.name}`);
    }
  } catch (error) {
    if (!isNotFound(error) && !(error instanceof KubeError && error.status === 403)) throw error;
  }
  return targets;
}

function isOlder(a: Subscription, b: Subscription): boolean {
  const [then, now] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
  return then === now ? a.metadata.uid < b.metadata.uid : then < now;
}

function withDefaults({ apiVersion = 'apps/v1', kind = 'Deployment', name }: TargetRef): Required<TargetRef> {
  return { apiVersion, kind, name };
}

/** A target's key, without the version: apps/v1 and apps/v2 would be the same object. */
export function targetKey(namespace: string, ref: TargetRef): string {
  const { apiVersion, kind, name } = withDefaults(ref);
  return `${namespace} ${apiVersion.includes('/') ? apiVersion.split('/')[0] : ''} ${kind} ${name}`;
}

interface RawWorkload extends KubeObject {
  readonly spec?: { readonly replicas?: number; readonly selector?: LabelSelector };
  readonly status?: {
    readonly replicas?: number;
    readonly readyReplicas?: number;
    readonly updatedReplicas?: number;
    readonly updateRevision?: string;
  };
}

interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly { key: string; operator: string; values?: readonly string[] }[];
}

/** What is worth keeping of a Deployment or StatefulSet. */
export function cutWorkload(object: KubeObject): Workload {
  const { spec, status, metadata, apiVersion, kind } = object as RawWorkload;
  const { name, namespace, uid, resourceVersion, annotations } = metadata;
  const present = status?.replicas ?? 0;
  return {
    apiVersion,
    kind,
    metadata: { name, ...definedOnly({ namespace, uid, resourceVersion }) },
    target: {
      replicas: spec?.replicas ?? 1,
      statusReplicas: present,
      readyReplicas: status?.readyReplicas ?? 0,
      selector: selectorText(spec?.selector),
      revision: annotations?.['deployment.kubernetes.io/revision'] ?? status?.updateRevision,
      rolling: status?.updatedReplicas !== undefined && status.updatedReplicas < present,
      managers: replicasManagers(object),
    },
  };
}

export function cutAutoscaler(object: KubeObject): Autoscaler {
  const { metadata, apiVersion, kind, spec } = object as KubeObject & {
    spec?: { scaleTargetRef?: TargetRef };
  };
  const { name, namespace = '', uid, resourceVersion } = metadata;
  const ref = spec?.scaleTargetRef;
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, ...definedOnly({ uid, resourceVersion }) },
    targetKey: ref === undefined ? '' : targetKey(namespace, ref),
  };
}

function replicasManagers({ metadata }: KubeObject): string[] {
  const managers = (metadata.managedFields ?? [])
    .filter(({ fieldsV1 }) => {
      const fields = fieldsV1 as { 'f:spec'?: { 'f:replicas'?: unknown } } | undefined;
      return fields?.['f:spec']?.['f:replicas'] !== undefined;
    })
    .map(({ manager = '' }) => manager);
  return [...new Set(managers)];
}

function selectorText({ matchLabels = {}, matchExpressions = [] }: LabelSelector = {}): string {
  const equal = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const others = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === 'Exists') return key;
    if (operator === 'DoesNotExist') return `!${key}`;
    return `${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`;
  });
  return [...equal, ...others].join(',');
}

function definedOnly<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(kept) as { [K in keyof T]?: NonNullable<T[K]> };
}
