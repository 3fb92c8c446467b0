// What one subscription was given of one partition, as its owners gave it out, and what its clients said.
//
//   settled      what a cursor in the store has as settled is not delivered
//   attempts     the attempt is the count in the cursor plus one: so it rises, and is durable before the
//                redelivery
//   justified    nothing is delivered again unless its lease can have ended: by a nack, its deadline, a
//                consumer or a link that has gone, an owner that left no note. A planned hand-over alone ends
//                no lease
//   ordered      everything before a message of its key has been settled, or was delivered under the same
//                chain of claims; and while a message of the key is out for sure, no other consumer gets one,
//                nor anybody more than maxRun of them
//   heard        what a client has acknowledged on a stream that lasted is not delivered again, unless the
//                ack was late
//   remembered   what an owner has committed as settled it does not deliver again, whatever the store has
//                lost since: not before its process ends, or the log has lost what it had then
//   acked        a cursor settles only what somebody has acknowledged, or retention deleted
//
// Of a broker that is alone the judge is told when it hears something, not when its client has said so. So it
// knows what the broker knows (AT_HAND), and some promises are judged to the letter:
//
//   settled      nothing that was acknowledged is delivered again while the process lasts, and what is
//                acknowledged when it is asked to stop is in a cursor when it has
//   ordered      what is before a message of its key is settled, or is out at the very same stream
//   bounded      a cursor has no more holes than the limits let come about; nobody has more than its credit
//   prompt       acks are committed as soon as the store lets them
import { type Cursor, decodeCursor } from '../../../services/broker/core/cursor.ts';
import type { EngineLimits } from '../../../services/broker/engine/context.ts';
import type { Received } from '../received.ts';
import type { SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';
import type { Logged, PartitionTruth } from './partition-truth.ts';

/** A client at a broker; its counters rise when something of it is lost. */
export interface Holder {
  readonly hash: number;
  readonly relay: string;
  /** Rises with each end of a stream of the client at this broker, when either side learns of it. */
  departures: number;
  /** The broker's losses: its links that broke, its pauses and its death. */
  readonly losses: { count: number };
  readonly ackDeadlineMs: number | undefined;
}

interface Delivered {
  readonly offset: number;
  readonly identity: string;
  readonly attempt: number;
  readonly chain: number;
  readonly returns: number;
  readonly at: number;
  readonly holder: Holder;
  readonly departures: number;
  readonly losses: number;
  deadlineMs: number;
  nacked: boolean;
  /** By its deadline it may have ended before it was extended. */
  mayHaveExpired: boolean;
  /** When its holder acknowledged it, while everything between the two was whole; Infinity: it has not. */
  ackedMs: number;
}

/** How far the judge is from what owners know. */
export interface Distance {
  /** The longest that what a client has said is on its way; 0: the judge is told when it has arrived. */
  readonly wayMs: number;
  /** The most by which clocks of brokers run fast. */
  readonly fastest: number;
}

export const AT_HAND: Distance = { wayMs: 0, fastest: 1 };
/** Brokers keep what they are told for so long while the partition has no owner. */
export const FAR_AWAY: Distance = { wayMs: 12_000, fastest: 1.11 };

export interface DeliveryTruthOptions {
  readonly what: string;
  readonly ordering: boolean;
  readonly startOffset: number;
  /** What publishers had been told of when the subscription was created. */
  readonly toldAtCreation: number;
  readonly limits: Pick<EngineLimits, 'maxRun' | 'maxHoles' | 'maxQueued'>;
  readonly distance: Distance;
}

const NO_CURSOR: Cursor = { floor: 0, settled: [], attempts: [] };

export class DeliveryTruth {
  readonly #options: DeliveryTruthOptions;
  readonly #ordering: boolean;
  readonly #startOffset: number;
  readonly #isAtHand: boolean;
  readonly #log: PartitionTruth;
  readonly #delivered = new Map<number, Delivered>();
  /** Acknowledged offsets, with how often the store had gone back when they were first acknowledged. */
  readonly #acked = new Map<number, number>();
  /** At hand: what the owner was told is settled, with the chain under which it was. */
  readonly #heard = new Map<number, number>();
  /** At hand: what was delivered and not acknowledged since, and the most that this ever was. */
  readonly #open = new Set<number>();
  #mostOpen = 0;
  /** At hand: when the oldest ack was given that no commit has taken along yet. */
  dirtySinceMs: number | undefined;
  /** Until when a nack may arrive: by then its message may have been given out once more. */
  readonly #nackedUntilMs = new Map<number, number>();
  /** What each member has committed last, and the log's newest message at that time. */
  readonly #known = new Map<
    string,
    { readonly cursor: Cursor; readonly end: number; readonly newest: Logged | undefined }
  >();
  #cursor: Cursor | undefined;
  /** Where the log ended when the cursor was written: the cursor says nothing of what came later. */
  #cursorEnd = 0;
  /**
   * How often the partition had gone back when the cursor was written; -1: it may not be what the owner has.
   */
  #returns = 0;
  #count = 0;

  constructor(options: DeliveryTruthOptions, log: PartitionTruth) {
    this.#options = options;
    this.#ordering = options.ordering;
    this.#startOffset = options.startOffset;
    this.#isAtHand = options.distance.wayMs === 0;
    this.#log = log;
  }

  get log(): PartitionTruth {
    return this.#log;
  }

  delivered(memberId: string, message: Received, holder: Holder, ackDeadlineMs: number, nowMs: number): void {
    const { offset, attempt, identity } = message;
    const { chain, returns } = this.#log;
    if (!this.#log.held(offset, message))
      this.#fail(offset, `is delivered as ${identity}, which it never was`);
    // What it may get below its start offset is what nobody had been told of when it was created: its owner
    // may not have known yet that the store had that.
    const { toldAtCreation, distance } = this.#options;
    if (offset < (this.#isAtHand ? this.#startOffset : Math.min(this.#startOffset, toldAtCreation)))
      this.#fail(offset, `is delivered; the subscription begins at ${this.#startOffset}`);
    if (this.#isSettled(offset))
      this.#fail(offset, `is delivered although a cursor in the store has it as settled`);
    if (this.#isKnownTo(memberId, offset))
      this.#fail(offset, `is delivered by ${memberId}, which has committed it as settled`);
    if (this.#isHeard(offset)) this.#fail(offset, `is delivered to ${nameOf(holder)} although it is settled`);
    const durable = this.#attemptsOf(offset) + 1;
    const isKnown = this.#returns === returns && offset < this.#cursorEnd;
    if ((attempt < durable && isKnown) || (attempt > durable && this.#returns === returns))
      this.#fail(offset, `is delivered with attempt ${attempt}; by the cursor in the store it is ${durable}`);
    const before = this.#delivered.get(offset);
    if (before !== undefined && before.identity === identity) {
      if (before.chain === chain && before.returns === returns && attempt <= before.attempt)
        this.#fail(
          offset,
          `is delivered a second time with attempt ${attempt}: its owner has forgotten the first time`,
        );
      if (before.ackedMs + distance.wayMs < nowMs && this.#lasted(before))
        this.#fail(offset, `is delivered again: ${nameOf(before.holder)} acknowledged it long ago`);
      if (!this.#mayHaveEnded(before, nowMs))
        this.#fail(offset, `is delivered to ${nameOf(holder)} although ${nameOf(before.holder)} has it`);
    }
    const { key } = this.#log.log[offset]?.sent ?? { key: '' };
    if (this.#ordering && key !== '') {
      this.#checkOrder(offset, key, holder, nowMs);
      this.#checkRun(offset, key, holder, nowMs);
    }
    this.#count += 1;
    if (this.#isAtHand) this.#mostOpen = Math.max(this.#mostOpen, this.#open.add(offset).size);
    const { departures, losses } = holder;
    const deadlineMs = nowMs + ackDeadlineMs / distance.fastest;
    this.#delivered.set(offset, {
      ...{ offset, identity, attempt, chain, returns, at: this.#count, holder },
      ...{ departures, losses: losses.count, deadlineMs },
      ackedMs: Number.POSITIVE_INFINITY,
      mayHaveExpired: false,
      nacked: nowMs < (this.#nackedUntilMs.get(offset) ?? 0),
    });
  }

  /**
   * A client is about to acknowledge these, or at hand: does so. `holder` is the client if it does so on a
   * stream.
   */
  acked(first: number, last: number, nowMs: number, holder: Holder | undefined): void {
    for (let offset = first; offset <= Math.min(last, this.#log.furthestEnd - 1); offset += 1) {
      if (!this.#acked.has(offset)) this.#acked.set(offset, this.#log.returns);
      if (this.#isAtHand) this.#hears(offset, nowMs);
      const delivered = this.#delivered.get(offset);
      if (delivered !== undefined && delivered.holder === holder && nowMs < delivered.deadlineMs)
        delivered.ackedMs = Math.min(delivered.ackedMs, nowMs);
    }
  }

  nacked(first: number, last: number, nowMs: number, holder: Holder | undefined): void {
    const { wayMs } = this.#options.distance;
    for (let offset = first; offset <= last; offset += 1) {
      if (wayMs > 0) this.#nackedUntilMs.set(offset, nowMs + wayMs);
      const delivered = this.#delivered.get(offset);
      if (delivered !== undefined && this.#mayBeHeldBy(delivered, holder)) delivered.nacked = true;
    }
  }

  extended(first: number, last: number, deadlineMs: number, nowMs: number, holder: Holder | undefined): void {
    const { fastest } = this.#options.distance;
    for (let offset = first; offset <= last; offset += 1) {
      const delivered = this.#delivered.get(offset);
      if (delivered === undefined || !this.#mayBeHeldBy(delivered, holder)) continue;
      // A lease that may have ended already may also live on.
      delivered.mayHaveExpired ||= nowMs >= delivered.deadlineMs;
      delivered.deadlineMs = this.#isAtHand
        ? deadlineMs
        : Math.min(delivered.deadlineMs, deadlineMs / fastest);
    }
  }

  /** Far away anybody may have been given it since, unseen. */
  #mayBeHeldBy(delivered: Delivered, holder: Holder | undefined): boolean {
    if (!this.#isAtHand || holder === undefined) return true;
    return delivered.holder === holder && this.#lasted(delivered);
  }

  /** The owner hears that it is acknowledged: that settles what it knows to have been delivered. */
  #hears(offset: number, nowMs: number): void {
    this.#open.delete(offset);
    if (!this.#isKnownDelivered(offset) || this.#isHeard(offset)) return;
    this.#heard.set(offset, this.#log.chain);
    // No commit is owed for what the cursor is past already.
    if (!this.#isSettled(offset) && !this.#isGone(offset)) this.dirtySinceMs ??= nowMs;
  }

  /** A commit takes along everything so far. */
  snapshotTaken(): void {
    this.dirtySinceMs = undefined;
  }

  /** The owner has been asked to stop. Returns what to call when it says that it has. */
  stopping(): () => void {
    const { chain } = this.#log;
    const settled = [...this.#heard].filter(([, under]) => under === chain);
    return () => {
      if (this.#log.deleted) return;
      for (const [offset] of settled)
        if (!this.#isSettled(offset) && !this.#isGone(offset))
          this.#fail(offset, 'was acknowledged, and the cursor of the broker that has stopped has it not');
    };
  }

  /**
   * The store has this cursor now. A store that went back may take one of a former owner, of which the
   * present one can't know.
   */
  committed(memberId: string, record: Uint8Array, isOwners: boolean): void {
    const cursor = decodeCursor(record);
    const { endOffset: end, log } = this.#log;
    const { maxHoles, maxQueued } = this.#options.limits;
    const most = maxHoles + maxQueued + this.#mostOpen;
    if (this.#isAtHand && cursor.settled.length > most)
      throw new Violation(
        `${this.#options.what}: the cursor of ${this.#log.name} has ${cursor.settled.length} holes; at most ${most} can have come about`,
      );
    this.#known.set(memberId, { cursor, end, newest: log[end - 1] });
    const before = this.#cursor;
    this.#cursor = cursor;
    this.#returns = isOwners ? this.#log.returns : -1;
    this.#cursorEnd = isOwners ? this.#log.endOffset : 0;
    const from = Math.max(this.#startOffset, before?.floor ?? 0);
    for (let offset = from; offset < cursor.floor; offset += 1) this.#checkAcked(offset);
    for (const { first, last } of cursor.settled)
      for (let offset = first; offset <= last; offset += 1) this.#checkAcked(offset);
  }

  wentBack(record: Uint8Array | undefined): void {
    this.#cursor = record && decodeCursor(record);
    this.#returns = -1;
    this.#cursorEnd = Math.min(this.#cursorEnd, this.#log.endOffset);
  }

  /**
   * Acks are sent, or heard by a lone broker, for which somebody waits. Returns a function to call when the
   * broker has said that they are durable. What the owner did not know to be delivered it has ignored, even
   * if it delivers that a moment later.
   */
  acknowledging(first: number, last: number): () => void {
    const { returns } = this.#log;
    const known: number[] = [];
    for (let offset = first; offset <= Math.min(last, this.#log.endOffset - 1); offset += 1)
      if (this.#isKnownDelivered(offset)) known.push(offset);
    return () => {
      if (returns !== this.#log.returns || this.#log.deleted) return;
      for (const offset of known)
        if (!this.#isSettled(offset) && this.#acked.get(offset) === returns && this.#isKnownDelivered(offset))
          this.#fail(offset, 'was confirmed as acknowledged; the cursor in the store has it not');
    };
  }

  /**
   * Whether the owner must know that somebody was given it: an owner that took the partition by force has
   * only the cursor.
   */
  #isKnownDelivered(offset: number): boolean {
    return this.#delivered.get(offset)?.chain === this.#log.chain || this.#attemptsOf(offset) > 0;
  }

  get firstUnsettled(): number | undefined {
    const from = Math.max(this.#startOffset, this.#log.headOffset);
    for (let offset = from; offset < this.#log.endOffset; offset += 1)
      if (!this.#isSettled(offset) && !this.#log.isGivenUp(offset)) return offset;
    return undefined;
  }

  /** The first message appended before that moment and never delivered; undefined if there is none. */
  firstUndelivered(appendedBeforeMs: number): number | undefined {
    const from = Math.max(this.#startOffset, this.#log.headOffset);
    for (let offset = from; offset < this.#log.endOffset; offset += 1) {
      if (this.#log.log[offset]!.firstAppendedMs >= appendedBeforeMs) return undefined;
      if (!this.#delivered.has(offset) && !this.#isSettled(offset) && !this.#isGone(offset)) return offset;
    }
    return undefined;
  }

  /** How many messages the client has for certain, at hand. */
  heldBy(holder: Holder, nowMs: number): number {
    let held = 0;
    for (const offset of this.#open) {
      const delivered = this.#delivered.get(offset);
      if (delivered?.holder !== holder || this.#isGone(offset) || this.#isSettled(offset)) continue;
      if (!this.#mayHaveEnded(delivered, nowMs)) held += 1;
    }
    return held;
  }

  /** Whether the message is there, and the subscription's, and nobody has acknowledged it. */
  owes(offset: number, sent: SentMessage): boolean {
    if (this.#log.log[offset]?.sent !== sent) return false;
    if (offset < this.#startOffset || this.#isGone(offset)) return false;
    return !this.#isDone(offset);
  }

  #checkAcked(offset: number): void {
    if (offset < this.#log.headOffset || this.#acked.has(offset) || this.#log.returns > 0) return;
    if (this.#log.isGivenUp(offset)) return;
    this.#fail(offset, 'is settled by a cursor, and nobody has acknowledged it');
  }

  #checkOrder(offset: number, key: string, holder: Holder, nowMs: number): void {
    for (const earlier of this.#log.byKey.get(key) ?? []) {
      if (earlier >= offset) return;
      if (earlier < this.#startOffset || this.#isGone(earlier) || this.#isDone(earlier)) continue;
      const out = this.#delivered.get(earlier);
      if (out === undefined || (out.chain !== this.#log.chain && out.returns === this.#log.returns))
        this.#fail(offset, `of key ${key} overtakes ${earlier}, which is not settled`);
      if (this.#isAtHand && (out.holder !== holder || out.nacked || !this.#lasted(out)))
        this.#fail(offset, `of key ${key} overtakes ${earlier}, which ${nameOf(holder)} does not have`);
      if (out.chain === this.#log.chain && out.holder.hash !== holder.hash && !this.#mayHaveEnded(out, nowMs))
        this.#fail(
          offset,
          `of key ${key} is delivered to ${nameOf(holder)} while ${nameOf(out.holder)} has ${earlier}`,
        );
    }
  }

  /** Of one key nobody has more than maxRun messages. */
  #checkRun(offset: number, key: string, holder: Holder, nowMs: number): void {
    const { maxRun } = this.#options.limits;
    let run = 1;
    // A message that is given back takes those of its key behind it along.
    let mayHaveEnded = false;
    for (const other of this.#log.byKey.get(key) ?? []) {
      const out = this.#delivered.get(other);
      if (other === offset || out?.holder.hash !== holder.hash || out.chain !== this.#log.chain) continue;
      if (this.#isGone(other) || this.#isDone(other)) continue;
      mayHaveEnded ||= this.#hasEnded(out, nowMs);
      if (!mayHaveEnded) run += 1;
    }
    if (run > maxRun)
      this.#fail(offset, `is one too many of key ${key} at ${nameOf(holder)}: ${run} of ${maxRun}`);
  }

  /** Whether the lease of that delivery can be over, by all that is known out here. */
  #mayHaveEnded(delivered: Delivered, nowMs: number): boolean {
    if (this.#hasEnded(delivered, nowMs)) return true;
    // The store lacks what the owner has, so nobody can say out here what is behind what.
    if (this.#log.endOffset < this.#log.furthestEnd) return true;
    const { key } = this.#log.log[delivered.offset]?.sent ?? { key: '' };
    if (!this.#ordering || key === '') return false;
    // A message that is given back takes those of its key behind it along.
    for (const offset of this.#log.byKey.get(key) ?? []) {
      if (offset >= delivered.offset) return false;
      const earlier = this.#delivered.get(offset);
      if (earlier === undefined) continue;
      if (earlier.at > delivered.at || offset < this.#log.headOffset || this.#hasEnded(earlier, nowMs))
        return true;
    }
    return false;
  }

  #hasEnded(delivered: Delivered, nowMs: number): boolean {
    const { nacked, mayHaveExpired, deadlineMs } = delivered;
    return nacked || mayHaveExpired || nowMs >= deadlineMs || !this.#lasted(delivered);
  }

  /** Whether neither the holder's stream nor the owner's memory has ended since. */
  #lasted({ holder, departures, losses, chain, returns }: Delivered): boolean {
    if (holder.departures !== departures || holder.losses.count !== losses) return false;
    return chain === this.#log.chain && returns === this.#log.returns;
  }

  #isKnownTo(memberId: string, offset: number): boolean {
    const known = this.#known.get(memberId);
    if (known === undefined || offset >= known.end) return false;
    const newest = this.#log.log[known.end - 1];
    const isSameLog =
      newest?.sent === known.newest?.sent && newest?.publishTimeMs === known.newest?.publishTimeMs;
    return isSameLog && settles(known.cursor, offset);
  }

  /** Whether the owner knows it as settled, by all that can be known out here. */
  #isDone(offset: number): boolean {
    if (this.#isSettled(offset)) return true;
    return this.#isAtHand ? this.#isHeard(offset) : this.#acked.has(offset);
  }

  #isHeard(offset: number): boolean {
    return this.#heard.get(offset) === this.#log.chain;
  }

  /** Whether nobody can want it any more. */
  #isGone(offset: number): boolean {
    return offset < this.#log.furthestHead || this.#log.isGivenUp(offset);
  }

  #isSettled(offset: number): boolean {
    return offset < this.#cursorEnd && settles(this.#cursor ?? NO_CURSOR, offset);
  }

  #attemptsOf(offset: number): number {
    const { attempts } = this.#cursor ?? NO_CURSOR;
    return attempts.find(({ first, last }) => first <= offset && offset <= last)?.value ?? 0;
  }

  #fail(offset: number, what: string): never {
    throw new Violation(`${this.#options.what}: ${this.#log.name}-${offset} ${what}`);
  }
}

function settles({ floor, settled }: Cursor, offset: number): boolean {
  return offset < floor || settled.some(({ first, last }) => first <= offset && offset <= last);
}

function nameOf({ hash, relay }: Holder): string {
  return `client ${hash.toString(16)} at ${relay}`;
}
