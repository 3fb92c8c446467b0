// How one consumer's credit is shared out among the owners of a topic's partitions, so that together they
// never have more of it than the consumer gave. The orders that come back are limits for owners; what owners
// answer is brought here.
//
//   state of a share      event                             → state                      caused by
//   (none)                join                              → asked (perhaps for none)   caller
//   confirmed, overdrawn  it should have more, some is free → asked (a higher limit)     recompute
//   confirmed, overdrawn  others should have it             → asked (a lower limit)      recompute
//   any                   again                             → asked (the same limit)     caller
//   asked                 credited                          → confirmed, or overdrawn    owner
//   overdrawn             credited, fewer outstanding       → confirmed                  owner
//   any                   leave                             → (none)                     caller
//
// A higher limit counts from the moment it is asked for, a lower one only once the owner has confirmed it and
// what was outstanding above it has ended. So for messages and for bytes, at any time:
//
//   sum over owners of max(limit in force, limit asked for, outstanding above it) ≤ total
//
// but for a total that the consumer itself has lowered: what is above it then comes back as fast as it can.
//
// Owners that lack credit ("want") share what idle ones can spare. What an owner was just given is not taken
// back before the second turn() after it: an owner that must read the store first gets to use it, and where
// there is less credit than owners, each that wants has its turn.

export interface ShareOrder<Owner> {
  readonly owner: Owner;
  /** Counts the orders for this owner, from 1. */
  readonly sequence: number;
  readonly messages: number;
  readonly bytes: number;
}

interface Share<Owner> {
  readonly owner: Owner;
  sequence: number;
  /** The owner has not confirmed the newest limit yet. */
  asking: boolean;
  /** The newest limit, in messages and bytes. */
  messages: number;
  bytes: number;
  /** What the owner may still be using, at least the limit. */
  heldMessages: number;
  heldBytes: number;
  wants: boolean;
  /** The turn in which it last wanted something. */
  wantedAt: number;
  /** The turn in which it was last given what it wanted. */
  raisedAt: number;
}

/** How many turns an owner that wanted something counts as busy, so that credit does not slosh about. */
const BUSY_TURNS = 5;
/** What was given stays until so many turns later, which is one whole turn at least. */
const KEEP_TURNS = 2;
/** An idle owner keeps this part of an equal share, so that its next message does not wait for credit. */
const IDLE_PART = 1 / 8;

export class CreditShares<Owner> {
  readonly #shares = new Map<Owner, Share<Owner>>();
  #totalMessages: number;
  #totalBytes: number;
  #turn = 0;

  constructor(messages: number, bytes: number) {
    this.#totalMessages = messages;
    this.#totalBytes = bytes;
  }

  /** An owner wants more, or did a moment ago, and might get it from another: call turn() after a while. */
  get restless(): boolean {
    if (this.#shares.size < 2) return false;
    for (const share of this.#shares.values()) if (this.#isBusy(share)) return true;
    return false;
  }

  /** Each of the owners gets an order in any case, if only for nothing: after it, it says what it wants. */
  join(...owners: readonly Owner[]): ShareOrder<Owner>[] {
    const joined = owners.map((owner) => emptyShare(owner));
    for (const share of joined) this.#shares.set(share.owner, share);
    const orders = this.#recompute();
    for (const share of joined) if (share.sequence === 0) this.#order(share, 0, 0, orders);
    return orders;
  }

  /** The owner has no leases for the consumer any more. */
  leave(owner: Owner): ShareOrder<Owner>[] {
    return this.#shares.delete(owner) ? this.#recompute() : [];
  }

  wants(owner: Owner, more: boolean): ShareOrder<Owner>[] {
    const share = this.#shares.get(owner);
    if (share === undefined || share.wants === more) return [];
    share.wants = more;
    // Also when it stops: until now it wanted something.
    share.wantedAt = this.#turn;
    return more ? this.#recompute() : [];
  }

  /** The owner has taken over that order's limit, or fewer messages above it are outstanding than before. */
  credited(owner: Owner, sequence: number, outstandingMessages: number): ShareOrder<Owner>[] {
    const share = this.#shares.get(owner);
    if (share === undefined || share.sequence !== sequence) return [];
    share.asking = false;
    share.heldMessages = Math.min(share.heldMessages, Math.max(share.messages, outstandingMessages));
    // Nobody says how many bytes the messages above the limit have: until they have ended, all that were
    // held.
    if (outstandingMessages <= share.messages) share.heldBytes = share.bytes;
    return this.#recompute();
  }

  /** Orders the same limits under new sequences: an answer shows that what went with them has arrived. */
  again(): ShareOrder<Owner>[] {
    const orders: ShareOrder<Owner>[] = [];
    for (const share of this.#shares.values()) this.#order(share, share.messages, share.bytes, orders);
    return orders;
  }

  setTotal(messages: number, bytes: number): ShareOrder<Owner>[] {
    this.#totalMessages = messages;
    this.#totalBytes = bytes;
    return this.#recompute();
  }

  /** Some time has passed. */
  turn(): ShareOrder<Owner>[] {
    this.#turn += 1;
    return this.#recompute();
  }

  /** Lowers limits first; what is free then goes to the owners that should have more. */
  #recompute(): ShareOrder<Owner>[] {
    const orders: ShareOrder<Owner>[] = [];
    const targets = this.#targets();
    for (const [share, target] of targets) {
      const bytes = this.#bytesOf(target);
      if (share.asking || (target >= share.messages && bytes >= share.bytes)) continue;
      this.#order(share, Math.min(target, share.messages), Math.min(bytes, share.bytes), orders);
    }
    let freeMessages = this.#totalMessages;
    let freeBytes = this.#totalBytes;
    for (const share of this.#shares.values()) {
      freeMessages -= share.heldMessages;
      freeBytes -= share.heldBytes;
    }
    for (const [share, target] of targets) {
      if (share.asking) continue;
      // What the owner still holds above its limit can be given to it again.
      const messages = Math.min(target, share.heldMessages + Math.max(0, freeMessages));
      const bytes = Math.min(this.#bytesOf(messages), share.heldBytes + Math.max(0, freeBytes));
      if (!this.#isWorthIt(share, messages, bytes, target)) continue;
      freeMessages -= Math.max(0, messages - share.heldMessages);
      freeBytes -= Math.max(0, bytes - share.heldBytes);
      if (messages > share.messages && share.wants) share.raisedAt = this.#turn;
      this.#order(share, messages, bytes, orders);
    }
    return orders;
  }

  /** Whether a raise is worth an order: one for every message that comes free would be too many. */
  #isWorthIt(share: Share<Owner>, messages: number, bytes: number, target: number): boolean {
    if (messages < share.messages || bytes < share.bytes) return false;
    if (messages === share.messages) {
      return bytes > share.bytes && bytes - share.bytes >= this.#bytesOf(target) / 8;
    }
    return share.messages === 0 || messages === target || messages - share.messages >= target / 8;
  }

  #order(share: Share<Owner>, messages: number, bytes: number, orders: ShareOrder<Owner>[]): void {
    share.sequence += 1;
    share.asking = true;
    share.messages = messages;
    share.bytes = bytes;
    share.heldMessages = Math.max(share.heldMessages, messages);
    share.heldBytes = Math.max(share.heldBytes, bytes);
    orders.push({ owner: share.owner, sequence: share.sequence, messages, bytes });
  }

  /** Bytes in proportion, rounded down: shares within the total in messages are so in bytes, too. */
  #bytesOf(messages: number): number {
    if (messages === 0) return 0;
    return Math.floor(this.#totalBytes * (messages / this.#totalMessages));
  }

  #isBusy(share: Share<Owner>): boolean {
    return share.wants || this.#turn - share.wantedAt < BUSY_TURNS;
  }

  /** Whether something may be taken from the share. */
  #isDue(share: Share<Owner>): boolean {
    return this.#turn - share.raisedAt >= KEEP_TURNS;
  }

  /** How many messages each should have; they add up to the total at most. */
  #targets(): [Share<Owner>, number][] {
    const shares = [...this.#shares.values()];
    if (shares.length === 0) return [];
    if (this.#totalMessages < shares.length) return this.#oneEach(shares);
    const equal = Math.floor(this.#totalMessages / shares.length);
    const idleShare = Math.max(1, Math.floor(equal * IDLE_PART));
    if (!shares.some(({ wants }) => wants)) return this.#atRest(shares, equal, idleShare);
    let left = this.#totalMessages;
    const busy: Share<Owner>[] = [];
    const targets = new Map<Share<Owner>, number>();
    for (const share of shares) {
      if (this.#isBusy(share)) {
        busy.push(share);
        continue;
      }
      const target =
        this.#isDue(share) || share.messages <= idleShare ? idleShare : Math.min(share.messages, equal);
      targets.set(share, target);
      left -= target;
    }
    const each = Math.floor(left / busy.length);
    for (const share of busy) targets.set(share, each);
    return shares.map((share) => [share, targets.get(share)!]);
  }

  /** Nobody wants anything: limits are lowered only where others would have less than an idle share. */
  #atRest(shares: readonly Share<Owner>[], equal: number, idleShare: number): [Share<Owner>, number][] {
    let free = this.#totalMessages;
    let missing = 0;
    for (const { messages } of shares) {
      free -= messages;
      missing += Math.max(0, idleShare - messages);
    }
    const keep = free >= missing;
    return shares.map((share) => [share, keep ? Math.max(share.messages, equal) : equal]);
  }

  /** There are more owners than messages: those that want one come first, in the order of their waiting. */
  #oneEach(shares: readonly Share<Owner>[]): [Share<Owner>, number][] {
    const rank = (share: Share<Owner>): number => {
      if (share.messages > 0 && !this.#isDue(share)) return 0;
      if (share.wants) return 1;
      return share.messages > 0 ? 2 : 3;
    };
    const inOrder = [...shares].sort(
      (a, b) => rank(a) - rank(b) || compare(a.raisedAt, b.raisedAt) || a.messages - b.messages,
    );
    return inOrder.map((share, at) => [share, at < this.#totalMessages ? 1 : 0]);
  }
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

function emptyShare<Owner>(owner: Owner): Share<Owner> {
  return {
    owner,
    sequence: 0,
    asking: false,
    messages: 0,
    bytes: 0,
    heldMessages: 0,
    heldBytes: 0,
    wants: false,
    wantedAt: Number.NEGATIVE_INFINITY,
    raisedAt: Number.NEGATIVE_INFINITY,
  };
}
