// The Topic controller: what converge() needs to know of topics, and the status.
import { TOPICS, type Topic, type TopicStatus } from '../api/v1alpha1/topic.ts';
import { BrokerCallError } from '../broker/admin.ts';
import type { Place } from '../broker/links.ts';
import {
  type CreateTopic,
  compareTopic,
  desiredTopic,
  type FoundTopic,
  type TopicChange,
  topicId,
  topicName,
} from '../core/plan-topic.ts';
import { done, gone, type Result } from '../kube/controller.ts';
import { type ControllerContext, resourceOf } from './context.ts';
import { type Converged, converge, ForcedSyncs, isGoing, resultOf } from './definition.ts';
import type { DefinitionKind } from './definition-kind.ts';
import { mergedConditions } from './status-writer.ts';

export const TOPIC_RESOURCE = resourceOf(TOPICS);

export function createTopicReconciler(
  ctx: ControllerContext,
): (key: string, signal: AbortSignal) => Promise<Result> {
  const kind = topicKind(ctx);
  const forced = new ForcedSyncs();
  return async (key, signal) => {
    const topic = ctx.latestTopics.get(key);
    if (topic === undefined) return gone;
    if (isGoing(topic)) return done;
    const converged = await converge(ctx, kind, topic, forced.take(topic), signal);
    if (converged === undefined) {
      forced.forget(topic.metadata.uid);
      ctx.status.forget(topic.metadata.uid);
      return gone;
    }
    if (converged.undecided !== undefined) return resultOf(converged);
    const status = await topicStatus(ctx, converged);
    const written = await ctx.status.write(kind.client, kind.resource, converged.resource, status, signal);
    ctx.latestTopics.note(written);
    return resultOf(converged);
  };
}

async function topicStatus(
  ctx: ControllerContext,
  { resource, found, name, place, plan, failure, applied }: Converged<Topic, FoundTopic>,
): Promise<TopicStatus> {
  const before = resource.status;
  const changes = failure?.conditions ?? plan.conditions;
  const subscriptions =
    found === undefined || place === undefined ? undefined : await countOf(place, found.name);
  return {
    observedGeneration: resource.metadata.generation,
    conditions: mergedConditions(resource, changes, plan.paused, ctx.clock.nowMs()),
    name: name ?? before?.name,
    applied: applied ?? before?.applied,
    partitions: found?.partitions ?? before?.partitions,
    subscriptions: subscriptions ?? before?.subscriptions,
    backlog: (found && largestBacklog(ctx, resource)) ?? before?.backlog,
  };
}

/** How many subscriptions the topic has. Undefined: the broker went away meanwhile, which its link says. */
async function countOf({ link, project }: Place, topic: string): Promise<number | undefined> {
  try {
    return (await link.view(project).subscriptionsOf(topic)).length;
  } catch (error) {
    if (error instanceof BrokerCallError && error.isAway) return undefined;
    throw error;
  }
}

/** The largest backlog of the Topic's Subscriptions, as far as any was heard of. */
function largestBacklog(
  { subscriptions, backlog }: ControllerContext,
  { metadata }: Topic,
): number | undefined {
  const heard = subscriptions
    .byIndex('topic', `${metadata.namespace}/${metadata.name}`)
    .map((each) => backlog.get(`${each.metadata.namespace}/${each.metadata.name}`)?.report.messages)
    .filter((messages) => messages !== undefined);
  return heard.length === 0 ? undefined : Math.max(...heard);
}

function topicKind(ctx: ControllerContext): DefinitionKind<Topic, FoundTopic, CreateTopic, TopicChange> {
  return {
    resource: TOPIC_RESOURCE,
    client: ctx.client('topic'),
    latest: ctx.latestTopics,
    nameOf: (topic, project) => topicName(project, topic),
    candidates: (topic) => ctx.topics.byIndex('id', topicId(topic)),
    gateOf: () => ({ gate: { kind: 'open' } }),
    desired: ({ spec }, _, owner) => desiredTopic(spec, owner),
    compare: ({ spec }, _, owner, found) => compareTopic(spec, owner, found),
    incarnationOf: ({ logEpoch }) => String(logEpoch),
    find: (view, name, fresh, signal) => view.topic(name, fresh, signal),
    note: (view, name, found) => view.noteTopic(name, found),
    async backlogOf({ link, project }, name, signal) {
      // Asked for now: one that the view has not seen yet may be all that is not empty.
      const { subscriptions } = await link.admin.list(project, signal);
      const names = subscriptions.filter(({ topic }) => topic === name).map((each) => each.name);
      let sum = 0;
      for (let at = 0; at < names.length; at += 1_000) {
        const reports = await link.admin.getBacklog(project, names.slice(at, at + 1_000), signal);
        for (const { messages } of reports) sum += messages;
      }
      return sum;
    },
    create: (admin, name, settings, signal) => admin.createTopic(name, settings, signal),
    update: (admin, name, change, signal) => admin.updateTopic(name, change, signal),
    delete: (admin, name, signal) => admin.deleteTopic(name, signal),
  };
}
