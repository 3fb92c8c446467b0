// How one consumer's credit is shared out among the owners of a topic's partitions, so that together they never have more of
// it than the consumer gave. The caller brings what owners say, and passes on the limits that come back.
//
//   state of a share      event                        → state                      caused by
//   (none)                join                         → empty
//   empty, settled        more is free, or it is due   → asked (a higher limit)     recompute
//   settled               others want it               → asked (a lower limit)      recompute
//   asked                 credited                     → settled, or overdrawn      owner
//   overdrawn             credited, less outstanding   → settled                    owner
//   any                   leave                        → (none)
//
// A higher limit counts from the moment it is asked for, a lower one only once the owner has confirmed it and what was
// outstanding above it has ended. So for messages and for bytes, at any time:
//
//   sum over owners of max(limit in force, limit asked for, outstanding above it) ≤ total
//
// but for a total that the consumer itself has lowered: what is above it then comes back as fast as it can.
//
// Owners that lack credit ("want") share what idle ones can spare. What has just been given is left alone until the next but
// one turn(), which the relay calls now and then while `restless`: an owner that must read the store first gets to use it, and
// where there is less credit than owners, each that wants has its turn.

export interface ShareOrder<Owner> {
  readonly owner: Owner;
  /** Rises by 1 with each order for this owner, from 1. */
  readonly sequence: number;
  readonly messages: number;
  readonly bytes: number;
}

interface Share<Owner> {
  readonly owner: Owner;
  sequence: number;
  /** Not confirmed yet. */
  asking: boolean;
  /** The newest limit. */
  messages: number;
  bytes: number;
  /** What it may still be using, at least the limit. */
  heldMessages: number;
  heldBytes: number;
  wants: boolean;
  /** The turn in which it last wanted something. */
  wantedAt: number;
  /** The turn in which it was last given what it wanted. */
  raisedAt: number;
}

/** For so many turns after it wanted something an owner counts as busy, or credit would slosh about between busy ones. */
const BUSY_TURNS = 5;
/** What was given stays for a whole turn at least. */
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

  /** There is somebody who wants more and might get it from another: call turn() after a while. */
  get restless(): boolean {
    if (this.#shares.size < 2) return false;
    for (const share of this.#shares.values()) if (this.#isBusy(share)) return true;
    return false;
  }

  /** Orders something for each of the owners in any case, be it nothing: from then on it says what it wants. */
  join(...owners: readonly Owner[]): ShareOrder<Owner>[] {
    const joined = owners.map((owner) => emptyShare(owner));
    for (const share of joined) this.#shares.set(share.owner, share);
    const orders = this.#recompute();
    for (const share of joined) if (share.sequence === 0) this.#order(share, 0, 0, orders);
    return orders;
  }

  /** It has no leases for the consumer any more. */
  leave(owner: Owner): ShareOrder<Owner>[] {
    return this.#shares.delete(owner) ? this.#recompute() : [];
  }

  wants(owner: Owner, more: boolean): ShareOrder<Owner>[] {
    const share = this.#shares.get(owner);
    if (share === undefined || share.wants === more) return [];
    share.wants = more;
    // Also when it stops: until now it did.
    share.wantedAt = this.#turn;
    return more ? this.#recompute() : [];
  }

  /** The owner has taken the limit of that order over, or fewer messages are outstanding above it than when it last said so. */
  credited(owner: Owner, sequence: number, outstandingMessages: number): ShareOrder<Owner>[] {
    const share = this.#shares.get(owner);
    if (share === undefined || share.sequence !== sequence) return [];
    share.asking = false;
    share.heldMessages = Math.min(share.heldMessages, Math.max(share.messages, outstandingMessages));
    // How many bytes those above the limit have nobody says: all that there were.
    if (outstandingMessages <= share.messages) share.heldBytes = share.bytes;
    return this.#recompute();
  }

  /** The same limits under new sequences: what owners answer to these they say after whatever else goes with them. */
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

  /** Lowers first; what is free then goes to those that should have more. */
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
      // What it holds above its limit is its own to be given again.
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

  /** Not a word for every message that comes free. */
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

  /** In proportion, rounded down: what adds up to no more than the total in messages does so in bytes. */
  #bytesOf(messages: number): number {
    if (messages === 0) return 0;
    return Math.floor(this.#totalBytes * (messages / this.#totalMessages));
  }

  #isBusy(share: Share<Owner>): boolean {
    return share.wants || this.#turn - share.wantedAt < BUSY_TURNS;
  }

  /** Whether it may be taken from. */
  #isDue(share: Share<Owner>): boolean {
    return this.#turn - share.raisedAt >= KEEP_TURNS;
  }

  /** What each should have; adds up to the total at most. */
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

  /** Nobody needs anything: limits are lowered only where others have less than an idle share. */
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

  /** There are more owners than messages: those that want come first, who has waited longest first of all. */
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
