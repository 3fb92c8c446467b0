// Topics and subscriptions: the rules for changing them, and the source of what exists. Listeners hear of
// changes, and build and tear down what serves them.
//
// A change is: check → put (durable, compare-and-set) → index → listeners → answer; definition-catalog.ts
// does all but the first and keeps crashes and failing stores from leaking anything. Invariant: every change
// that was asked for is audited, whatever became of it.

import { Counts } from '../../core/counts.ts';
import {
  changedSubscription,
  changedTopic,
  type DefinitionDefaults,
  type DefinitionLimits,
  type DurabilityLevel,
  newSubscription,
  newTopic,
  type SubscriptionDefinition,
  type SubscriptionInput,
  type TopicDefinition,
  type TopicInput,
} from '../../core/definitions.ts';
import { BrokerError, type ErrorCode } from '../../core/errors.ts';
import { MAX_NAME_LENGTH, parseSubscriptionName, parseTopicName } from '../../core/names.ts';
import {
  DEFINITION_DEFAULTS,
  DEFINITION_LIMITS,
  MAX_DISPATCHERS,
  MAX_PARTITIONS,
  MAX_SUBSCRIPTIONS_PER_PROJECT,
  MAX_TOPICS_PER_PROJECT,
} from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { DefinitionKind, DefinitionStore } from '../../ports/definition-store.ts';
import { type ChangeListener, DefinitionCatalog, type WarningSink } from './definition-catalog.ts';
import type { Page, PageRequest } from './definition-index.ts';

export interface AuditRecord {
  readonly principal: string;
  readonly verb: 'create' | 'update' | 'delete';
  /** The full name as the caller gave it, cut where it is longer than any name can be. */
  readonly resource: string;
  readonly result: 'OK' | ErrorCode;
  /** What the caller was told, unless OK. */
  readonly message?: string;
}

export interface DefinitionsOptions {
  readonly store: DefinitionStore;
  readonly clock: Clock;
  /** Of what users may ask for; absent: DEFINITION_LIMITS. */
  readonly limits?: DefinitionLimits;
  /** The levels that the store can give, and the one of a topic that doesn't ask for any. */
  readonly durability: {
    readonly supported: readonly DurabilityLevel[];
    readonly default: DurabilityLevel;
    /** Why the store can't give a level just now; undefined if it can. Absent: it always can. */
    readonly check?: (level: DurabilityLevel, minReplicas: number) => Promise<string | undefined>;
  };
  /**
   * The next offset of each partition, in order. Every publish that was acknowledged before the call is below
   * it, except with the durability `memory`.
   */
  readonly currentEnds: (topic: TopicDefinition) => Promise<readonly number[]>;
  readonly audit: (record: AuditRecord) => void;
  readonly onWarning: WarningSink;
  /** Something was written: other brokers should look. */
  readonly onWritten?: (kind: DefinitionKind, name: string) => void;
  /** Resolves if this is still the store that the broker belongs to. Absent: no other can be in its place. */
  readonly checkStore?: () => Promise<void>;
}

export class Definitions {
  readonly #options: DefinitionsOptions;
  readonly #defaults: DefinitionDefaults;
  readonly #limits: DefinitionLimits;
  readonly #catalog: DefinitionCatalog;
  /**
   * What changes under way are going to add, so that several at the same time can't pass a quota together.
   */
  readonly #reserved = {
    topics: new Counts(),
    subscriptions: new Counts(),
    partitions: 0,
    dispatchers: 0,
  };

  constructor(options: DefinitionsOptions) {
    this.#options = options;
    this.#limits = options.limits ?? DEFINITION_LIMITS;
    this.#defaults = { ...DEFINITION_DEFAULTS, durability: options.durability.default };
    const { store, onWarning, onWritten, checkStore } = options;
    this.#catalog = new DefinitionCatalog(store, onWarning, onWritten, checkStore);
  }

  /** Reads everything from the store. Once, before anything else; listeners hear nothing of it. */
  load(): Promise<void> {
    return this.#catalog.load();
  }

  /** Returns a function that ends it. See ChangeListener for what may be expected. */
  onChange(listener: ChangeListener): () => void {
    return this.#catalog.onChange(listener);
  }

  /**
   * Goes on with deletions that a crash or a failing store interrupted, and returns how many are left. Call
   * it after load, when the listeners are there, and now and then.
   */
  finishDeletions(): Promise<number> {
    return this.#catalog.finishDeletions();
  }

  /**
   * Tells listeners again of changes that they failed to take up, because of a failing store. Call it now and
   * then.
   */
  finishChanges(): Promise<void> {
    return this.#catalog.finishChanges();
  }

  /**
   * Takes up what other brokers have written since, and writes again what the store has forgotten. Rejects if
   * not all of it is in effect: call it again.
   */
  refresh(): Promise<void> {
    return this.#catalog.refresh();
  }

  /**
   * How many partitions the topic of that incarnation has, as far as is known here; where that is fewer than
   * `least`, as far as the store knows, for another broker may have added some. Rejects with UNAVAILABLE.
   */
  async partitionsOf(topic: string, logEpoch: number, least: number): Promise<number> {
    const known = this.topic(topic);
    const partitions = known?.logEpoch === logEpoch ? known.partitions : 0;
    if (partitions >= least) return partitions;
    return Math.max(partitions, await this.#catalog.storedPartitionsOf(topic, logEpoch));
  }

  topic(name: string): TopicDefinition | undefined {
    return this.#catalog.topics.get(name);
  }

  topics(): IterableIterator<TopicDefinition> {
    return this.#catalog.topics.values();
  }

  subscription(name: string): SubscriptionDefinition | undefined {
    return this.#catalog.subscriptions.get(name);
  }

  subscriptions(): IterableIterator<SubscriptionDefinition> {
    return this.#catalog.subscriptions.values();
  }

  /** The subscriptions of the topic with that full name, in no particular order. */
  subscriptionsOf(topic: string): readonly SubscriptionDefinition[] {
    return this.#catalog.subscriptionsOf(topic);
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  getTopic(name: string): TopicDefinition {
    const topic = this.topic(name);
    if (topic !== undefined) return topic;
    parseTopicName(name, 'topic');
    throw new BrokerError('NOT_FOUND', `there is no topic ${name}`);
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  getSubscription(name: string): SubscriptionDefinition {
    const subscription = this.subscription(name);
    if (subscription !== undefined) return subscription;
    parseSubscriptionName(name, 'subscription');
    throw new BrokerError('NOT_FOUND', `there is no subscription ${name}`);
  }

  /** A page in the order of names. Throws INVALID_ARGUMENT. */
  listTopics(request: PageRequest): Page<TopicDefinition> {
    return this.#catalog.topics.page(request);
  }

  /**
   * A page in the order of names; of one topic's subscriptions, if `topic` is not empty. Throws
   * INVALID_ARGUMENT.
   */
  listSubscriptions(request: PageRequest, topic: string): Page<SubscriptionDefinition> {
    if (topic === '') return this.#catalog.subscriptions.page(request);
    parseTopicName(topic, 'topic');
    return this.#catalog.subscriptions.page(request, (each) => each.topic === topic);
  }

  /**
   * Rejects with INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION (durability), RESOURCE_EXHAUSTED
   * (quota, store), UNAVAILABLE.
   */
  createTopic(principal: string, input: TopicInput): Promise<TopicDefinition> {
    return this.#audited(principal, 'create', input.name, async () => {
      const spec = newTopic(input, this.#limits, this.#defaults);
      await this.#checkDurability(spec.durability, spec.minReplicas);
      return this.#catalog.exclusively('topic', spec.name, async () => {
        if (this.topic(spec.name))
          throw new BrokerError('ALREADY_EXISTS', `there is a topic ${spec.name} already`);
        using _partitions = this.#reservePartitions(spec.partitions);
        using _name = this.#reserveName('topics', spec.name, MAX_TOPICS_PER_PROJECT);
        const logEpoch = await this.#catalog.nextIncarnation();
        const definition = { ...spec, logEpoch, createTimeMs: this.#options.clock.nowMs(), revision: 0 };
        return this.#catalog.write({ kind: 'topic', definition });
      });
    });
  }

  /** Rejects with INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE. */
  updateTopic(principal: string, input: TopicInput, paths: readonly string[]): Promise<TopicDefinition> {
    return this.#audited(principal, 'update', input.name, async () => {
      parseTopicName(input.name, 'topic.name');
      return this.#catalog.exclusively('topic', input.name, async () => {
        const before = this.getTopic(input.name);
        const definition = changedTopic(before, input, paths, this.#limits, this.#defaults);
        const added = definition.partitions - before.partitions;
        using _partitions = this.#reservePartitions(added);
        // New subscriptions take the topic's turn, too, so there can be no more of them meanwhile.
        using _dispatchers = this.#reserveDispatchers(
          'topic.partitions',
          added * this.subscriptionsOf(input.name).length,
          'delete subscriptions, or ask for fewer partitions',
        );
        return this.#catalog.write({ kind: 'topic', definition });
      });
    });
  }

  /**
   * Rejects with INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION (has subscriptions, no `force`),
   * RESOURCE_EXHAUSTED, UNAVAILABLE.
   */
  deleteTopic(principal: string, name: string, options: { readonly force: boolean }): Promise<void> {
    return this.#audited(principal, 'delete', name, async () => {
      parseTopicName(name, 'name');
      await this.#catalog.exclusively('topic', name, async () => {
        const definition = this.getTopic(name);
        const subscriptions = this.subscriptionsOf(name).length;
        if (subscriptions > 0 && !options.force) {
          const message = `${name} has ${subscriptions} subscription(s): delete them first, or set force`;
          throw new BrokerError('FAILED_PRECONDITION', message);
        }
        await this.#catalog.delete({ kind: 'topic', definition });
      });
    });
  }

  /**
   * Rejects with INVALID_ARGUMENT, NOT_FOUND (the topic), ALREADY_EXISTS, RESOURCE_EXHAUSTED (quota, store),
   * UNAVAILABLE.
   */
  createSubscription(principal: string, input: SubscriptionInput): Promise<SubscriptionDefinition> {
    return this.#audited(principal, 'create', input.name, async () => {
      const spec = newSubscription(input, this.#limits, this.#defaults);
      return this.#catalog.exclusively('topic', spec.topic, () =>
        this.#catalog.exclusively('subscription', spec.name, async () => {
          const topic = this.getTopic(spec.topic);
          if (this.subscription(spec.name)) {
            throw new BrokerError('ALREADY_EXISTS', `there is a subscription ${spec.name} already`);
          }
          using _name = this.#reserveName('subscriptions', spec.name, MAX_SUBSCRIPTIONS_PER_PROJECT);
          using _dispatchers = this.#reserveDispatchers(
            'subscription.topic',
            topic.partitions,
            'delete subscriptions, or take topics with fewer partitions',
          );
          const definition: SubscriptionDefinition = {
            ...spec,
            ...(spec.start === 'latest' && { startOffsets: await this.#options.currentEnds(topic) }),
            topicEpoch: topic.logEpoch,
            incarnation: await this.#catalog.nextIncarnation(),
            createTimeMs: this.#options.clock.nowMs(),
            revision: 0,
          };
          return this.#catalog.write({ kind: 'subscription', definition });
        }),
      );
    });
  }

  /** Rejects with INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE. */
  updateSubscription(
    principal: string,
    input: SubscriptionInput,
    paths: readonly string[],
  ): Promise<SubscriptionDefinition> {
    return this.#audited(principal, 'update', input.name, async () => {
      parseSubscriptionName(input.name, 'subscription.name');
      return this.#catalog.exclusively('subscription', input.name, async () => {
        const before = this.getSubscription(input.name);
        const definition = changedSubscription(before, input, paths, this.#limits);
        return this.#catalog.write({ kind: 'subscription', definition });
      });
    });
  }

  /** Rejects with INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNAVAILABLE. */
  deleteSubscription(principal: string, name: string): Promise<void> {
    return this.#audited(principal, 'delete', name, async () => {
      parseSubscriptionName(name, 'name');
      await this.#catalog.exclusively('subscription', name, () =>
        this.#catalog.delete({ kind: 'subscription', definition: this.getSubscription(name) }),
      );
    });
  }

  async #checkDurability(level: DurabilityLevel, minReplicas: number): Promise<void> {
    const { supported, check } = this.#options.durability;
    const reason = supported.includes(level)
      ? await check?.(level, minReplicas)
      : `it can give ${supported.join(', ')}`;
    if (reason === undefined) return;
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `topic.durability: this store can't give ${level}: ${reason}`,
    );
  }

  #reserveName(collection: 'topics' | 'subscriptions', name: string, limit: number): Disposable {
    const [, project = ''] = name.split('/', 2);
    const reserved = this.#reserved[collection];
    const taken = this.#catalog[collection].countInProjectOf(name) + reserved.of(project);
    if (taken >= limit) {
      const message = `the project ${project} has ${limit} ${collection}, which is the limit: delete some`;
      throw new BrokerError('RESOURCE_EXHAUSTED', message);
    }
    reserved.add(project, 1);
    return { [Symbol.dispose]: () => void reserved.add(project, -1) };
  }

  #reservePartitions(count: number): Disposable {
    return this.#reserve(
      'partitions',
      count,
      MAX_PARTITIONS,
      (taken) =>
        `topic.partitions: all topics have ${taken} partitions, ${count} more would pass the limit of ` +
        `${MAX_PARTITIONS}: delete topics, or ask for fewer`,
    );
  }

  #reserveDispatchers(field: string, count: number, remedy: string): Disposable {
    return this.#reserve(
      'dispatchers',
      count,
      MAX_DISPATCHERS,
      (taken) =>
        `${field}: all subscriptions have ${taken} partitions to deliver, each those of its topic; ${count} more would pass ` +
        `the limit of ${MAX_DISPATCHERS}: ${remedy}`,
    );
  }

  #reserve(
    what: 'partitions' | 'dispatchers',
    count: number,
    limit: number,
    refusal: (taken: number) => string,
  ): Disposable {
    const taken = this.#catalog[what] + this.#reserved[what];
    if (count > 0 && taken + count > limit) throw new BrokerError('RESOURCE_EXHAUSTED', refusal(taken));
    this.#reserved[what] += count;
    return {
      [Symbol.dispose]: () => {
        this.#reserved[what] -= count;
      },
    };
  }

  async #audited<T>(
    principal: string,
    verb: AuditRecord['verb'],
    resource: string,
    change: () => Promise<T>,
  ): Promise<T> {
    const { audit } = this.#options;
    // A name that was refused can be anything, and of any length.
    const record = { principal, verb, resource: resource.slice(0, MAX_NAME_LENGTH).toWellFormed() };
    try {
      const result = await change();
      audit({ ...record, result: 'OK' });
      return result;
    } catch (error) {
      const expected = error instanceof BrokerError;
      audit({
        ...record,
        result: expected ? error.code : 'INTERNAL',
        ...(expected && { message: error.message }),
      });
      throw error;
    }
  }
}
