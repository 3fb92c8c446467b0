// Judges a simulation while it runs: told everything that publishers, consumers and stores see, it throws a
// Violation at the first broken promise. The promises are listed in log-history.ts (logs and publishers) and
// delivery-history.ts (subscriptions), and here:
//
//   fenced       a subscription sees only its own incarnation of its topic
//   prompt       acks are committed within cursorCommitMs, or as soon as the store lets them
//   fair         of partitions that wait, none is passed over (turns.ts)
//   complete     in the end everything is settled, or was trimmed by retention
import { decodeCursor } from '../../services/broker/core/cursor.ts';
import type { SubscriptionDefinition } from '../../services/broker/core/definitions.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { CursorCommit } from '../../services/broker/ports/cursor-store.ts';
import { DeliveryHistory } from './delivery-history.ts';
import type { ConsumerName, Moment } from './lease.ts';
import { type LoggedMessage, LogHistory } from './log-history.ts';
import type { StoreObserver } from './observed-store.ts';
import type { Received } from './received.ts';
import { Turns } from './turns.ts';
import { Violation } from './violation.ts';

export interface CheckerOptions {
  readonly clock: Clock;
  readonly maxRun: number;
  readonly maxHoles: number;
  readonly maxQueued: number;
  readonly cursorCommitMs: number;
}

/** How long the engine waits after a commit that failed; see engine/log/cursor-committer.ts. */
const COMMIT_RETRY_MS = 250;

export class Checker implements StoreObserver {
  readonly logs = new LogHistory();
  readonly #options: CheckerOptions;
  /** Histories by incarnation and partition. */
  readonly #histories = new Map<string, DeliveryHistory>();
  /** Turns by incarnation. */
  readonly #turns = new Map<number, Turns>();
  readonly #commitsBegun = new WeakMap<readonly CursorCommit[], number>();
  #at = 0;
  #life = 0;
  #stopAskedAt = 0;
  #commitsUnderWay = 0;
  #lastCommitEndMs = 0;
  /** True once everything is settled: whatever is delivered then is wrong. */
  quiet = false;

  constructor(options: CheckerOptions) {
    this.#options = options;
  }

  // --- stores ---

  appended(id: PartitionId, chunks: Parameters<LogHistory['appended']>[1]): void {
    this.logs.appended(id, chunks, this.#options.clock.monotonicMs());
  }

  trimmed(id: PartitionId, bounds: Parameters<LogHistory['trimmed']>[1]): void {
    this.logs.trimmed(id, bounds);
  }

  dropped(logEpoch: number): void {
    this.logs.dropped(logEpoch);
  }

  commitBegun(commits: readonly CursorCommit[]): void {
    this.#commitsUnderWay += 1;
    this.#commitsBegun.set(commits, this.#moment().at);
    for (const { subscription, partition, record } of commits) {
      const history = this.#known(subscription, partition);
      if (history === undefined) continue;
      history.snapshotTaken();
      const holes = decodeCursor(record).settled.length;
      const { maxHoles, maxQueued } = this.#options;
      const most = maxHoles + maxQueued + history.mostUnsettled;
      if (holes > most)
        throw new Violation(`a cursor has ${holes} holes; at most ${most} can have come about`);
    }
  }

  commitEnded(): void {
    this.#commitsUnderWay -= 1;
    this.#lastCommitEndMs = this.#options.clock.monotonicMs();
  }

  committed(commits: readonly CursorCommit[], stale: readonly number[]): void {
    const at = this.#commitsBegun.get(commits);
    if (at === undefined) throw new Violation('a commit came from nowhere');
    commits.forEach(({ subscription, partition }, index) => {
      if (!stale.includes(index)) this.#known(subscription, partition)?.committed(at);
    });
  }

  // --- lives ---

  lifeBegins(life: number): void {
    this.#life = life;
    this.#commitsUnderWay = 0;
    this.#lastCommitEndMs = this.#options.clock.monotonicMs();
  }

  /** The broker is about to be asked to stop: if it says that it has, everything so far is durable. */
  stopping(): void {
    const moment = this.#moment();
    this.#stopAskedAt = moment.at;
    for (const history of this.#histories.values()) history.stopping(moment);
  }

  /** `live` are the subscriptions that exist. */
  lifeEnds(graceful: boolean, live: Iterable<SubscriptionDefinition>): void {
    this.checkCommitsArePrompt(live);
    const { firstPromised } = this.logs;
    if (graceful && firstPromised !== undefined)
      throw new Violation(`${firstPromised} is not stored, and the broker has stopped in order`);
    this.logs.crashed();
    const nowMs = this.#options.clock.monotonicMs();
    const durableBefore = graceful ? this.#stopAskedAt : 0;
    for (const history of this.#histories.values()) history.lifeEnded(nowMs, durableBefore);
  }

  checkCommitsArePrompt(live: Iterable<SubscriptionDefinition>): void {
    if (this.#commitsUnderWay > 0) return;
    const nowMs = this.#options.clock.monotonicMs();
    const patienceMs = Math.max(this.#options.cursorCommitMs, COMMIT_RETRY_MS) + 1;
    for (const definition of live) {
      for (const { dirtySinceMs } of this.#historiesOf(definition)) {
        if (dirtySinceMs === undefined) continue;
        const sinceMs = Math.max(dirtySinceMs, this.#lastCommitEndMs);
        if (nowMs - sinceMs > patienceMs)
          throw new Violation(
            `${definition.name}: an ack of ${dirtySinceMs} is not being committed at ${nowMs}`,
          );
      }
    }
  }

  // --- consumers ---

  /** `seenLate`: the messages were leased earlier in this turn. */
  delivered(
    definition: SubscriptionDefinition,
    consumer: ConsumerName,
    messages: readonly Received[],
    deadlineMs: number,
    seenLate = false,
  ): void {
    for (const message of messages) {
      const { logEpoch, partition, offset, identity, content } = message;
      const place = `${logEpoch}.${partition}-${offset}`;
      if (this.quiet) throw new Violation(`${definition.name}: ${place} was delivered after the end`);
      if (logEpoch !== definition.topicEpoch)
        throw new Violation(`${definition.name} of ${definition.topicEpoch} was given ${place}`);
      const history = this.#of(definition, partition);
      const logged = history.log.messages[offset];
      if (logged !== undefined && (logged.sent.identity !== identity || logged.sent.content !== content))
        throw new Violation(
          `${definition.name}: ${place} was delivered with other bytes than are in the log`,
        );
      if (definition.ordering && logged !== undefined && logged.sent.key !== '')
        this.#checkOtherPartitions(definition, partition, place, logged);
      history.delivered(consumer, message, deadlineMs, this.#moment(), seenLate);
    }
  }

  /**
   * Something of one partition was delivered for a subscription whose consumers could have had something of
   * any.
   */
  tookTurn(definition: SubscriptionDefinition, partition: number): void {
    const { incarnation, name } = definition;
    let turns = this.#turns.get(incarnation);
    if (turns === undefined) {
      turns = new Turns(name);
      this.#turns.set(incarnation, turns);
    }
    turns.served(this.#of(definition, partition), this.#allOf(definition), this.#options.clock.monotonicMs());
  }

  #checkOtherPartitions(
    definition: SubscriptionDefinition,
    partition: number,
    place: string,
    logged: LoggedMessage,
  ): void {
    for (const other of this.#allOf(definition)) {
      const { id } = other.log;
      const before = id.partition === partition ? undefined : other.firstBefore(logged);
      if (before !== undefined)
        throw new Violation(
          `${definition.name}: ${place} of key ${logged.sent.key} overtakes ${id.logEpoch}.${id.partition}-${before}: the topic has grown`,
        );
    }
  }

  /** The broker is about to hear this, from a consumer's stream or from a call without one. */
  settling(
    definition: SubscriptionDefinition,
    consumer: ConsumerName | undefined,
    operations: readonly SettleOperation[],
  ): void {
    for (const { kind, logEpoch, partition, first, last, seconds } of operations) {
      if (logEpoch !== definition.topicEpoch) continue;
      const history = this.#of(definition, partition);
      const moment = this.#moment();
      if (kind === 'ack') history.acked(first, last, moment);
      else if (kind === 'nack') history.nacked(consumer, first, last, moment);
      else history.extended(consumer, first, last, moment.nowMs + seconds * 1000, moment);
    }
  }

  /** The broker has answered an Acknowledge. */
  confirmed(definition: SubscriptionDefinition, operations: readonly SettleOperation[]): void {
    for (const { kind, logEpoch, partition, first, last } of operations) {
      if (kind === 'ack' && logEpoch === definition.topicEpoch)
        this.#of(definition, partition).confirmed(first, last);
    }
  }

  left(definition: SubscriptionDefinition, consumer: ConsumerName): void {
    const moment = this.#moment();
    for (const history of this.#historiesOf(definition)) history.left(consumer, moment);
  }

  pullLost(definition: SubscriptionDefinition): void {
    for (const history of this.#historiesOf(definition)) history.pullLost();
  }

  heldBy(definition: SubscriptionDefinition, consumer: ConsumerName): number {
    const nowMs = this.#options.clock.monotonicMs();
    return this.#historiesOf(definition).reduce((sum, each) => sum + each.heldBy(consumer, nowMs), 0);
  }

  // --- the end ---

  /** A sentence about something that is not settled; undefined if everything is. */
  unsettled(definition: SubscriptionDefinition): string | undefined {
    for (const history of this.#allOf(definition)) {
      const offset = history.firstUnsettled();
      const { logEpoch, partition } = history.log.id;
      if (offset !== undefined)
        return `${definition.name} has not settled ${logEpoch}.${partition}-${offset}`;
    }
    return undefined;
  }

  /** Checks that everything appended longer than delayMs ago has been delivered. */
  checkNotDelayed(definition: SubscriptionDefinition, delayMs: number): void {
    const beforeMs = this.#options.clock.monotonicMs() - delayMs;
    for (const history of this.#allOf(definition)) {
      const offset = history.firstUndelivered(beforeMs);
      if (offset === undefined) continue;
      const { logEpoch, partition } = history.log.id;
      throw new Violation(
        `${definition.name} has waited ${delayMs} ms for ${logEpoch}.${partition}-${offset}`,
      );
    }
  }

  #allOf(definition: SubscriptionDefinition): DeliveryHistory[] {
    return this.logs.partitionsOf(definition.topicEpoch).map(({ id }) => this.#of(definition, id.partition));
  }

  #historiesOf(definition: SubscriptionDefinition): DeliveryHistory[] {
    return this.#allOf(definition);
  }

  #of(definition: SubscriptionDefinition, partition: number): DeliveryHistory {
    const name = `${definition.incarnation} ${partition}`;
    let history = this.#histories.get(name);
    if (history === undefined) {
      const what = `${definition.name} (${definition.incarnation})`;
      const { ordering, startOffsets, topicEpoch } = definition;
      const startOffset = startOffsets?.[partition] ?? 0;
      history = new DeliveryHistory(
        { what, ordering, startOffset, maxRun: this.#options.maxRun },
        this.logs.partition({ logEpoch: topicEpoch, partition }),
      );
      this.#histories.set(name, history);
    }
    return history;
  }

  #known(incarnation: number, { partition }: PartitionId): DeliveryHistory | undefined {
    return this.#histories.get(`${incarnation} ${partition}`);
  }

  #moment(): Moment {
    this.#at += 1;
    return { at: this.#at, nowMs: this.#options.clock.monotonicMs(), life: this.#life };
  }
}
