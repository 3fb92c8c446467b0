// The partitions that this broker owns: opens them for publishes and deliveries, hands them over in order,
// drops them at once. Which and when is decided elsewhere.
//
//   own:       log's bounds ─▶ PartitionOwner ─▶ a dispatcher for each subscription, with the former
//              owner's leases ─▶ open
//   handOver:  publishes go elsewhere ─▶ appends end ─▶ deliveries end ─▶ cursors are committed
//              ─▶ note for the next owner
//   abandon:   everything ends; nothing is written any more
//
// Invariant: nothing of a partition goes out before all of it is prepared, or after its note was written.
import { decodeCursor, encodeCursor } from '../core/cursor.ts';
import type { TopicDefinition } from '../core/definitions.ts';
import { Delivery } from '../core/delivery.ts';
import type { FormerLease } from '../core/delivery-events.ts';
import { BrokerError } from '../core/errors.ts';
import { decodeEras, firstEra, partitionCounts } from '../core/growth.ts';
import {
  decodeHandOver,
  encodeHandOver,
  MAX_HANDED_OVER,
  type SubscriptionLeases,
} from '../core/hand-over.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';
import type { CursorCommit, CursorStore } from '../ports/cursor-store.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { Claim, OwnershipStore } from '../ports/ownership-store.ts';
import type { EngineContext } from './context.ts';
import { Dispatcher } from './delivery/dispatcher.ts';
import { EraGates } from './delivery/era-gates.ts';
import type { LeaseSweeper } from './delivery/lease-sweeper.ts';
import type { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import type { ChunkCache } from './log/chunk-cache.ts';
import type { CursorCommitter } from './log/cursor-committer.ts';
import { EraIndex } from './log/era-index.ts';
import { LogWriter } from './log/log-writer.ts';
import { PartitionGrowth } from './log/partition-growth.ts';
import { MOVED, PartitionOwner } from './log/partition-owner.ts';
import { PassedOn } from './log/passed-on.ts';
import type { PendingPublish } from './log/publish-group.ts';
import { RecentRing } from './log/recent-chunks.ts';
import { RememberedCursors } from './log/remembered-cursors.ts';
import type { HandedOver, PartitionHost } from './partition-host.ts';
import type { CatchingUp, HandingOver, Opening } from './partition-phases.ts';
import type { TopicRuntime } from './topic-runtime.ts';

export interface PartitionsOptions {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly ownership: OwnershipStore;
  readonly context: EngineContext;
  readonly cache: ChunkCache;
  readonly committer: CursorCommitter;
  readonly leases: LeaseSweeper;
  /** By the topic's incarnation. */
  readonly topics: ReadonlyMap<number, TopicRuntime>;
  /**
   * How many partitions the topic of that incarnation has, by the store's word where fewer than `least` are
   * known here. UNAVAILABLE.
   */
  readonly partitionsOf: (topic: string, logEpoch: number, least: number) => Promise<number>;
  /** See LogWriterOptions. */
  readonly checkStore: () => Promise<void>;
  /**
   * The partition is open: what waits for it may come. Resolves when publishes may go to the owner directly.
   */
  readonly opened: (topic: TopicDefinition, owner: PartitionOwner) => Promise<void>;
  /**
   * Takes a publish that its owner has not stored because the partition has moved: certainly not, unless its
   * publisher was answered early (durability `memory`).
   */
  readonly moved: (topic: TopicDefinition, id: PartitionId, publish: PendingPublish) => void;
}

const VERIFY_MS = 1_000;

export class Partitions implements PartitionHost {
  readonly #options: PartitionsOptions;
  readonly #recent: RecentRing;
  readonly remembered: RememberedCursors;
  readonly passedOn: PassedOn;
  readonly #eras: EraIndex;
  readonly #gates: EraGates;
  /**
   * What was outstanding at the former owner, by the incarnations of subscriptions that have no dispatcher
   * here so far (they may not even be known here).
   */
  readonly #former = new WeakMap<PartitionOwner, Map<number, readonly FormerLease[]>>();
  readonly #staleListeners: ((id: PartitionId) => void)[] = [];
  readonly #topicListeners: (() => void)[] = [];
  #cancelVerify: () => void = () => undefined;

  constructor(options: PartitionsOptions) {
    this.#options = options;
    this.#recent = new RecentRing(options.context.limits.recentBytes);
    this.remembered = new RememberedCursors(options.log);
    this.passedOn = new PassedOn(options.context);
    const { cursors, topics, context } = options;
    this.#eras = new EraIndex({ cursors, topics, logger: context.logger });
    this.#gates = new EraGates(cursors, this.#eras, context);
  }

  /**
   * Begins to check every second whether the store still has what it acknowledged. Does nothing where the
   * store cannot go back.
   */
  start(): void {
    if (!this.#recent.keeps) return;
    this.#cancelVerify = this.#options.context.clock.setTimer(VERIFY_MS, () => {
      for (const topic of this.#options.topics.values())
        for (const owner of topic.partitions.owners()) owner.verify();
      this.start();
    });
  }

  stop(): void {
    this.#cancelVerify();
    this.#gates.stop();
  }

  /**
   * Tells the owners of the new count. Publishes by an older one that wait for other brokers have been given
   * back before.
   */
  topicGrown({ definition, partitions }: TopicRuntime): void {
    for (const owner of partitions.owners()) owner.growth?.grow(partitionCounts(definition));
  }

  async own(id: PartitionId, claim: Claim): Promise<void> {
    const key = formatPartitionId(id);
    const topic = this.#options.topics.get(id.logEpoch);
    if (topic === undefined)
      throw new BrokerError('NOT_FOUND', `the topic of partition ${key} is not known here`);
    const opening: Opening = { kind: 'opening' };
    const isAbandoned = (): boolean => topic.partitions.of(id.partition) !== opening;
    topic.partitions.set(id.partition, opening);
    const prepared = new Map<SubscriptionRuntime, Dispatcher | undefined>();
    let owner: PartitionOwner | undefined;
    try {
      await this.#checkKnown(topic.definition, id);
      owner = await this.#makeOwner(topic, id, claim);
      const former = this.#formerLeases(claim, key);
      this.#former.set(owner, former);
      for (let next = lacking(topic, prepared); next !== undefined; next = lacking(topic, prepared)) {
        prepared.set(next, await this.#prepareDispatcher(next, owner));
        if (isAbandoned()) break;
      }
      if (isAbandoned() || owner.closed || this.#options.topics.get(id.logEpoch) !== topic)
        throw new BrokerError('ABORTED', `partition ${key} was given up while it was being opened`);
      owner.growth?.grow(partitionCounts(topic.definition));
    } catch (error) {
      topic.partitions.end(id.partition, opening);
      for (const dispatcher of prepared.values()) dispatcher?.close();
      if (owner !== undefined) this.#close(topic, owner);
      throw error;
    }
    const catchingUp: CatchingUp = { kind: 'catching up', owner };
    topic.partitions.set(id.partition, catchingUp);
    // Nothing goes out before this point: another try would know nothing of it.
    for (const [runtime, dispatcher] of prepared)
      if (dispatcher !== undefined) this.#begin(runtime, dispatcher);
    void this.#options.opened(topic.definition, owner).then(() => {
      if (topic.partitions.of(id.partition) === catchingUp)
        topic.partitions.set(id.partition, { kind: 'open', owner });
    });
  }

  /**
   * An owner that has not heard that the topic has grown would take messages before the partitions from which
   * their keys come have followed. One that is not in the store either was forgotten there: nobody waits for
   * it.
   */
  async #checkKnown({ name, logEpoch, partitions }: TopicDefinition, id: PartitionId): Promise<void> {
    if (id.partition < partitions) return;
    const stored = await this.#options.partitionsOf(name, logEpoch, id.partition + 1);
    if (id.partition < stored)
      throw new BrokerError('NOT_FOUND', `partition ${formatPartitionId(id)} is not known here yet`);
  }

  async handOver(id: PartitionId): Promise<HandedOver> {
    const key = formatPartitionId(id);
    const topic = this.#options.topics.get(id.logEpoch);
    const owner = topic?.partitions.owner(id.partition);
    if (topic === undefined || owner === undefined)
      throw new BrokerError('NOT_FOUND', `partition ${key} is not open here`);
    const dispatchers: Dispatcher[] = [];
    const handingOver: HandingOver = { kind: 'handing over', owner, dispatchers };
    let isHandedOver = false;
    topic.partitions.set(id.partition, handingOver);
    try {
      await owner.flushed();
      this.#checkOpen(owner);
      for (const { dispatcher } of followersOf(topic, owner)) dispatchers.push(dispatcher);
      const leases = this.#leasesOf(dispatchers);
      const leftOut = leases.reduce((sum, each) => sum + each.leases.length, 0) - MAX_HANDED_OVER;
      if (leftOut > 0)
        this.#options.context.logger.warn(
          { partition: key, leases: leftOut },
          'more is outstanding than can be told to the next owner: what is beyond is delivered again',
        );
      const note = encodeHandOver(leases);
      for (const dispatcher of dispatchers) dispatcher.host.detach(dispatcher);
      for (const dispatcher of dispatchers) this.#options.committer.soon(dispatcher);
      await this.#options.committer.flushed();
      this.#checkOpen(owner);
      isHandedOver = true;
      return { ownerEpoch: owner.ownerEpoch, note, confirm: this.#confirmation(owner, dispatchers) };
    } finally {
      topic.partitions.end(id.partition, handingOver);
      this.#remember(owner, dispatchers, isHandedOver);
      for (const dispatcher of dispatchers) dispatcher.close();
      // The partition may have been given up before its deliveries were ended.
      this.#close(topic, owner);
    }
  }

  /**
   * Makes HandedOver.confirm. A store that went back since the cursors were committed may have forgotten
   * those as well.
   */
  #confirmation(owner: PartitionOwner, dispatchers: readonly Dispatcher[]): () => Promise<number> {
    const { cursors } = this.#options;
    const holders = owner.growth === undefined ? dispatchers : [...dispatchers, owner.growth];
    const records = holders.map((each) => ({ subscription: each.subscription, record: each.snapshot() }));
    let again = false;
    return async () => {
      if (!this.#recent.keeps) return owner.ownerEpoch;
      again = (await owner.confirm()) || again;
      const { id: partition, ownerEpoch } = owner;
      const commits = again ? records.map((record) => ({ ...record, partition, ownerEpoch })) : [];
      if (commits.length > 0)
        await commitAll(cursors, commits).catch((error: unknown) => {
          if (!wentBack(error)) throw error;
          throw new BrokerError('UNAVAILABLE', 'the store went back once more', { cause: error });
        });
      again = true;
      return ownerEpoch;
    };
  }

  abandon(id: PartitionId, reason: string): void {
    const key = formatPartitionId(id);
    // A topic that is not known has no partition here any more.
    const topic = this.#options.topics.get(id.logEpoch);
    const phase = topic?.partitions.of(id.partition);
    if (topic === undefined || phase === undefined) return;
    topic.partitions.end(id.partition, phase);
    if (phase.kind === 'opening') return;
    if (phase.kind === 'handing over') for (const dispatcher of phase.dispatchers) dispatcher.close();
    else this.#options.context.logger.warn({ partition: key, reason }, 'stopped serving a partition');
    this.#close(topic, phase.owner);
  }

  onStale(listener: (id: PartitionId) => void): void {
    this.#staleListeners.push(listener);
  }

  knows({ logEpoch }: PartitionId): boolean {
    return this.#options.topics.has(logEpoch);
  }

  onTopics(listener: () => void): void {
    this.#topicListeners.push(listener);
  }

  /**
   * Closes what is here of a topic that has gone, on its way to another broker or not. Resolves once nothing
   * of it is being appended any more, so that its data can be dropped.
   */
  async topicEnded({ partitions }: TopicRuntime, reason: BrokerError): Promise<void> {
    const leaving = partitions.leaving();
    const owners = [...partitions.owners(), ...leaving.map(({ owner }) => owner)];
    for (const { dispatchers } of leaving) for (const dispatcher of dispatchers) dispatcher.close();
    for (const owner of owners) owner.close(reason);
    this.topicsChanged();
    await Promise.all(owners.map((owner) => owner.flushed()));
  }

  /** A topic came to be known, or has gone with its owners closed. */
  topicsChanged(): void {
    for (const listener of this.#topicListeners) listener();
  }

  /** Begins the owner's delivery to a subscription; does nothing if one of the two was closed meanwhile. */
  async addDispatcher(runtime: SubscriptionRuntime, owner: PartitionOwner): Promise<void> {
    const dispatcher = await this.#prepareDispatcher(runtime, owner);
    if (dispatcher !== undefined) this.#begin(runtime, dispatcher);
  }

  /** Undefined: the subscription was deleted meanwhile, or the partition has gone. */
  async #prepareDispatcher(
    runtime: SubscriptionRuntime,
    owner: PartitionOwner,
  ): Promise<Dispatcher | undefined> {
    const { definition } = runtime;
    const { context, committer, leases } = this.#options;
    const { limits } = context;
    const startOffset = definition.startOffsets?.[owner.id.partition] ?? 0;
    const record = await this.#loadCursor(definition.incarnation, owner, startOffset);
    if (runtime.closed || owner.closed) return undefined;
    const former = this.#former.get(owner);
    const delivery = new Delivery(
      {
        ordering: definition.ordering,
        maxHoles: limits.maxHoles,
        maxQueued: limits.maxQueued,
        maxUnsettled: limits.maxUnsettled,
        maxRun: limits.maxRun,
      },
      record === undefined ? { startOffset } : { record },
      owner.bounds.endOffset,
      former?.get(definition.incarnation),
    );
    former?.delete(definition.incarnation);
    return new Dispatcher(owner, delivery, runtime, context, committer, leases, this.#gates);
  }

  #begin(runtime: SubscriptionRuntime, dispatcher: Dispatcher): void {
    const { delivery, owner } = dispatcher;
    if (runtime.closed || owner.closed) {
      dispatcher.close();
      return;
    }
    const { headOffset } = owner.bounds;
    if (delivery.outstandingMessages > 0) this.#options.leases.watch(dispatcher);
    if (headOffset > delivery.floor) dispatcher.apply({ kind: 'trim', headOffset });
    this.#options.committer.rest([dispatcher]);
    runtime.addDispatcher(dispatcher);
  }

  async #makeOwner(topic: TopicRuntime, id: PartitionId, claim: Claim): Promise<PartitionOwner> {
    const { log, ownership, context, cache, checkStore, cursors, committer } = this.#options;
    const { definition } = topic;
    const writer = new LogWriter({
      id,
      ownerEpoch: claim.ownerEpoch,
      log,
      ownership,
      recent: this.#recent,
      durability: { level: definition.durability, minReplicas: definition.minReplicas },
      context,
      checkStore,
    });
    const { bounds, newest } = await writer.open();
    const record = await cursors.load(id.logEpoch, id);
    const owner = new PartitionOwner({
      id,
      writer,
      isReleased: claim.handOver !== undefined,
      bounds,
      newest,
      cache,
      context,
      answerFirst: definition.durability === 'memory',
      onLost: (owner) => {
        this.#close(topic, owner);
        for (const listener of this.#staleListeners) listener(id);
      },
      onMoved: (publish) => this.#options.moved(topic.definition, id, publish),
      onPassedOn: (slice, partitions) =>
        this.passedOn.take({
          partition: id,
          slice,
          isWanted: () => this.#options.topics.get(id.logEpoch) === topic,
          bring: (done, failed) =>
            this.#options.moved(topic.definition, id, {
              ...{ slice, partitions, done, failed },
              // Its keys may belong to other partitions by now.
              misrouted: () => topic.publishAgain(slice, { done, failed }),
            }),
        }),
    });
    const counts = partitionCounts(topic.definition);
    const eras = record === undefined ? [firstEra(counts, id.partition)] : decodeEras(record);
    owner.growth = new PartitionGrowth({ owner, eras, counts, index: this.#eras, committer, context });
    return owner;
  }

  /**
   * Remembers what subscriptions had settled at an owner that is given up, for whoever opens the partition
   * next.
   */
  #remember(owner: PartitionOwner, dispatchers: readonly Dispatcher[], isHandedOver: boolean): void {
    const { id, marks } = owner;
    if (!this.#recent.keeps || marks.length === 0) return;
    const nowMs = this.#options.context.clock.monotonicMs();
    for (const dispatcher of dispatchers) {
      const { name, incarnation } = dispatcher.host.definition;
      this.remembered.keep(
        { id, subscription: { name, incarnation }, record: dispatcher.snapshot(), marks, isHandedOver },
        nowMs,
      );
    }
  }

  /**
   * The cursor record to begin with; undefined: begin at the subscription's start. What only this broker
   * remembered of the cursor is in the store by then, too.
   */
  async #loadCursor(
    incarnation: number,
    owner: PartitionOwner,
    startOffset: number,
  ): Promise<Uint8Array | undefined> {
    const { cursors } = this.#options;
    const stored = await cursors.load(incarnation, owner.id);
    const found =
      stored === undefined ? { floor: startOffset, settled: [], attempts: [] } : decodeCursor(stored);
    const joined = await this.remembered.joined(owner, incarnation, found);
    if (joined === found) return stored;
    const record = encodeCursor(joined);
    if (Buffer.compare(record, encodeCursor(found)) === 0) return stored;
    const { id: partition, ownerEpoch } = owner;
    try {
      await commitAll(cursors, [{ partition, ownerEpoch, subscription: incarnation, record }]);
    } catch (error) {
      if (!wentBack(error)) throw error;
      owner.verify(true);
      throw new BrokerError('ABORTED', 'the store went back once more', { cause: error });
    }
    return record;
  }

  /**
   * The leases in the former owner's note, by the subscription's incarnation, with deadlines of this broker's
   * clock.
   */
  #formerLeases({ handOver }: Claim, partition: string): Map<number, readonly FormerLease[]> {
    const nowMs = this.#options.context.clock.monotonicMs();
    const former = new Map<number, readonly FormerLease[]>();
    // An empty note: the former owner had not opened the partition. No note: it did not let go in order.
    if (handOver === undefined || handOver.length === 0) return former;
    try {
      for (const { incarnation, leases } of decodeHandOver(handOver)) {
        former.set(
          incarnation,
          leases.map((lease) => ({ ...lease, deadlineMs: nowMs + lease.deadlineMs })),
        );
      }
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      this.#options.context.logger.warn(
        { partition, reason: error.message },
        'what was outstanding at the former owner is delivered again',
      );
    }
    return former;
  }

  #leasesOf(dispatchers: readonly Dispatcher[]): SubscriptionLeases[] {
    const nowMs = this.#options.context.clock.monotonicMs();
    return dispatchers.map(({ delivery, subscription }) => ({
      incarnation: subscription,
      leases: delivery.formerLeases().map((lease) => ({ ...lease, deadlineMs: lease.deadlineMs - nowMs })),
    }));
  }

  #checkOpen(owner: PartitionOwner): void {
    if (owner.closed)
      throw new BrokerError('ABORTED', `partition ${formatPartitionId(owner.id)} was given up`);
  }

  #close(topic: TopicRuntime, owner: PartitionOwner): void {
    const { partition } = owner.id;
    const phase = topic.partitions.of(partition);
    if (phase !== undefined && phase.kind !== 'opening' && phase.owner === owner)
      topic.partitions.end(partition, phase);
    const followers = followersOf(topic, owner);
    const dispatchers = followers.map(({ dispatcher }) => dispatcher);
    this.#remember(owner, dispatchers, false);
    for (const { subscription, dispatcher } of followers) subscription.removeDispatcher(dispatcher);
    owner.close(MOVED);
    owner.chunks.dropBelow(owner.bounds.endOffset);
  }
}

/** The owner's dispatchers, each with its subscription. */
function followersOf(
  { subscriptions }: TopicRuntime,
  owner: PartitionOwner,
): { readonly subscription: SubscriptionRuntime; readonly dispatcher: Dispatcher }[] {
  return [...subscriptions.values()].flatMap((subscription) => {
    const dispatcher = subscription.dispatchers.get(owner.id.partition);
    return dispatcher?.owner === owner ? [{ subscription, dispatcher }] : [];
  });
}

/** Commits as CursorStore.commit does; rejects with ABORTED where a claim is stale. */
async function commitAll(cursors: CursorStore, commits: readonly CursorCommit[]): Promise<void> {
  const stale = await cursors.commit(commits);
  if (stale.length > 0) throw new BrokerError('ABORTED', 'another broker owns the partition');
}

function wentBack(error: unknown): error is BrokerError {
  return error instanceof BrokerError && error.code === 'FAILED_PRECONDITION';
}

/** A subscription for which nothing was prepared yet; undefined if there is none. */
function lacking(
  topic: TopicRuntime,
  prepared: ReadonlyMap<SubscriptionRuntime, unknown>,
): SubscriptionRuntime | undefined {
  for (const subscription of topic.subscriptions.values()) {
    if (!subscription.closed && !prepared.has(subscription)) return subscription;
  }
  return undefined;
}
