// The engine: everything between the stores and the transport, made of ports alone. Invariant: a topic or
// subscription that was deleted has ended here before its data is dropped.
//
//   Definitions ─changes─▶ Broker ─▶ TopicRuntime ─▶ PartitionOwner (one a partition owned here) ─▶ LogStore
//                           │  │            └▶ SubscriptionRuntime ─▶ Dispatcher (one a partition owned here)
//                           │  └─ loops: CursorCommitter, LeaseSweeper, RetentionSweeper
//                           └─ Partitions: which of them are owned here;  Remote: the way to the others
import { type ConsumerClient, consumerClient, PULLING } from '../core/consumer-client.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import { type ConsumerOrigin, UNKNOWN_ORIGIN } from '../core/draining.ts';
import { BrokerError } from '../core/errors.ts';
import { parseSubscriptionName } from '../core/names.ts';
import type { PartitionId } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import {
  isOfAnother,
  type SettledSubscription,
  type SettleOperation,
  type UnarySettleRequest,
} from '../core/settle-request.ts';
import type { Clock, Random } from '../ports/clock.ts';
import type { CursorStore } from '../ports/cursor-store.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { MessageTracing } from '../ports/telemetry.ts';
import type { EngineContext, EngineLimits, EngineLogger } from './context.ts';
import type { ChangeKind, DefinitionChange } from './definitions/definition-catalog.ts';
import type { Definitions } from './definitions/definitions.ts';
import { EngineBacklogReporter } from './delivery/backlog-reporter.ts';
import { type Consumer, type ConsumerSink, LocalConsumer } from './delivery/consumer.ts';
import type { Dispatcher } from './delivery/dispatcher.ts';
import { type DrainableConsumer, DrainingConsumers } from './delivery/draining-consumers.ts';
import { LeaseSweeper } from './delivery/lease-sweeper.ts';
import { pull } from './delivery/pull.ts';
import { Session, type SessionLimits } from './delivery/session.ts';
import { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import { ChunkCache } from './log/chunk-cache.ts';
import { CursorCommitter } from './log/cursor-committer.ts';
import { MOVED, type PartitionOwner } from './log/partition-owner.ts';
import { Partitions } from './partitions.ts';
import { Patience } from './patience.ts';
import type { Remote } from './remote.ts';
import { RetentionSweeper } from './retention-sweeper.ts';
import type { PublishedRun } from './routed-batch.ts';
import { createStats, type Stats } from './stats.ts';
import { SteadyClock } from './steady-clock.ts';
import { TopicRuntime } from './topic-runtime.ts';

export interface BrokerOptions {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly ownership: OwnershipStore;
  readonly definitions: Definitions;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: EngineLimits;
  readonly logger: EngineLogger;
  /** Undefined: tracing is off. */
  readonly tracing?: MessageTracing | undefined;
  /** The most bytes that one Pull answers with. */
  readonly maxPullBytes: number;
  readonly maxConsumersPerSubscription: number;
  /** See EngineContext. */
  readonly mayServe?: () => boolean;
  /** See LogWriterOptions; absent: the store can't become another one. */
  readonly checkStore?: () => Promise<void>;
}

/** What a topic's logs hold. */
export interface TopicSize {
  readonly topic: string;
  /** All messages ever published, since the topic was created. */
  readonly publishedMessages: number;
  readonly storedMessages: number;
  readonly storedBytes: number;
}

/** As SessionLimits; ackDeadlineMs undefined: the subscription's. */
type ConsumerLimits = Omit<SessionLimits, 'ackDeadlineMs'> & { readonly ackDeadlineMs: number | undefined };

export interface SubscribeHow {
  /** Whether messages come only from the partitions that are owned here. */
  readonly ownedOnly?: boolean;
  /** Where the consumer connects from, with its client id: see ConsumerClient. */
  readonly origin?: ConsumerOrigin;
  /** The client still has what it was given on the stream before: see DeliveryEvent. */
  readonly resumes?: boolean;
}

const STOPPING = new BrokerError('UNAVAILABLE', 'the broker is stopping: connect again');

export class Broker {
  readonly stats: Stats = createStats();
  readonly backlog: EngineBacklogReporter;
  /** The drain of consumers whose streams end here. */
  readonly draining: DrainingConsumers;
  /** The partitions that are owned here. */
  readonly partitions: Partitions;
  readonly #options: BrokerOptions;
  readonly context: EngineContext;
  readonly #cache: ChunkCache;
  readonly #committer: CursorCommitter;
  readonly #leases: LeaseSweeper;
  readonly #retention: RetentionSweeper;
  readonly #topics = new Map<string, TopicRuntime>();
  /** The topics by incarnation. */
  readonly #topicsByEpoch = new Map<number, TopicRuntime>();
  readonly #subscriptions = new Map<string, SubscriptionRuntime>();
  #remote: Remote | undefined;
  #stopping = false;
  #stopped: Promise<void> | undefined;
  /** Nothing is written any more. */
  #writesEnded = false;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const { clock, limits, logger, tracing } = options;
    const steady = new SteadyClock(clock, logger);
    this.context = { clock, steady, limits, logger, stats: this.stats, tracing, mayServe: options.mayServe };
    this.#cache = new ChunkCache(options.log, limits.cacheBytes, limits.readBytes);
    this.#committer = new CursorCommitter(options.cursors, this.context);
    this.#leases = new LeaseSweeper(this.context);
    this.partitions = new Partitions({
      log: options.log,
      cursors: options.cursors,
      ownership: options.ownership,
      context: this.context,
      cache: this.#cache,
      committer: this.#committer,
      leases: this.#leases,
      topics: this.#topicsByEpoch,
      partitionsOf: (topic, logEpoch, least) => options.definitions.partitionsOf(topic, logEpoch, least),
      checkStore: options.checkStore ?? (async () => undefined),
      opened: (topic, owner) => this.#remote?.opened(topic, owner) ?? Promise.resolve(),
      moved: (topic, id, publish) => {
        if (this.#remote !== undefined) this.#remote.publish(topic, id, publish);
        else publish.failed(MOVED);
      },
    });
    this.#retention = new RetentionSweeper(
      options.log,
      this.context,
      () => this.#topics.values(),
      async () => {
        await options.definitions.finishChanges();
        await options.definitions.finishDeletions();
      },
    );
    this.backlog = new EngineBacklogReporter(this.context, this.#subscriptions);
    this.draining = new DrainingConsumers({
      clock,
      logger,
      consumersOf: (subscription) => this.#consumersOf(subscription),
      settled: async (subscription) => {
        const { project } = parseSubscriptionName(subscription, 'subscription');
        await this.#remote?.backlog(`projects/${project}`, [subscription]);
      },
      awaitedMessages: (subscription) => this.#subscriptions.get(subscription)?.awaitedMessages ?? 0,
    });
  }

  get cachedBytes(): number {
    return this.#cache.bytes;
  }

  /**
   * Takes up the definitions, which must be loaded. With `remote` partitions are owned as they are opened
   * through `partitions`; without it the broker is alone and takes over all of them.
   */
  async start(remote?: Remote): Promise<void> {
    const { definitions } = this.#options;
    this.#remote = remote;
    // There is nobody who could take anything over.
    if (remote === undefined) this.partitions.passedOn.stop();
    definitions.onChange((change) => this.#onChange(change));
    for (const topic of definitions.topics()) await this.#openTopic(topic);
    for (const subscription of definitions.subscriptions()) await this.#openSubscription(subscription);
    await definitions.finishDeletions();
    this.#retention.start();
    this.partitions.start();
  }

  /**
   * Ends all streams, stores what was accepted and commits all cursors. A store that does not let it is
   * waited for at most patienceMs; then publishers hear that the outcome is unknown, and what was
   * acknowledged since the last commit of its cursor is delivered again. Idempotent.
   */
  stop(patienceMs = Number.POSITIVE_INFINITY): Promise<void> {
    this.#stopped ??= this.#stop(patienceMs);
    return this.#stopped;
  }

  async #stop(patienceMs: number): Promise<void> {
    this.#stopping = true;
    const patience = new Patience(this.context.clock, patienceMs);
    this.draining.close();
    await patience.lasts(this.partitions.passedOn.settled());
    this.partitions.passedOn.stop();
    for (const topic of this.#topics.values()) topic.close(STOPPING);
    for (const subscription of this.#subscriptions.values()) subscription.close(STOPPING);
    this.partitions.stop();
    await patience.lasts(Promise.all([this.#retention.stop(), this.#remote?.settled()]));
    const owners = [...this.#topics.values()].flatMap((topic) => [...topic.owners.values()]);
    const flushed = await patience.lasts(Promise.all(owners.map((owner) => owner.flushed())));
    for (const owner of owners) owner.close(STOPPING);
    this.#leases.stop();
    const committed = await patience.lasts(this.#committer.flushed());
    if (!flushed || !committed)
      this.context.logger.warn({ patienceMs }, 'stopped although the store has not taken everything');
    this.#writesEnded = true;
    this.#committer.stop();
    this.#remote?.close();
    patience.end();
  }

  /**
   * The end of each partition, in order: what was published before the call and acknowledged is below it,
   * except with the durability `memory`. Rejects with INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE.
   */
  async currentEnds({ name, logEpoch, partitions }: TopicDefinition): Promise<number[]> {
    const { owners } = this.#topicRuntime(name);
    const ends: Promise<number>[] = [];
    for (let partition = 0; partition < partitions; partition += 1) {
      const owner = owners.get(partition);
      // What the owner has acknowledged it has stored, except with the durability `memory`.
      ends.push(
        owner !== undefined
          ? Promise.resolve(owner.bounds.endOffset)
          : this.#options.log.bounds({ logEpoch, partition }).then(({ endOffset }) => endOffset),
      );
    }
    return Promise.all(ends);
  }

  /** What the logs of each topic hold in the partitions that are owned here. */
  topicSizes(): TopicSize[] {
    return [...this.#topics.values()].map(({ definition, owners }) => {
      const size = { topic: definition.name, publishedMessages: 0, storedMessages: 0, storedBytes: 0 };
      for (const { bounds } of owners.values()) {
        size.publishedMessages += bounds.endOffset;
        size.storedMessages += bounds.endOffset - bounds.headOffset;
        size.storedBytes += bounds.endByte - bounds.headByte;
      }
      return size;
    });
  }

  /** How many partitions the topic has; 0 if it is not known. */
  partitionsOf(logEpoch: number): number {
    return this.#topicsByEpoch.get(logEpoch)?.definition.partitions ?? 0;
  }

  /** The partition's owner; undefined: it is not owned here. */
  owner({ logEpoch, partition }: PartitionId): PartitionOwner | undefined {
    return this.#topicsByEpoch.get(logEpoch)?.owners.get(partition);
  }

  get ownedPartitions(): number {
    let count = 0;
    for (const { owners } of this.#topics.values()) count += owners.size;
    return count;
  }

  /** The epoch of this broker's claim; 0 if the partition is not owned here. */
  ownerEpochOf(id: PartitionId): number {
    return this.owner(id)?.ownerEpoch ?? 0;
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  topicDefinition(topic: string): TopicDefinition {
    return this.#topicRuntime(topic).definition;
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE; everything later comes through `failed`. */
  publish(
    topic: string,
    batch: PublishBatch,
    done: (runs: PublishedRun[]) => void,
    failed: (error: BrokerError) => void,
  ): void {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#topicRuntime(topic);
    const ended = this.context.tracing?.publishing(topic, batch);
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

  /** Adds a consumer. Throws INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNAVAILABLE. */
  subscribe(
    subscription: string,
    sink: ConsumerSink,
    limits: ConsumerLimits,
    how: SubscribeHow = {},
  ): Consumer {
    const { ownedOnly = false, origin = UNKNOWN_ORIGIN, resumes = false } = how;
    // To its client, the owned streams at all brokers are one: the hash of the client says whose leases are.
    const stream = ownedOnly ? '' : (this.#remote?.nextStream() ?? '');
    const client = consumerClient(
      ownedOnly ? 'owned' : 'stream',
      origin.clientId,
      this.#options.random,
      stream,
    );
    return this.#join(subscription, client, sink, limits, { origin, fresh: !resumes });
  }

  #join(
    subscription: string,
    client: ConsumerClient,
    sink: ConsumerSink,
    limits: ConsumerLimits,
    { origin, fresh }: { origin: ConsumerOrigin; fresh: boolean },
  ): Consumer {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#subscriptionRuntime(subscription);
    const { maxConsumersPerSubscription: most } = this.#options;
    if (runtime.consumers >= most)
      throw new BrokerError(
        'RESOURCE_EXHAUSTED',
        `${subscription} has ${most} consumers already, which is the limit: end some`,
      );
    const total = { ...limits, ackDeadlineMs: limits.ackDeadlineMs ?? runtime.definition.ackDeadlineMs };
    const draining = this.draining.isDraining(runtime.definition.name, origin);
    if (this.#remote !== undefined && client.kind !== 'owned')
      return this.#remote.consumer(runtime.definition, client, sink, total, { origin, draining, fresh });
    const session = new Session(runtime.nextSessionId(), client, sink, total);
    session.origin = origin;
    session.draining = draining;
    session.fresh = fresh;
    session.resumes = !fresh;
    runtime.join(session);
    const remote = this.#remote;
    const { name, incarnation } = runtime.definition;
    return new LocalConsumer(
      session,
      runtime,
      remote && ((acks) => remote.settleLater({ name, incarnation }, acks)),
    );
  }

  /**
   * Resolves to frames, none if nothing came within waitMs. Rejects with INVALID_ARGUMENT, NOT_FOUND,
   * RESOURCE_EXHAUSTED, UNAVAILABLE.
   */
  async pull(
    subscription: string,
    maxMessages: number,
    waitMs: number,
    onGone: (over: () => void) => void = () => {},
    origin: ConsumerOrigin = UNKNOWN_ORIGIN,
  ): Promise<Buffer[]> {
    const limits = {
      maxOutstandingMessages: maxMessages,
      maxOutstandingBytes: this.#options.maxPullBytes,
      ackDeadlineMs: undefined,
    };
    // Not fresh: all who pull are one client, and what one of them has must not be given back because another
    // comes.
    const join = (sink: ConsumerSink): Consumer =>
      this.#join(subscription, PULLING, sink, limits, { origin, fresh: false });
    return pull(join, waitMs, this.context.clock, onGone);
  }

  /**
   * Performs Acknowledge and ModifyAckDeadline; resolves when acks are durable in the cursors. Rejects with
   * INVALID_ARGUMENT; NOT_FOUND; UNAVAILABLE: a partition has no owner just now, or lost it meanwhile.
   */
  async settle(request: UnarySettleRequest): Promise<void> {
    const runtime = this.#subscriptionRuntime(request.subscription);
    if (isOfAnother(request, runtime.incarnation)) return;
    const { here, elsewhere } = this.#split(runtime, request.operations);
    const remotely = elsewhere.length > 0 ? this.#remote?.settle(runtime.definition, elsewhere) : undefined;
    // Both are awaited together: the remote part must not be left alone if the local one fails.
    await Promise.all([this.#settleHere(runtime, here), remotely]);
  }

  /**
   * Settles what concerns partitions owned here, durably, and returns the rest. Rejects with NOT_FOUND,
   * UNAVAILABLE.
   */
  async settleOwned(
    { name, incarnation }: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]> {
    const runtime = this.#subscriptionRuntime(name);
    // Above: the subscription that was meant was deleted. Below: this broker has not heard of it yet.
    if (runtime.incarnation > incarnation) return [];
    if (runtime.incarnation < incarnation) return operations;
    const { here, elsewhere } = this.#split(runtime, operations);
    await this.#settleHere(runtime, here);
    return elsewhere;
  }

  /**
   * How many partitions the subscription's topic has; 0 if the subscription is gone. See
   * Definitions.partitionsOf for `least`. Rejects with UNAVAILABLE.
   */
  async partitionsToSettle({ name, incarnation }: SettledSubscription, least: number): Promise<number> {
    const runtime = this.#subscriptions.get(name);
    if (runtime?.incarnation !== incarnation) return 0;
    const { topic, topicEpoch } = runtime.definition;
    return this.#options.definitions.partitionsOf(topic, topicEpoch, least);
  }

  /** The subscription at work here. Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  runtimeOf(subscription: string): SubscriptionRuntime {
    return this.#subscriptionRuntime(subscription);
  }

  *#consumersOf(subscription: string): Iterable<DrainableConsumer> {
    const runtime = this.#subscriptions.get(subscription);
    for (const session of runtime?.sessions ?? [])
      if (session.origin !== undefined) yield new LocalConsumer(session, runtime!);
    yield* this.#remote?.consumersOf(subscription) ?? [];
  }

  #split(
    { dispatchers, definition }: SubscriptionRuntime,
    operations: readonly SettleOperation[],
  ): { here: SettleOperation[]; elsewhere: SettleOperation[] } {
    const here: SettleOperation[] = [];
    const elsewhere: SettleOperation[] = [];
    for (const operation of operations) {
      // The operation is on an earlier incarnation of the topic: there is nothing to settle.
      if (operation.logEpoch !== definition.topicEpoch) continue;
      if (dispatchers.has(operation.partition)) here.push(operation);
      else elsewhere.push(operation);
    }
    return { here, elsewhere };
  }

  async #settleHere(runtime: SubscriptionRuntime, operations: readonly SettleOperation[]): Promise<void> {
    if (operations.length === 0) return;
    if (this.#writesEnded) throw STOPPING;
    const touched: ReadonlySet<Dispatcher> = runtime.settle(0, { operations });
    if (touched.size === 0 || !operations.some(({ kind }) => kind === 'ack')) return;
    // An ack of what this owner has never had: another may own the partition by now, which a commit finds
    // out.
    for (const dispatcher of touched) {
      const { id, bounds } = dispatcher.owner;
      if (operations.some(({ partition, last }) => partition === id.partition && last >= bounds.endOffset))
        this.#committer.now(dispatcher);
    }
    await this.#committer.flushed();
    for (const { owner, closed } of touched) {
      if (closed && owner.closed) throw MOVED;
    }
  }

  #topicRuntime(name: string): TopicRuntime {
    const topic = this.#topics.get(name);
    if (topic !== undefined) return topic;
    // Throws the reason: a bad name, or one that does not exist.
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
    const { log, cursors } = this.#options;
    const ends = change.kind === 'deleted' || change.kind === 'forgotten';
    if ('topic' in change) {
      const { topic } = change;
      if (!ends) await this.#openTopic(topic);
      else await this.#closeTopic(topic, reasonOfEnd(change.kind, topic));
      if (change.kind === 'deleted') {
        await log.drop(topic.logEpoch);
        // The eras of the topic's partitions, which are kept as cursors.
        await cursors.drop(topic.logEpoch);
      }
    } else {
      const { subscription } = change;
      if (!ends) await this.#openSubscription(subscription);
      else await this.#closeSubscription(subscription, reasonOfEnd(change.kind, subscription));
      if (change.kind === 'deleted') await cursors.drop(subscription.incarnation);
    }
  }

  /** Creates the runtime, or brings it up to a changed definition: partitions can only have been added. */
  async #openTopic(definition: TopicDefinition): Promise<void> {
    let topic = this.#topics.get(definition.name);
    if (topic === undefined) {
      topic = new TopicRuntime(definition, this.context, (id, publish) => {
        if (this.#remote !== undefined) this.#remote.publish(topic!.definition, id, publish);
        else publish.failed(MOVED);
      });
    }
    // The order matters: nothing may be brought to an owner by a count that it does not know.
    topic.grow(definition);
    this.#topicsByEpoch.set(definition.logEpoch, topic);
    this.#remote?.topicGrown(definition);
    this.partitions.topicGrown(topic);
    if (this.#remote === undefined) await this.#ownAll(topic);
    this.#topics.set(definition.name, topic);
    this.partitions.topicsChanged();
  }

  async #ownAll({ definition, owners }: TopicRuntime): Promise<void> {
    for (let partition = 0; partition < definition.partitions; partition += 1) {
      if (owners.has(partition)) continue;
      const id = { logEpoch: definition.logEpoch, partition };
      await this.partitions.own(id, await this.#options.ownership.acquire(id));
    }
  }

  async #openSubscription(definition: SubscriptionDefinition): Promise<void> {
    const existing = this.#subscriptions.get(definition.name);
    if (existing !== undefined) {
      existing.definition = definition;
      return;
    }
    const topic = this.#topicRuntime(definition.topic);
    // The subscription is one of another incarnation of the topic, which has not been heard of yet.
    if (topic.definition.logEpoch !== definition.topicEpoch)
      throw new BrokerError('UNAVAILABLE', `${definition.topic} is being deleted: try again`);
    const runtime = new SubscriptionRuntime(definition, topic.definition.logEpoch, this.context, (name) =>
      this.backlog.firstMessage(name),
    );
    try {
      // Partitions may be opened and given up meanwhile.
      for (let owner = lacking(topic, runtime); owner !== undefined; owner = lacking(topic, runtime))
        await this.partitions.addDispatcher(runtime, owner);
    } catch (error) {
      // A dispatcher that is left behind would go on committing cursors beside those of the next try.
      for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
      throw error;
    }
    // Partitions that were given up meanwhile, or that are on their way to another broker with a note that
    // knows nothing of these dispatchers.
    for (const dispatcher of [...runtime.dispatchers.values()])
      if (topic.owners.get(dispatcher.owner.id.partition) !== dispatcher.owner)
        runtime.removeDispatcher(dispatcher);
    topic.subscriptions.set(definition.name, runtime);
    this.#subscriptions.set(definition.name, runtime);
  }

  async #closeTopic({ name, logEpoch }: TopicDefinition, reason: BrokerError): Promise<void> {
    const topic = this.#topicsByEpoch.get(logEpoch);
    if (topic === undefined) return;
    this.#topicsByEpoch.delete(logEpoch);
    if (this.#topics.get(name) === topic) this.#topics.delete(name);
    const owners = [...topic.owners.values()];
    topic.close(reason);
    for (const owner of owners) owner.close(reason);
    this.partitions.topicsChanged();
    this.#remote?.topicEnded(topic.definition, reason);
    await Promise.all(owners.map((owner) => owner.flushed()));
  }

  async #closeSubscription(definition: SubscriptionDefinition, reason: BrokerError): Promise<void> {
    const { name, incarnation } = definition;
    const runtime = this.#subscriptions.get(name);
    if (runtime?.definition.incarnation !== incarnation) return;
    this.#subscriptions.delete(name);
    this.draining.forget(name);
    this.#topics.get(runtime.definition.topic)?.subscriptions.delete(name);
    runtime.close(reason);
    for (const dispatcher of [...runtime.dispatchers.values()]) runtime.removeDispatcher(dispatcher);
    this.#remote?.subscriptionEnded(definition, reason);
    // A commit under way could write a cursor after it was dropped.
    await this.#committer.flushed();
  }
}

function reasonOfEnd(kind: ChangeKind, { name }: { readonly name: string }): BrokerError {
  return kind === 'deleted'
    ? new BrokerError('NOT_FOUND', `${name} was deleted`)
    : new BrokerError('UNAVAILABLE', `${name} is not known here any more: try again`);
}

/** An owner of the topic whose partition the subscription does not follow yet; undefined if there is none. */
function lacking(topic: TopicRuntime, runtime: SubscriptionRuntime): PartitionOwner | undefined {
  for (const owner of topic.owners.values()) {
    if (!owner.closed && runtime.dispatchers.get(owner.id.partition)?.owner !== owner) return owner;
  }
  return undefined;
}
