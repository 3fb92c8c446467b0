// What one partition's log and claims really are, and what publishers were told of it. It learns of changes
// in the instant in which the store changes, behind all networks.
//
//   contiguous   offsets follow each other, publish times don't go back
//   intact       every frame holds exactly what some publisher has sent
//   one writer   only the newest claim writes, and no two members write under one ownerEpoch
//   ordered      the messages of a publisher and key come to the log in the order of publishing; again only
//                if they were sent again. Where there is one broker alone they come in whole batches, none
//                of which follows a later one
//   kept         what a publisher was told is in the log. A store that went back may lose what its owner did
//                not outlive
import type { PartitionId } from '../../../services/broker/core/partition.ts';
import type { Chunk, LogRange } from '../../../services/broker/ports/log-store.ts';
import { decodeFrames } from '../received.ts';
import { publisherOf, type SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';
import type { EarlyAnswers } from './early-answers.ts';
import type { SentIndex } from './sent-index.ts';

export interface Claim {
  readonly memberId: string;
  readonly ownerEpoch: number;
}

export interface Logged {
  readonly sent: SentMessage;
  readonly publishTimeMs: number;
  /** By the checker's clock; the first time, if the store had lost the message and has it again. */
  readonly firstAppendedMs: number;
  /** In which it was appended. */
  readonly chunk: { readonly startByte: number; readonly endByte: number };
  told: boolean;
}

/** A message that a store that went back has lost: the owner that still has it must append it again. */
interface Lost {
  readonly offset: number;
  readonly logged: Logged;
  /** The member that had the partition, and has the message in memory. */
  readonly owner: string;
}

export interface PartitionCheckpoint {
  readonly endOffset: number;
  readonly headOffset: number;
  readonly claim: Claim | undefined;
}

/**
 * How long a robbed owner may not know it: one that hangs in a hand-over, cut off from the store, for its
 * lease and then some.
 */
const NEWS_MS = 10_000;
/**
 * The time between an owner's last look at its log and its release: if the store goes back just then, the
 * owner can't know.
 */
const RELEASE_MS = 500;

/** Publish times may go back only by more than this, as when a clock was ahead. */
const MAX_BACK_MS = 5_000;

export class PartitionTruth {
  readonly id: PartitionId;
  readonly log: Logged[] = [];
  readonly byKey = new Map<string, number[]>();
  headOffset = 0;
  /** What is below was deleted: a store that goes back has it again, but its owner does not. */
  furthestHead = 0;
  /** The furthest that the log has ever come: its owner may know of more than the store does. */
  furthestEnd = 0;
  /** The same in bytes. */
  furthestEndByte = 0;
  /** Publishers were told of something below it, which is there. */
  toldEnd = 0;
  /** Publishers were told of something before its owner knew that it is stored: durability `memory`. */
  toldEarly = false;
  /** When it was acquired last. */
  acquiredMs = 0;
  /** Its topic is being deleted: nothing is promised any more. */
  deleted = false;
  dropped = false;
  claim: Claim | undefined;
  /** The owner by the newest claim, even if the store has forgotten that; empty: nobody. */
  ownerId = '';
  /** A number that changes whenever the partition changes hands without a note of what is outstanding. */
  chain = 0;
  /**
   * Members that may not know yet that the partition was taken from them while they lived, and since when.
   */
  readonly #robbed = new Map<string, number>();
  /** How often the store has gone back. */
  returns = 0;
  #wentBackMs = Number.NEGATIVE_INFINITY;
  /**
   * Counts owners: who has to claim the partition again because the store has forgotten the claim stays the
   * same one.
   */
  tenure = 0;
  /**
   * In which its owner has appended: then it has opened the log, and has in memory what came lately, whoever
   * has appended that.
   */
  #openedTenure = -1;
  /** Whether the store's note may be of a time that it has since forgotten. */
  #isNoteOld = false;
  /** The greatest chain so far; below, the last one of each member. */
  #newest = 0;
  readonly #chains = new Map<string, number>();
  #lost: Lost[] = [];
  /** What was once at an offset and is not any more. */
  readonly #former = new Map<number, Set<string>>();
  readonly #writers = new Map<number, string>();
  /** Offsets that are damaged and were given up. */
  readonly #givenUp = new Set<number>();
  /** There is one broker alone. */
  readonly #alone: boolean;
  /** The last message of each publisher and key. */
  readonly #last = new Map<string, SentMessage>();

  constructor(id: PartitionId, alone = false) {
    this.id = id;
    this.#alone = alone;
  }

  get name(): string {
    return `${this.id.logEpoch}.${this.id.partition}`;
  }

  get endOffset(): number {
    return this.log.length;
  }

  /** Whether nobody can want it any more: it is damaged, and an operator has given it up. */
  isGivenUp(offset: number): boolean {
    return this.#givenUp.has(offset);
  }

  gaveUpDamaged({ firstOffset, endOffset }: LogRange): void {
    for (let offset = firstOffset; offset < endOffset; offset += 1) this.#givenUp.add(offset);
  }

  /** Whether the member may not know yet that the partition is another's. */
  mayBeLate(memberId: string, nowMs: number): boolean {
    return nowMs - (this.#robbed.get(memberId) ?? Number.NEGATIVE_INFINITY) < NEWS_MS;
  }

  /** Whether the message was ever at the offset. */
  held(offset: number, { identity, content }: { identity: string; content: string }): boolean {
    const logged = this.log[offset]?.sent;
    if (logged?.identity === identity && logged.content === content) return true;
    return this.#former.get(offset)?.has(`${identity} ${content}`) === true;
  }

  /** `holderLives`: the former holder's lease holds. */
  acquired(
    claim: Claim,
    above: number | undefined,
    withNote: boolean,
    holderLives: boolean,
    nowMs: number,
  ): void {
    const before = this.claim;
    if (before !== undefined && claim.ownerEpoch <= before.ownerEpoch)
      throw new Violation(`${this.name}: epoch ${claim.ownerEpoch} was given after ${before.ownerEpoch}`);
    // With `above` the owner goes on with what it has in memory: the store had forgotten its claim.
    if (above !== undefined) this.chain = this.#chains.get(claim.memberId) ?? this.chain;
    else {
      this.tenure += 1;
      if (!withNote || this.#isNoteOld) {
        this.#newest += 1;
        this.chain = this.#newest;
      }
    }
    this.acquiredMs = nowMs;
    this.#chains.set(claim.memberId, this.chain);
    if (before !== undefined && holderLives) this.#robbed.set(before.memberId, nowMs);
    this.#robbed.delete(claim.memberId);
    this.claim = claim;
    this.ownerId = claim.memberId;
    this.#lost = this.#lost.filter(({ owner }) => owner === claim.memberId);
  }

  released(memberId: string, nowMs: number): void {
    this.#checkWriter(memberId, this.claim?.ownerEpoch ?? 0, 'released');
    if (this.wentBackLately(nowMs)) this.gaveUp(memberId);
    const missing = this.#lost.find(({ logged, owner }) => logged.told && owner === memberId);
    if (missing !== undefined)
      throw new Violation(
        `${this.name}: ${memberId} has let go without bringing ${missing.logged.sent.identity} back to ${missing.offset}`,
      );
    this.claim = { memberId: '', ownerEpoch: this.claim?.ownerEpoch ?? 0 };
    this.ownerId = '';
    this.#isNoteOld = false;
  }

  /** An owner that lets go now may not know. */
  wentBackLately(nowMs: number): boolean {
    return nowMs - this.#wentBackMs < RELEASE_MS;
  }

  wrote(memberId: string, ownerEpoch: number, what: string): void {
    this.#checkWriter(memberId, ownerEpoch, what);
  }

  appended(
    { memberId, ownerEpoch }: Claim,
    chunks: readonly Chunk[],
    sent: SentIndex,
    early: EarlyAnswers,
    nowMs: number,
  ): void {
    this.#checkWriter(memberId, ownerEpoch, 'appended');
    // A new owner that finds nothing in the log does not know when the last message was published.
    const isDateKnown = this.#openedTenure === this.tenure || this.headOffset < this.endOffset;
    this.#openedTenure = this.tenure;
    for (const chunk of chunks) {
      if (chunk.firstOffset !== this.endOffset)
        throw new Violation(
          `${this.name}: a chunk at ${chunk.firstOffset} was appended at ${this.endOffset}`,
        );
      // They may go further back: a clock was ahead, this member's or that of the owner before it.
      const backMs = (this.log.at(-1)?.publishTimeMs ?? 0) - chunk.publishTimeMs;
      if (isDateKnown && backMs > 0 && backMs <= MAX_BACK_MS)
        throw new Violation(`${this.name}: the publish time goes back at ${chunk.firstOffset}`);
      const frames = decodeFrames(chunk.bytes);
      if (frames.length !== chunk.count)
        throw new Violation(`${this.name}: a chunk of ${chunk.count} has ${frames.length} frames`);
      for (const frame of frames) {
        const offset = this.endOffset;
        const { logEpoch, partition, identity, content } = frame;
        if (logEpoch !== this.id.logEpoch || partition !== this.id.partition || frame.offset !== offset)
          throw new Violation(
            `${this.name}: the frame at ${offset} says ${logEpoch}.${partition}-${frame.offset}`,
          );
        const message = sent.get(identity);
        if (message === undefined || message.content !== content)
          throw new Violation(`${this.name}-${offset} is not what ${identity} was when it was published`);
        const again = this.#lost.find((each) => each.offset === offset);
        const same = again?.logged.sent === message;
        const isAnswered = early.appended(memberId, this, offset, message);
        const told = isAnswered || (same && again.logged.told);
        if (isAnswered) this.toldEarly = true;
        const { publishTimeMs, startByte } = chunk;
        const bytes = { startByte, endByte: startByte + chunk.bytes.length };
        const firstAppendedMs = same ? again.logged.firstAppendedMs : nowMs;
        this.log.push({ sent: message, publishTimeMs, firstAppendedMs, chunk: bytes, told });
        this.furthestEnd = Math.max(this.furthestEnd, this.endOffset);
        this.furthestEndByte = Math.max(this.furthestEndByte, bytes.endByte);
        if (told) this.toldEnd = this.endOffset;
        if (again !== undefined) this.#lost = this.#lost.filter((each) => each !== again);
        if (again !== undefined && !same && again.logged.told && again.owner === memberId)
          throw new Violation(
            `${this.name}-${offset}: ${again.logged.sent.identity} was acknowledged, and its owner has appended ${identity} there`,
          );
        const ofKey = this.byKey.get(message.key);
        if (ofKey === undefined) this.byKey.set(message.key, [offset]);
        else ofKey.push(offset);
        sent.appended(message, this.name);
        this.#checkOrder(offset, message, sent);
        if (this.#alone) this.#checkBatch(offset, message);
      }
    }
  }

  /** `early`: it may be on its way yet. */
  told(
    messages: readonly SentMessage[],
    firstOffset: number,
    early?: (message: SentMessage, offset: number) => void,
  ): void {
    if (this.dropped) return;
    if (early !== undefined) this.toldEarly = true;
    for (const [index, message] of messages.entries()) {
      const offset = firstOffset + index;
      const logged =
        this.log[offset]?.sent === message
          ? this.log[offset]
          : this.#lost.find((each) => each.offset === offset && each.logged.sent === message)?.logged;
      if (logged !== undefined) {
        logged.told = true;
        if (logged === this.log[offset]) this.toldEnd = Math.max(this.toldEnd, offset + 1);
      } else if (this.held(offset, message)) continue;
      else if (early !== undefined) early(message, offset);
      else
        throw new Violation(
          `${message.identity} was acknowledged at ${this.name}-${offset}, where ${this.log[offset]?.sent.identity ?? 'nothing'} is`,
        );
    }
  }

  checkpoint(): PartitionCheckpoint {
    const { endOffset, headOffset, claim } = this;
    return { endOffset, headOffset, claim };
  }

  /** The store has forgotten what came after the checkpoint. */
  wentBack(to: PartitionCheckpoint, nowMs: number, isAlive: (memberId: string) => boolean): void {
    this.returns += 1;
    this.#wentBackMs = nowMs;
    this.#isNoteOld = true;
    if (this.claim !== undefined) this.#robbed.set(this.claim.memberId, nowMs);
    const owner = this.claim?.memberId;
    const hasOpened = this.#openedTenure === this.tenure;
    const gone = this.log.splice(to.endOffset);
    for (const [index, logged] of gone.entries()) {
      const offset = to.endOffset + index;
      const former = this.#former.get(offset) ?? new Set();
      this.#former.set(offset, former.add(`${logged.sent.identity} ${logged.sent.content}`));
      if (hasOpened && owner !== undefined && isAlive(owner)) this.#lost.push({ offset, logged, owner });
    }
    for (const [key, offsets] of this.byKey)
      this.byKey.set(
        key,
        offsets.filter((offset) => offset < to.endOffset),
      );
    this.headOffset = to.headOffset;
    this.toldEnd = Math.min(this.toldEnd, to.endOffset);
    this.claim = to.claim;
    this.#writers.clear();
  }

  /** The member has stopped being an owner in another way than by a release: what only it had is gone. */
  gaveUp(memberId: string): void {
    this.#lost = this.#lost.filter(({ owner }) => owner !== memberId);
  }

  /**
   * In the end: the first message that a publisher was told of and that its living owner has not brought
   * back.
   */
  get firstMissing(): string | undefined {
    const missing = this.deleted ? undefined : this.#lost.find(({ logged }) => logged.told);
    return missing && `${missing.logged.sent.identity} at ${this.name}-${missing.offset}`;
  }

  #checkWriter(memberId: string, ownerEpoch: number, what: string): void {
    const { claim } = this;
    if (claim?.memberId !== memberId || claim.ownerEpoch !== ownerEpoch)
      throw new Violation(
        `${this.name}: ${memberId} has ${what} under epoch ${ownerEpoch}; ${claim?.memberId ?? 'nobody'} has ${claim?.ownerEpoch ?? 0}`,
      );
    const writer = this.#writers.get(ownerEpoch);
    if (writer !== undefined && writer !== memberId)
      throw new Violation(`${this.name}: ${writer} and ${memberId} have written under epoch ${ownerEpoch}`);
    this.#writers.set(ownerEpoch, memberId);
  }

  #checkBatch(offset: number, message: SentMessage): void {
    if (message.key === '') return;
    const who = `${publisherOf(message.identity)} ${message.key}`;
    const before = this.#last.get(who);
    this.#last.set(who, message);
    const continues =
      before !== undefined && before.batch === message.batch && message.nth === before.nth + 1;
    const begins =
      message.nth === message.batchFirst && (before === undefined || before.batch <= message.batch);
    if (!continues && !begins)
      throw new Violation(
        `${this.name}-${offset}: ${message.identity} of key ${message.key} follows ${before?.identity}`,
      );
  }

  #checkOrder(offset: number, message: SentMessage, sent: SentIndex): void {
    let copies = 0;
    const publisher = publisherOf(message.identity);
    for (const other of this.byKey.get(message.key) ?? []) {
      const { sent: earlier } = this.log[other]!;
      if (earlier === message) copies += 1;
      if (
        message.key !== '' &&
        !sent.isGivenUp(message) &&
        !sent.isPassedOn(message) &&
        !sent.wasElsewhere(message, this.name) &&
        other < offset &&
        earlier.nth > message.nth &&
        publisherOf(earlier.identity) === publisher &&
        copies === 0
      )
        throw new Violation(
          `${this.name}-${offset}: ${message.identity} of key ${message.key} follows ${earlier.identity}`,
        );
    }
    if (copies > sent.timesSent(message) && !sent.isPassedOn(message))
      throw new Violation(
        `${this.name}-${offset}: ${message.identity} is there ${copies} times and was sent ${sent.timesSent(message)} times`,
      );
  }
}
