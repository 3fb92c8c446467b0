// Which consumer of a subscription gets which ordering keys.
//
// Keys fall into slots by hash; each slot belongs to the consumer with the highest score for it (rendezvous
// hashing, Thaler and Ravishankar 1996), so a consumer that joins or leaves moves only its share of the
// slots. Of two consumers with the same hash, which are one client, the newest has the slots. A slot with
// outstanding messages moves only when none is left: until then nothing of it goes out.
//
// A slot is made when it is first asked for, and all are forgotten once no message waits or is outstanding
// and that is durable: an idle partition has none, whatever it has seen. When a consumer joins, only its own
// scores are compared, so thousands may come and go.

export const SLOTS = 256;

/** Stands for no consumer. Consumers have numbers from 1. */
export const NOBODY = 0;

/** Stands for consumers whose leases, given here or by the former owner, outlive their streams. */
export const FORMER = -1;

// The standings of consumers: slots go to those of the lowest standing that any consumer has.
const ACTIVE = 0;
/** The consumer let a lease expire, and has not been heard of since. */
const STALLED = 1;
/** The consumer will be stopped. */
const DRAINING = 2;

type Standing = typeof ACTIVE | typeof STALLED | typeof DRAINING;

interface Member {
  readonly hash: number;
  stalled: boolean;
  draining: boolean;
}

interface Slot {
  current: number;
  desired: number;
  /** The score of `desired`. */
  score: number;
  outstanding: number;
}

export class KeySlots {
  /** The consumers in the order in which they joined. */
  readonly #members = new Map<number, Member>();
  /** How many consumers have each standing. */
  readonly #standings: [number, number, number] = [0, 0, 0];
  /** Those in use, by their numbers. */
  readonly #slots: (Slot | undefined)[] = [];

  static slotOf(keyHash: number): number {
    return keyHash % SLOTS;
  }

  /** The consumer that may be given messages of the slot now; NOBODY: the slot moves, or there is none. */
  consumerOf(slot: number): number {
    return holderOf(this.#slot(slot));
  }

  /** The consumer that has the slot, also while it moves away; NOBODY before it is given to anybody. */
  currentOf(slot: number): number {
    return this.#slot(slot).current;
  }

  /** Returns the slots in use whose consumerOf has changed, as do leave, setStalled and setDraining. */
  join(consumer: number, hash: number): number[] {
    const before = this.#eligible;
    const member = { hash, stalled: false, draining: false };
    this.#members.set(consumer, member);
    this.#standings[ACTIVE] += 1;
    return this.#changed(consumer, member, undefined, before);
  }

  /** The caller has taken back everything outstanding at the consumer. */
  leave(consumer: number): number[] {
    const member = this.#members.get(consumer);
    if (member === undefined) return [];
    const before = this.#eligible;
    this.#members.delete(consumer);
    this.#standings[standingOf(member)] -= 1;
    return this.#changed(consumer, undefined, standingOf(member), before);
  }

  /** The consumer has taken over a lease of a former consumer: the slot is its own, unless another has it. */
  takeOver(slot: number, consumer: number): void {
    const taken = this.#slot(slot);
    if (taken.current === NOBODY) taken.current = consumer;
  }

  setStalled(consumer: number, stalled: boolean): number[] {
    return this.#set(consumer, (member) => {
      member.stalled = stalled;
    });
  }

  setDraining(consumer: number, draining: boolean): number[] {
    return this.#set(consumer, (member) => {
      member.draining = draining;
    });
  }

  leased(slot: number, count: number): void {
    this.#slot(slot).outstanding += count;
  }

  /** `count` messages of the slot are not outstanding any more. True: that let the slot move. */
  ended(slot: number, count: number): boolean {
    const ended = this.#slot(slot);
    ended.outstanding -= count;
    return move(ended);
  }

  /** Forgets all slots while nothing is outstanding. They follow from the consumers, so nothing changes. */
  forget(): void {
    this.#slots.length = 0;
  }

  /** The lowest standing that any consumer has. */
  get #eligible(): Standing | undefined {
    for (const standing of [ACTIVE, STALLED, DRAINING] as const)
      if (this.#standings[standing] > 0) return standing;
    return undefined;
  }

  #set(consumer: number, change: (member: Member) => void): number[] {
    const member = this.#members.get(consumer);
    if (member === undefined) return [];
    const eligible = this.#eligible;
    const before = standingOf(member);
    change(member);
    const after = standingOf(member);
    if (before === after) return [];
    this.#standings[before] -= 1;
    this.#standings[after] += 1;
    return this.#changed(consumer, member, before, eligible);
  }

  /** A consumer has a new standing, has come (`before` is undefined) or has gone (`member` is undefined). */
  #changed(
    consumer: number,
    member: Member | undefined,
    before: Standing | undefined,
    eligibleBefore: Standing | undefined,
  ): number[] {
    const eligible = this.#eligible;
    if (eligible !== eligibleBefore) return this.#each((slot, at) => this.#choose(slot, at));
    if (member !== undefined && standingOf(member) === eligible) {
      return this.#each((slot, at) => {
        const score = mix(member.hash, at);
        if (score < slot.score) return;
        slot.desired = consumer;
        slot.score = score;
      });
    }
    if (before !== eligible) return [];
    return this.#each((slot, at) => {
      if (slot.desired === consumer) this.#choose(slot, at);
    });
  }

  #each(change: (slot: Slot, at: number) => void): number[] {
    const changed: number[] = [];
    for (const [at, slot] of this.#slots.entries()) {
      if (slot === undefined) continue;
      const before = holderOf(slot);
      change(slot, at);
      move(slot);
      if (holderOf(slot) !== before) changed.push(at);
    }
    return changed;
  }

  #slot(at: number): Slot {
    let slot = this.#slots[at];
    if (slot === undefined) {
      slot = { current: NOBODY, desired: NOBODY, score: -1, outstanding: 0 };
      this.#choose(slot, at);
      move(slot);
      this.#slots[at] = slot;
    }
    return slot;
  }

  #choose(slot: Slot, at: number): void {
    const eligible = this.#eligible;
    slot.desired = NOBODY;
    slot.score = -1;
    for (const [consumer, member] of this.#members) {
      if (standingOf(member) !== eligible) continue;
      const score = mix(member.hash, at);
      if (score < slot.score) continue;
      slot.desired = consumer;
      slot.score = score;
    }
  }
}

function standingOf({ stalled, draining }: Member): Standing {
  if (draining) return DRAINING;
  return stalled ? STALLED : ACTIVE;
}

function holderOf({ current, desired }: Slot): number {
  return current === desired ? current : NOBODY;
}

function move(slot: Slot): boolean {
  if (slot.outstanding !== 0 || slot.current === slot.desired) return false;
  slot.current = slot.desired;
  return true;
}

function mix(hash: number, slot: number): number {
  let h = Math.imul(hash ^ Math.imul(slot + 1, 0x9e3779b1), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
  return (h ^ (h >>> 13)) >>> 0;
}
