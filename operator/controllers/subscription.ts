// The Subscription controller: what converge() needs to know of subscriptions, the consumers' scaling
// (scaling.ts), and the status, which is written once for both.
import { SUBSCRIPTIONS, type Subscription, type SubscriptionStatus } from '../api/v1alpha1/subscription.ts';
import { kubeTime, withoutCondition } from '../core/conditions.ts';
import {
  type CreateSubscription,
  compareSubscription,
  desiredSubscription,
  type FoundSubscription,
  type SubscriptionChange,
  subscriptionId,
  subscriptionName,
  topicGate,
} from '../core/plan-subscription.ts';
import { done, gone, type Result, requeueAfter } from '../kube/controller.ts';
import { keyOf } from '../kube/objects.ts';
import { type ControllerContext, resourceOf } from './context.ts';
import { type Converged, converge, ForcedSyncs, isGoing, resultOf } from './definition.ts';
import type { DefinitionKind } from './definition-kind.ts';
import type { Scaled, Scaling } from './scaling.ts';
import { mergedConditions } from './status-writer.ts';

export const SUBSCRIPTION_RESOURCE = resourceOf(SUBSCRIPTIONS);

type ConvergedSubscription = Converged<Subscription, FoundSubscription>;

export function createSubscriptionReconciler(
  ctx: ControllerContext,
  scaling: Scaling,
): (key: string, signal: AbortSignal) => Promise<Result> {
  const kind = subscriptionKind(ctx);
  const forced = new ForcedSyncs();
  const forget = (key: string, uid?: string): Result => {
    ctx.backlog.want(key, undefined);
    scaling.memory.forget(key);
    if (uid !== undefined) {
      forced.forget(uid);
      ctx.status.forget(uid);
    }
    return gone;
  };
  return async (key, signal) => {
    const subscription = ctx.latestSubscriptions.get(key);
    if (subscription === undefined) return forget(key);
    if (isGoing(subscription)) return forget(key, subscription.metadata.uid);
    const converged = await converge(ctx, kind, subscription, forced.take(subscription), signal);
    if (converged === undefined) return forget(key, subscription.metadata.uid);
    if (converged.undecided !== undefined) return resultOf(converged);
    watchBacklog(ctx, converged);
    const isStill = converged.plan.paused || converged.resource.metadata.deletionTimestamp !== undefined;
    // A scale-down that was begun is not resumed later, when it may be wrong.
    if (isStill) scaling.memory.forget(key);
    const scaled = isStill ? undefined : await scaling.reconcile(converged.resource, converged, signal);
    const status = subscriptionStatus(ctx, converged, scaled);
    const written = await ctx.status.write(kind.client, kind.resource, converged.resource, status, signal);
    ctx.latestSubscriptions.note(written);
    const result = resultOf(converged);
    if (result.kind !== 'done' || scaled?.lookAgainMs === undefined) return result;
    return scaled.lookAgainMs > 0 ? requeueAfter(scaled.lookAgainMs) : done;
  };
}

/** Watches the backlog: closely where there are consumers to scale. */
function watchBacklog(ctx: ControllerContext, { resource, place, name, found }: ConvergedSubscription): void {
  const key = keyOf(resource);
  if (place === undefined || name === undefined || found === undefined) {
    // While a broker is away, what was heard stays, with its age.
    if (place === undefined || place.link.health.kind === 'up') ctx.backlog.want(key, undefined);
    return;
  }
  const pace = resource.spec.consumers === undefined ? 'slow' : 'fast';
  ctx.backlog.want(key, { link: place.link, project: place.project, subscription: name, pace });
}

function subscriptionStatus(
  ctx: ControllerContext,
  { resource, name, found, plan, failure, applied }: ConvergedSubscription,
  scaled: Scaled | undefined,
): SubscriptionStatus {
  const { status: before, spec } = resource;
  const nowMs = ctx.clock.nowMs();
  const changes = [...(failure?.conditions ?? plan.conditions), ...(scaled?.conditions ?? [])];
  let conditions = mergedConditions(resource, changes, plan.paused, nowMs);
  if (spec.consumers === undefined) {
    for (const type of ['Scaling', 'ConsumersAvailable', 'Degraded'] as const) {
      conditions = withoutCondition(conditions, type);
    }
  }
  return {
    observedGeneration: resource.metadata.generation,
    conditions,
    name: name ?? before?.name,
    topic: found?.topic ?? before?.topic,
    applied: applied ?? before?.applied,
    ...backlogStatus(ctx, resource),
    ...(spec.consumers === undefined ? {} : (scaled?.status ?? scalingPart(before))),
  };
}

function scalingPart(before: SubscriptionStatus | undefined): Partial<SubscriptionStatus> {
  if (before === undefined) return {};
  const { replicas, readyReplicas, desiredReplicas, selector, autoscaling } = before;
  return { replicas, readyReplicas, desiredReplicas, selector, autoscaling };
}

function backlogStatus(ctx: ControllerContext, resource: Subscription): Partial<SubscriptionStatus> {
  const heard = ctx.backlog.get(keyOf(resource));
  if (heard === undefined) {
    const { backlog, oldestUnackedTime, arrivalRate, measureTime } = resource.status ?? {};
    return { backlog, oldestUnackedTime, arrivalRate, measureTime };
  }
  const { load } = heard.rates;
  const ageMs = load.oldestUnackedAgeMs;
  // The time is by our clock: the broker's may differ, and an age is right by any.
  const measuredMs = ctx.clock.nowMs() - (ctx.clock.monotonicMs() - load.receivedAtMs);
  return {
    backlog: load.messages,
    oldestUnackedTime: ageMs === undefined ? undefined : kubeTime(measuredMs - ageMs),
    arrivalRate: load.arrivalSlow === undefined ? undefined : Math.round(load.arrivalSlow * 100) / 100,
    measureTime: kubeTime(measuredMs),
  };
}

function subscriptionKind(
  ctx: ControllerContext,
): DefinitionKind<Subscription, FoundSubscription, CreateSubscription, SubscriptionChange> {
  return {
    resource: SUBSCRIPTION_RESOURCE,
    client: ctx.client('subscription'),
    latest: ctx.latestSubscriptions,
    nameOf: (subscription, project) => subscriptionName(project, subscription),
    candidates: (subscription) => ctx.subscriptions.byIndex('id', subscriptionId(subscription)),
    gateOf: (subscription, project) => {
      const { namespace } = subscription.metadata;
      const topic = ctx.latestTopics.get(`${namespace}/${subscription.spec.topicRef.name}`);
      return topicGate(subscription, topic, project);
    },
    desired: ({ spec }, topic, owner) =>
      topic === undefined ? undefined : desiredSubscription(spec, topic, owner),
    compare: ({ spec }, topic, owner, found) => compareSubscription(spec, topic, owner, found),
    incarnationOf: ({ incarnation }) => String(incarnation),
    find: (view, name, fresh, signal) => view.subscription(name, fresh, signal),
    note: (view, name, found) => view.noteSubscription(name, found),
    async backlogOf({ link, project }, name, signal) {
      const [report] = await link.admin.getBacklog(project, [name], signal);
      return report?.messages ?? 0;
    },
    create: (admin, name, settings, signal) => admin.createSubscription(name, settings, signal),
    update: (admin, name, change, signal) => admin.updateSubscription(name, change, signal),
    delete: (admin, name, signal) => admin.deleteSubscription(name, signal),
  };
}
