// A consumer whose messages come from several owners: who is given how much credit, who is told what the
// client says of its messages, and what is kept while a partition moves. Pure: step() takes an event and says
// what to do, in this order. What owners deliver does not pass here: it goes on as it comes, within the
// credit.
//
//   opening ─opened─▶ open ─quiesce─▶ quiet ─leave─▶ left        leave: from every phase
//
//   a part (one owner's)   event                       → state        what is done
//   (none)                 routed, it is an owner      → wanted       a leg is made; the one here joins
//   wanted                 joined                      → attached     gets a share of the credit
//   attached               left                        → wanted       its share goes to others
//   attached               routed, it is none          → lingering    until the hand-over it still delivers
//   wanted                 routed, it is none          → (none)       dropped
//   lingering              routed, it is one again     → attached
//   lingering              left, or for too long       → (none)       dropped; its leases last
//
// Invariants: together the owners never have more credit than the consumer gave (credit-shares.ts); what the
// client says is told to one owner, or kept until there is one; once it has left nobody is told anything but
// that.

import type { PartLimits } from './consumer-part.ts';
import type { ConsumerLimits } from './credit.ts';
import { CreditShares, type ShareOrder } from './credit-shares.ts';
import type { LeasesOnLeave } from './delivery-events.ts';
import { assertNever } from './errors.ts';
import { KeptSettles } from './kept-settles.ts';
import type { SettleOperation } from './settle-request.ts';

export type ConsumerPhase = 'opening' | 'open' | 'quiet' | 'left';

/** The world at this moment. */
export interface RelayFacts {
  readonly nowMs: number;
  /** The part that can be told of the partition's messages now; undefined: nobody can. */
  readonly tellable: (partition: number) => string | undefined;
  /** Deliveries that wait for the consumer's stream. */
  readonly queued: number;
}

export type ConsumerEvent =
  /** The members that own the topic's partitions now, of which there are so many. */
  | { readonly kind: 'routed'; readonly owners: readonly string[]; readonly partitions: number }
  /** What the routes ask for is done: all legs have been made. */
  | { readonly kind: 'placed' }
  | { readonly kind: 'joined'; readonly part: string }
  | { readonly kind: 'left'; readonly part: string }
  /** It has lingered for long enough. */
  | { readonly kind: 'lingered'; readonly part: string }
  | {
      readonly kind: 'credited';
      readonly part: string;
      readonly sequence: number;
      readonly outstandingMessages: number;
    }
  | { readonly kind: 'wants'; readonly part: string; readonly more: boolean }
  /** The client's words. */
  | { readonly kind: 'limits'; readonly limits: ConsumerLimits }
  | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] }
  /** The owner did not have those partitions any more. */
  | { readonly kind: 'bounced'; readonly operations: readonly SettleOperation[] }
  /** Somebody may be told again: a link takes more, or some time has passed (`retried`). */
  | { readonly kind: 'look'; readonly retried: boolean }
  /** Partitions that the topic has; undefined: the store did not say. */
  | { readonly kind: 'known'; readonly partitions: number | undefined }
  | { readonly kind: 'drain'; readonly draining: boolean }
  /** Every owner is asked what is outstanding. */
  | { readonly kind: 'count' }
  | { readonly kind: 'turn' }
  /** All that waited for the stream is gone. */
  | { readonly kind: 'flushed' }
  | { readonly kind: 'quiesce' }
  | { readonly kind: 'leave'; readonly leases: LeasesOnLeave };

export type ConsumerEffect =
  | { readonly kind: 'make leg'; readonly part: string }
  /** It delivers nothing more; its leases last until their deadlines. */
  | { readonly kind: 'drop leg'; readonly part: string }
  | { readonly kind: 'linger'; readonly part: string }
  | { readonly kind: 'stop lingering'; readonly part: string }
  | {
      readonly kind: 'credit';
      readonly part: string;
      readonly sequence: number;
      readonly limits: PartLimits;
    }
  /** All legs repeat what is in force, with this deadline. */
  | { readonly kind: 'deadline'; readonly ackDeadlineMs: number }
  | { readonly kind: 'settle'; readonly part: string; readonly operations: readonly SettleOperation[] }
  /** The consumer is gone: what it had acknowledged is to be settled without it. */
  | { readonly kind: 'settle later'; readonly acks: readonly SettleOperation[] }
  /** `look` after so long. */
  | { readonly kind: 'retry'; readonly afterMs: number }
  /** `known`, once the store says whether the topic has so many partitions. */
  | { readonly kind: 'ask'; readonly least: number }
  /** It wants a `turn` now and then. */
  | { readonly kind: 'restless' }
  /** Nothing more comes, and owners were told what the client has said. */
  | { readonly kind: 'is quiet' }
  | { readonly kind: 'leave'; readonly leases: LeasesOnLeave };

export interface ConsumerPartsOptions {
  /** The part of this broker itself. */
  readonly here: string;
  readonly limits: ConsumerLimits;
  readonly draining: boolean;
  /** Of the topic: what is said of an earlier one of its name means nothing. */
  readonly logEpoch: number;
  /** Which owner is the first to be given credit where there is not enough for all: each has another. */
  readonly turn: number;
}

interface Part {
  attached: boolean;
  lingering: boolean;
}

const FIRST_RETRY_MS = 10;
const MAX_RETRY_MS = 250;

export class ConsumerParts {
  readonly #options: ConsumerPartsOptions;
  readonly #shares: CreditShares<string>;
  readonly #parts = new Map<string, Part>();
  readonly #kept = new KeptSettles();
  /** The newest order of each part that has not confirmed it. */
  readonly #unconfirmed = new Map<string, number>();
  /** Parts that are there when it opens. They are given their shares together: one alone would get all. */
  readonly #waiting = new Set<string>();
  #phase: ConsumerPhase = 'opening';
  #limits: ConsumerLimits;
  #draining: boolean;
  /** How many partitions the topic had when its owners were last looked up. */
  #partitions = 0;
  /** Partitions of which something is kept, while the store is asked whether they exist. */
  #asked: readonly number[] = [];
  #retrying = false;
  #retryMs = FIRST_RETRY_MS;
  #effects: ConsumerEffect[] = [];

  constructor(options: ConsumerPartsOptions) {
    const { limits, draining } = options;
    this.#options = options;
    this.#limits = limits;
    this.#draining = draining;
    this.#shares = new CreditShares(limits.maxOutstandingMessages, limits.maxOutstandingBytes);
  }

  get phase(): ConsumerPhase {
    return this.#phase;
  }

  get limits(): ConsumerLimits {
    return this.#limits;
  }

  get partitions(): number {
    return this.#partitions;
  }

  /** It has something to gain by a `turn`. */
  get restless(): boolean {
    return this.#phase !== 'left' && this.#phase !== 'quiet' && this.#shares.restless;
  }

  step(event: ConsumerEvent, facts: RelayFacts): ConsumerEffect[] {
    this.#effects = [];
    if (this.#phase !== 'left') this.#take(event, facts);
    else if (event.kind === 'bounced') this.#settleLater(event.operations);
    return this.#effects;
  }

  #take(event: ConsumerEvent, facts: RelayFacts): void {
    switch (event.kind) {
      case 'routed':
        this.#routed(event);
        break;
      case 'placed':
        this.#open();
        this.#retryMs = FIRST_RETRY_MS;
        this.#sendKept(facts);
        break;
      case 'joined':
        this.#join(event.part);
        this.#sendKept(facts);
        break;
      case 'left':
        this.#lost(event.part, facts);
        break;
      case 'lingered':
        this.#drop(event.part);
        this.#checkQuiet(facts);
        break;
      case 'credited': {
        const { part, sequence, outstandingMessages } = event;
        if (this.#unconfirmed.get(part) === sequence) this.#unconfirmed.delete(part);
        this.#give(this.#shares.credited(part, sequence, outstandingMessages));
        this.#checkQuiet(facts);
        break;
      }
      case 'wants':
        this.#give(this.#shares.wants(event.part, event.more));
        this.#checkRestless();
        break;
      case 'limits':
        this.#setLimits(event.limits);
        break;
      case 'settle':
        this.#settle(event.operations, facts);
        break;
      case 'bounced':
        for (const operation of event.operations) this.#keep(operation, facts);
        break;
      case 'look':
        if (event.retried) {
          this.#retrying = false;
          this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
        }
        this.#sendKept(facts);
        break;
      case 'known':
        this.#known(event.partitions ?? Number.POSITIVE_INFINITY, facts);
        break;
      case 'drain':
        if (this.#draining === event.draining) break;
        this.#draining = event.draining;
        this.#give(this.#shares.again());
        break;
      case 'count':
        this.#give(this.#shares.again());
        break;
      case 'turn':
        if (this.#phase !== 'quiet') this.#give(this.#shares.turn());
        break;
      case 'flushed':
        this.#checkQuiet(facts);
        break;
      case 'quiesce':
        this.#enter('quiet');
        this.#give(this.#shares.setTotal(0, 0));
        this.#checkQuiet(facts);
        break;
      case 'leave':
        this.#leave(event.leases, facts);
        break;
      default:
        assertNever(event);
    }
  }

  #enter(phase: ConsumerPhase): void {
    this.#phase = phase;
  }

  #routed({ owners, partitions }: ConsumerEvent & { kind: 'routed' }): void {
    this.#partitions = partitions;
    const { here } = this.#options;
    for (const owner of owners) {
      const part = this.#parts.get(owner);
      if (part !== undefined) this.#keepPart(owner, part);
      else if (owner !== here) {
        this.#parts.set(owner, { attached: false, lingering: false });
        this.#effects.push({ kind: 'make leg', part: owner });
      }
    }
    for (const [name, part] of this.#parts) {
      if (owners.includes(name) || part.lingering) continue;
      if (part.attached) {
        part.lingering = true;
        this.#effects.push({ kind: 'linger', part: name });
      } else this.#drop(name);
    }
    if (owners.includes(here) && !this.#parts.has(here)) {
      this.#parts.set(here, { attached: false, lingering: false });
      this.#join(here);
    }
  }

  #join(name: string): void {
    const part = this.#parts.get(name);
    if (part === undefined) return;
    part.attached = true;
    if (this.#phase === 'opening') {
      this.#waiting.add(name);
      return;
    }
    this.#give(this.#shares.join(name));
    this.#checkRestless();
  }

  #open(): void {
    if (this.#phase !== 'opening') return;
    this.#enter('open');
    const parts = [...this.#waiting];
    this.#waiting.clear();
    const first = this.#options.turn % Math.max(1, parts.length);
    this.#give(this.#shares.join(...parts.slice(first), ...parts.slice(0, first)));
    this.#checkRestless();
  }

  #lost(name: string, facts: RelayFacts): void {
    const part = this.#parts.get(name);
    if (part === undefined) return;
    part.attached = false;
    this.#unconfirmed.delete(name);
    this.#waiting.delete(name);
    this.#give(this.#shares.leave(name));
    if (part.lingering) this.#drop(name);
    this.#checkQuiet(facts);
  }

  #keepPart(name: string, part: Part): void {
    if (!part.lingering) return;
    part.lingering = false;
    this.#effects.push({ kind: 'stop lingering', part: name });
  }

  #drop(name: string): void {
    const part = this.#parts.get(name);
    if (part === undefined) return;
    this.#keepPart(name, part);
    this.#parts.delete(name);
    this.#unconfirmed.delete(name);
    this.#effects.push({ kind: 'drop leg', part: name });
    // The session here stays, and may be given a share again.
    if (name === this.#options.here) this.#order({ owner: name, sequence: 0, messages: 0, bytes: 0 });
    this.#give(this.#shares.leave(name));
  }

  #give(orders: readonly ShareOrder<string>[]): void {
    // All of them are noted before any is told: the part that is here confirms at once.
    for (const order of orders) {
      this.#unconfirmed.set(order.owner, order.sequence);
      this.#order(order);
    }
  }

  #order({ owner: part, sequence, messages, bytes }: ShareOrder<string>): void {
    const { ackDeadlineMs } = this.#limits;
    const draining = this.#draining;
    const limits = { maxOutstandingMessages: messages, maxOutstandingBytes: bytes, ackDeadlineMs, draining };
    this.#effects.push({ kind: 'credit', part, sequence, limits });
  }

  #setLimits(limits: ConsumerLimits): void {
    if (this.#phase === 'quiet') return;
    const isOtherDeadline = limits.ackDeadlineMs !== this.#limits.ackDeadlineMs;
    this.#limits = limits;
    this.#give(this.#shares.setTotal(limits.maxOutstandingMessages, limits.maxOutstandingBytes));
    if (isOtherDeadline) this.#effects.push({ kind: 'deadline', ackDeadlineMs: limits.ackDeadlineMs });
  }

  #settle(operations: readonly SettleOperation[], facts: RelayFacts): void {
    const { logEpoch } = this.#options;
    const sendable = new Map<string, SettleOperation[]>();
    for (const operation of operations) {
      if (operation.logEpoch !== logEpoch) continue;
      const { partition } = operation;
      // What was said before must not be overtaken.
      const part = this.#kept.has(partition) ? undefined : facts.tellable(partition);
      if (part === undefined) this.#keep(operation, facts);
      else {
        const others = sendable.get(part);
        if (others === undefined) sendable.set(part, [operation]);
        else others.push(operation);
      }
    }
    for (const [part, told] of sendable) this.#effects.push({ kind: 'settle', part, operations: told });
    if (!this.#kept.empty) this.#askUnknown();
  }

  #keep(operation: SettleOperation, { nowMs }: RelayFacts): void {
    this.#kept.add(operation, nowMs);
    this.#retryLater();
  }

  #sendKept(facts: RelayFacts): void {
    for (const partition of this.#kept.partitions) {
      const part = facts.tellable(partition);
      if (part === undefined) continue;
      this.#effects.push({ kind: 'settle', part, operations: this.#kept.take(partition, facts.nowMs) });
    }
    if (!this.#kept.empty) {
      this.#retryLater();
      this.#askUnknown();
    } else {
      this.#retryMs = FIRST_RETRY_MS;
      this.#checkQuiet(facts);
    }
  }

  #retryLater(): void {
    if (this.#retrying) return;
    this.#retrying = true;
    this.#effects.push({ kind: 'retry', afterMs: this.#retryMs });
  }

  /** What was said of partitions that the topic does not have means nothing, and would be kept for ever. */
  #askUnknown(): void {
    if (this.#asked.length > 0) return;
    const unknown = this.#kept.partitions.filter((partition) => partition >= this.#partitions);
    if (unknown.length === 0) return;
    this.#asked = unknown;
    this.#effects.push({ kind: 'ask', least: Math.max(...unknown) + 1 });
  }

  #known(partitions: number, facts: RelayFacts): void {
    this.#kept.drop(this.#asked.filter((partition) => partition >= partitions));
    this.#asked = [];
    this.#checkQuiet(facts);
  }

  #checkQuiet({ queued }: RelayFacts): void {
    if (this.#phase !== 'quiet' || this.#unconfirmed.size > 0) return;
    if (queued === 0 && this.#kept.empty) this.#effects.push({ kind: 'is quiet' });
  }

  #checkRestless(): void {
    if (this.#shares.restless) this.#effects.push({ kind: 'restless' });
  }

  #leave(leases: LeasesOnLeave, { nowMs }: RelayFacts): void {
    this.#enter('left');
    this.#effects.push({ kind: 'leave', leases });
    this.#settleLater(this.#kept.partitions.flatMap((partition) => this.#kept.take(partition, nowMs)));
  }

  /** With its leases gone only its acks still mean something. */
  #settleLater(operations: readonly SettleOperation[]): void {
    const acks = operations.filter(({ kind }) => kind === 'ack');
    if (acks.length > 0) this.#effects.push({ kind: 'settle later', acks });
  }
}
