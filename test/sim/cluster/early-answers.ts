// What publishers of topics with the durability `memory` were told before it was stored. One part of
// cluster-checker.ts.
//
//   fenced     no owner answers before it has stored while its lease has ended
//   placed     what comes to the place that was told is what it was told of, while the owner that has told it
//              has the partition
//   kept       who loses a partition and lives passes on what it has answered: it comes to a log, later and
//              elsewhere than was told. It is lost only with the process of an owner that has answered it and
//              not stored it
//   in order   an owner that lets go in order, or stops, has stored it before
import type { SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';
import type { PartitionTruth } from './partition-truth.ts';
import type { SentIndex } from './sent-index.ts';

interface Answer {
  readonly memberId: string;
  /** Of the partition; undefined: it has lost that since, and passes on what it had. */
  readonly tenure: number | undefined;
}

interface Owed extends Answer {
  readonly sent: SentMessage;
  readonly truth: PartitionTruth;
  readonly offset: number;
}

export class EarlyAnswers {
  readonly #sent: SentIndex;
  readonly #holdsLease: (memberId: string) => boolean;
  /** By place and identity: which owner has said so on a link. */
  readonly #answers = new Map<string, Answer>();
  readonly #owed = new Map<SentMessage, Owed>();
  readonly #dead = new Set<string>();

  constructor(sent: SentIndex, holdsLease: (memberId: string) => boolean) {
    this.#sent = sent;
    this.#holdsLease = holdsLease;
  }

  /** The owner says so to a relay. */
  answered(
    memberId: string,
    truth: PartitionTruth,
    firstOffset: number,
    identities: readonly string[],
  ): void {
    for (const [index, identity] of identities.entries()) {
      const offset = firstOffset + index;
      const sent = this.#sent.get(identity);
      if (sent === undefined || truth.log[offset]?.sent === sent) continue;
      this.#checkLease(memberId, truth, offset, sent);
      const isOwner = truth.ownerId === memberId;
      const answer = { memberId, tenure: isOwner ? truth.tenure : undefined };
      this.#answers.set(placeOf(truth, offset, sent), answer);
      // Passed on by a former owner: now it is this one's.
      if (this.#owed.has(sent)) this.#owed.set(sent, { sent, truth, offset, ...answer });
    }
  }

  /**
   * A publisher hears, from a broker, of what is not at that place. `atOnce`: if that broker is the owner it
   * has only now said so itself.
   */
  told(truth: PartitionTruth, sent: SentMessage, offset: number, broker: string, atOnce: boolean): void {
    const isOwner = truth.ownerId === broker && atOnce;
    const answer = this.#answers.get(placeOf(truth, offset, sent)) ?? {
      memberId: broker,
      tenure: isOwner ? truth.tenure : undefined,
    };
    if (isOwner && answer.memberId === broker) this.#checkLease(broker, truth, offset, sent);
    if (this.#dead.has(answer.memberId) || truth.deleted || this.#sent.wasStored(sent)) return;
    const owed = { sent, truth, offset, ...answer };
    const there = truth.log[offset]?.sent;
    if (there !== undefined) this.#checkPlace(owed, there, answer.memberId);
    this.#owed.set(sent, owed);
  }

  /** Returns whether it is what a publisher was told to be there. */
  appended(memberId: string, truth: PartitionTruth, offset: number, sent: SentMessage): boolean {
    if (this.#owed.size === 0) return false;
    const owed = this.#owed.get(sent);
    this.#owed.delete(sent);
    for (const other of this.#owed.values())
      if (other.truth === truth && other.offset === offset) this.#checkPlace(other, sent, memberId);
    return owed?.truth === truth && owed.offset === offset;
  }

  /** The member has lost the partition, or all of them, and lives. */
  lost(memberId: string, truth?: PartitionTruth): void {
    this.#sent.passesOn(memberId);
    for (const owed of this.#owed.values())
      if (owed.memberId === memberId && (truth ?? owed.truth) === owed.truth)
        this.#owed.set(owed.sent, { ...owed, tenure: undefined });
  }

  /** Its process has ended. */
  died(memberId: string): void {
    this.#dead.add(memberId);
    for (const { sent, memberId: by } of this.#owed.values()) if (by === memberId) this.#owed.delete(sent);
  }

  /** In order. */
  released(memberId: string, truth: PartitionTruth): void {
    for (const owed of this.#owed.values())
      if (owed.truth === truth && owed.memberId === memberId && owed.tenure === truth.tenure)
        throw new Violation(
          `${truth.name}: ${memberId} has let go without storing ${owed.sent.identity}, acknowledged at ${owed.offset}`,
        );
  }

  /** Its process ends in order. */
  stopped(memberId: string): void {
    for (const { memberId: by, truth, sent, offset } of this.#owed.values())
      if (by === memberId && !truth.deleted)
        throw new Violation(
          `${truth.name}: ${memberId} has stopped without storing ${sent.identity}, acknowledged at ${offset}`,
        );
  }

  /** The first that is still to come. */
  get firstMissing(): string | undefined {
    for (const { sent, truth, offset } of this.#owed.values())
      if (!truth.deleted) return `${sent.identity} at ${truth.name}-${offset}`;
    return undefined;
  }

  #checkLease(memberId: string, truth: PartitionTruth, offset: number, { identity }: SentMessage): void {
    if (!this.#holdsLease(memberId))
      throw new Violation(
        `${memberId} acknowledges ${identity} at ${truth.name}-${offset}, not stored, although its lease has ended`,
      );
  }

  #checkPlace({ sent, truth, offset, memberId, tenure }: Owed, there: SentMessage, by: string): void {
    if (memberId === by && tenure === truth.tenure && there !== sent)
      throw new Violation(
        `${sent.identity} was acknowledged at ${truth.name}-${offset}, where ${memberId} has stored ${there.identity}`,
      );
  }
}

function placeOf(truth: PartitionTruth, offset: number, { identity }: SentMessage): string {
  return `${truth.name}-${offset} ${identity}`;
}
