// A relayed consumer's part at one owner: whether it is attached there, what the owner was told, and what it
// may not have heard. Pure: step() takes an event and says what to do, in this order.
//
//   state              event                          → state      what is done
//   down, resting      up                             → attached   attach, and the consumer may use it
//   attached           ended, with the link           → down       what was outstanding is gone with it
//   attached           ended for now, the link stays  → resting    the same, and up again after a while
//   attached           ended for good                 → down       the consumer ends
//   any                leave                          → over       detach, the link is released
//
// Invariants: nothing is told but while it is attached; what was settled before the owner has said anything
// comes back when the owner refuses, and nothing comes back twice.
//
// What is delivered and taken is no event: heard() and took() change a flag and a count, for each of the
// runs of messages that an owner sends, and make nothing.
import type { ConsumerLimits } from './credit.ts';
import type { LeasesOnLeave } from './delivery-events.ts';
import { assertNever, type ErrorCode } from './errors.ts';
import type { SettleOperation } from './settle-request.ts';

/** What an owner may have outstanding at the consumer, and how. */
export interface PartLimits extends ConsumerLimits {
  readonly draining: boolean;
}

interface Attached {
  readonly kind: 'attached';
  /** The order that is in force. */
  order: { readonly sequence: number; readonly limits: PartLimits } | undefined;
  /** What was settled while the owner has said nothing: it may refuse, and hears none of it then. */
  unheard: SettleOperation[] | undefined;
  taken: number;
  toldTaken: number;
}

export type PartState =
  | { readonly kind: 'down' }
  | Attached
  /** The owner has ended it, and may take it again. */
  | { readonly kind: 'resting' }
  | { readonly kind: 'over' };

export type PartEvent =
  /**
   * The link is up, or the rest is over. `opening`: the consumer has just begun, and its client has nothing.
   */
  | { readonly kind: 'up'; readonly opening: boolean }
  | { readonly kind: 'credit'; readonly sequence: number; readonly limits: PartLimits }
  /** Repeats the order that is in force, with another deadline. */
  | { readonly kind: 'deadline'; readonly ackDeadlineMs: number }
  | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] }
  /** The owner has ended it, or the link has closed. */
  | { readonly kind: 'ended'; readonly code: ErrorCode; readonly linkIsUp: boolean }
  | { readonly kind: 'leave'; readonly leases: LeasesOnLeave };

export type PartEffect =
  | { readonly kind: 'attach'; readonly fresh: boolean }
  // To the owner.
  | { readonly kind: 'credit'; readonly sequence: number; readonly limits: PartLimits }
  | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] }
  | { readonly kind: 'detach'; readonly leases: LeasesOnLeave }
  // To the consumer.
  | { readonly kind: 'joined' }
  | { readonly kind: 'left' }
  | { readonly kind: 'bounced'; readonly operations: readonly SettleOperation[] }
  | { readonly kind: 'end' }
  /** `up` after so long, if the link is up then. */
  | { readonly kind: 'rest'; readonly forMs: number }
  | { readonly kind: 'stop resting' }
  /** The link is not needed any more. */
  | { readonly kind: 'release' };

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1_000;
/**
 * The owner is told each time this many bytes were taken: well below its window, well above a word for each
 * message.
 */
export const TELL_TAKEN_BYTES = 256 * 1024;

export class ConsumerPart {
  #state: PartState = { kind: 'down' };
  #backoffMs = FIRST_BACKOFF_MS;
  /** It was not attached before. Later its client may have a newer stream, which has messages. */
  #first = true;

  get state(): PartState {
    return this.#state;
  }

  /** The owner has delivered something, or answered an order: it has not refused. */
  heard(): void {
    if (this.#state.kind === 'attached') this.#state.unheard = undefined;
  }

  /** As heard(), and messages have come. */
  delivered(): void {
    this.#backoffMs = FIRST_BACKOFF_MS;
    this.heard();
  }

  /** The consumer's stream has taken so many bytes. Returns the sum if the owner is to be told; else 0. */
  took(bytes: number): number {
    const state = this.#state;
    if (state.kind !== 'attached') return 0;
    state.taken += bytes;
    if (state.taken - state.toldTaken < TELL_TAKEN_BYTES) return 0;
    state.toldTaken = state.taken;
    return state.taken;
  }

  step(event: PartEvent): PartEffect[] {
    const state = this.#state;
    if (state.kind === 'over') return [];
    switch (event.kind) {
      case 'up':
        return state.kind === 'attached' ? [] : this.#attach(state.kind === 'resting', event.opening);
      case 'credit':
        return state.kind === 'attached' ? [order(state, event)] : [];
      case 'deadline': {
        if (state.kind !== 'attached' || state.order === undefined) return [];
        const { sequence, limits } = state.order;
        const { ackDeadlineMs } = event;
        return [order(state, { kind: 'credit', sequence, limits: { ...limits, ackDeadlineMs } })];
      }
      case 'settle':
        if (state.kind !== 'attached') return [];
        state.unheard?.push(...event.operations);
        return [event];
      case 'ended':
        return state.kind === 'attached' ? this.#ended(state, event) : [];
      case 'leave':
        return this.#leave(state, event.leases);
      default:
        return assertNever(event);
    }
  }

  #attach(rested: boolean, opening: boolean): PartEffect[] {
    this.#state = { kind: 'attached', order: undefined, unheard: [], taken: 0, toldTaken: 0 };
    const fresh = this.#first && opening;
    this.#first = false;
    const effects: PartEffect[] = rested ? [{ kind: 'stop resting' }] : [];
    effects.push({ kind: 'attach', fresh }, { kind: 'joined' });
    return effects;
  }

  #ended({ unheard = [] }: Attached, { code, linkIsUp }: PartEvent & { kind: 'ended' }): PartEffect[] {
    const effects: PartEffect[] = [];
    const isFinal = code !== 'UNAVAILABLE';
    // A link that has closed comes up again by itself.
    if (isFinal || !linkIsUp) this.#state = { kind: 'down' };
    else {
      this.#state = { kind: 'resting' };
      effects.push({ kind: 'rest', forMs: this.#backoffMs });
      this.#backoffMs = Math.min(this.#backoffMs * 2, MAX_BACKOFF_MS);
    }
    effects.push({ kind: 'left' });
    if (unheard.length > 0) effects.push({ kind: 'bounced', operations: unheard });
    if (isFinal) effects.push({ kind: 'end' });
    return effects;
  }

  #leave({ kind }: PartState, leases: LeasesOnLeave): PartEffect[] {
    this.#state = { kind: 'over' };
    const effects: PartEffect[] = [];
    if (kind === 'resting') effects.push({ kind: 'stop resting' });
    if (kind === 'attached') effects.push({ kind: 'detach', leases });
    effects.push({ kind: 'release' });
    return effects;
  }
}

function order(state: Attached, credit: PartEvent & { kind: 'credit' }): PartEffect {
  state.order = credit;
  return credit;
}
