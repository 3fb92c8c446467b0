// Which resources are looked at again when something changes.
//
//   changed                            looks again
//   a Topic                            itself; its Subscriptions, if it came, went or turned
//   a Subscription                     itself; others of its target; its Topic, if it came or went
//   either, if it comes or goes        others that name the same object
//   a Fanfare                          itself; what refers to it, if it came or went
//   a link (made, away, back)          what is on it; its Fanfare
//   a Deployment, StatefulSet or HPA   Subscriptions that scale it
import type { Fanfare } from '../api/v1alpha1/fanfare.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import { DEFAULT_CONNECTION, OWN } from '../broker/links.ts';
import { isTrue } from '../core/conditions.ts';
import { subscriptionId } from '../core/plan-subscription.ts';
import { topicId } from '../core/plan-topic.ts';
import type { Controller } from '../kube/controller.ts';
import type { Informer } from '../kube/informer.ts';
import type { KubeObject } from '../kube/objects.ts';
import type { Change } from '../kube/store.ts';
import { type ControllerContext, isNews, priorityOf } from './context.ts';
import type { Informers } from './informers.ts';
import { targetKey } from './targets.ts';

/** Subscriptions of a Topic come and go in swarms: one look at the Topic serves all of a swarm. */
const GATHER_MS = 2_000;

export interface Controllers {
  readonly fanfare: Controller;
  readonly topic: Controller;
  readonly subscription: Controller;
}

export function wireResources(ctx: ControllerContext, controllers: Controllers): void {
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
    // The Topic's status says how many subscriptions it has.
    const topic = `${object.metadata.namespace}/${object.spec.topicRef.name}`;
    const isThere = (each: Subscription | undefined) => each?.status?.applied?.incarnation;
    const came = change.type === 'deleted' || isThere(object) !== isThere(previous);
    if (came && !change.listed && topics.get(topic) !== undefined) {
      controllers.topic.addAfter(topic, GATHER_MS, 'low');
    }
    if (!isNews(change)) return;
    controllers.subscription.add(key, priorityOf(change));
    addAll(controllers.subscription, others(subscriptions, subscriptionId(object), key, change));
    for (const each of new Set([...targetsOf(object), ...targetsOf(previous)])) {
      for (const other of subscriptions.byIndex('target', each)) {
        if (keyFor(other) !== key) controllers.subscription.add(keyFor(other), 'low');
      }
    }
  });
}

export function wireConnections(
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

export function wireTargets(
  { subscriptions, deployments, statefulSets, autoscalers }: Informers,
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

/** Other resources with the same id, when this one comes or goes: one of them may be next. */
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

/**
 * What a Topic's Subscriptions would want to know: why it is not ready, and whether it was made anew, without
 * them.
 */
function stateOf(topic: Topic | undefined): string {
  const { conditions, applied } = topic?.status ?? {};
  return `${conditions?.find(({ type }) => type === 'Ready')?.reason} ${applied?.incarnation}`;
}

function keyFor({ metadata }: Topic | Subscription | Fanfare): string {
  return `${metadata.namespace}/${metadata.name}`;
}
