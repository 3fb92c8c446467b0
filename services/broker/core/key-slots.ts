// Which consumer of a subscription gets which ordering keys. Used by key-queues.ts.
//
// Keys fall into slots by hash; each slot belongs to the consumer with the highest score for it (rendezvous hashing,
// Thaler and Ravishankar 1996), so a consumer that joins or leaves moves only its share of the slots. A slot with
// outstanding messages moves only when they have been settled: until then it gives out nothing.

export const SLOTS = 256;

/** No consumer. Consumers have numbers from 1. */
export const NOBODY = 0;

/** Whoever had leases here, or at the partition's former owner, that outlive its stream. */
export const FORMER = -1;

interface Member {
  readonly hash: number;
  /** Let a lease expire and has not been heard of since: gets no slots while others are there. */
  stalled: boolean;
  /** Will be stopped: gets no slots while others are there that won't. */
  draining: boolean;
}

export class KeySlots {
  readonly #members = new Map<number, Member>();
  readonly #current = new Uint32Array(SLOTS);
  readonly #desired = new Uint32Array(SLOTS);
  readonly #outstanding = new Uint32Array(SLOTS);

  static slotOf(keyHash: number): number {
    return keyHash % SLOTS;
  }

  /** Who may be given messages of the slot now; NOBODY while it is moving or nobody is there. */
  consumerOf(slot: number): number {
    return this.#current[slot] === this.#desired[slot] ? this.#current[slot]! : NOBODY;
  }

  /** The slots whose consumerOf has changed. */
  join(consumer: number, hash: number): number[] {
    this.#members.set(consumer, { hash, stalled: false, draining: false });
    return this.#assign();
  }

  /** The caller has taken back everything outstanding at the consumer. */
  leave(consumer: number): number[] {
    this.#members.delete(consumer);
    return this.#assign();
  }

  /** Messages of the slot are outstanding at the consumer, as it had them from the partition's former owner. */
  takeOver(slot: number, consumer: number): void {
    if (this.#current[slot] === NOBODY) this.#current[slot] = consumer;
  }

  setStalled(consumer: number, stalled: boolean): number[] {
    const member = this.#members.get(consumer);
    if (member === undefined || member.stalled === stalled) return [];
    member.stalled = stalled;
    return this.#assign();
  }

  setDraining(consumer: number, draining: boolean): number[] {
    const member = this.#members.get(consumer);
    if (member === undefined || member.draining === draining) return [];
    member.draining = draining;
    return this.#assign();
  }

  leased(slot: number, count: number): void {
    this.#outstanding[slot] = this.#outstanding[slot]! + count;
  }

  /** True if that let the slot move. */
  ended(slot: number, count: number): boolean {
    this.#outstanding[slot] = this.#outstanding[slot]! - count;
    return this.#move(slot);
  }

  #assign(): number[] {
    const changed: number[] = [];
    const members = [...this.#members];
    const staying = members.filter(([, member]) => !member.draining);
    const active = staying.filter(([, member]) => !member.stalled);
    const candidates = [active, staying, members].find(({ length }) => length > 0) ?? [];
    for (let slot = 0; slot < SLOTS; slot += 1) {
      const before = this.consumerOf(slot);
      let best = NOBODY;
      let bestScore = -1;
      for (const [consumer, { hash }] of candidates) {
        const score = mix(hash, slot);
        if (score > bestScore) {
          best = consumer;
          bestScore = score;
        }
      }
      this.#desired[slot] = best;
      this.#move(slot);
      if (this.consumerOf(slot) !== before) changed.push(slot);
    }
    return changed;
  }

  #move(slot: number): boolean {
    if (this.#outstanding[slot] !== 0 || this.#current[slot] === this.#desired[slot]) return false;
    this.#current[slot] = this.#desired[slot]!;
    return true;
  }
}

function mix(hash: number, slot: number): number {
  let h = Math.imul(hash ^ Math.imul(slot + 1, 0x9e3779b1), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
  return (h ^ (h >>> 13)) >>> 0;
}
