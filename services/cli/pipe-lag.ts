// What was written to a pipe and may lie there unread: nothing tells a writer how much its reader has
// taken. But a pipe holds only so much, so what lies further back than that has been read. And a reader
// that goes away is noticed at the next write; so what has been there for a while without that was read
// by a reader that keeps up.
//
// A reader that does not keep up shows it by a full pipe. It is given as much time as it
// took for the last pipeful.
//
// What is no pipe holds nothing: everything has arrived once it is written.
//
// Pure: the clock is an argument. Items come out in the order in which they went in.

export interface PipeLagOptions {
  /** The most that the pipe holds, as long as it has not been full; 0: it is no pipe. */
  readonly capacityBytes: number;
  /** The least that it holds. Others may write to it, too, so that it is full early. */
  readonly leastBytes: number;
  /** How long a reader may take for what it was given, unless it has shown that it takes longer. */
  readonly restMs: number;
}

interface Written<Item> {
  readonly item: Item;
  /** How many bytes had been written up to the end of this item. */
  readonly endByte: number;
  readonly timeMs: number;
  /** How long the pipe had been waited for up to then, all waits together. */
  readonly waitedMs: number;
}

export class PipeLag<Item> {
  #capacityBytes: number;
  readonly #leastBytes: number;
  readonly #restMs: number;
  #unread: Written<Item>[] = [];
  /** The index of the first item that is left in #unread; those before it have come out. */
  #head = 0;
  #givenBytes = 0;
  #takenBytes = 0;
  #waitedMs = 0;
  /** The waitedMs of the last item that has certainly been read. */
  #readWaitedMs = 0;
  #writingSinceMs: number | undefined;

  constructor({ capacityBytes, leastBytes, restMs }: PipeLagOptions) {
    this.#capacityBytes = capacityBytes;
    this.#leastBytes = leastBytes;
    this.#restMs = restMs;
  }

  /** How many items may be unread. */
  get size(): number {
    return this.#unread.length - this.#head;
  }

  /**
   * Begins a write of so many bytes. A pipe that doesn't take them at once is full: it holds
   * at most what it was given.
   */
  writes(bytes: number, isTakenAtOnce: boolean, nowMs: number): void {
    this.#givenBytes += bytes;
    this.#writingSinceMs = nowMs;
    if (isTakenAtOnce) return;
    this.#capacityBytes = Math.min(this.#capacityBytes, Math.max(this.#leastBytes, this.#givenBytes));
  }

  /** Ends the write: the pipe has taken these items, in order, with their sizes. */
  wrote(items: readonly (readonly [item: Item, bytes: number])[], nowMs: number): void {
    this.#waitedMs += nowMs - (this.#writingSinceMs ?? nowMs);
    this.#writingSinceMs = undefined;
    for (const [item, bytes] of items) {
      this.#takenBytes += bytes;
      this.#unread.push({ item, endByte: this.#takenBytes, timeMs: nowMs, waitedMs: this.#waitedMs });
    }
  }

  /** Takes out what counts as read by now. */
  read(nowMs: number): Item[] {
    const read: Item[] = [];
    for (; this.#head < this.#unread.length; this.#head += 1) {
      const { item, endByte, waitedMs } = this.#unread[this.#head]!;
      if (this.#takenBytes - endByte >= this.#capacityBytes) this.#readWaitedMs = waitedMs;
      else if (this.nextMs > nowMs) break;
      read.push(item);
    }
    if (this.size === 0) this.#readWaitedMs = this.#waitedMs;
    this.#compact();
    return read;
  }

  /**
   * When read() will have more if nothing is written until then; Infinity: nothing is
   * there, or it is being written.
   */
  get nextMs(): number {
    const first = this.#unread[this.#head];
    if (first === undefined || this.#writingSinceMs !== undefined) return Number.POSITIVE_INFINITY;
    return first.timeMs + Math.max(this.#restMs, this.#waitedMs - this.#readWaitedMs);
  }

  /** Takes everything out. */
  takeAll(): Item[] {
    const all = this.#unread.slice(this.#head).map(({ item }) => item);
    this.#unread = [];
    this.#head = 0;
    return all;
  }

  #compact(): void {
    if (this.#head < 1024 || this.#head * 2 < this.#unread.length) return;
    this.#unread = this.#unread.slice(this.#head);
    this.#head = 0;
  }
}
