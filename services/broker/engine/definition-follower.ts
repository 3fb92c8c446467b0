// Brings what is at work on this broker up to the definitions: opens topics and subscriptions that were
// created, changes those that were changed, ends those that have gone. Invariant: what was deleted has ended
// here before its data is dropped.
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { CursorStore } from '../ports/cursor-store.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { EngineContext } from './context.ts';
import type { ChangeKind, DefinitionChange } from './definitions/definition-catalog.ts';
import { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import type { CursorCommitter } from './log/cursor-committer.ts';
import type { PartitionOwner } from './log/partition-owner.ts';
import type { PendingPublish } from './log/publish-group.ts';
import type { Partitions } from './partitions.ts';
import type { Remote } from './remote.ts';
import type { Runtimes } from './runtimes.ts';
import { TopicRuntime } from './topic-runtime.ts';

export interface DefinitionFollowerOptions {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly ownership: OwnershipStore;
  readonly context: EngineContext;
  readonly runtimes: Runtimes;
  readonly partitions: Partitions;
  readonly committer: CursorCommitter;
  /** The way to other brokers; undefined: there are none, so that all partitions are opened here. */
  readonly remote: () => Remote | undefined;
  /** Takes publishes for partitions that are not open here. */
  readonly publishElsewhere: (topic: TopicDefinition, id: PartitionId, publish: PendingPublish) => void;
  readonly firstMessage: (subscription: string) => void;
  readonly subscriptionEnded: (subscription: string) => void;
}

export class DefinitionFollower {
  readonly #options: DefinitionFollowerOptions;

  constructor(options: DefinitionFollowerOptions) {
    this.#options = options;
  }

  async apply(change: DefinitionChange): Promise<void> {
    const { log, cursors } = this.#options;
    const ends = change.kind === 'deleted' || change.kind === 'forgotten';
    if ('topic' in change) {
      const { topic } = change;
      if (!ends) await this.openTopic(topic);
      else await this.#closeTopic(topic, reasonOfEnd(change.kind, topic));
      if (change.kind === 'deleted') {
        await log.drop(topic.logEpoch);
        // The eras of the topic's partitions, which are kept as cursors.
        await cursors.drop(topic.logEpoch);
      }
    } else {
      const { subscription } = change;
      if (!ends) await this.openSubscription(subscription);
      else await this.#closeSubscription(subscription, reasonOfEnd(change.kind, subscription));
      if (change.kind === 'deleted') await cursors.drop(subscription.incarnation);
    }
  }

  /** Creates the runtime, or brings it up to a changed definition: partitions can only have been added. */
  async openTopic(definition: TopicDefinition): Promise<void> {
    const { runtimes, partitions, context, publishElsewhere } = this.#options;
    const remote = this.#options.remote();
    let topic = runtimes.topicNamed(definition.name);
    if (topic === undefined) {
      topic = new TopicRuntime(definition, context, (id, publish) =>
        publishElsewhere(topic!.definition, id, publish),
      );
    }
    // The order matters: nothing may be brought to an owner by a count that it does not know.
    topic.grow(definition);
    runtimes.addTopic(topic);
    remote?.topicGrown(definition);
    partitions.topicGrown(topic);
    if (remote === undefined) await this.#ownAll(topic);
    runtimes.nameTopic(topic);
    partitions.topicsChanged();
  }

  async #ownAll(topic: TopicRuntime): Promise<void> {
    const { partitions, ownership } = this.#options;
    const { logEpoch, partitions: count } = topic.definition;
    const goOn = topic.hold();
    try {
      for (let partition = 0; partition < count; partition += 1) {
        if (topic.partitions.owner(partition) !== undefined) continue;
        const id = { logEpoch, partition };
        await partitions.own(id, await ownership.acquire(id));
      }
    } finally {
      goOn();
    }
  }

  async openSubscription(definition: SubscriptionDefinition): Promise<void> {
    const { runtimes, partitions, context, firstMessage } = this.#options;
    const existing = runtimes.subscriptions.get(definition.name);
    if (existing !== undefined) {
      existing.definition = definition;
      return;
    }
    const topic = runtimes.topic(definition.topic);
    // The subscription is one of another incarnation of the topic, which has not been heard of yet.
    if (topic.definition.logEpoch !== definition.topicEpoch)
      throw new BrokerError('UNAVAILABLE', `${definition.topic} is being deleted: try again`);
    const runtime = new SubscriptionRuntime(definition, topic.definition.logEpoch, context, firstMessage);
    try {
      // Partitions may be opened and given up meanwhile.
      for (let owner = lacking(topic, runtime); owner !== undefined; owner = lacking(topic, runtime))
        await partitions.addDispatcher(runtime, owner);
    } catch (error) {
      // A dispatcher that is left behind would go on committing cursors beside those of the next try.
      for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
      throw error;
    }
    // Partitions that were given up meanwhile, or that are on their way to another broker with a note that
    // knows nothing of these dispatchers.
    for (const dispatcher of [...runtime.dispatchers.values()])
      if (topic.partitions.owner(dispatcher.owner.id.partition) !== dispatcher.owner)
        runtime.removeDispatcher(dispatcher);
    runtimes.addSubscription(topic, runtime);
  }

  async #closeTopic({ logEpoch }: TopicDefinition, reason: BrokerError): Promise<void> {
    const { runtimes, partitions, remote } = this.#options;
    const topic = runtimes.topicsByEpoch.get(logEpoch);
    if (topic === undefined) return;
    runtimes.removeTopic(topic);
    topic.close(reason);
    const ended = partitions.topicEnded(topic, reason);
    remote()?.topicEnded(topic.definition, reason);
    await ended;
  }

  async #closeSubscription(definition: SubscriptionDefinition, reason: BrokerError): Promise<void> {
    const { runtimes, committer, remote, subscriptionEnded } = this.#options;
    const { name, incarnation } = definition;
    const runtime = runtimes.subscriptions.get(name);
    if (runtime?.definition.incarnation !== incarnation) return;
    runtimes.removeSubscription(runtime);
    subscriptionEnded(name);
    runtime.close(reason);
    for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
    remote()?.subscriptionEnded(definition, reason);
    // A commit under way could write a cursor after it was dropped.
    await committer.flushed();
  }
}

function reasonOfEnd(kind: ChangeKind, { name }: { readonly name: string }): BrokerError {
  return kind === 'deleted'
    ? new BrokerError('NOT_FOUND', `${name} was deleted`)
    : new BrokerError('UNAVAILABLE', `${name} is not known here any more: try again`);
}

/** An owner of the topic whose partition the subscription does not follow yet; undefined if there is none. */
function lacking(topic: TopicRuntime, runtime: SubscriptionRuntime): PartitionOwner | undefined {
  for (const owner of topic.partitions.owners()) {
    if (!owner.closed && runtime.dispatchers.get(owner.id.partition)?.owner !== owner) return owner;
  }
  return undefined;
}
