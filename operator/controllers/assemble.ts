// The controllers with their caches, backlogs, targets and status, put together and wired. A backlog that is
// heard leads to a reconcile only where that is worth it.
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import { BacklogWatch, type Heard } from '../broker/backlog-watch.ts';
import type { BrokerLinks } from '../broker/links.ts';
import { worthWriting } from '../core/plan-status.ts';
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
import type { ControllerContext } from './context.ts';
import { createFanfareReconciler } from './fanfare.ts';
import { createInformers } from './informers.ts';
import { Latest } from './latest.ts';
import { Scaling } from './scaling.ts';
import type { ScalingMemory } from './scaling-memory.ts';
import { StatusWriter } from './status-writer.ts';
import { createSubscriptionReconciler } from './subscription.ts';
import { Targets } from './targets.ts';
import { createTopicReconciler } from './topic.ts';
import { wireConnections, wireResources, wireTargets } from './wiring.ts';

export interface AssembleOptions {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly events: EventRecorder;
  readonly links: BrokerLinks;
  /** Empty: all namespaces. */
  readonly namespaces: readonly string[];
  readonly finalizers: boolean;
  readonly finalizerTimeoutMs: number;
  readonly podDeletionCost: boolean;
  /** How long a resource that nothing happens to is left until the next look at it. */
  readonly resyncMs: number;
  /** How many resources of each kind are reconciled at once. */
  readonly workers?: number;
}

export interface Assembly {
  readonly informers: readonly Informer<KubeObject>[];
  readonly controllers: readonly Controller[];
  /** The decisions for KEDA. */
  readonly source: ScalerSource;
  /** Watches backlogs; to be run while leading. */
  readonly backlog: BacklogWatch;
}

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
      if (scaling.memory.isDue(key, heard)) controllers.subscription.add(key);
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
    source: scalerSource(subscriptions, scaling.memory),
    backlog,
  };
}

function scalerSource(subscriptions: Informer<Subscription>, memory: ScalingMemory): ScalerSource {
  return {
    decisionOf(namespace, name) {
      const key = `${namespace}/${name}`;
      if (subscriptions.get(key)?.spec.consumers?.strategy !== 'KEDA') return undefined;
      return memory.decisionOf(key) ?? { need: undefined, active: true, condition: undefined };
    },
    onDecision: (namespace, name, listener) => memory.onDecision(`${namespace}/${name}`, listener),
  };
}

async function clusterId(client: KubeClient, signal: AbortSignal): Promise<string> {
  const found = await client.get<KubeObject>(NAMESPACES, { name: 'kube-system' }, signal);
  return found?.metadata.uid ?? 'unknown';
}

/** Asks until it is known, then never again. */
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
