// Judges a cluster while it runs: told what the store really has, what owners give out, what clients say and
// hear, it throws a Violation at the first broken promise. The promises are listed in
// partition-truth.ts (logs, claims, publishers), early-answers.ts (durability `memory`), retention-truth.ts,
// delivery-truth.ts (subscriptions), assignment-truth.ts and definition-truth.ts, and here:
//
//   fenced       nobody gives anything out while its lease in the store has ended
//   grown        in a subscription with ordering a message goes out only once every earlier message of its
//                publisher and key in another partition, of which the publisher was told before the message
//                was stored, is acknowledged
//   one owner    only the newest claim gives anything out; a member robbed of a partition by force may be
//                late to learn it
//   prompt       a lone broker commits acks within cursorCommitMs, or as soon as the store lets it; in calm
//                weather nothing waits for long to be delivered to consumers that are quick
//   fair         of partitions that wait, none is passed over (turns.ts)
//   in order     a lone broker that has stopped has stored all that it has answered, and committed what was
//                acknowledged
import type { SubscriptionDefinition, TopicDefinition } from '../../../services/broker/core/definitions.ts';
import { formatPartitionId, type PartitionId } from '../../../services/broker/core/partition.ts';
import type { SettleOperation } from '../../../services/broker/core/settle-request.ts';
import type { EngineLimits } from '../../../services/broker/engine/context.ts';
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import type { Clock } from '../../../services/broker/ports/clock.ts';
import type { CursorCommit } from '../../../services/broker/ports/cursor-store.ts';
import { CLUSTER_SLOT, type Slot } from '../../support/memory-store.ts';
import { decodeFrames, type Received } from '../received.ts';
import { publisherOf, type SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';
import { AssignmentTruth } from './assignment-truth.ts';
import { DefinitionTruth } from './definition-truth.ts';
import { AT_HAND, DeliveryTruth, FAR_AWAY, type Holder } from './delivery-truth.ts';
import { EarlyAnswers } from './early-answers.ts';
import { InForce } from './in-force.ts';
import { type PartitionCheckpoint, PartitionTruth } from './partition-truth.ts';
import { RetentionTruth } from './retention-truth.ts';
import { byRun, SentIndex } from './sent-index.ts';
import { Turns } from './turns.ts';
import type { StoreWitness } from './witnessed-store.ts';

interface Place {
  readonly sent: SentMessage;
  readonly partition: number;
  readonly offset: number;
  readonly toldMs: number;
}

export interface ClusterCheckerOptions {
  readonly clock: Clock;
  /** See RetentionTruth. */
  readonly clocksStep: boolean;
  /** There is one broker, and it has the store to itself. */
  readonly alone: boolean;
  readonly limits: EngineLimits;
}

/** How long the engine waits after a commit that failed; see engine/log/cursor-committer.ts. */
const COMMIT_RETRY_MS = 250;

export class ClusterChecker {
  readonly sent = new SentIndex();
  readonly #early = new EarlyAnswers(this.sent, (memberId) => this.holdsLease(memberId));
  readonly #retention: RetentionTruth;
  readonly #ackDeadlines = new InForce<number>();
  /**
   * After everything was settled: where logs ended then. What is below and is delivered now is delivered for
   * nothing.
   */
  #quietEnds: ReadonlyMap<PartitionTruth, number> = new Map();
  readonly assignments = new AssignmentTruth();
  readonly definitions = new DefinitionTruth();
  /** Counts for tests. */
  readonly counts = { deliveries: 0, redeliveries: 0, acquisitions: 0 };
  readonly #options: ClusterCheckerOptions;
  readonly #clock: Clock;
  /** Turns by incarnation. */
  readonly #turns = new Map<number, Turns>();
  #commitsUnderWay = 0;
  #lastCommitEndMs = 0;
  readonly #partitions = new Map<string, PartitionTruth>();
  /** Deliveries by incarnation and partition. */
  readonly #deliveries = new Map<string, DeliveryTruth>();
  /** Cursors, by incarnation and partition: a subscription's first event may come after them. */
  readonly #records = new Map<string, Uint8Array>();
  /** What publishers had been told of when a subscription was created, by incarnation and partition. */
  readonly #toldAtCreation = new Map<number, ReadonlyMap<number, number>>();
  /**
   * Incarnations of deleted subscriptions: a broker that has not heard of the deletion may find no cursor,
   * and begin anew.
   */
  readonly #forgotten = new Set<number>();
  /** Where publishers were told that their messages are, by topic, publisher and key. */
  readonly #places = new Map<string, Place[]>();
  /** When each member's lease ends, by the checker's clock. */
  readonly #leases = new Map<string, number>();

  constructor(options: ClusterCheckerOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#retention = new RetentionTruth(options.clocksStep);
  }

  partition(id: PartitionId): PartitionTruth {
    const name = formatPartitionId(id);
    let found = this.#partitions.get(name);
    if (found === undefined) {
      found = new PartitionTruth(id, this.#options.alone);
      this.#partitions.set(name, found);
    }
    return found;
  }

  partitionsOf(logEpoch: number): PartitionTruth[] {
    return [...this.#partitions.values()].filter(({ id }) => id.logEpoch === logEpoch);
  }

  /** The partitions that hold anything. */
  get stored(): PartitionTruth[] {
    return [...this.#partitions.values()].filter(
      (truth) => !truth.deleted && truth.headOffset < truth.endOffset,
    );
  }

  holdsLease(memberId: string): boolean {
    if (this.#options.alone) return true;
    return (this.#leases.get(memberId) ?? 0) > this.#clock.monotonicMs();
  }

  /**
   * Begins the quiet time: everything is settled. What a failover has lost and a broker still remembers, the
   * broker may bring back and deliver.
   */
  beginQuiet(): void {
    this.#quietEnds = new Map([...this.#partitions.values()].map((truth) => [truth, truth.endOffset]));
  }

  // --- what the store has ---

  witness(memberId: string): StoreWitness {
    return {
      appended: (id, ownerEpoch, chunks) =>
        this.partition(id).appended(
          { memberId, ownerEpoch },
          chunks,
          this.sent,
          this.#early,
          this.#clock.monotonicMs(),
        ),
      trimmed: (id, ownerEpoch, { headOffset }) => {
        const truth = this.partition(id);
        truth.wrote(memberId, ownerEpoch, 'trimmed');
        // What a store that went back has again may go again.
        if (headOffset > truth.furthestHead && !truth.deleted) this.#checkTrimmed(truth, headOffset);
        truth.headOffset = Math.max(truth.headOffset, headOffset);
        truth.furthestHead = Math.max(truth.furthestHead, headOffset);
      },
      deleted: (logEpoch) => {
        for (const truth of this.partitionsOf(logEpoch)) truth.deleted = true;
      },
      dropped: (logEpoch) => {
        for (const truth of this.partitionsOf(logEpoch)) truth.dropped = true;
      },
      committed: ({ partition, ownerEpoch, subscription, record }) => {
        const truth = this.partition(partition);
        truth.wrote(memberId, ownerEpoch, 'committed a cursor');
        const name = `${subscription} ${formatPartitionId(partition)}`;
        this.#records.set(name, record);
        this.#deliveries.get(name)?.committed(memberId, record, truth.ownerId === memberId);
      },
      defined: (definition, isNew) => {
        const nowMs = this.#clock.monotonicMs();
        if ('logEpoch' in definition) this.#retention.defined(definition, nowMs);
        else this.#ackDeadlines.set(definition.incarnation, definition.ackDeadlineMs, nowMs);
        if (isNew) this.definitions.written(definition);
      },
      created: ({ incarnation, topicEpoch }) => {
        // A definition that is there again: the store had lost it, and somebody has written it once more.
        if (this.#toldAtCreation.has(incarnation)) return;
        const ends = this.partitionsOf(topicEpoch).map(
          // Whose publishers hear early may give out as new what they have heard of.
          (truth) => [truth.id.partition, truth.toldEarly ? 0 : truth.toldEnd] as const,
        );
        this.#toldAtCreation.set(incarnation, new Map(ends));
      },
      forgotten: (subscription) => void this.#forgotten.add(subscription),
      owns: (id, ownerEpoch) => {
        const { claim, dropped } = this.partition(id);
        return !dropped && claim?.memberId === memberId && claim.ownerEpoch === ownerEpoch;
      },
      acquired: (id, above, { ownerEpoch, handOver }) => {
        const truth = this.partition(id);
        const { claim } = truth;
        this.counts.acquisitions += 1;
        if (this.assignments.still)
          throw new Violation(`${memberId} has acquired ${truth.name} although nothing has changed`);
        const lives = claim !== undefined && claim.memberId !== '' && this.holdsLease(claim.memberId);
        // It has lost it, or will hear so.
        if (above === undefined && claim !== undefined && claim.memberId !== '' && !this.#options.alone)
          this.#early.lost(claim.memberId, truth);
        const hasNote = handOver !== undefined && handOver.length > 0;
        truth.acquired({ memberId, ownerEpoch }, above, hasNote, lives, this.#clock.monotonicMs());
      },
      released: (id) => {
        const truth = this.partition(id);
        if (truth.wentBackLately(this.#clock.monotonicMs())) this.#early.lost(memberId, truth);
        this.#early.released(memberId, truth);
        truth.released(memberId, this.#clock.monotonicMs());
      },
      renewed: (leaseMs) => void this.#leases.set(memberId, this.#clock.monotonicMs() + leaseMs),
      left: () => void this.#leases.delete(memberId),
      assigned: (body) => this.assignments.assigned(body),
    };
  }

  /** Returns a function that takes the checker back to this moment, for the slots of the store that fail. */
  checkpoint(fails: (slot: Slot) => boolean): (isAlive: (memberId: string) => boolean) => void {
    const points = new Map([...this.#partitions.values()].map((truth) => [truth, truth.checkpoint()]));
    const records = new Map(this.#records);
    const definitions = this.definitions.checkpoint();
    const settings = [this.#retention.checkpoint(), this.#ackDeadlines.checkpoint()];
    const nothing: PartitionCheckpoint = { endOffset: 0, headOffset: 0, claim: undefined };
    return (isAlive) => {
      const nowMs = this.#clock.monotonicMs();
      if (fails(CLUSTER_SLOT)) {
        definitions();
        for (const goBack of settings) goBack(nowMs);
      }
      for (const truth of this.#partitions.values())
        if (fails(truth.name)) truth.wentBack(points.get(truth) ?? nothing, nowMs, isAlive);
      for (const name of new Set([...records.keys(), ...this.#records.keys(), ...this.#deliveries.keys()])) {
        if (!fails(name.slice(name.indexOf(' ') + 1))) continue;
        const record = records.get(name);
        if (record === undefined) this.#records.delete(name);
        else this.#records.set(name, record);
        this.#deliveries.get(name)?.wentBack(record);
      }
    };
  }

  /** Its process has ended. */
  died(memberId: string): void {
    this.#early.died(memberId);
    this.gaveUp(memberId);
    this.#commitsUnderWay = 0;
    this.#lastCommitEndMs = this.#clock.monotonicMs();
    for (const truth of this.#deliveries.values()) truth.snapshotTaken();
  }

  /**
   * The member has lost its lease: what the store has lost is not owed any more. Of one partition, or of all.
   */
  gaveUp(memberId: string, id?: PartitionId): void {
    this.#early.lost(memberId, id && this.partition(id));
    const partitions = id === undefined ? this.#partitions.values() : [this.partition(id)];
    for (const truth of partitions) truth.gaveUp(memberId);
  }

  /** It is about to be asked to stop. Returns what to call when it says that it has. */
  stopping(memberId: string): () => void {
    if (!this.#options.alone) return () => {};
    const inOrder = [...this.#deliveries].map(([name, truth]) => ({ name, check: truth.stopping() }));
    return () => {
      for (const { name, check } of inOrder) if (!this.#forgotten.has(Number.parseInt(name, 10))) check();
      this.#early.stopped(memberId);
    };
  }

  /** A lone broker begins a commit. Returns what to call when it has an answer. */
  commitBegins(commits: readonly CursorCommit[]): () => void {
    this.#commitsUnderWay += 1;
    for (const { subscription, partition } of commits)
      this.#deliveries.get(`${subscription} ${formatPartitionId(partition)}`)?.snapshotTaken();
    return () => {
      this.#commitsUnderWay -= 1;
      this.#lastCommitEndMs = this.#clock.monotonicMs();
    };
  }

  checkCommitsArePrompt(live: Iterable<SubscriptionDefinition>): void {
    if (this.#commitsUnderWay > 0) return;
    const nowMs = this.#clock.monotonicMs();
    const patienceMs = Math.max(this.#options.limits.cursorCommitMs, COMMIT_RETRY_MS) + 1;
    for (const definition of live) {
      for (const { dirtySinceMs } of this.#allOf(definition)) {
        if (dirtySinceMs === undefined) continue;
        if (nowMs - Math.max(dirtySinceMs, this.#lastCommitEndMs) > patienceMs)
          throw new Violation(
            `${definition.name}: an ack of ${dirtySinceMs} is not being committed at ${nowMs}`,
          );
      }
    }
  }

  /** Checks that everything appended longer than delayMs ago has been delivered. */
  checkNotDelayed(definition: SubscriptionDefinition, delayMs: number): void {
    const beforeMs = this.#clock.monotonicMs() - delayMs;
    for (const truth of this.#allOf(definition)) {
      const offset = truth.firstUndelivered(beforeMs);
      if (offset !== undefined)
        throw new Violation(`${definition.name} has waited ${delayMs} ms for ${truth.log.name}-${offset}`);
    }
  }

  /**
   * Something of one partition was delivered for a subscription whose consumers could have had something of
   * any.
   */
  tookTurn(definition: SubscriptionDefinition, { partition }: PartitionId): void {
    const { incarnation, name } = definition;
    const turns = this.#turns.get(incarnation) ?? new Turns(name);
    this.#turns.set(incarnation, turns);
    const all = this.#allOf(definition);
    const served = all.find(({ log }) => log.id.partition === partition)!;
    turns.served(served, all, this.#clock.monotonicMs());
  }

  /** How many messages the client of a lone broker has for certain. */
  heldBy(definition: SubscriptionDefinition, holder: Holder): number {
    const nowMs = this.#clock.monotonicMs();
    return this.#allOf(definition).reduce((sum, truth) => sum + truth.heldBy(holder, nowMs), 0);
  }

  #allOf(definition: SubscriptionDefinition): DeliveryTruth[] {
    return this.partitionsOf(definition.topicEpoch)
      .sort((a, b) => a.id.partition - b.id.partition)
      .map(({ id }) => this.#of(definition, id));
  }

  // --- what owners give out ---

  /** A delivery as the owner makes it, before any network. */
  delivered(
    memberId: string,
    definition: SubscriptionDefinition,
    partition: PartitionId,
    frames: Uint8Array,
    holder: Holder,
  ): readonly Received[] {
    const messages = decodeFrames(frames);
    const truth = this.partition(partition);
    const nowMs = this.#clock.monotonicMs();
    const what = `${memberId} delivers ${truth.name}-${messages[0]!.offset} for ${definition.name}`;
    if (messages[0]!.offset < (this.#quietEnds.get(truth) ?? 0)) throw new Violation(`${what} after the end`);
    if (!this.holdsLease(memberId)) throw new Violation(`${what} although its lease has ended`);
    if (partition.logEpoch !== definition.topicEpoch)
      throw new Violation(`${what}, which follows ${definition.topicEpoch}`);
    if (truth.ownerId !== memberId) {
      if (!truth.mayBeLate(memberId, nowMs))
        throw new Violation(`${what} although ${truth.ownerId || 'nobody'} owns it`);
      return messages;
    }
    if (this.#forgotten.has(definition.incarnation) && !this.#options.alone) return messages;
    const history = this.#of(definition, partition);
    const deadlines = this.#ackDeadlines.lately(definition.incarnation, nowMs);
    const ackDeadlineMs = holder.ackDeadlineMs ?? Math.min(...deadlines);
    for (const message of messages) {
      if (message.logEpoch !== partition.logEpoch || message.partition !== partition.partition)
        throw new Violation(`${what}: the frame says ${message.logEpoch}.${message.partition}`);
      this.counts.deliveries += 1;
      if (message.attempt > 1) this.counts.redeliveries += 1;
      if (definition.ordering) this.#checkGrown(definition, partition, message);
      history.delivered(memberId, message, holder, ackDeadlineMs, nowMs);
    }
    return messages;
  }

  #checkGrown(
    definition: SubscriptionDefinition,
    { logEpoch, partition }: PartitionId,
    message: Received,
  ): void {
    const logged = this.partition({ logEpoch, partition }).log[message.offset];
    if (logged === undefined || logged.sent.key === '' || logged.sent.identity !== message.identity) return;
    const { sent, firstAppendedMs } = logged;
    for (const place of this.#places.get(placesName(logEpoch, sent)) ?? []) {
      if (place.partition === partition || place.sent.nth >= sent.nth || place.toldMs >= firstAppendedMs)
        continue;
      if (this.#of(definition, { logEpoch, partition: place.partition }).owes(place.offset, place.sent))
        throw new Violation(
          `${definition.name}: ${logEpoch}.${partition}-${message.offset} of key ${sent.key} overtakes ` +
            `${logEpoch}.${place.partition}-${place.offset}: the topic has grown`,
        );
    }
  }

  // --- clients ---

  /** An owner answers a relay. */
  answered(memberId: string, id: PartitionId, firstOffset: number, identities: readonly string[]): void {
    this.#early.answered(memberId, this.partition(id), firstOffset, identities);
  }

  /** A publisher hears so from that broker. `early`: it need not be stored yet. */
  told(
    { logEpoch, early }: { readonly logEpoch: number; readonly early: boolean },
    broker: string,
    messages: readonly SentMessage[],
    runs: readonly PublishedRun[],
  ): void {
    for (const { partition, firstOffset, messages: told } of byRun(messages, runs)) {
      const truth = this.partition({ logEpoch, partition });
      const hears = (sent: SentMessage, offset: number): void =>
        this.#early.told(truth, sent, offset, broker, this.#options.alone || runs.length === 1);
      truth.told(told, firstOffset, early ? hears : undefined);
      for (const [index, sent] of told.entries()) {
        if (sent.key === '') continue;
        const name = placesName(logEpoch, sent);
        const places = this.#places.get(name) ?? [];
        this.#places.set(name, places);
        places.push({ sent, partition, offset: firstOffset + index, toldMs: this.#clock.monotonicMs() });
      }
    }
  }

  /**
   * A client sends these operations, or a lone broker hears them; `holder` is the client if it sends them
   * on a stream.
   */
  settling(
    definition: SubscriptionDefinition,
    operations: readonly SettleOperation[],
    holder?: Holder,
  ): void {
    const nowMs = this.#clock.monotonicMs();
    for (const { kind, logEpoch, partition, first, last, seconds } of operations) {
      if (logEpoch !== definition.topicEpoch) continue;
      const history = this.#of(definition, { logEpoch, partition });
      if (kind === 'ack') history.acked(first, last, nowMs, holder);
      else if (kind === 'nack') history.nacked(first, last, nowMs, holder);
      else history.extended(first, last, nowMs + seconds * 1_000, nowMs, holder);
    }
  }

  /**
   * Returns a function to call when the broker has answered an Acknowledge: then the store has to have it.
   */
  acknowledging(definition: SubscriptionDefinition, operations: readonly SettleOperation[]): () => void {
    this.settling(definition, operations);
    const acks = operations.filter(
      ({ kind, logEpoch }) => kind === 'ack' && logEpoch === definition.topicEpoch,
    );
    const confirmed = acks.map((ack) => this.#of(definition, ack).acknowledging(ack.first, ack.last));
    return () => {
      if (this.#forgotten.has(definition.incarnation)) return;
      for (const each of confirmed) each();
    };
  }

  // --- the end ---

  unsettled(definition: SubscriptionDefinition, partitions: number): string | undefined {
    for (let partition = 0; partition < partitions; partition += 1) {
      const id = { logEpoch: definition.topicEpoch, partition };
      const offset = this.#of(definition, id).firstUnsettled;
      if (offset !== undefined)
        return `${definition.name} has not settled ${formatPartitionId(id)}-${offset}`;
    }
    return undefined;
  }

  /** An acknowledged message that the store lacks and its living owner has not brought back. */
  get missing(): string | undefined {
    const { firstMissing } = this.#early;
    if (firstMissing !== undefined) return firstMissing;
    for (const truth of this.#partitions.values())
      if (truth.firstMissing !== undefined) return truth.firstMissing;
    return undefined;
  }

  /** Something that retention should have deleted. */
  overdue({ logEpoch, partitions }: TopicDefinition): string | undefined {
    for (let partition = 0; partition < partitions; partition += 1) {
      const truth = this.partition({ logEpoch, partition });
      const overdue = this.#retention.overdue(truth, this.#clock.monotonicMs());
      if (overdue !== undefined) return overdue;
    }
    return undefined;
  }

  #checkTrimmed(truth: PartitionTruth, headOffset: number): void {
    const last = truth.log[headOffset - 1];
    if (last === undefined) throw new Violation(`${truth.name} has lost what was before ${headOffset}`);
    const nowMs = this.#clock.monotonicMs();
    this.#retention.checkTrimmed(truth, last, this.sent.firstSentMs(last.sent), nowMs);
  }

  #of(definition: SubscriptionDefinition, id: PartitionId): DeliveryTruth {
    const name = `${definition.incarnation} ${formatPartitionId(id)}`;
    let history = this.#deliveries.get(name);
    if (history === undefined) {
      const what = `${definition.name} (${definition.incarnation})`;
      const start = definition.startOffsets?.[id.partition] ?? 0;
      const { alone, limits } = this.#options;
      const { ordering, incarnation } = definition;
      const toldAtCreation = this.#toldAtCreation.get(incarnation)?.get(id.partition) ?? 0;
      const distance = alone ? AT_HAND : FAR_AWAY;
      history = new DeliveryTruth(
        { what, ordering, startOffset: start, toldAtCreation, limits, distance },
        this.partition(id),
      );
      const record = this.#records.get(name);
      if (record !== undefined) history.committed('', record, true);
      this.#deliveries.set(name, history);
    }
    return history;
  }
}

function placesName(logEpoch: number, { identity, key }: SentMessage): string {
  return `${logEpoch} ${publisherOf(identity)} ${key}`;
}
