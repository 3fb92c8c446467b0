// The engine: everything between the stores and the transport, made of ports alone. Invariant: once it has
// stopped, nothing is written any more.
//
//   Definitions ─changes─▶ DefinitionFollower ─▶ Runtimes: what is at work here
//                                                   TopicRuntime ─▶ PartitionOwner ─▶ LogStore
//                                                      └▶ SubscriptionRuntime ─▶ Dispatcher
//                  (an owner for each partition here, a dispatcher for each of its subscriptions)
//   Partitions: which of them are owned here        Remote: the way to the others
//   loops: CursorCommitter, LeaseSweeper, RetentionSweeper

import { type ConsumerClient, consumerClient, PULLING } from '../core/consumer-client.ts';
import type { ConsumerLimits } from '../core/credit.ts';
import type { TopicDefinition } from '../core/definitions.ts';
import { type ConsumerOrigin, UNKNOWN_ORIGIN } from '../core/draining.ts';
import { BrokerError } from '../core/errors.ts';
import { parseSubscriptionName } from '../core/names.ts';
import type { PartitionId } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import type { SettledSubscription, SettleOperation, UnarySettleRequest } from '../core/settle-request.ts';
import type { Clock, Random } from '../ports/clock.ts';
import type { CursorStore } from '../ports/cursor-store.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { MessageTracing } from '../ports/telemetry.ts';
import type { EngineContext, EngineLimits, EngineLogger } from './context.ts';
import { DefinitionFollower } from './definition-follower.ts';
import type { Definitions } from './definitions/definitions.ts';
import { EngineBacklogReporter } from './delivery/backlog-reporter.ts';
import type { Consumer, ConsumerSink } from './delivery/consumer.ts';
import { type DrainableConsumer, DrainingConsumers } from './delivery/draining-consumers.ts';
import { LeaseSweeper } from './delivery/lease-sweeper.ts';
import { LocalConsumer } from './delivery/local-consumer.ts';
import { pull } from './delivery/pull.ts';
import { Session } from './delivery/session.ts';
import type { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import { ChunkCache } from './log/chunk-cache.ts';
import { CursorCommitter } from './log/cursor-committer.ts';
import type { PartitionOwner } from './log/partition-owner.ts';
import type { PendingPublish } from './log/publish-group.ts';
import { Partitions } from './partitions.ts';
import { Patience } from './patience.ts';
import type { Remote } from './remote.ts';
import { RetentionSweeper } from './retention-sweeper.ts';
import type { PublishedRun } from './routed-batch.ts';
import { Runtimes } from './runtimes.ts';
import { SettleRouter } from './settle-router.ts';
import { createStats, type Stats } from './stats.ts';
import { SteadyClock } from './steady-clock.ts';

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

/** As ConsumerLimits; ackDeadlineMs undefined: the subscription's. */
type StreamLimits = Omit<ConsumerLimits, 'ackDeadlineMs'> & { readonly ackDeadlineMs: number | undefined };

export interface SubscribeHow {
  /** Whether messages come only from the partitions that are owned here. */
  readonly ownedOnly?: boolean;
  /** Where the consumer connects from, with its client id: see ConsumerClient. */
  readonly origin?: ConsumerOrigin;
  /** The client still has what it was given on the stream before: see DeliveryEvent. */
  readonly resumes?: boolean;
}

const NOT_OPEN = new BrokerError(
  'UNAVAILABLE',
  'the partition could not be opened yet: nothing was stored, try again',
);
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
  readonly #runtimes: Runtimes;
  readonly #follower: DefinitionFollower;
  readonly #settles: SettleRouter;
  #remote: Remote | undefined;
  #stopping = false;
  #stopped: Promise<void> | undefined;

  constructor(options: BrokerOptions) {
    this.#options = options;
    const { clock, limits, logger, tracing } = options;
    const steady = new SteadyClock(clock, logger);
    this.context = { clock, steady, limits, logger, stats: this.stats, tracing, mayServe: options.mayServe };
    this.#cache = new ChunkCache(options.log, limits.cacheBytes, limits.readBytes);
    this.#committer = new CursorCommitter(options.cursors, this.context);
    this.#leases = new LeaseSweeper(this.context);
    this.#runtimes = new Runtimes(options.definitions);
    this.partitions = new Partitions({
      log: options.log,
      cursors: options.cursors,
      ownership: options.ownership,
      context: this.context,
      cache: this.#cache,
      committer: this.#committer,
      leases: this.#leases,
      topics: this.#runtimes.topicsByEpoch,
      partitionsOf: (topic, logEpoch, least) => options.definitions.partitionsOf(topic, logEpoch, least),
      checkStore: options.checkStore ?? (async () => undefined),
      opened: (topic, owner) => this.#remote?.opened(topic, owner) ?? Promise.resolve(),
      moved: (topic, id, publish) => this.#publishElsewhere(topic, id, publish),
    });
    this.#retention = new RetentionSweeper(
      options.log,
      this.context,
      () => this.#runtimes.topics(),
      async () => {
        await options.definitions.finishChanges();
        await options.definitions.finishDeletions();
      },
    );
    this.backlog = new EngineBacklogReporter(this.context, this.#runtimes.subscriptions);
    this.draining = new DrainingConsumers({
      clock,
      logger,
      consumersOf: (subscription) => this.#consumersOf(subscription),
      whenOwned: async (subscription) => {
        const { project } = parseSubscriptionName(subscription, 'subscription');
        await this.#remote?.backlog(`projects/${project}`, [subscription]);
      },
      awaitedMessages: (subscription) => this.#runtimes.subscriptions.get(subscription)?.awaitedMessages ?? 0,
    });
    const remote = (): Remote | undefined => this.#remote;
    this.#follower = new DefinitionFollower({
      ...{ log: options.log, cursors: options.cursors, ownership: options.ownership },
      ...{ context: this.context, runtimes: this.#runtimes, partitions: this.partitions },
      ...{ committer: this.#committer, remote },
      publishElsewhere: (topic, id, publish) => this.#publishElsewhere(topic, id, publish),
      firstMessage: (subscription) => this.backlog.firstMessage(subscription),
      subscriptionEnded: (subscription) => this.draining.forget(subscription),
    });
    this.#settles = new SettleRouter({
      ...{ runtimes: this.#runtimes, committer: this.#committer, remote },
      partitionsOf: (topic, logEpoch, least) => options.definitions.partitionsOf(topic, logEpoch, least),
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
    definitions.onChange((change) => this.#follower.apply(change));
    for (const topic of definitions.topics()) await this.#follower.openTopic(topic);
    for (const subscription of definitions.subscriptions())
      await this.#follower.openSubscription(subscription);
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
    await patience.lasts(this.partitions.passedOn.ended());
    this.partitions.passedOn.stop();
    for (const topic of this.#runtimes.topics()) topic.close(STOPPING);
    for (const subscription of this.#runtimes.subscriptions.values()) subscription.close(STOPPING);
    this.partitions.stop();
    await patience.lasts(Promise.all([this.#retention.stop(), this.#remote?.endPublishes()]));
    const owners = [...this.#runtimes.topics()].flatMap((topic) => topic.partitions.owners());
    const flushed = await patience.lasts(Promise.all(owners.map((owner) => owner.flushed())));
    for (const owner of owners) owner.close(STOPPING);
    this.#leases.stop();
    const committed = await patience.lasts(this.#committer.flushed());
    if (!flushed || !committed)
      this.context.logger.warn({ patienceMs }, 'stopped although the store has not taken everything');
    this.#settles.end(STOPPING);
    this.#committer.stop();
    this.#remote?.close();
    patience.end();
  }

  /**
   * The end of each partition, in order: what was published before the call and acknowledged is below it,
   * except with the durability `memory`. Rejects with INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE.
   */
  async currentEnds({ name, logEpoch, partitions }: TopicDefinition): Promise<number[]> {
    const runtime = this.#runtimes.topic(name);
    const ends: Promise<number>[] = [];
    for (let partition = 0; partition < partitions; partition += 1) {
      const owner = runtime.partitions.owner(partition);
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
    return [...this.#runtimes.topics()].map(({ definition, partitions }) => {
      const size = { topic: definition.name, publishedMessages: 0, storedMessages: 0, storedBytes: 0 };
      for (const { bounds } of partitions.owners()) {
        size.publishedMessages += bounds.endOffset;
        size.storedMessages += bounds.endOffset - bounds.headOffset;
        size.storedBytes += bounds.endByte - bounds.headByte;
      }
      return size;
    });
  }

  /** How many partitions the topic has; 0 if it is not known. */
  partitionsOf(logEpoch: number): number {
    return this.#runtimes.topicsByEpoch.get(logEpoch)?.definition.partitions ?? 0;
  }

  /** The partition's owner; undefined: it is not owned here. */
  owner({ logEpoch, partition }: PartitionId): PartitionOwner | undefined {
    return this.#runtimes.topicsByEpoch.get(logEpoch)?.partitions.owner(partition);
  }

  get ownedPartitions(): number {
    let count = 0;
    for (const { partitions } of this.#runtimes.topics()) count += partitions.owners().length;
    return count;
  }

  /** The epoch of this broker's claim; 0 if the partition is not owned here. */
  ownerEpochOf(id: PartitionId): number {
    return this.owner(id)?.ownerEpoch ?? 0;
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  topicDefinition(topic: string): TopicDefinition {
    return this.#runtimes.topic(topic).definition;
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE; everything later comes through `failed`. */
  publish(
    topic: string,
    batch: PublishBatch,
    done: (runs: PublishedRun[]) => void,
    failed: (error: BrokerError) => void,
  ): void {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#runtimes.topic(topic);
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
    limits: StreamLimits,
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
    limits: StreamLimits,
    { origin, fresh }: { origin: ConsumerOrigin; fresh: boolean },
  ): Consumer {
    if (this.#stopping) throw STOPPING;
    const runtime = this.#runtimes.subscription(subscription);
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
  settle(request: UnarySettleRequest): Promise<void> {
    return this.#settles.settle(request);
  }

  /** See PeerHost. */
  settleOwned(
    subscription: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]> {
    return this.#settles.settleOwned(subscription, operations);
  }

  /** See PeerHost. */
  partitionsToSettle(subscription: SettledSubscription, least: number): Promise<number> {
    return this.#settles.partitionsToSettle(subscription, least);
  }

  /** The subscription at work here. Throws INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE. */
  runtimeOf(subscription: string): SubscriptionRuntime {
    return this.#runtimes.subscription(subscription);
  }

  *#consumersOf(subscription: string): Iterable<DrainableConsumer> {
    const runtime = this.#runtimes.subscriptions.get(subscription);
    for (const session of runtime?.sessions ?? [])
      if (session.origin !== undefined) yield new LocalConsumer(session, runtime!);
    yield* this.#remote?.consumersOf(subscription) ?? [];
  }

  #publishElsewhere(topic: TopicDefinition, id: PartitionId, publish: PendingPublish): void {
    if (this.#remote !== undefined) this.#remote.publish(topic, id, publish);
    else publish.failed(NOT_OPEN);
  }
}
