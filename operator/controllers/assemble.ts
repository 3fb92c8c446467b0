// Makes the controllers and says who is to look again when what changes. Called by main.ts; holds no state of its own.
//
//   changed                             looks again
//   a resource                          itself; others that name the same object; Subscriptions of a Topic; its Topic
//   a Fanfare                           itself; what refers to it
//   a link (made, away, back)           what is on it; its Fanfare
//   a Deployment, StatefulSet or HPA    Subscriptions that scale it
//   a backlog                           its Subscription, if it is due
import type { Fanfare } from '../api/v1alpha1/fanfare.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import { BacklogWatch, type Heard } from '../broker/backlog-watch.ts';
import { type BrokerLinks, DEFAULT_CONNECTION, OWN } from '../broker/links.ts';
import { isTrue } from '../core/conditions.ts';
import { worthWriting } from '../core/plan-status.ts';
import { subscriptionId } from '../core/plan-subscription.ts';
import { topicId } from '../core/plan-topic.ts';
import type { ScalerSource } from '../keda/external-scaler.ts';
import { createKubeClient, type KubeClient } from '../kube/client.ts';
import type { Clock, Random } from '../kube/clock.ts';
import { type Controller, createController } from '../kube/controller.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { KubeHttp } from '../kube/http.ts';
import type { Informer } from '../kube/informer.ts';
import type { Logger } from '../kube/logger.ts';
import type { Metrics } from '../kube/metrics.ts';
import { type KubeObject, NAMESPACES } from '../kube/objects.ts';
import type { Change } from '../kube/store.ts';
import { type ControllerContext, isNews, priorityOf } from './context.ts';
import { createFanfareReconciler } from './fanfare.ts';
import { createInformers } from './informers.ts';
import { Latest } from './latest.ts';
import { Scaling } from './scaling.ts';
import { StatusWriter } from './status-writer.ts';
import { createSubscriptionReconciler } from './subscription.ts';
import { Targets, targetKey } from './targets.ts';
import { createTopicReconciler } from './topic.ts';

export interface AssembleOptions {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly events: EventRecorder;
  readonly links: BrokerLinks;
  /** Empty: all. */
  readonly namespaces: readonly string[];
  readonly finalizers: boolean;
  readonly finalizerTimeoutMs: number;
  readonly podDeletionCost: boolean;
  /** From one look at a resource that nothing happened to to the next. */
  readonly resyncMs: number;
  /** Of resources reconciled at once, of each kind. */
  readonly workers?: number;
}

export interface Assembly {
  readonly informers: readonly Informer<KubeObject>[];
  readonly controllers: readonly Controller[];
  /** For KEDA. */
  readonly source: ScalerSource;
  /** Watches backlogs; to be run while leading. */
  readonly backlog: BacklogWatch;
}

/** Subscriptions of a Topic come and go in swarms. */
const GATHER_MS = 2_000;
const WORKERS = 8;

export function assemble(options: AssembleOptions): Assembly {
  const { http, clock, random, logger, metrics, events, resyncMs, workers = WORKERS } = options;
  const informers = createInformers(options);
  const { fanfares, topics, subscriptions } = informers;
  const latest = {
    fanfares: new Latest(fanfares),
    topics: new Latest(topics),
    subscriptions: new Latest(subscriptions),
  };
  const backlog: BacklogWatch = new BacklogWatch({
    clock,
    random,
    logger,
    onHeard: (key, heard) => onHeard(key, heard),
  });
  const clients = new Map<string, KubeClient>();
  const client = (controller: string): KubeClient => {
    const made = clients.get(controller) ?? createKubeClient(http, `fanfare-operator/${controller}`);
    clients.set(controller, made);
    return made;
  };
  const ctx: ControllerContext = {
    ...options,
    backlog,
    client,
    fanfares,
    topics,
    subscriptions,
    latestTopics: latest.topics,
    latestSubscriptions: latest.subscriptions,
    status: new StatusWriter({ clock, events }),
    clusterId: onceKnown((signal) => clusterId(client('topic'), signal)),
    watches: (namespace) => options.namespaces.length === 0 || options.namespaces.includes(namespace),
  };
  const targets = new Targets({ ...informers, client: client('autoscaler'), http, clock });
  const scaling = new Scaling(ctx, targets);
  const isUsed = (key: string): boolean =>
    topics.byIndex('connection', key).length + subscriptions.byIndex('connection', key).length > 0;
  const common = { clock, random, logger, metrics, workers, resyncMs };
  const controllers = {
    fanfare: createController({
      ...common,
      name: 'fanfare',
      reconcile: createFanfareReconciler(ctx, latest.fanfares, isUsed),
    }),
    topic: createController({ ...common, name: 'topic', reconcile: createTopicReconciler(ctx) }),
    subscription: createController({
      ...common,
      name: 'subscription',
      reconcile: createSubscriptionReconciler(ctx, scaling),
    }),
  };

  const onHeard = (key: string, heard: Heard): void => {
    const subscription = subscriptions.get(key);
    if (subscription === undefined) return;
    if (subscription.spec.consumers !== undefined) {
      if (scaling.isDue(key, heard)) controllers.subscription.add(key);
      return;
    }
    const { backlog: known } = subscription.status ?? {};
    const worth = worthWriting({ backlog: known }, { backlog: heard.report.messages });
    if (worth === 'now' || (worth === 'later' && ctx.status.hasTurn(subscription.metadata.uid))) {
      controllers.subscription.add(key, 'low');
    }
  };
  wireResources(ctx, controllers);
  wireConnections(ctx, controllers, isUsed);
  wireTargets(informers, controllers.subscription);
  return {
    informers: informers.all,
    controllers: Object.values(controllers),
    source: scalerSource(subscriptions, scaling),
    backlog,
  };
}

interface Controllers {
  readonly fanfare: Controller;
  readonly topic: Controller;
  readonly subscription: Controller;
}

function wireResources(ctx: ControllerContext, controllers: Controllers): void {
  const { topics, subscriptions } = ctx;
  topics.onChange((change) => {
    const { key, object, previous } = change;
    if (isNews(change)) {
      controllers.topic.add(key, priorityOf(change));
      addAll(controllers.topic, others(topics, topicId(object), key, change));
    }
    const turned =
      isTrue(object.status?.conditions, 'Ready') !== isTrue(previous?.status?.conditions, 'Ready');
    if (turned || change.type !== 'updated' || stateOf(object) !== stateOf(previous)) {
      const priority = change.listed ? 'low' : 'normal';
      for (const each of subscriptions.byIndex('topic', key))
        controllers.subscription.add(keyFor(each), priority);
    }
  });
  subscriptions.onChange((change) => {
    const { key, object, previous } = change;
    if (!isNews(change)) return;
    controllers.subscription.add(key, priorityOf(change));
    addAll(controllers.subscription, others(subscriptions, subscriptionId(object), key, change));
    for (const each of new Set([...targetsOf(object), ...targetsOf(previous)])) {
      for (const other of subscriptions.byIndex('target', each)) {
        if (keyFor(other) !== key) controllers.subscription.add(keyFor(other), 'low');
      }
    }
    // How many it has is in the Topic's status.
    const topic = `${object.metadata.namespace}/${object.spec.topicRef.name}`;
    if (change.type !== 'updated' && topics.get(topic) !== undefined) {
      controllers.topic.addAfter(topic, GATHER_MS, 'low');
    }
  });
}

function wireConnections(
  { fanfares, topics, subscriptions, links }: ControllerContext,
  controllers: Controllers,
  isUsed: (key: string) => boolean,
): void {
  const addUsers = (connection: string): void => {
    for (const each of topics.byIndex('connection', connection)) {
      controllers.topic.add(keyFor(each), priorityOf({ object: each, listed: true }));
    }
    for (const each of subscriptions.byIndex('connection', connection)) {
      controllers.subscription.add(keyFor(each), priorityOf({ object: each, listed: true }));
    }
  };
  fanfares.onChange((change) => {
    if (!isNews(change)) return;
    controllers.fanfare.add(change.key);
    if (change.type !== 'updated') addUsers(change.key);
  });
  links.onChange((key) => {
    if (key !== OWN) {
      controllers.fanfare.add(key);
      addUsers(key);
      return;
    }
    const namespaces = new Set(
      [...topics.list(), ...subscriptions.list()].map(({ metadata }) => metadata.namespace),
    );
    for (const namespace of namespaces) {
      const name = `${namespace}/${DEFAULT_CONNECTION}`;
      if (fanfares.get(name) === undefined) addUsers(name);
    }
  });
  const drop = (change: Change<KubeObject>): void => {
    if (change.type === 'deleted') links.dropParted(isUsed);
  };
  topics.onChange(drop);
  subscriptions.onChange(drop);
}

function wireTargets(
  { subscriptions, deployments, statefulSets, autoscalers }: ReturnType<typeof createInformers>,
  controller: Controller,
): void {
  const look = (target: string): void => {
    for (const each of subscriptions.byIndex('target', target)) controller.add(keyFor(each));
  };
  for (const workloads of [deployments, statefulSets]) {
    workloads.onChange(({ type, object, previous }) => {
      if (type === 'updated' && JSON.stringify(object.target) === JSON.stringify(previous?.target)) return;
      const { metadata, apiVersion, kind } = object;
      look(targetKey(metadata.namespace ?? '', { apiVersion, kind, name: metadata.name }));
    });
  }
  autoscalers.onChange(({ object, previous }) => {
    look(object.targetKey);
    if (previous !== undefined && previous.targetKey !== object.targetKey) look(previous.targetKey);
  });
}

/** Others that have, or had, the same id: one of them may be next. */
function others<R extends Topic | Subscription>(
  informer: Informer<R>,
  id: string,
  key: string,
  { type, object }: Change<KubeObject>,
): string[] {
  if (type === 'updated' && object.metadata.deletionTimestamp === undefined) return [];
  return informer
    .byIndex('id', id)
    .map(keyFor)
    .filter((other) => other !== key);
}

function addAll(controller: Controller, keys: readonly string[]): void {
  for (const key of keys) controller.add(key);
}

function targetsOf(subscription: Subscription | undefined): string[] {
  const ref = subscription?.spec.consumers?.scaleTargetRef;
  return ref === undefined ? [] : [targetKey(subscription!.metadata.namespace, ref)];
}

/** What its Subscriptions would want to know: why it is not ready, and whether it was made anew, without them. */
function stateOf(topic: Topic | undefined): string {
  const { conditions, applied } = topic?.status ?? {};
  return `${conditions?.find(({ type }) => type === 'Ready')?.reason} ${applied?.incarnation}`;
}

function keyFor({ metadata }: Topic | Subscription | Fanfare): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function scalerSource(subscriptions: Informer<Subscription>, scaling: Scaling): ScalerSource {
  return {
    decisionOf(namespace, name) {
      const key = `${namespace}/${name}`;
      if (subscriptions.get(key)?.spec.consumers?.strategy !== 'KEDA') return undefined;
      return scaling.decisionOf(key) ?? { need: undefined, active: true, conditions: [] };
    },
    onDecision: (namespace, name, listener) => scaling.onDecision(`${namespace}/${name}`, listener),
  };
}

async function clusterId(client: KubeClient, signal: AbortSignal): Promise<string> {
  const found = await client.get<KubeObject>(NAMESPACES, { name: 'kube-system' }, signal);
  return found?.metadata.uid ?? 'unknown';
}

/** Asked until it is known, then never again. */
function onceKnown(ask: (signal: AbortSignal) => Promise<string>): (signal: AbortSignal) => Promise<string> {
  let known: Promise<string> | undefined;
  return (signal) => {
    known ??= ask(signal).catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  };
}
