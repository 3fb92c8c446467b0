// THE state machine: the messages of one partition as one subscription sees them. Its effects are to be
// performed in the order in which they are returned.
//
//   state of a message    event                → state                         caused by
//   (not yet appended)    append               → available                     partition owner
//   available             hold                 → available, not looked at yet  growth of the topic
//   available             lease                → leased                        a consumer's credit
//   leased                ack                  → settled                       consumer
//   leased                extend               → leased, with a new deadline    consumer
//   leased                nack, expire, leave  → held                          consumer, time, end of stream
//   leased                leave (stay, wait)   → leased to a former consumer   stop of a broker, move, Pull
//   leased to a former    join                 → leased to its new consumer    its stream, or who resumes it
//   leased to a former    join (fresh), streamEnded → held                     a newer stream; its end
//   held                  persisted            → available, attempt + 1        cursor commit
//   available, held       ack (late)           → settled, if ever delivered    consumer
//   any                   trim                 → settled                       retention
//   any                   skip                 → settled                       damage, a former owner
//   (start)                                    → leased to a former consumer   note of the former owner
//
// Everything is an interval: a chunk leased to one consumer is one lease, an ack range one operation. In a
// subscription with ordering, messages with a key wait in KeyQueues, one by one; the others are available to
// anybody.
//
// Invariants: a message below `floor` or in `settled` is in no other set (a key's queue drops it when it
// comes to the front); leased, held, returned and queued are disjoint; an attempt count is durable before the
// redelivery that it announces; only what was delivered is ever acknowledged.
//
// The cursor counts what is outstanding as delivered in vain, for that is what it was if the cursor is all
// that is left. An owner that learns from a note what is outstanding takes that back.
import type { ConsumerIdentity } from './consumer-client.ts';
import { bytesOf, type ChunkView, LeaseBudget } from './credit.ts';
import { type Cursor, decodeCursor, encodeCursor } from './cursor.ts';
import type {
  DeliveredRun,
  DeliveryEffect,
  DeliveryEvent,
  FormerLease,
  LeasesOnLeave,
} from './delivery-events.ts';
import { assert, assertNever } from './errors.ts';
import { type Interval, IntervalMap, IntervalSet, type Piece } from './intervals.ts';
import { KeyQueues, type KeyState } from './key-queues.ts';
import { FORMER, NOBODY } from './key-slots.ts';

/** A message is blocked after two failures: one may only mean that its consumer has ended. */
const BLOCKED_AFTER_FAILURES = 2;

/** How many leases a cursor counts, the lowest ones: with ordering there can be one for each message. */
const MAX_COUNTED_LEASES = 2_000;

/**
 * How long a consumer that let a lease expire gets no ordering keys, unless it is heard of; each time in a
 * row twice as long.
 */
const FIRST_STALL_MS = 10_000;
const MAX_STALL_MS = 600_000;

export interface DeliveryOptions {
  readonly ordering: boolean;
  /**
   * Settled intervals above the floor, and intervals of messages with attempt counts: at this many of either,
   * nothing beyond them is looked at until there are fewer. It bounds the cursor's record.
   */
  readonly maxHoles: number;
  /** Messages with a key that are looked at ahead of their turn. */
  readonly maxQueued: number;
  /**
   * Messages that were looked at and are not settled: outstanding, given back, or waiting in their key. At
   * this many nothing new is looked at. There is at least one between two holes, and in each lease, so it
   * bounds both, whichever messages are acknowledged.
   */
  readonly maxUnsettled: number;
  /** Outstanding messages of one ordering key. */
  readonly maxRun: number;
}

const NO_CONSUMER: ConsumerIdentity = { hash: 0, stream: '' };

/** A consumer that let a lease expire. */
interface Stall {
  readonly forMs: number;
  /** Infinity: the stall is over, until the consumer lets another lease expire. */
  untilMs: number;
}

interface Lease {
  readonly consumer: number;
  /** The former consumer for which the lease waits; its hash is 0 where it is nobody's. */
  readonly former: ConsumerIdentity | undefined;
  readonly deadlineMs: number;
  readonly bytes: number;
  readonly key: KeyState | undefined;
}

export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #settled = new IntervalSet();
  readonly #leases = new IntervalMap<Lease>(shareLease);
  /** How many deliveries ended in vain, for unsettled messages that had any. */
  readonly #attempts = new IntervalMap<number>();
  /** Messages available below `next`: given back, or without a key in an ordered subscription. */
  readonly #returned = new IntervalSet();
  /**
   * Messages without a key that were given back and whose attempt counts are not durable. The commit under
   * way covers those in #persisting.
   */
  #held = new IntervalSet();
  #persisting = new IntervalSet();
  readonly #keys: KeyQueues | undefined;
  /** Messages that were outstanding when this object was made: leased, and not new when #next gets there. */
  readonly #adopted = new IntervalSet();
  /** Consumers that let a lease expire and have not been heard of since. */
  readonly #stalls = new Map<number, Stall>();
  readonly #consumers = new Map<number, ConsumerIdentity>();
  /** Hashes of former consumers for which leases wait; some of those may have ended since. */
  readonly #awaited = new Set<number>();
  #floor: number;
  /** Nothing from here on was ever looked at. */
  #next: number;
  #end: number;
  /** Nothing from here on is looked at yet: the topic has grown, and what came before is not settled. */
  #holdFrom = Number.POSITIVE_INFINITY;
  /** No lease ends before this; Infinity without leases. */
  #earliestDeadlineMs = Number.POSITIVE_INFINITY;

  // Counters since this object was made.
  appendedTotal = 0;
  deliveredTotal = 0;
  redeliveredTotal = 0;
  ackedTotal = 0;
  expiredByRetentionTotal = 0;

  /**
   * `record` is the cursor as snapshot() returned it; a new subscription begins at startOffset. `former` is
   * what was outstanding at the partition's former owner.
   */
  constructor(
    options: DeliveryOptions,
    start: { record: Uint8Array } | { startOffset: number },
    endOffset: number,
    former: readonly FormerLease[] = [],
  ) {
    this.#options = options;
    const cursor: Cursor =
      'record' in start
        ? decodeCursor(start.record)
        : { floor: start.startOffset, settled: [], attempts: [] };
    // A log can end below the cursor only if it lost acknowledged appends: what comes in their place must be
    // delivered.
    this.#end = endOffset;
    this.#floor = Math.min(cursor.floor, endOffset);
    for (const { first, last } of cursor.settled) {
      if (first < endOffset) this.#settled.add(first, Math.min(last, endOffset - 1));
    }
    for (const { first, last, value } of cursor.attempts) {
      if (first < endOffset) this.#attempts.insert(first, Math.min(last, endOffset - 1), value);
    }
    this.#next = this.#floor;
    if (options.ordering) {
      this.#keys = new KeyQueues(
        options.maxRun,
        (offset) => offset < this.#floor || this.#settled.has(offset),
      );
    }
    for (const lease of former) this.#adopt(lease);
  }

  /** Every message below is settled. */
  get floor(): number {
    return this.#floor;
  }

  /** Messages that are appended and not settled. */
  get backlogMessages(): number {
    return this.#end - this.#floor - this.#settled.count;
  }

  get outstandingMessages(): number {
    return this.#leases.count;
  }

  /** Whether any message is neither settled nor outstanding. It may have to wait, for its key's turn, say. */
  get hasUndelivered(): boolean {
    return this.backlogMessages > this.#leases.count;
  }

  /** Whether `hold` keeps messages back, and everything before them was looked at. */
  get isHeld(): boolean {
    return this.#next >= this.#holdFrom && this.#next < this.#end;
  }

  /** What is outstanding, as a note for the partition's next owner. */
  formerLeases(): FormerLease[] {
    const leases: FormerLease[] = [];
    for (const { first, last, value } of this.#leases) {
      leases.push({
        first,
        last,
        deadlineMs: value.deadlineMs,
        holder: this.#holderOf(value),
        bytes: value.bytes,
        keyHash: value.key?.hash ?? 0,
      });
    }
    return leases;
  }

  /** Outstanding messages whose leases wait for the consumer that has them to join here. */
  get awaitedMessages(): number {
    if (this.#awaited.size === 0) return 0;
    let messages = 0;
    for (const { first, last, value } of this.#leases)
      if (value.former !== undefined && value.former.hash !== 0) messages += last - first + 1;
    return messages;
  }

  /**
   * Messages that more consumers would not speed up: those that failed again and again, those that wait
   * behind them in their ordering key, and those that `hold` keeps back. An estimate, without the others that
   * were not looked at yet.
   */
  get blockedMessages(): number {
    const heldFrom = Math.max(this.#next, this.#holdFrom);
    let blocked = heldFrom < this.#end ? sizeOf(this.#untouched(heldFrom, this.#end - 1)) : 0;
    for (const { first, last, value } of this.#attempts)
      if (value >= BLOCKED_AFTER_FAILURES) blocked += last - first + 1;
    const isCounted = (offset: number): boolean => {
      for (const { value } of this.#attempts.overlapping(offset, offset))
        return value >= BLOCKED_AFTER_FAILURES;
      return false;
    };
    return blocked + (this.#keys?.waitingBehind(BLOCKED_AFTER_FAILURES, isCounted) ?? 0);
  }

  /** Ordering keys with unsettled messages. Undefined: not all was looked at, or there is no ordering. */
  get activeKeys(): number | undefined {
    if (this.#keys === undefined) return undefined;
    // Where a bound on what is looked at is reached, other keys wait until something is settled.
    const { maxQueued, maxUnsettled } = this.#options;
    const isKnown =
      this.#next >= this.#end || this.#keys.isFull(maxQueued) || this.#unsettled >= maxUnsettled;
    return isKnown ? this.#keys.active : undefined;
  }

  /**
   * The messages before an offset that are not settled, as consumers with the hash see them.
   * `elsewhereMessages` of them are for others to settle: outstanding at them, or waiting for them. While no
   * consumer with the hash is here, only those outstanding are counted: the waiting ones may become its own.
   */
  backlogBefore(before: number, hash: number): { messages: number; elsewhereMessages: number } {
    const last = Math.min(before, this.#end) - 1;
    if (last < this.#floor) return { messages: 0, elsewhereMessages: 0 };
    const messages = sizeOf(this.#settled.gaps(this.#floor, last));
    let elsewhereMessages = 0;
    for (const { first, last: to, value } of this.#leases) {
      if (first > last) break;
      if (this.#holderOf(value).hash !== hash) elsewhereMessages += Math.min(to, last) - first + 1;
    }
    if (![...this.#consumers.values()].some((each) => each.hash === hash))
      return { messages, elsewhereMessages };
    const isOther = (consumer: number): boolean => this.#consumers.get(consumer)?.hash !== hash;
    elsewhereMessages += this.#keys?.waitingFor(isOther, before) ?? 0;
    // Where a bound is reached, what was not looked at waits for those who settle what was.
    const isAtBound =
      (this.#next >= this.#lookLimit() && !this.isHeld) ||
      this.#keys?.isFull(this.#options.maxQueued) === true;
    const ahead = isAtBound && this.#next <= last ? sizeOf(this.#untouched(this.#next, last)) : 0;
    if (elsewhereMessages + ahead === messages) elsewhereMessages = messages;
    return { messages, elsewhereMessages };
  }

  /** `expire` does nothing before this time. */
  get earliestDeadlineMs(): number {
    return this.#earliestDeadlineMs;
  }

  /** An offset that the consumer could be given, or that must be looked at to know; undefined: none. */
  peek(consumer: number): number | undefined {
    const ready = this.#keys?.peek(consumer);
    if (ready !== undefined) return ready;
    const returned = this.#returned.lowest();
    if (returned !== undefined) return returned.first;
    if (this.#next >= this.#lookLimit()) return undefined;
    if (this.#keys?.isFull(this.#options.maxQueued) === true) return undefined;
    return this.#next;
  }

  step(event: DeliveryEvent, nowMs: number): DeliveryEffect[] {
    const effects: DeliveryEffect[] = [];
    if (this.#stalls.size > 0) this.#endStalls(nowMs);
    switch (event.kind) {
      case 'append':
        assert(event.endOffset >= this.#end, 'a log end went back');
        this.appendedTotal += event.endOffset - this.#end;
        this.#end = event.endOffset;
        break;
      case 'hold':
        this.#holdFrom = event.fromOffset;
        break;
      case 'trim':
        this.expiredByRetentionTotal += this.#giveUp(this.#floor, event.headOffset - 1, effects);
        break;
      case 'skip':
        this.#giveUp(event.first, event.last, effects);
        break;
      case 'join':
        this.#join(event, effects);
        break;
      case 'streamEnded':
        this.#giveBack(
          this.#takeAwaited(({ stream }) => stream === event.stream),
          effects,
        );
        break;
      case 'leave':
        this.#leave(event.consumer, event.leases, effects);
        break;
      case 'drain':
        this.#keys?.setDraining(event.consumer, event.draining);
        break;
      case 'lease':
        this.#lease(event, effects);
        break;
      case 'ack':
        this.#heardOf(event.consumer);
        this.#ack(event.first, event.last, effects);
        break;
      case 'nack':
        this.#heardOf(event.consumer);
        this.#giveBack(this.#cutOwn(event), effects);
        break;
      case 'extend':
        this.#heardOf(event.consumer);
        this.#extend(event);
        break;
      case 'expire':
        this.#expire(nowMs, effects);
        break;
      case 'persisted':
        this.#keys?.persisted();
        for (const { first, last } of this.#persisting) this.#returned.add(first, last);
        this.#persisting = new IntervalSet();
        break;
      default:
        assertNever(event);
    }
    return effects;
  }

  /**
   * The cursor to be committed. At most one commit is under way: `persisted` follows it, or another snapshot
   * if it failed. Messages held by now become available with `persisted`.
   */
  snapshot(): Uint8Array {
    this.#keys?.persisting();
    for (const { first, last } of this.#held) this.#persisting.add(first, last);
    if (this.#held.length > 0) this.#held = new IntervalSet();
    return encodeCursor({
      floor: this.#floor,
      settled: [...this.#settled],
      attempts: this.#countedAttempts(),
    });
  }

  #countedAttempts(): Piece<number>[] {
    const outstanding = new IntervalSet();
    let left = MAX_COUNTED_LEASES;
    for (const { first, last } of this.#leases) {
      outstanding.add(first, last);
      left -= 1;
      if (left === 0) break;
    }
    if (this.#attempts.length === 0) return [...outstanding].map((each) => ({ ...each, value: 1 }));
    const counted = new IntervalMap<number>();
    for (const { first, last, value } of this.#attempts) counted.insert(first, last, value);
    for (const { first, last } of outstanding) countAttempt(counted, first, last);
    return [...counted];
  }

  #lease(event: DeliveryEvent & { kind: 'lease' }, effects: DeliveryEffect[]): void {
    const { consumer, chunk, deadlineMs } = event;
    const budget = new LeaseBudget(event.maxMessages, event.maxBytes, event.idle);
    const taken: Interval[] = [];
    let bytes = 0;
    const lease = (first: number, last: number, key: KeyState | undefined): void => {
      const size = bytesOf(chunk, first, last);
      bytes += size;
      this.#leases.insert(first, last, { consumer, former: undefined, deadlineMs, bytes: size, key });
      taken.push({ first, last });
    };

    if (this.#keys !== undefined) {
      this.#lookAhead(chunk, this.#keys);
      for (const run of adjacent(this.#keys.take(consumer, chunk, budget)))
        lease(run.first, run.last, run.key);
    }
    const chunkLast = chunk.firstOffset + chunk.count - 1;
    for (const part of this.#returned.within(chunk.firstOffset, chunkLast)) {
      const count = budget.spendRun(chunk, part.first, part.last);
      if (count === 0) break;
      this.#returned.remove(part.first, part.first + count - 1);
      lease(part.first, part.first + count - 1, undefined);
    }
    if (this.#keys === undefined && this.#next >= chunk.firstOffset) {
      this.#leaseNew(chunk, chunkLast, budget, lease);
    }
    if (taken.length === 0) return;

    this.#earliestDeadlineMs = Math.min(this.#earliestDeadlineMs, deadlineMs);
    let messages = 0;
    for (const { first, last } of taken) messages += last - first + 1;
    this.deliveredTotal += messages;
    effects.push({ kind: 'deliver', consumer, runs: this.#withAttempts(taken), messages, bytes });
  }

  /**
   * Messages below this may be looked at. At the bound on holes those between them still may: after a restart
   * #next is below them, and delivering these messages is what closes the holes.
   */
  #lookLimit(): number {
    const { maxHoles, maxUnsettled } = this.#options;
    const limit = Math.min(
      this.#end,
      this.#holdFrom,
      this.#next + Math.max(0, maxUnsettled - this.#unsettled),
    );
    if (this.#settled.length < maxHoles && this.#attempts.length < maxHoles) return limit;
    const known = Math.max(this.#settled.highest()?.last ?? 0, this.#attempts.highest()?.last ?? 0);
    return Math.min(limit, known + 1);
  }

  /** Messages that count against DeliveryOptions.maxUnsettled. */
  get #unsettled(): number {
    const givenBack = this.#returned.count + this.#held.count + this.#persisting.count;
    return this.#leases.count + givenBack + (this.#keys?.queued ?? 0);
  }

  /** Leases messages from #next on, and steps over those that are settled or adopted already. */
  #leaseNew(
    chunk: ChunkView,
    chunkLast: number,
    budget: LeaseBudget,
    lease: (first: number, last: number, key: undefined) => void,
  ): void {
    const last = Math.min(chunkLast, this.#lookLimit() - 1);
    if (this.#next > last) return;
    for (const part of this.#untouched(this.#next, last)) {
      const count = budget.spendRun(chunk, part.first, part.last);
      if (count > 0) lease(part.first, part.first + count - 1, undefined);
      this.#next = part.first + count;
      if (count < part.last - part.first + 1) return;
    }
    this.#next = last + 1;
  }

  /** The parts of first..last that are neither settled nor adopted. */
  #untouched(first: number, last: number): Interval[] {
    const unsettled = this.#settled.gaps(first, last);
    if (this.#adopted.length === 0) return unsettled;
    return unsettled.flatMap((gap) => this.#adopted.gaps(gap.first, gap.last));
  }

  #adopt({ first: from, last: to, deadlineMs, holder, bytes, keyHash }: FormerLease): void {
    const start = Math.max(from, this.#floor);
    const end = Math.min(to, this.#end - 1);
    if (start > end) return;
    for (const { first, last } of this.#settled.gaps(start, end)) {
      const key = keyHash === 0 ? undefined : this.#keys?.adopt(keyHash, last - first + 1);
      const share = (bytes * (last - first + 1)) / (to - from + 1);
      this.#leases.insert(first, last, {
        consumer: FORMER,
        former: holder,
        deadlineMs,
        bytes: share,
        key,
      });
      this.#adopted.add(first, last);
      // The cursor counted this delivery as in vain.
      for (const piece of this.#attempts.cut(first, last))
        if (piece.value > 1) this.#attempts.insert(piece.first, piece.last, piece.value - 1);
    }
    if (holder.hash !== 0) this.#awaited.add(holder.hash);
    this.#earliestDeadlineMs = Math.min(this.#earliestDeadlineMs, deadlineMs);
  }

  /** Queues the chunk's new messages by key; those without one become available to anybody. */
  #lookAhead(chunk: ChunkView, keys: KeyQueues): void {
    if (this.#next < chunk.firstOffset) return;
    const last = Math.min(chunk.firstOffset + chunk.count, this.#lookLimit()) - 1;
    if (this.#next > last) return;
    const hashes = chunk.keyHashes();
    while (this.#next <= last && !keys.isFull(this.#options.maxQueued)) {
      const offset = this.#next;
      this.#next += 1;
      if (this.#settled.length > 0 && this.#settled.has(offset)) continue;
      if (this.#adopted.length > 0 && this.#adopted.has(offset)) continue;
      const hash = hashes[offset - chunk.firstOffset]!;
      if (hash === 0) this.#returned.add(offset, offset);
      else keys.push(offset, hash);
    }
  }

  #withAttempts(taken: readonly Interval[]): DeliveredRun[] {
    const runs: DeliveredRun[] = [];
    for (const { first, last } of taken) {
      let from = first;
      if (this.#attempts.length > 0) {
        for (const failed of this.#attempts.overlapping(first, last)) {
          const failedFirst = Math.max(failed.first, first);
          const failedLast = Math.min(failed.last, last);
          if (failedFirst > from) runs.push({ first: from, last: failedFirst - 1, attempt: 1 });
          runs.push({ first: failedFirst, last: failedLast, attempt: failed.value + 1 });
          this.redeliveredTotal += failedLast - failedFirst + 1;
          from = failedLast + 1;
        }
      }
      const previous = runs.at(-1);
      if (from > last) continue;
      if (previous !== undefined && previous.last + 1 === from && previous.attempt === 1) {
        runs[runs.length - 1] = { first: previous.first, last, attempt: 1 };
      } else runs.push({ first: from, last, attempt: 1 });
    }
    return runs;
  }

  #ack(from: number, to: number, effects: DeliveryEffect[]): void {
    const first = Math.max(from, this.#floor);
    const last = Math.min(to, this.#end - 1);
    if (first > last) return;
    const leases = this.#leases.cut(first, last);
    const leased = sizeOf(leases);
    let added = 0;
    for (const part of this.#delivered(first, last, leases, leased))
      added += this.#mark(part.first, part.last);
    this.#endLeases(leases, effects);
    if (added === 0) return;
    // Late ones settle what waits again.
    if (added > leased) this.#keys?.settledWaiting();
    this.ackedTotal += added;
    effects.push({ kind: 'moved' });
  }

  /**
   * The parts of first..last that were ever delivered and are not settled; `leases` are those that are
   * leased, so many messages.
   */
  #delivered(first: number, last: number, leases: readonly Interval[], leased: number): Iterable<Interval> {
    if (leased === last - first + 1) return [{ first, last }];
    const delivered = new IntervalSet();
    for (const lease of leases) delivered.add(lease.first, lease.last);
    for (const failed of this.#attempts.overlapping(first, last))
      delivered.add(Math.max(failed.first, first), Math.min(failed.last, last));
    return delivered;
  }

  #endLeases(leases: readonly Piece<Lease>[], effects: DeliveryEffect[]): void {
    for (const { first, last, value } of leases) {
      const count = last - first + 1;
      addCredit(effects, value.consumer, count, value.bytes);
      if (value.key !== undefined) this.#keys!.settled(value.key, count);
      // The consumer's work is done, whoever says so.
      this.#heardOf(value.consumer);
    }
    if (this.#leases.length > 0) return;
    this.#earliestDeadlineMs = Number.POSITIVE_INFINITY;
    this.#awaited.clear();
  }

  /** Makes first..last settled; the caller ends their leases. Returns how many were not settled before. */
  #mark(first: number, last: number): number {
    let added: number;
    if (first === this.#floor && this.#settled.length === 0) {
      added = last - first + 1;
      this.#floor = last + 1;
    } else {
      added = this.#settled.add(first, last);
      const lowest = this.#settled.lowest()!;
      if (lowest.first === this.#floor) {
        this.#settled.remove(lowest.first, lowest.last);
        this.#floor = lowest.last + 1;
      }
    }
    if (added === 0) return 0;
    if (this.#attempts.length > 0) this.#attempts.cut(first, last);
    if (this.#returned.length > 0) this.#returned.remove(first, last);
    if (this.#held.length > 0) this.#held.remove(first, last);
    if (this.#persisting.length > 0) this.#persisting.remove(first, last);
    if (this.#next < this.#floor) this.#next = this.#floor;
    return added;
  }

  /** Makes first..last settled, whoever has them. Returns how many of them were not settled before. */
  #giveUp(from: number, to: number, effects: DeliveryEffect[]): number {
    const first = Math.max(from, this.#floor);
    const last = Math.min(to, this.#end - 1);
    if (first > last) return 0;
    const leases = this.#leases.cut(first, last);
    const added = this.#mark(first, last);
    if (this.#settled.has(this.#next)) {
      // The next message was settled before it was looked at.
      const [unsettled] = this.#settled.gaps(this.#next, this.#end - 1);
      this.#next = unsettled?.first ?? this.#end;
    }
    if (added === 0) return 0;
    this.#endLeases(leases, effects);
    this.#keys?.dropSettled();
    effects.push({ kind: 'moved' });
    return added;
  }

  /**
   * Takes out the consumer's leases in first..last, everybody's for NOBODY (a call without a stream). A
   * consumer whose lease has gone to another must not end the other's by a late word.
   */
  #cutOwn({ consumer, first, last, attempt }: DeliveryEvent & { kind: 'nack' | 'extend' }): Piece<Lease>[] {
    const meant = attempt === undefined ? [{ first, last }] : this.#atAttempt(first, last, attempt);
    return meant.flatMap((part) => {
      if (consumer === NOBODY) return this.#leases.cut(part.first, part.last);
      const own = this.#leases
        .overlapping(part.first, part.last)
        .filter(({ value }) => value.consumer === consumer);
      return own.flatMap((lease) =>
        this.#leases.cut(Math.max(lease.first, part.first), Math.min(lease.last, part.last)),
      );
    });
  }

  /** The parts of first..last whose delivery under way, or else the next one, is the attempt-th. */
  #atAttempt(first: number, last: number, attempt: number): Interval[] {
    if (attempt === 1) return this.#attempts.gaps(first, last);
    return this.#attempts
      .overlapping(first, last)
      .filter(({ value }) => value === attempt - 1)
      .map((piece) => ({ first: Math.max(first, piece.first), last: Math.min(last, piece.last) }));
  }

  #extend(event: DeliveryEvent & { kind: 'extend' }): void {
    const { deadlineMs } = event;
    for (const piece of this.#cutOwn(event)) {
      this.#leases.insert(piece.first, piece.last, { ...piece.value, deadlineMs });
    }
    if (this.#leases.length > 0) this.#earliestDeadlineMs = Math.min(this.#earliestDeadlineMs, deadlineMs);
  }

  #expire(nowMs: number, effects: DeliveryEffect[]): void {
    if (nowMs < this.#earliestDeadlineMs) return;
    const due = this.#leases.takeOut(({ value }) => value.deadlineMs <= nowMs);
    for (const { value } of due) this.#stall(value.consumer, nowMs);
    this.#giveBack(due, effects);
    if (this.#leases.length === 0) this.#awaited.clear();
    this.#earliestDeadlineMs = Number.POSITIVE_INFINITY;
    for (const { value } of this.#leases)
      this.#earliestDeadlineMs = Math.min(this.#earliestDeadlineMs, value.deadlineMs);
  }

  #stall(consumer: number, nowMs: number): void {
    if (consumer === FORMER || this.#keys === undefined) return;
    const before = this.#stalls.get(consumer);
    // It is stalled already: several of its leases may end at once, or one after the other.
    if (before !== undefined && before.untilMs !== Number.POSITIVE_INFINITY) return;
    const forMs = before === undefined ? FIRST_STALL_MS : Math.min(MAX_STALL_MS, before.forMs * 2);
    this.#stalls.set(consumer, { forMs, untilMs: nowMs + forMs });
    this.#keys.setStalled(consumer, true);
  }

  /** Gives consumers another chance after their time: one that holds nothing has nothing to say. */
  #endStalls(nowMs: number): void {
    for (const [consumer, stall] of this.#stalls) {
      if (stall.untilMs > nowMs) continue;
      stall.untilMs = Number.POSITIVE_INFINITY;
      this.#keys?.setStalled(consumer, false);
    }
  }

  #join(event: DeliveryEvent & { kind: 'join' }, effects: DeliveryEffect[]): void {
    const { consumer, hash, stream = '', resumes = false, fresh = false } = event;
    this.#consumers.set(consumer, { hash, stream });
    this.#keys?.join(consumer, hash);
    if (!this.#awaited.has(hash)) return;
    const own = this.#takeAwaited(
      (former) =>
        former.hash === hash &&
        (former.stream === '' ? !fresh : former.stream === stream || (resumes && stream !== '')),
    );
    for (const { first, last, value } of own) {
      addCredit(effects, consumer, first - last - 1, -value.bytes);
      this.#leases.insert(first, last, { ...value, consumer, former: undefined });
      if (value.key !== undefined) this.#keys!.passRun(value.key, consumer);
    }
    if (!fresh) return;
    // What an `owned` stream says is not about the client's other ones.
    const gone = this.#takeAwaited(
      (former) => former.hash === hash && (stream !== '' || former.stream === ''),
    );
    this.#giveBack(gone, effects);
  }

  /** Takes out the leases that wait for those consumers. */
  #takeAwaited(isMeant: (former: ConsumerIdentity) => boolean): Piece<Lease>[] {
    if (this.#awaited.size === 0) return [];
    const pieces = this.#leases.takeOut(
      ({ value: { former } }) => former !== undefined && former.hash !== 0 && isMeant(former),
    );
    this.#awaited.clear();
    for (const { value } of this.#leases)
      if (value.former !== undefined && value.former.hash !== 0) this.#awaited.add(value.former.hash);
    return pieces;
  }

  #holderOf({ consumer, former }: Lease): ConsumerIdentity {
    return former ?? this.#consumers.get(consumer) ?? NO_CONSUMER;
  }

  #leave(consumer: number, leases: LeasesOnLeave, effects: DeliveryEffect[]): void {
    const pieces = this.#leases.takeOut(({ value }) => value.consumer === consumer);
    if (leases === 'end') this.#giveBack(pieces, effects);
    else {
      const former = (leases === 'wait' ? this.#consumers.get(consumer) : undefined) ?? NO_CONSUMER;
      if (former.hash !== 0 && pieces.length > 0) this.#awaited.add(former.hash);
      for (const { first, last, value } of pieces) {
        addCredit(effects, consumer, last - first + 1, value.bytes);
        this.#leases.insert(first, last, { ...value, consumer: FORMER, former });
        if (value.key !== undefined) this.#keys!.passRun(value.key, FORMER);
      }
    }
    this.#consumers.delete(consumer);
    this.#stalls.delete(consumer);
    this.#keys?.leave(consumer);
  }

  #heardOf(consumer: number): void {
    if (this.#stalls.size > 0 && this.#stalls.delete(consumer)) this.#keys?.setStalled(consumer, false);
  }

  /** Gives back pieces taken out of the leases, and what is outstanding of their keys behind them. */
  #giveBack(pieces: readonly Piece<Lease>[], effects: DeliveryEffect[]): void {
    if (pieces.length === 0) return;
    const byKey = new Map<KeyState, number[]>();
    for (const piece of pieces) this.#endUnsettled(piece, byKey, effects);
    for (const piece of this.#cutBehind(byKey)) this.#endUnsettled(piece, byKey, effects);
    for (const [key, offsets] of byKey) {
      offsets.sort((a, b) => a - b);
      this.#keys!.giveBack(key, offsets);
    }
    effects.push({ kind: 'persist' });
  }

  #endUnsettled(piece: Piece<Lease>, byKey: Map<KeyState, number[]>, effects: DeliveryEffect[]): void {
    const { first, last, value } = piece;
    addCredit(effects, value.consumer, last - first + 1, value.bytes);
    countAttempt(this.#attempts, first, last);
    if (value.key === undefined) {
      this.#held.add(first, last);
      return;
    }
    const offsets = byKey.get(value.key);
    if (offsets === undefined) byKey.set(value.key, range(first, last));
    else for (let offset = first; offset <= last; offset += 1) offsets.push(offset);
  }

  /** Takes out of the leases the rest of each key's run, from its lowest given-back message on. */
  #cutBehind(byKey: ReadonlyMap<KeyState, readonly number[]>): Piece<Lease>[] {
    let lowest = Number.POSITIVE_INFINITY;
    let left = 0;
    for (const [key, offsets] of byKey) {
      if (offsets.length === key.runLength) continue;
      left += key.runLength - offsets.length;
      lowest = Math.min(lowest, offsets[0]!);
    }
    const behind: Piece<Lease>[] = [];
    if (left === 0) return behind;
    for (const piece of this.#leases.from(lowest)) {
      const offsets = piece.value.key === undefined ? undefined : byKey.get(piece.value.key);
      if (offsets === undefined || piece.first < offsets[0]!) continue;
      behind.push(piece);
      left -= piece.last - piece.first + 1;
      if (left === 0) break;
    }
    for (const { first, last } of behind) this.#leases.cut(first, last);
    return behind;
  }
}

/** Counts one more delivery of first..last in vain. */
function countAttempt(attempts: IntervalMap<number>, first: number, last: number): void {
  let from = first;
  for (const piece of attempts.cut(first, last)) {
    if (piece.first > from) attempts.insert(from, piece.first - 1, 1);
    attempts.insert(piece.first, piece.last, piece.value + 1);
    from = piece.last + 1;
  }
  if (from <= last) attempts.insert(from, last, 1);
}

/** A part of a lease, with its bytes in proportion: not rounded, so that the parts add up to the whole. */
function shareLease(lease: Lease, part: number, whole: number): Lease {
  return { ...lease, bytes: (lease.bytes * part) / whole };
}

function* adjacent(
  taken: readonly { offset: number; key: KeyState }[],
): IterableIterator<Interval & { key: KeyState }> {
  let at = 0;
  while (at < taken.length) {
    const { offset: first, key } = taken[at]!;
    let last = first;
    at += 1;
    while (at < taken.length && taken[at]!.offset === last + 1 && taken[at]!.key === key) {
      last += 1;
      at += 1;
    }
    yield { first, last, key };
  }
}

function addCredit(effects: DeliveryEffect[], consumer: number, messages: number, bytes: number): void {
  const previous = effects.at(-1);
  if (previous?.kind === 'credit' && previous.consumer === consumer) {
    effects[effects.length - 1] = {
      kind: 'credit',
      consumer,
      messages: previous.messages + messages,
      bytes: previous.bytes + bytes,
    };
  } else effects.push({ kind: 'credit', consumer, messages, bytes });
}

/** How many offsets the intervals have. */
function sizeOf(intervals: readonly Interval[]): number {
  return intervals.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
