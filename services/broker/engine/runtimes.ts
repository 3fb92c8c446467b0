// The topics and subscriptions that are at work on this broker. Invariant: what has a name here can be
// published to or subscribed to; a topic is known by its incarnation before that, as soon as its partitions
// may be opened.
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import type { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import type { TopicRuntime } from './topic-runtime.ts';

/** Throws INVALID_ARGUMENT for a bad name, NOT_FOUND for one that does not exist. */
export interface DefinitionLookup {
  getTopic(name: string): TopicDefinition;
  getSubscription(name: string): SubscriptionDefinition;
}

export class Runtimes {
  readonly #definitions: DefinitionLookup;
  readonly #topics = new Map<string, TopicRuntime>();
  readonly #topicsByEpoch = new Map<number, TopicRuntime>();
  readonly #subscriptions = new Map<string, SubscriptionRuntime>();

  constructor(definitions: DefinitionLookup) {
    this.#definitions = definitions;
  }

  topics(): Iterable<TopicRuntime> {
    return this.#topics.values();
  }

  /** By incarnation, also those whose partitions are still being opened. */
  get topicsByEpoch(): ReadonlyMap<number, TopicRuntime> {
    return this.#topicsByEpoch;
  }

  get subscriptions(): ReadonlyMap<string, SubscriptionRuntime> {
    return this.#subscriptions;
  }

  /** The topic of that name that is at work, if there is one. */
  topicNamed(name: string): TopicRuntime | undefined {
    return this.#topics.get(name);
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  topic(name: string): TopicRuntime {
    const topic = this.#topics.get(name);
    if (topic !== undefined) return topic;
    this.#definitions.getTopic(name);
    throw new BrokerError('UNAVAILABLE', `${name} is being created or deleted: try again`);
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  subscription(name: string): SubscriptionRuntime {
    const subscription = this.#subscriptions.get(name);
    if (subscription !== undefined) return subscription;
    this.#definitions.getSubscription(name);
    throw new BrokerError('UNAVAILABLE', `${name} is being created or deleted: try again`);
  }

  /** The topic's partitions may be opened. */
  addTopic(topic: TopicRuntime): void {
    this.#topicsByEpoch.set(topic.definition.logEpoch, topic);
  }

  /** The topic takes publishes and subscriptions, in place of an earlier incarnation. */
  nameTopic(topic: TopicRuntime): void {
    this.#topics.set(topic.definition.name, topic);
  }

  removeTopic(topic: TopicRuntime): void {
    const { name, logEpoch } = topic.definition;
    this.#topicsByEpoch.delete(logEpoch);
    if (this.#topics.get(name) === topic) this.#topics.delete(name);
  }

  addSubscription(topic: TopicRuntime, runtime: SubscriptionRuntime): void {
    const { name } = runtime.definition;
    topic.subscriptions.set(name, runtime);
    this.#subscriptions.set(name, runtime);
  }

  removeSubscription({ definition: { name, topic } }: SubscriptionRuntime): void {
    this.#subscriptions.delete(name);
    this.#topics.get(topic)?.subscriptions.delete(name);
  }
}
