// What a broker does about one partition that is assigned to it, or that it still has: take it, open it, hand
// it over, tell the store. Pure: stepOwnership() takes an event and says what to do now; one piece of work at
// a time is under way for a partition.
//
//            nobody alive holds it        acquire            open
//   seeking ───────────────────────▶ free ──────▶ claimed ──────▶ owned
//    ▲  │ not assigned here                          │ moved         │ assigned to another, or leaving
//    │  ▼ any more                                   ▼               ▼
//    │ (none) ◀── seeking ◀────────── release ──── letGo ◀──────── hand over
//    └── from every state: the lease was lost, or the claim is stale
//
// What is under way when the lease is lost or the claim becomes stale is void: its result changes nothing,
// and the next piece of work waits until it has come. A partition that was opened under a void claim is
// abandoned at once.
import { assertNever, type ErrorCode } from './errors.ts';

export type OwnershipState =
  /** Assigned here; somebody may hold it. */
  | { readonly kind: 'seeking'; readonly sinceMs: number }
  /**
   * Nobody is in the way as of the claim `ownerEpoch`. `forced`: a living member has not handed it over in
   * time.
   */
  | { readonly kind: 'free'; readonly ownerEpoch: number; readonly forced: boolean }
  | { readonly kind: 'claimed'; readonly ownerEpoch: number }
  | { readonly kind: 'owned' }
  /** Nothing is written here any more; the store has not been told yet. */
  | { readonly kind: 'letGo'; readonly ownerEpoch: number; readonly note: Note; readonly sinceMs: number };

/**
 * What the next owner is left: nothing, what the former owner had left (never opened here), or what was
 * outstanding here.
 */
export type Note = 'none' | 'former' | 'own';

/** Whether a piece of work is under way, may count no more, or waits to be tried again. */
export type Work = 'none' | 'under way' | 'void' | 'resting';

export interface Ownership {
  readonly state: OwnershipState;
  readonly work: Work;
  /** Pieces of work that have failed in a row. */
  readonly failures: number;
}

/** What the assignment and the lease say at this moment. */
export interface OwnershipFacts {
  readonly nowMs: number;
  /** The lease holds and the assignment is the newest: new work may begin. */
  readonly mayAct: boolean;
  /** The partition is to be taken and kept. */
  readonly mine: boolean;
  /** What is owned is to be handed over. */
  readonly go: boolean;
  /** How long a living member may take to hand it over, and a release of unknown outcome is tried again. */
  readonly handOverMs: number;
}

export interface Failure {
  readonly code: ErrorCode;
  readonly reason: string;
}

/** How a piece of work has ended. */
export type WorkResult =
  | { readonly kind: 'acquired'; readonly ownerEpoch: number }
  | { readonly kind: 'acquire failed'; readonly failure: Failure }
  | { readonly kind: 'opened' }
  | { readonly kind: 'open failed'; readonly failure: Failure }
  /** Another broker was found to have taken it before it could be opened. */
  | { readonly kind: 'taken' }
  | { readonly kind: 'handed over'; readonly ownerEpoch: number }
  | { readonly kind: 'hand-over failed'; readonly failure: Failure }
  /** The claim that this broker has in the store, after a hand-over that failed; undefined: it has none. */
  | { readonly kind: 'claim found'; readonly ownerEpoch: number | undefined }
  | { readonly kind: 'claim not found out'; readonly failure: Failure }
  | { readonly kind: 'released' }
  | { readonly kind: 'release failed'; readonly failure: Failure }
  /** It was void before it had begun. */
  | { readonly kind: 'skipped' };

export type OwnershipEvent =
  | WorkResult
  /** The assignment or the lease has changed. */
  | { readonly kind: 'look' }
  /**
   * The store says who holds it. `by`: another member, which lives; undefined: nobody who could hand it over.
   */
  | { readonly kind: 'held'; readonly ownerEpoch: number; readonly by: string | undefined }
  /** The pause after a failure is over. */
  | { readonly kind: 'rested' }
  /** The lease is lost, or the broker stops: nothing may be written any more. */
  | { readonly kind: 'fenced'; readonly reason: string }
  /**
   * The partition was closed already: its topic has gone, or a write was refused because the claim is stale.
   */
  | { readonly kind: 'closed' };

export type OwnershipWork =
  | { readonly kind: 'acquire'; readonly ifEpoch: number }
  /** `again`: it has failed before, so that somebody may have taken it by force meanwhile. */
  | { readonly kind: 'open'; readonly again: boolean }
  | { readonly kind: 'hand over' }
  | { readonly kind: 'find claim' }
  | { readonly kind: 'release'; readonly ownerEpoch: number; readonly note: Note };

export type OwnershipEffect =
  | OwnershipWork
  | { readonly kind: 'abandon'; readonly reason: string }
  /** Asks the store who holds it, now and from time to time. */
  | { readonly kind: 'watch holder' }
  | { readonly kind: 'rest'; readonly delayMs: number }
  /** Tells the others that it is free. */
  | { readonly kind: 'announce' }
  | { readonly kind: 'forget' }
  | { readonly kind: 'count'; readonly what: OwnershipCount }
  | { readonly kind: 'warn'; readonly reason: string; readonly message: string };

export type OwnershipCount = 'acquisitions' | 'forcedAcquisitions' | 'handOvers' | 'abandons';

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1_000;

export function newOwnership(nowMs: number): Ownership {
  return { state: { kind: 'seeking', sinceMs: nowMs }, work: 'none', failures: 0 };
}

export interface OwnershipStep {
  readonly after: Ownership;
  /** To be performed in this order. At most one piece of work, the last. */
  readonly effects: readonly OwnershipEffect[];
}

export function stepOwnership(
  before: Ownership,
  event: OwnershipEvent,
  facts: OwnershipFacts,
): OwnershipStep {
  const step = new Step(before, facts);
  step.take(event);
  return { after: step.ownership, effects: step.effects };
}

/** One step in the making: the only writer of an Ownership. */
class Step {
  readonly effects: OwnershipEffect[] = [];
  readonly #facts: OwnershipFacts;
  #state: OwnershipState;
  #work: Work;
  #failures: number;

  constructor({ state, work, failures }: Ownership, facts: OwnershipFacts) {
    this.#facts = facts;
    this.#state = state;
    this.#work = work;
    this.#failures = failures;
  }

  get ownership(): Ownership {
    return { state: this.#state, work: this.#work, failures: this.#failures };
  }

  take(event: OwnershipEvent): void {
    switch (event.kind) {
      case 'look':
        this.#goOn();
        return;
      case 'held':
        this.#held(event);
        return;
      case 'rested':
        this.#ended();
        return;
      case 'fenced':
        this.#fenced(event.reason);
        return;
      case 'closed':
        this.#seekAgain();
        if (this.#work === 'none') this.#ended();
        return;
      default:
        this.#result(event);
    }
  }

  #result(event: WorkResult): void {
    if (this.#work === 'void') {
      if (event.kind === 'opened') this.#abandon('the claim was lost while the partition was being opened');
      if (event.kind === 'released') {
        this.#count('handOvers');
        this.effects.push({ kind: 'announce' });
      }
      this.#ended();
      return;
    }
    switch (event.kind) {
      case 'acquired': {
        this.#count('acquisitions');
        if (this.#state.kind === 'free' && this.#state.forced) this.#count('forcedAcquisitions');
        this.#state = { kind: 'claimed', ownerEpoch: event.ownerEpoch };
        // At once, even while the assignment is being read anew: whoever it names then finds it handed over
        // in order.
        if (this.#facts.mine) this.#begin({ kind: 'open', again: this.#failures > 0 });
        else this.#ended();
        return;
      }
      case 'acquire failed': {
        const { code } = event.failure;
        // ABORTED: somebody was quicker. FAILED_PRECONDITION: the topic was dropped; the assignment will say
        // so, too.
        if (code === 'ABORTED' || code === 'FAILED_PRECONDITION') this.#seek();
        if (code === 'ABORTED') this.#ended();
        else this.#failed(event.failure, 'acquired');
        return;
      }
      case 'opened':
        this.#failures = 0;
        this.#state = { kind: 'owned' };
        this.#ended();
        return;
      case 'open failed':
        // Otherwise it stays claimed: another claim would come without the former owner's note.
        if (event.failure.code === 'ABORTED') this.#seek();
        this.#failed(event.failure, 'opened');
        return;
      case 'taken':
        this.#seek();
        this.#ended();
        return;
      case 'handed over':
        this.#letGo(event.ownerEpoch, 'own');
        this.#ended();
        return;
      case 'hand-over failed':
        // What can't be handed over in order is abandoned. Released without a note it need not be taken by
        // force.
        this.#warn('a partition was not handed over in order', event.failure.reason);
        this.#count('abandons');
        this.#abandon('it could not be handed over in order');
        this.#seek();
        this.effects.push({ kind: 'find claim' });
        return;
      case 'claim found':
        if (event.ownerEpoch !== undefined) this.#letGo(event.ownerEpoch, 'none');
        this.#ended();
        return;
      case 'claim not found out':
        this.#failed(event.failure, 'looked at');
        return;
      case 'skipped':
        this.#ended();
        return;
      case 'released':
        this.#count('handOvers');
        this.#released();
        return;
      case 'release failed':
        this.#releaseFailed(event.failure);
        return;
      default:
        assertNever(event);
    }
  }

  #held({ ownerEpoch, by }: OwnershipEvent & { kind: 'held' }): void {
    if (this.#work !== 'none' || this.#state.kind !== 'seeking') return;
    const { nowMs, handOverMs } = this.#facts;
    if (by !== undefined) {
      if (nowMs - this.#state.sinceMs < handOverMs) return;
      this.#warn('not handed over in time: taking it by force', `${by} has it`);
    }
    this.#state = { kind: 'free', ownerEpoch, forced: by !== undefined };
    this.#goOn();
  }

  #fenced(reason: string): void {
    const { kind } = this.#state;
    if (kind === 'owned') this.#count('abandons');
    if (kind !== 'seeking' && kind !== 'free') this.#abandon(reason);
    this.#seekAgain();
  }

  #seekAgain(): void {
    this.#seek();
    if (this.#work === 'under way') this.#work = 'void';
  }

  /** Begins the next piece of work, if there is one to do now. */
  #goOn(): void {
    const { mayAct, mine, go } = this.#facts;
    const state = this.#state;
    // Nothing is written under a claim that was let go, so that to say so needs no lease.
    if (this.#work !== 'none' || (!mayAct && state.kind !== 'letGo')) return;
    switch (state.kind) {
      case 'seeking':
        if (!mine) this.effects.push({ kind: 'forget' });
        break;
      case 'free':
        if (mine) this.#begin({ kind: 'acquire', ifEpoch: state.ownerEpoch });
        else this.effects.push({ kind: 'forget' });
        break;
      case 'claimed':
        if (mine) this.#begin({ kind: 'open', again: this.#failures > 0 });
        else {
          // What failed to open half-way may have left something open.
          this.#abandon('it was moved before it was open');
          this.#letGo(state.ownerEpoch, 'former');
          this.#goOn();
        }
        break;
      case 'owned':
        // Not assigned to anybody: the coordinator has not heard of the topic, or the store has forgotten
        // what it assigned.
        if (go) this.#begin({ kind: 'hand over' });
        break;
      case 'letGo':
        this.#begin({ kind: 'release', ownerEpoch: state.ownerEpoch, note: state.note });
        break;
      default:
        assertNever(state);
    }
  }

  #begin(work: OwnershipWork): void {
    this.#work = 'under way';
    this.effects.push(work);
  }

  #ended(): void {
    this.#work = 'none';
    this.#goOn();
    const isSought = this.#work === 'none' && this.#state.kind === 'seeking' && this.#facts.mine;
    if (isSought) this.effects.push({ kind: 'watch holder' });
  }

  #failed({ reason }: Failure, what: string): void {
    this.#failures += 1;
    this.#work = 'resting';
    this.#warn(`a partition could not be ${what}: trying again`, reason);
    const delayMs = Math.min(FIRST_RETRY_MS * 2 ** (this.#failures - 1), MAX_RETRY_MS);
    this.effects.push({ kind: 'rest', delayMs });
  }

  #releaseFailed(failure: Failure): void {
    const { nowMs, handOverMs } = this.#facts;
    const { code } = failure;
    const isInTime = this.#state.kind === 'letGo' && nowMs - this.#state.sinceMs < handOverMs;
    if (isInTime && (code === 'UNAVAILABLE' || code === 'RESOURCE_EXHAUSTED'))
      this.#failed(failure, 'released');
    // ABORTED: an earlier try has succeeded, or somebody has taken it. Otherwise it is taken by force before
    // long.
    else this.#released();
  }

  #released(): void {
    this.effects.push({ kind: 'announce' });
    this.#failures = 0;
    this.#seek();
    this.#ended();
  }

  #seek(): void {
    this.#state = { kind: 'seeking', sinceMs: this.#facts.nowMs };
  }

  #letGo(ownerEpoch: number, note: Note): void {
    this.#state = { kind: 'letGo', ownerEpoch, note, sinceMs: this.#facts.nowMs };
  }

  #abandon(reason: string): void {
    this.effects.push({ kind: 'abandon', reason });
  }

  #count(what: OwnershipCount): void {
    this.effects.push({ kind: 'count', what });
  }

  #warn(message: string, reason: string): void {
    this.effects.push({ kind: 'warn', reason, message });
  }
}
