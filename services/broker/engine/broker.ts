// The engine: everything between the stores and the transport. main.ts makes one and starts it; adapters/grpc talks to it.
//
//   Definitions ──changes──▶ Broker ──▶ TopicRuntime ──▶ PartitionOwner (one a partition) ──append──▶ LogStore
//                                │             └───────▶ SubscriptionRuntime ──▶ Dispatcher (one a partition)
//                                └─ loops: CursorCommitter, LeaseSweeper, RetentionSweeper
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import { Delivery } from '../core/delivery.ts';
import { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import type { UnarySettleRequest } from '../core/settle-request.ts';
import type { Clock } from '../ports/clock.ts';
import type { CursorStore } from '../ports/cursor-store.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { MessageTracing } from '../ports/telemetry.ts';
import { EngineBacklogReporter } from './backlog-reporter.ts';
import { ChunkCache } from './chunk-cache.ts';
import type { EngineContext, EngineLimits, EngineLogger } from './context.ts';
import { CursorCommitter } from './cursor-committer.ts';
import type { DefinitionChange } from './definition-catalog.ts';
import type { Definitions } from './definitions.ts';
import { Dispatcher } from './dispatcher.ts';
import { LeaseSweeper } from './lease-sweeper.ts';
import { PartitionOwner } from './partition-owner.ts';
import { PullConsumer } from './pull.ts';
import { RetentionSweeper } from './retention-sweeper.ts';
import { type ConsumerSink, Session, type SessionLimits } from './session.ts';
import { createStats, type Stats } from './stats.ts';
import { SubscriptionRuntime } from './subscription-runtime.ts';
import { type PublishedRun, TopicRuntime } from './topic-runtime.ts';

export interface BrokerOptions {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly ownership: OwnershipStore;
  readonly definitions: Definitions;
  readonly clock: Clock;
  readonly limits: EngineLimits;
  readonly logger: EngineLogger;
  /** Undefined: tracing is off. */
  readonly tracing?: MessageTracing | undefined;
  /** What one Pull may answer with, in bytes. */
  readonly maxPullBytes: number;
  readonly maxConsumersPerSubscription: number;
}

/** What a topic's logs hold. */
export interface TopicSize {
  readonly topic: string;
  /** Ever since the topic was created. */
  readonly publishedMessages: number;
  readonly storedMessages: number;
  readonly storedBytes: number;
}

const STOPPING = new BrokerError('UNAVAILABLE', 'the broker is stopping: connect again');

export class Broker {
  readonly stats: Stats = createStats();
  readonly backlog: EngineBacklogReporter;
  readonly #options: BrokerOptions;
  readonly #context: EngineContext;
  readonly #cache: ChunkCache;
  readonly #committer: CursorCommitter;
  readonly #leases: LeaseSweeper;
  readonly #retention: RetentionSweeper;
  readonly #topics = new Map<string, TopicRuntime>();
  readonly #subscriptions = new Map<string, SubscriptionRuntime>();
  readonly #pulls = new Map<SubscriptionRuntime, PullConsumer>();
  #lastSessionId = 0;
  #stopping = false;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const { clock, limits, logger, tracing } = options;
    this.#context = { clock, limits, logger, stats: this.stats, tracing };
    this.#cache = new ChunkCache(options.log, limits.cacheBytes, limits.readBytes);
    this.#committer = new CursorCommitter(options.cursors, this.#context);
    this.#leases = new LeaseSweeper(this.#context);
    this.#retention = new RetentionSweeper(
      options.log,
      this.#context,
      () => this.#topics.values(),
      async () => {
        await options.definitions.finishChanges();
        await options.definitions.finishDeletions();
      },
    );
    this.backlog = new EngineBacklogReporter(this.#context, this.#subscriptions);
  }

  get cachedBytes(): number {
    return this.#cache.bytes;
  }

  /** Takes over all partitions. Definitions must be loaded. */
  async start(): Promise<void> {
    const { definitions } = this.#options;
    definitions.onChange((change) => this.#onChange(change));
    for (const topic of definitions.topics()) await this.#openTopic(topic);
    for (const subscription of definitions.subscriptions()) await this.#openSubscription(subscription);
    await definitions.finishDeletions();
    this.#retention.start();
  }

  /** Ends all streams, stores what was accepted and commits all cursors. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const subscription of this.#subscriptions.values()) subscription.close(STOPPING);
    await this.#retention.stop();
    const owners = [...this.#topics.values()].flatMap((topic) => topic.owners);
    await Promise.all(owners.map((owner) => owner.flushed()));
    for (const owner of owners) owner.close(STOPPING);
    await this.#committer.flushed();
  }

  /** What was published before the call and acknowledged is below these, by partition. */
  async currentEnds(topic: TopicDefinition): Promise<number[]> {
    return this.#topicRuntime(topic.name).owners.map((owner) => owner.bounds.endOffset);
  }

  /** Of the topics whose partitions are owned here. */
  topicSizes(): TopicSize[] {
    return [...this.#topics.values()].map(({ definition, owners }) => {
      const size = { topic: definition.name, publishedMessages: 0, storedMessages: 0, storedBytes: 0 };
      for (const { bounds } of owners) {
        size.publishedMessages += bounds.endOffset;
        size.storedMessages += bounds.endOffset - bounds.headOffset;
        size.storedBytes += bounds.endByte - bounds.headByte;
      }
      return size;
    });
  }

  /** 0 if the partition is not owned here. */
  ownerEpochOf({ logEpoch, partition }: PartitionId): number {
    for (const { definition, owners } of this.#topics.values()) {
      if (definition.logEpoch === logEpoch) return owners[partition]?.ownerEpoch ?? 0;
    }
    return 0;
  }

  /** Throws NOT_FOUND, UNAVAILABLE. */
  topicDefinition(topic: string): TopicDefinition {
    return this.#topicRuntime(topic).definition;
  }

  /** Throws NOT_FOUND, UNAVAILABLE; everything later comes through `failed`. */
  publish(
    topic: string,
    batch: PublishBatch,
    done: (runs: PublishedRun[]) => void,
    failed: (error: BrokerError) => void,
  ): void {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#topicRuntime(topic);
    const ended = this.#context.tracing?.publishing(topic, batch);
    if (ended === undefined) {
      runtime.publish(batch, done, failed);
      return;
    }
    runtime.publish(
      batch,
      (runs) => {
        ended();
        done(runs);
      },
      (error) => {
        ended(error);
        failed(error);
      },
    );
  }

  /** Adds a consumer. Throws NOT_FOUND, RESOURCE_EXHAUSTED, UNAVAILABLE. */
  subscribe(
    subscription: string,
    consumerHash: number,
    sink: ConsumerSink,
    limits: Omit<SessionLimits, 'ackDeadlineMs'> & { ackDeadlineMs: number | undefined },
  ): { session: Session; runtime: SubscriptionRuntime } {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#subscriptionRuntime(subscription);
    const { maxConsumersPerSubscription: most } = this.#options;
    if (runtime.consumers >= most)
      throw new BrokerError(
        'RESOURCE_EXHAUSTED',
        `${subscription} has ${most} consumers already, which is the limit`,
      );
    this.#lastSessionId += 1;
    const session = new Session(this.#lastSessionId, consumerHash || this.#lastSessionId, sink, {
      ...limits,
      ackDeadlineMs: limits.ackDeadlineMs ?? runtime.definition.ackDeadlineMs,
    });
    runtime.join(session);
    return { session, runtime };
  }

  /** Throws NOT_FOUND, UNAVAILABLE. */
  async pull(
    subscription: string,
    maxMessages: number,
    waitMs: number,
    onGone: (over: () => void) => void = () => {},
  ): Promise<Buffer[]> {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#subscriptionRuntime(subscription);
    let consumer = this.#pulls.get(runtime);
    if (consumer === undefined) {
      this.#lastSessionId += 1;
      consumer = new PullConsumer(
        runtime,
        this.#context,
        this.#lastSessionId,
        this.#options.maxPullBytes,
        () => this.#pulls.delete(runtime),
      );
      this.#pulls.set(runtime, consumer);
    }
    return consumer.pull(maxMessages, waitMs, onGone);
  }

  /** Acknowledge and ModifyAckDeadline: resolves when the cursors are durable. Rejects with NOT_FOUND. */
  async settle(request: UnarySettleRequest): Promise<void> {
    const touched = this.#subscriptionRuntime(request.subscription).settle(0, request);
    if (touched.size > 0 && request.operations.some(({ kind }) => kind === 'ack'))
      await this.#committer.flushed();
  }

  #topicRuntime(name: string): TopicRuntime {
    const topic = this.#topics.get(name);
    if (topic !== undefined) return topic;
    // Says which: a bad name, or none that exists.
    this.#options.definitions.getTopic(name);
    throw new BrokerError('UNAVAILABLE', `${name} is being created or deleted: try again`);
  }

  #subscriptionRuntime(name: string): SubscriptionRuntime {
    const subscription = this.#subscriptions.get(name);
    if (subscription !== undefined) return subscription;
    this.#options.definitions.getSubscription(name);
    throw new BrokerError('UNAVAILABLE', `${name} is being created or deleted: try again`);
  }

  async #onChange(change: DefinitionChange): Promise<void> {
    if ('topic' in change) {
      if (change.kind === 'deleted') await this.#dropTopic(change.topic);
      else await this.#openTopic(change.topic);
    } else if (change.kind === 'deleted') await this.#dropSubscription(change.subscription);
    else await this.#openSubscription(change.subscription);
  }

  /** Creates the runtime, or brings it up to a changed definition: partitions can only have been added. */
  async #openTopic(definition: TopicDefinition): Promise<void> {
    const topic = this.#topics.get(definition.name) ?? new TopicRuntime(definition, this.#context);
    topic.definition = definition;
    const added: PartitionOwner[] = [];
    for (let partition = topic.owners.length; partition < definition.partitions; partition += 1) {
      const id = { logEpoch: definition.logEpoch, partition };
      const ownerEpoch = await this.#options.ownership.acquire(id);
      const bounds = await this.#options.log.bounds(id);
      const isEmpty = bounds.headOffset === bounds.endOffset;
      const [newest] = isEmpty ? [] : await this.#options.log.describe(id, bounds.endOffset - 1, 1);
      const answerFirst = definition.durability === 'memory';
      const newestMs = newest?.publishTimeMs ?? 0;
      added.push(
        new PartitionOwner(id, ownerEpoch, bounds, this.#cache, this.#context, answerFirst, newestMs),
      );
    }
    // Subscriptions first, so that they miss nothing of the new partitions.
    for (const subscription of topic.subscriptions.values()) {
      for (const owner of added) await this.#addDispatcher(subscription, owner);
    }
    topic.owners.push(...added);
    this.#topics.set(definition.name, topic);
  }

  async #openSubscription(definition: SubscriptionDefinition): Promise<void> {
    const existing = this.#subscriptions.get(definition.name);
    if (existing !== undefined) {
      existing.definition = definition;
      return;
    }
    const topic = this.#topicRuntime(definition.topic);
    const runtime = new SubscriptionRuntime(definition, topic.definition.logEpoch, this.#context, (name) =>
      this.backlog.firstMessage(name),
    );
    try {
      for (const owner of topic.owners) await this.#addDispatcher(runtime, owner);
    } catch (error) {
      // One that is left behind would go on committing cursors beside those of the next try.
      for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
      throw error;
    }
    topic.subscriptions.set(definition.name, runtime);
    this.#subscriptions.set(definition.name, runtime);
  }

  async #addDispatcher(runtime: SubscriptionRuntime, owner: PartitionOwner): Promise<void> {
    const { definition } = runtime;
    const { limits } = this.#context;
    const record = await this.#options.cursors.load(definition.incarnation, owner.id);
    // Deleted meanwhile.
    if (runtime.closed) return;
    const { headOffset, endOffset } = owner.bounds;
    const startOffset = definition.startOffsets?.[owner.id.partition] ?? 0;
    const delivery = new Delivery(
      {
        ordering: definition.ordering,
        maxHoles: limits.maxHoles,
        maxQueued: limits.maxQueued,
        maxRun: limits.maxRun,
      },
      record === undefined ? { startOffset } : { record },
      endOffset,
    );
    const dispatcher = new Dispatcher(owner, delivery, runtime, this.#context, this.#committer, this.#leases);
    if (headOffset > delivery.floor) dispatcher.apply({ kind: 'trim', headOffset });
    runtime.addDispatcher(dispatcher);
  }

  async #dropTopic({ name, logEpoch }: TopicDefinition): Promise<void> {
    const topic = this.#topics.get(name);
    if (topic?.definition.logEpoch === logEpoch) {
      this.#topics.delete(name);
      for (const owner of topic.owners) owner.close(new BrokerError('NOT_FOUND', `${name} was deleted`));
      await Promise.all(topic.owners.map((owner) => owner.flushed()));
    }
    await this.#options.log.drop(logEpoch);
  }

  async #dropSubscription({ name, incarnation }: SubscriptionDefinition): Promise<void> {
    const runtime = this.#subscriptions.get(name);
    if (runtime?.definition.incarnation === incarnation) {
      this.#subscriptions.delete(name);
      this.#pulls.delete(runtime);
      this.#topics.get(runtime.definition.topic)?.subscriptions.delete(name);
      runtime.close(new BrokerError('NOT_FOUND', `${name} was deleted`));
      for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
      // A commit under way could write a cursor after it was dropped.
      await this.#committer.flushed();
    }
    await this.#options.cursors.drop(incarnation);
  }
}
