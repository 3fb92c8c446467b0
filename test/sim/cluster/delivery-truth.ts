// What one subscription was given of one partition, as its owners gave it out, and what its clients said.
//
//   settled      what a cursor in the store has as settled is not delivered
//   attempts     the attempt is the count in the cursor plus one: so it rises, and is durable before the
//                redelivery
//   justified    nothing is delivered again unless its lease can have ended: by a nack, its deadline, a
//                consumer or a link that has gone, an owner that left no note. A planned hand-over alone ends
//                no lease
//   ordered      everything before a message of its key has been settled, or was delivered under the same
//                chain of claims; and while a message of the key is out for sure, no other consumer gets one
//   heard        what a client has acknowledged on a stream that lasted is not delivered again, unless the
//                ack was late
//   remembered   what an owner has committed as settled it does not deliver again, whatever the store has
//                lost since: not before its process ends, or the log has lost what it had then
//   acked        a cursor settles only what somebody has acknowledged, or retention deleted
import { type Cursor, decodeCursor } from '../../../services/broker/core/cursor.ts';
import type { SentMessage } from '../log-history.ts';
import type { Received } from '../received.ts';
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
  /** When its holder acknowledged it, while everything between the two was whole; Infinity: it has not. */
  ackedMs: number;
}

/** The most by which clocks of brokers run fast. */
const FASTEST = 1.11;
/** The longest that brokers keep what they are told while the partition has no owner. */
const LONGEST_WAY_MS = 12_000;
const NO_CURSOR: Cursor = { floor: 0, settled: [], attempts: [] };

export class DeliveryTruth {
  readonly #what: string;
  readonly #ordering: boolean;
  readonly #startOffset: number;
  readonly #toldAtCreation: number;
  readonly #log: PartitionTruth;
  readonly #delivered = new Map<number, Delivered>();
  /** Acknowledged offsets, with how often the store had gone back when they were first acknowledged. */
  readonly #acked = new Map<number, number>();
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

  constructor(
    what: string,
    ordering: boolean,
    startOffset: number,
    toldAtCreation: number,
    log: PartitionTruth,
  ) {
    this.#what = what;
    this.#ordering = ordering;
    this.#startOffset = startOffset;
    this.#toldAtCreation = toldAtCreation;
    this.#log = log;
  }

  delivered(memberId: string, message: Received, holder: Holder, ackDeadlineMs: number, nowMs: number): void {
    const { offset, attempt, identity } = message;
    const { chain, returns } = this.#log;
    if (!this.#log.held(offset, message))
      this.#fail(offset, `is delivered as ${identity}, which it never was`);
    // What it may get below its start offset is what nobody had been told of when it was created: its owner
    // may not have known yet that the store had that.
    if (offset < Math.min(this.#startOffset, this.#toldAtCreation))
      this.#fail(offset, `is delivered; the subscription begins at ${this.#startOffset}`);
    if (this.#isSettled(offset))
      this.#fail(offset, `is delivered although a cursor in the store has it as settled`);
    if (this.#isKnownTo(memberId, offset))
      this.#fail(offset, `is delivered by ${memberId}, which has committed it as settled`);
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
      if (before.ackedMs + LONGEST_WAY_MS < nowMs && this.#lasted(before))
        this.#fail(offset, `is delivered again: ${nameOf(before.holder)} acknowledged it long ago`);
      if (!this.#mayHaveEnded(before, nowMs))
        this.#fail(offset, `is delivered to ${nameOf(holder)} although ${nameOf(before.holder)} has it`);
    }
    const { key } = this.#log.log[offset]?.sent ?? { key: '' };
    if (this.#ordering && key !== '') this.#checkOrder(offset, key, holder, nowMs);
    this.#count += 1;
    const { departures, losses } = holder;
    const deadlineMs = nowMs + ackDeadlineMs / FASTEST;
    this.#delivered.set(offset, {
      ...{ offset, identity, attempt, chain, returns, at: this.#count, holder },
      ...{ departures, losses: losses.count, deadlineMs },
      ackedMs: Number.POSITIVE_INFINITY,
      nacked: nowMs < (this.#nackedUntilMs.get(offset) ?? 0),
    });
  }

  /** A client is about to acknowledge these; `holder` is the client if it does so on a stream. */
  acked(first: number, last: number, nowMs: number, holder: Holder | undefined): void {
    for (let offset = first; offset <= Math.min(last, this.#log.furthestEnd - 1); offset += 1) {
      if (!this.#acked.has(offset)) this.#acked.set(offset, this.#log.returns);
      const delivered = this.#delivered.get(offset);
      if (delivered !== undefined && delivered.holder === holder && nowMs < delivered.deadlineMs)
        delivered.ackedMs = Math.min(delivered.ackedMs, nowMs);
    }
  }

  nacked(first: number, last: number, nowMs: number): void {
    for (let offset = first; offset <= last; offset += 1) {
      this.#nackedUntilMs.set(offset, nowMs + LONGEST_WAY_MS);
      const delivered = this.#delivered.get(offset);
      if (delivered !== undefined) delivered.nacked = true;
    }
  }

  extended(first: number, last: number, deadlineMs: number): void {
    for (let offset = first; offset <= last; offset += 1) {
      const delivered = this.#delivered.get(offset);
      if (delivered !== undefined)
        delivered.deadlineMs = Math.min(delivered.deadlineMs, deadlineMs / FASTEST);
    }
  }

  /**
   * The store has this cursor now. A store that went back may take one of a former owner, of which the
   * present one can't know.
   */
  committed(memberId: string, record: Uint8Array, isOwners: boolean): void {
    const cursor = decodeCursor(record);
    const { endOffset: end, log } = this.#log;
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
   * The broker has said that the acks are durable. `returns` is the partition's count when they were sent.
   */
  confirmed(first: number, last: number, returns: number): void {
    if (returns !== this.#log.returns || this.#log.deleted) return;
    for (let offset = first; offset <= Math.min(last, this.#log.endOffset - 1); offset += 1)
      if (!this.#isSettled(offset) && this.#acked.get(offset) === returns && this.#isKnownDelivered(offset))
        this.#fail(offset, 'was confirmed as acknowledged; the cursor in the store has it not');
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
      if (!this.#isSettled(offset)) return offset;
    return undefined;
  }

  /** Whether the message is there, and the subscription's, and nobody has acknowledged it. */
  owes(offset: number, sent: SentMessage): boolean {
    if (this.#log.log[offset]?.sent !== sent) return false;
    if (offset < this.#startOffset || offset < this.#log.furthestHead) return false;
    return !this.#acked.has(offset) && !this.#isSettled(offset);
  }

  #checkAcked(offset: number): void {
    if (offset < this.#log.headOffset || this.#acked.has(offset) || this.#log.returns > 0) return;
    this.#fail(offset, 'is settled by a cursor, and nobody has acknowledged it');
  }

  #checkOrder(offset: number, key: string, holder: Holder, nowMs: number): void {
    for (const earlier of this.#log.byKey.get(key) ?? []) {
      if (earlier >= offset) return;
      if (earlier < this.#startOffset || earlier < this.#log.furthestHead) continue;
      if (this.#acked.has(earlier) || this.#isSettled(earlier)) continue;
      const out = this.#delivered.get(earlier);
      if (out === undefined || (out.chain !== this.#log.chain && out.returns === this.#log.returns))
        this.#fail(offset, `of key ${key} overtakes ${earlier}, which is not settled`);
      if (out.chain === this.#log.chain && out.holder.hash !== holder.hash && !this.#mayHaveEnded(out, nowMs))
        this.#fail(
          offset,
          `of key ${key} is delivered to ${nameOf(holder)} while ${nameOf(out.holder)} has ${earlier}`,
        );
    }
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
    const { nacked, deadlineMs } = delivered;
    return nacked || nowMs >= deadlineMs || !this.#lasted(delivered);
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

  #isSettled(offset: number): boolean {
    return offset < this.#cursorEnd && settles(this.#cursor ?? NO_CURSOR, offset);
  }

  #attemptsOf(offset: number): number {
    const { attempts } = this.#cursor ?? NO_CURSOR;
    return attempts.find(({ first, last }) => first <= offset && offset <= last)?.value ?? 0;
  }

  #fail(offset: number, what: string): never {
    throw new Violation(`${this.#what}: ${this.#log.name}-${offset} ${what}`);
  }
}

function settles({ floor, settled }: Cursor, offset: number): boolean {
  return offset < floor || settled.some(({ first, last }) => first <= offset && offset <= last);
}

function nameOf({ hash, relay }: Holder): string {
  return `client ${hash.toString(16)} at ${relay}`;
}
