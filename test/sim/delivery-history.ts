// What one subscription was given of one partition, and what it said of it: the promises of delivery, judged
// one event at a time. Everything here is seen from outside the broker; nothing is read out of the engine.
//
//   settled      an acknowledged message is not delivered again in the same life; not in a later one either,
//                if its cursor was durable
//   leased       a message whose lease is open is not delivered
//   acked        only what was delivered is settled; after a crash only what later lives know to have been
//                delivered
//   attempts     they rise by 1 with each delivery that ended in vain; the count is durable before the
//                redelivery; a crash takes nothing back, and what was outstanding counts, once a cursor has
//                been written since
//   ordered      a key's next message goes out only to the consumer that has all before it, or when nothing
//                of the key is outstanding, and then it is the lowest unsettled one; so no two consumers
//                share a key, and nothing overtakes. Over partitions, once the topic has grown: nothing goes
//                out before what its publisher sent earlier is settled
//
// The broker ends leases some time after their deadline, unseen: from its deadline on a lease is *endable*,
// and with it those behind it in the run of its key. A settled message whose cursor may not have been durable
// at a crash is *open*: the next life decides, once, whether it is settled.
import {
  age,
  type ConsumerName,
  type Entry,
  end,
  isEndable,
  isHeldBy,
  type Lease,
  type Moment,
  newEntry,
} from './lease.ts';
import { type LoggedMessage, type PartitionHistory, publisherOf } from './log-history.ts';
import { Violation } from './violation.ts';

/**
 * The broker looks for expired leases now and then: a lease has ended at the latest this long after its
 * deadline.
 */
const EXPIRY_LAG_MS = 250;

export interface DeliveryOptions {
  readonly what: string;
  readonly ordering: boolean;
  readonly startOffset: number;
  readonly maxRun: number;
}

export class DeliveryHistory {
  readonly #options: DeliveryOptions;
  readonly #log: PartitionHistory;
  readonly #entries = new Map<number, Entry>();
  /**
   * Entries of each key that were delivered and are neither settled nor delivered anew in another run, by
   * ascending offset.
   */
  readonly #runs = new Map<string, Entry[]>();
  /**
   * Pulls that the broker has answered with an error: what it had leased to them was delivered, and nobody
   * saw it.
   */
  #lostPulls = 0;
  /** Everything said before this moment is in a durable cursor. */
  #durableAt = 0;
  /**
   * The most messages that were delivered and not settled at once: they can still make holes when no more may
   * be leased.
   */
  mostUnsettled = 0;
  #unsettled = 0;
  /** When the oldest ack was given that no commit has taken along yet. */
  dirtySinceMs: number | undefined;

  constructor(options: DeliveryOptions, log: PartitionHistory) {
    this.#options = options;
    this.#log = log;
  }

  get log(): PartitionHistory {
    return this.#log;
  }

  /** `seenLate`: the delivery is seen at the end of the turn, not at once. */
  delivered(
    consumer: ConsumerName,
    { offset, attempt }: { readonly offset: number; readonly attempt: number },
    deadlineMs: number,
    moment: Moment,
    seenLate: boolean,
  ): void {
    const { startOffset, ordering } = this.#options;
    const logged = this.#log.messages[offset];
    if (logged === undefined) this.#fail(offset, 'was delivered, but is not in the log');
    if (offset < startOffset) this.#fail(offset, `was delivered; the subscription begins at ${startOffset}`);
    const entry = this.#entry(offset);
    const settledNow = seenLate && entry.settledMs === moment.nowMs;
    if (entry.state === 'settled' && !settledNow)
      this.#fail(offset, `was delivered to ${consumer} although it is settled`);
    this.#checkAttempt(entry, attempt, moment);
    if (entry.state === 'settled') {
      // The message was leased first, acknowledged by somebody who had it before, and only then seen.
      entry.attempt = attempt;
      return;
    }
    if (entry.attempt === 0 || entry.state !== 'unsettled') this.#unsettled += 1;
    this.mostUnsettled = Math.max(this.mostUnsettled, this.#unsettled);
    entry.state = 'unsettled';
    const lease: Lease = { consumer, deadlineMs, ended: false, endable: false };
    const { key } = logged.sent;
    if (ordering && key !== '') this.#enterRun(key, entry, lease, moment);
    else if (entry.lease !== undefined && !isEndable(entry.lease, moment.nowMs))
      this.#fail(
        offset,
        `was delivered to ${consumer}; ${entry.lease.consumer} has it until ${entry.lease.deadlineMs}`,
      );
    entry.lease = lease;
    entry.attempt = attempt;
    entry.deliveredAt = moment.at;
    entry.life = moment.life;
    entry.counted = undefined;
  }

  acked(first: number, last: number, moment: Moment): void {
    for (
      let offset = Math.max(first, this.#options.startOffset);
      offset <= this.#bounded(last);
      offset += 1
    ) {
      const entry = this.#entries.get(offset);
      // An ack of what was never delivered to anybody has no effect.
      if (entry === undefined || entry.attempt === 0) continue;
      this.#leaveRun(entry, moment.nowMs);
      entry.lease = undefined;
      if (entry.state === 'settled') continue;
      if (entry.life !== moment.life && !entry.counted && entry.attempt === 1) {
        // This life may not know that it was delivered before.
        if (entry.state === 'unsettled') this.#unsettled -= 1;
        entry.state = 'open';
        continue;
      }
      if (entry.state === 'unsettled') this.#unsettled -= 1;
      // No commit is owed for what the cursor may be past already: what is open, and what retention has
      // deleted.
      if (entry.state === 'unsettled' && !this.#isTrimmed(offset)) this.dirtySinceMs ??= moment.nowMs;
      entry.state = 'settled';
      entry.settledAt = moment.at;
      entry.settledMs = moment.nowMs;
    }
  }

  nacked(consumer: ConsumerName | undefined, first: number, last: number, moment: Moment): void {
    for (let offset = first; offset <= this.#bounded(last); offset += 1) {
      const entry = this.#entries.get(offset);
      if (isHeldBy(entry, consumer)) this.#giveBack(entry, moment);
    }
  }

  extended(
    consumer: ConsumerName | undefined,
    first: number,
    last: number,
    deadlineMs: number,
    moment: Moment,
  ): void {
    for (let offset = first; offset <= this.#bounded(last); offset += 1) {
      const entry = this.#entries.get(offset);
      if (!isHeldBy(entry, consumer)) continue;
      this.#ageRun(entry, moment.nowMs);
      // A lease that may have ended already may also live on.
      entry.lease.endable ||= entry.lease.deadlineMs <= moment.nowMs;
      entry.lease.deadlineMs = deadlineMs;
    }
  }

  left(consumer: ConsumerName, moment: Moment): void {
    for (const entry of this.#entries.values())
      if (entry.lease?.consumer === consumer) this.#giveBack(entry, moment);
  }

  pullLost(): void {
    this.#lostPulls += 1;
  }

  /** A commit that was begun at `at` is durable. */
  committed(at: number): void {
    this.#durableAt = Math.max(this.#durableAt, at);
  }

  /** A commit has taken along everything so far. */
  snapshotTaken(): void {
    this.dirtySinceMs = undefined;
  }

  /** The broker has said that these acknowledgements are durable. */
  confirmed(first: number, last: number): void {
    for (let offset = first; offset <= this.#bounded(last); offset += 1) {
      const entry = this.#entries.get(offset);
      if (entry?.state === 'settled') entry.settledAt = 0;
    }
  }

  /** The broker is asked to stop: all leases end. */
  stopping(moment: Moment): void {
    for (const entry of this.#entries.values()) if (entry.lease !== undefined) this.#giveBack(entry, moment);
  }

  /** The life ends. Everything that was said before `durableBefore` is durable. */
  lifeEnded(nowMs: number, durableBefore: number): void {
    this.#durableAt = Math.max(this.#durableAt, durableBefore);
    for (const entry of this.#entries.values()) {
      this.#ageRun(entry, nowMs);
      if (entry.state === 'settled' && entry.settledAt > this.#durableAt) entry.state = 'open';
      entry.counted ??= entry.attempt > 0 && entry.deliveredAt < this.#durableAt;
    }
    for (const entry of this.#entries.values()) entry.lease = undefined;
    this.#runs.clear();
    this.dirtySinceMs = undefined;
  }

  /** The first message that should have been settled by now; undefined if there is none. */
  firstUnsettled(): number | undefined {
    const from = Math.max(this.#options.startOffset, this.#log.headOffset);
    for (let offset = from; offset < this.#log.endOffset; offset += 1) {
      if (this.#isTrimmed(offset)) continue;
      if ((this.#entries.get(offset)?.state ?? 'unsettled') === 'unsettled') return offset;
    }
    return undefined;
  }

  /**
   * The first unsettled message of the partition that the publisher of that one sent before it under its key;
   * undefined if there is none.
   */
  firstBefore({ sent: { identity, key, nth }, appendedMs }: LoggedMessage): number | undefined {
    const publisher = publisherOf(identity);
    for (const offset of this.#log.byKey.get(key) ?? []) {
      const { sent, appendedMs: beforeMs } = this.#log.messages[offset]!;
      // A batch may be in the log once more.
      if (sent.nth >= nth || beforeMs >= appendedMs || publisherOf(sent.identity) !== publisher) continue;
      if (offset < this.#options.startOffset || this.#isTrimmed(offset)) continue;
      if ((this.#entries.get(offset)?.state ?? 'unsettled') === 'unsettled') return offset;
    }
    return undefined;
  }

  /** The first message appended before that moment and never delivered since; undefined if there is none. */
  firstUndelivered(appendedBeforeMs: number): number | undefined {
    for (let offset = this.#options.startOffset; offset < this.#log.endOffset; offset += 1) {
      if (this.#log.messages[offset]!.appendedMs >= appendedBeforeMs) return undefined;
      if (!this.#isTrimmed(offset) && !this.#entries.has(offset)) return offset;
    }
    return undefined;
  }

  /** How many messages the consumer has for certain. */
  heldBy(consumer: ConsumerName, nowMs: number): number {
    for (const run of this.#runs.values()) age(run, nowMs);
    let held = 0;
    for (const { lease, offset } of this.#entries.values()) {
      if (lease?.consumer !== consumer || this.#isTrimmed(offset)) continue;
      if (!isEndable(lease, nowMs)) held += 1;
    }
    return held;
  }

  #checkAttempt(entry: Entry, attempt: number, { life }: Moment): void {
    const { offset } = entry;
    const before = entry.attempt;
    if (before === 0) {
      if (attempt < 1 || attempt > 1 + this.#lostPulls)
        this.#fail(offset, `has attempt ${attempt} on its first delivery`);
    } else if (entry.life === life) {
      if (attempt !== before + 1) this.#fail(offset, `has attempt ${attempt} after ${before}`);
      if (this.#durableAt < Math.max(entry.deliveredAt, entry.endedAt))
        this.#fail(offset, `has attempt ${attempt}, and a crash now would forget that`);
    } else if (attempt < before + (entry.counted ? 1 : 0) || attempt > before + 1 + this.#lostPulls) {
      this.#fail(offset, `has attempt ${attempt} in life ${life}, had ${before} in life ${entry.life}`);
    }
  }

  #enterRun(key: string, entry: Entry, lease: Lease, { nowMs }: Moment): void {
    const { offset } = entry;
    const before = this.#runs.get(key) ?? [];
    age(before, nowMs);
    const run = before.filter((each) => !this.#isTrimmed(each.offset));
    // The broker may not know yet that they were trimmed, nor that their deadline has passed: then what ends
    // them may end those behind them, too.
    const trimmed = before.filter(
      (each) =>
        this.#isTrimmed(each.offset) &&
        each !== entry &&
        each.lease!.consumer === lease.consumer &&
        !each.lease!.ended &&
        each.lease!.deadlineMs + EXPIRY_LAG_MS > nowMs,
    );
    const remember = (entries: readonly Entry[]): void => {
      this.#runs.set(
        key,
        [...trimmed, ...entries].sort((a, b) => a.offset - b.offset),
      );
    };
    const highest = run.at(-1)?.offset ?? -1;
    const grows =
      run.length > 0 &&
      run.every((each) => each.lease!.consumer === lease.consumer && !each.lease!.ended) &&
      offset > highest &&
      this.#isNextOfKey(key, offset, highest + 1);
    if (grows) {
      run.push(entry);
      if (run.filter(({ lease: each }) => !(each?.endable ?? false)).length > this.#options.maxRun)
        this.#fail(offset, `is one too many of key ${key} at ${lease.consumer}`);
      remember(run);
      this.#settleOpenBelow(key, offset);
      return;
    }
    const holder = run.find((each) => !each.lease!.ended && !each.lease!.endable);
    if (holder !== undefined) {
      this.#fail(
        offset,
        `of key ${key} was delivered to ${lease.consumer} while ${holder.lease!.consumer} has ${holder.offset}`,
      );
    }
    if (!this.#isNextOfKey(key, offset, this.#options.startOffset))
      this.#fail(offset, `of key ${key} overtakes an unsettled message of its key`);
    for (const each of run) if (each !== entry) each.lease = undefined;
    remember([entry]);
    this.#settleOpenBelow(key, offset);
  }

  /** Whether nothing unsettled of the key lies between `from` and `offset`. */
  #isNextOfKey(key: string, offset: number, from: number): boolean {
    for (const other of this.#log.byKey.get(key) ?? []) {
      if (other >= offset) return true;
      if (other < from || this.#isTrimmed(other)) continue;
      if ((this.#entries.get(other)?.state ?? 'unsettled') === 'unsettled') return false;
    }
    return true;
  }

  /** This life has decided that the open messages of the key below are settled. */
  #settleOpenBelow(key: string, offset: number): void {
    for (const other of this.#log.byKey.get(key) ?? []) {
      if (other >= offset) return;
      const entry = this.#entries.get(other);
      if (entry?.state !== 'open') continue;
      entry.state = 'settled';
      entry.settledAt = 0;
    }
  }

  #giveBack(entry: Entry, moment: Moment): void {
    const run = this.#runOf(entry);
    if (run?.includes(entry) !== true) {
      end(entry, moment);
      return;
    }
    age(run, moment.nowMs);
    end(entry, moment);
    for (const each of run) {
      if (each.offset <= entry.offset) continue;
      if (this.#isTrimmed(entry.offset)) each.lease!.endable = true;
      else end(each, moment);
    }
  }

  #leaveRun(entry: Entry, nowMs: number): void {
    const run = this.#runOf(entry);
    if (run === undefined) return;
    age(run, nowMs);
    const at = run.indexOf(entry);
    if (at !== -1) run.splice(at, 1);
  }

  #ageRun(entry: Entry, nowMs: number): void {
    const run = this.#runOf(entry);
    if (run !== undefined) age(run, nowMs);
  }

  #runOf(entry: Entry): Entry[] | undefined {
    if (!this.#options.ordering || entry.lease === undefined) return undefined;
    return this.#runs.get(this.#log.messages[entry.offset]!.sent.key);
  }

  #entry(offset: number): Entry {
    let entry = this.#entries.get(offset);
    if (entry === undefined) {
      entry = newEntry(offset);
      this.#entries.set(offset, entry);
    }
    return entry;
  }

  #isTrimmed(offset: number): boolean {
    return this.#log.isGone(offset);
  }

  #bounded(last: number): number {
    return Math.min(last, this.#log.endOffset - 1);
  }

  #fail(offset: number, what: string): never {
    const { logEpoch, partition } = this.#log.id;
    throw new Violation(`${this.#options.what}: ${logEpoch}.${partition}-${offset} ${what}`);
  }
}
