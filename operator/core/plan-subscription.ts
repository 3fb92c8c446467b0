// What a Subscription asks of the broker, where its topic is, and how that differs from what the broker has.
// Pure.
import type { Subscription, SubscriptionSpec } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import { isTrue } from './conditions.ts';
import { type Comparison, type Gate, sameLabels, settingsHash } from './plan-definition.ts';
import { type Owner, ownerLabels, withoutOwner } from './plan-owner.ts';
import { topicName } from './plan-topic.ts';

/** A subscription in the broker. */
export interface FoundSubscription {
  readonly name: string;
  /** Full name. */
  readonly topic: string;
  readonly ackDeadlineSeconds: number;
  readonly ordering: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly incarnation: number;
}

export interface CreateSubscription {
  /** Full name. */
  readonly topic: string;
  readonly ackDeadlineSeconds: number;
  readonly ordering: boolean;
  readonly start: 'latest' | 'earliest';
  readonly labels: Readonly<Record<string, string>>;
}

export type SubscriptionChange = Partial<Pick<CreateSubscription, 'ackDeadlineSeconds' | 'labels'>>;

export function subscriptionId({ metadata, spec }: Pick<Subscription, 'metadata' | 'spec'>): string {
  return spec.subscriptionName ?? metadata.name;
}

export function subscriptionName(
  project: string,
  subscription: Pick<Subscription, 'metadata' | 'spec'>,
): string {
  return `projects/${project}/subscriptions/${subscriptionId(subscription)}`;
}

/**
 * Where the Subscription's topic is in the broker, and whether it is there. `topic` is the resource that
 * topicRef names; whether the broker has an external topic is found out by trying.
 */
export function topicGate(
  { metadata, spec }: Subscription,
  topic: Topic | undefined,
  project: string,
): { readonly gate: Gate; readonly topic: string | undefined } {
  const { name, external } = spec.topicRef;
  if (external) {
    const home = spec.topicRef.project ?? project;
    return { gate: { kind: 'open' }, topic: `projects/${home}/topics/${name}` };
  }
  if (topic === undefined) {
    const message = `there is no Topic ${name} in the namespace ${metadata.namespace}: make it, or set topicRef.external if the broker has it`;
    return { gate: { kind: 'closed', reason: 'TopicNotFound', message }, topic: undefined };
  }
  if (topic.spec.connectionRef.name !== spec.connectionRef.name) {
    const message = `the Topic ${name} is on the connection ${topic.spec.connectionRef.name}, this on ${spec.connectionRef.name}: they must be the same`;
    return { gate: { kind: 'closed', reason: 'InvalidSpec', message }, topic: undefined };
  }
  const full = topicName(project, topic);
  // Both resources are new: nothing is wrong yet.
  if (topic.status === undefined) return { gate: { kind: 'waiting' }, topic: full };
  if (isTrue(topic.status.conditions, 'Ready')) return { gate: { kind: 'open' }, topic: full };
  const why = topic.status.conditions?.find(({ type }) => type === 'Ready');
  const because = why === undefined ? '' : `: ${why.reason}`;
  const message = `the Topic ${name} is not ready${because}`;
  return { gate: { kind: 'closed', reason: 'TopicNotReady', message }, topic: full };
}

export function desiredSubscription(
  spec: SubscriptionSpec,
  topic: string,
  owner: Owner,
): { create: CreateSubscription; hash: string } {
  const settings = {
    topic,
    ackDeadlineSeconds: spec.ackDeadlineSeconds,
    ordering: spec.ordering,
    start: spec.start === 'Earliest' ? ('earliest' as const) : ('latest' as const),
  };
  const create = { ...settings, labels: { ...spec.labels, ...ownerLabels(owner) } };
  return { create, hash: settingsHash({ ...settings, labels: spec.labels ?? null }) };
}

/**
 * `start` is not compared: it counts only when a subscription is made, so an adopted one may have begun
 * anywhere.
 */
export function compareSubscription(
  spec: SubscriptionSpec,
  topic: string | undefined,
  owner: Owner,
  found: FoundSubscription,
): Comparison<SubscriptionChange> {
  const fixed: string[] = [];
  if (topic !== undefined && topic !== found.topic) {
    fixed.push(`in the broker it is a subscription of ${found.topic}, and the spec says ${topic}`);
  }
  if (spec.ordering !== found.ordering) {
    fixed.push(`ordering is ${found.ordering} in the broker, and the spec says ${spec.ordering}`);
  }
  const base = spec.labels ?? withoutOwner(found.labels);
  const labels = { ...base, ...ownerLabels(owner) };
  const change: SubscriptionChange = {
    ...(spec.ackDeadlineSeconds !== found.ackDeadlineSeconds && {
      ackDeadlineSeconds: spec.ackDeadlineSeconds,
    }),
    ...(!sameLabels(labels, found.labels) && { labels }),
  };
  return { fixed, change: Object.keys(change).length === 0 ? undefined : change };
}
