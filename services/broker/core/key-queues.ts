// The unsettled messages of an ordered subscription in one partition, by ordering key: who may get which
// next. It knows nothing of leases, cursors and attempts.
//
// A key has at most one run: messages outstanding at one consumer. A run grows while that consumer has the
// key's slot and everything before has gone to it. Once a message of the run was given back, nothing more of
// the key goes out until the rest of it has been settled or given back as well, and then from the lowest
// unsettled message on.
import type { ChunkView, LeaseBudget } from './credit.ts';
import { FORMER, KeySlots, NOBODY } from './key-slots.ts';

export interface KeyState {
  readonly hash: number;
  readonly slot: number;
  /** The offsets that wait, ascending, from `head` on. Those settled meanwhile are dropped at the front. */
  queue: number[];
  head: number;
  /** The consumer that has the run; NOBODY: there is none. */
  runConsumer: number;
  runLength: number;
  /** A message of the run was given back: it must end before the key goes on. */
  broken: boolean;
  /** The attempt counts of given-back messages are not durable yet: the key waits. */
  held: boolean;
  /** The consumer in whose ready set the key is; NOBODY: in none. */
  readyFor: number;
  /** How often messages of the key were given back since one was settled. */
  failures: number;
}

export interface TakenMessage {
  readonly offset: number;
  readonly key: KeyState;
}

export class KeyQueues {
  readonly slots = new KeySlots();
  readonly #keys = new Map<number, KeyState>();
  /** The keys of each slot that has any. */
  readonly #bySlot = new Map<number, Set<KeyState>>();
  /** The keys that may go out to each consumer. */
  readonly #ready = new Map<number, Set<KeyState>>();
  readonly #isSettled: (offset: number) => boolean;
  readonly #maxRun: number;
  /** Keys that are held. The commit under way frees those in #persistingKeys. */
  #heldKeys = new Set<KeyState>();
  #persistingKeys = new Set<KeyState>();
  #queued = 0;
  /** Messages were settled while they waited, and their keys were not looked at since. */
  #isStale = false;

  constructor(maxRun: number, isSettled: (offset: number) => boolean) {
    this.#maxRun = maxRun;
    this.#isSettled = isSettled;
  }

  /** How many messages wait. */
  get queued(): number {
    return this.#queued;
  }

  /** Whether so many wait, without those at the front of their keys that were settled meanwhile. */
  isFull(most: number): boolean {
    if (this.#queued < most) return false;
    if (this.#isStale) this.dropSettled();
    return this.#queued >= most;
  }

  /** Messages that wait were settled: that is noticed when their keys come up, or when it matters. */
  settledWaiting(): void {
    this.#isStale = true;
  }

  /** How many keys have messages that wait or are outstanding. */
  get active(): number {
    return this.#keys.size;
  }

  /**
   * How many messages wait in keys that failed so often in a row, without those at their front that
   * `isCounted` knows already: what was given back is there.
   */
  waitingBehind(minFailures: number, isCounted: (offset: number) => boolean): number {
    let waiting = 0;
    for (const key of this.#keys.values()) {
      if (key.failures < minFailures) continue;
      let at = key.head;
      while (at < key.queue.length && isCounted(key.queue[at]!)) at += 1;
      waiting += key.queue.length - at;
    }
    return waiting;
  }

  /**
   * How many messages before an offset wait for the consumers that are meant: in keys whose run they have, or
   * whose slot is theirs or moves away from them.
   */
  waitingFor(isMeant: (consumer: number) => boolean, before: number): number {
    let waiting = 0;
    for (const { queue, head, runConsumer, slot } of this.#keys.values()) {
      const holder = runConsumer === NOBODY ? this.slots.currentOf(slot) : runConsumer;
      if (holder === NOBODY || !isMeant(holder)) continue;
      for (let at = head; at < queue.length && queue[at]! < before; at += 1)
        if (!this.#isSettled(queue[at]!)) waiting += 1;
    }
    return waiting;
  }

  push(offset: number, hash: number): void {
    const key = this.#key(hash);
    key.queue.push(offset);
    this.#queued += 1;
    if (key.readyFor === NOBODY) this.#refresh(key);
  }

  /** Messages of the key are outstanding at a former consumer: nothing more goes out before that ends. */
  adopt(hash: number, count: number): KeyState {
    const key = this.#key(hash);
    key.runConsumer = FORMER;
    key.broken = true;
    key.runLength += count;
    this.slots.leased(key.slot, count);
    return key;
  }

  #key(hash: number): KeyState {
    const known = this.#keys.get(hash);
    if (known !== undefined) return known;
    const slot = KeySlots.slotOf(hash);
    const key: KeyState = {
      hash,
      slot,
      queue: [],
      head: 0,
      runConsumer: NOBODY,
      runLength: 0,
      broken: false,
      held: false,
      readyFor: NOBODY,
      failures: 0,
    };
    this.#keys.set(hash, key);
    addTo(this.#bySlot, slot, key);
    return key;
  }

  /** The lowest waiting offset of one of the keys that may go out to the consumer; undefined: none. */
  peek(consumer: number): number | undefined {
    const ready = this.#ready.get(consumer);
    if (ready === undefined) return undefined;
    for (const key of ready) {
      this.#dropSettled(key);
      if (key.head < key.queue.length) return key.queue[key.head];
      this.#refresh(key);
    }
    return undefined;
  }

  /** Takes messages of the chunk that may go out to the consumer, within the budget, into runs. */
  take(consumer: number, chunk: ChunkView, budget: LeaseBudget): TakenMessage[] {
    const taken: TakenMessage[] = [];
    const ready = this.#ready.get(consumer);
    if (ready === undefined) return taken;
    const chunkEnd = chunk.firstOffset + chunk.count;
    const served: KeyState[] = [];
    for (const key of ready) {
      const before = taken.length;
      for (;;) {
        this.#dropSettled(key);
        const offset = key.queue[key.head];
        if (offset === undefined || offset < chunk.firstOffset || offset >= chunkEnd) break;
        if (key.runLength >= this.#maxRun) break;
        if (!budget.spend(chunk, offset)) break;
        key.head += 1;
        this.#queued -= 1;
        key.runConsumer = consumer;
        key.runLength += 1;
        this.slots.leased(key.slot, 1);
        taken.push({ offset, key });
      }
      if (key.head === key.queue.length || key.runLength >= this.#maxRun) this.#refresh(key);
      else if (taken.length > before) served.push(key);
      if (budget.messages === 0) break;
    }
    // Served keys go to the back of the line, or a busy key would take all of a small credit each time.
    for (const key of served) {
      ready.delete(key);
      ready.add(key);
    }
    return taken.sort((a, b) => a.offset - b.offset);
  }

  /** `count` messages of the key's run have been settled. */
  settled(key: KeyState, count: number): void {
    key.failures = 0;
    this.#shrinkRun(key, count);
  }

  /**
   * Messages of the key's run go back to its front: offsets ascending, all above what is still outstanding of
   * the run. The key is held until persisted() follows the next persisting().
   */
  giveBack(key: KeyState, offsets: readonly number[]): void {
    key.queue = offsets.concat(key.queue.slice(key.head));
    key.head = 0;
    this.#queued += offsets.length;
    key.broken = true;
    key.held = true;
    key.failures += 1;
    this.#heldKeys.add(key);
    this.#shrinkRun(key, offsets.length);
  }

  /** A cursor with the attempt counts of everything held now is being written. */
  persisting(): void {
    for (const key of this.#heldKeys) this.#persistingKeys.add(key);
    this.#heldKeys = new Set();
  }

  /** The cursor is durable. */
  persisted(): void {
    const keys = this.#persistingKeys;
    this.#persistingKeys = new Set();
    for (const key of keys) {
      if (this.#heldKeys.has(key)) continue;
      key.held = false;
      this.#refresh(key);
    }
    // An idle partition holds no slots. Not whenever no key is left: a quick consumer would have them made
    // anew for each response.
    if (this.#keys.size === 0) this.slots.forget();
  }

  /** Drops messages that were settled while they waited, also in keys that no consumer comes across. */
  dropSettled(): void {
    this.#isStale = false;
    for (const key of this.#keys.values()) this.#refresh(key);
  }

  join(consumer: number, hash: number): void {
    this.#refreshSlots(this.slots.join(consumer, hash));
  }

  /**
   * The key's run has another consumer from now on: the same client under another number. It grows no more,
   * since nobody knows whether all of it arrived on the stream that has ended.
   */
  passRun(key: KeyState, consumer: number): void {
    key.runConsumer = consumer;
    key.broken = true;
    if (consumer === FORMER) this.#refresh(key);
    else {
      this.slots.takeOver(key.slot, consumer);
      this.#refreshSlots([key.slot]);
    }
  }

  /** The consumer's runs have ended, or were passed on. */
  leave(consumer: number): void {
    this.#refreshSlots(this.slots.leave(consumer));
    this.#ready.delete(consumer);
  }

  setStalled(consumer: number, stalled: boolean): void {
    this.#refreshSlots(this.slots.setStalled(consumer, stalled));
  }

  setDraining(consumer: number, draining: boolean): void {
    this.#refreshSlots(this.slots.setDraining(consumer, draining));
  }

  #shrinkRun(key: KeyState, count: number): void {
    key.runLength -= count;
    if (key.runLength === 0) {
      key.runConsumer = NOBODY;
      key.broken = false;
    }
    if (this.slots.ended(key.slot, count)) this.#refreshSlots([key.slot]);
    this.#refresh(key);
  }

  #refreshSlots(slots: readonly number[]): void {
    for (const slot of slots) for (const key of this.#bySlot.get(slot) ?? []) this.#refresh(key);
  }

  /** Puts the key into the ready set to which it belongs, or forgets it when nothing is left of it. */
  #refresh(key: KeyState): void {
    this.#dropSettled(key);
    const waiting = key.head < key.queue.length;
    let readyFor = NOBODY;
    if (waiting && !key.held) {
      const consumer = this.slots.consumerOf(key.slot);
      const mayGrow = !key.broken && key.runConsumer === consumer && key.runLength < this.#maxRun;
      if (key.runConsumer === NOBODY || mayGrow) readyFor = consumer;
    }
    if (readyFor !== key.readyFor) {
      this.#ready.get(key.readyFor)?.delete(key);
      if (readyFor !== NOBODY) addTo(this.#ready, readyFor, key);
      key.readyFor = readyFor;
    }
    if (!waiting) {
      key.queue = [];
      key.head = 0;
      if (key.runConsumer === NOBODY && !key.held) {
        this.#forget(key);
      }
    } else if (key.head > 1024 && key.head * 2 > key.queue.length) {
      key.queue = key.queue.slice(key.head);
      key.head = 0;
    }
  }

  #forget(key: KeyState): void {
    // The key may have been forgotten already, and begun anew.
    if (this.#keys.get(key.hash) !== key) return;
    this.#keys.delete(key.hash);
    const others = this.#bySlot.get(key.slot)!;
    others.delete(key);
    if (others.size === 0) this.#bySlot.delete(key.slot);
  }

  #dropSettled(key: KeyState): void {
    while (key.head < key.queue.length && this.#isSettled(key.queue[key.head]!)) {
      key.head += 1;
      this.#queued -= 1;
    }
  }
}

function addTo(sets: Map<number, Set<KeyState>>, at: number, key: KeyState): void {
  const set = sets.get(at);
  if (set === undefined) sets.set(at, new Set([key]));
  else set.add(key);
}
