// Lets the event loop turn between messages. Code that handles one message after the other without ever
// waiting would keep the loop for as long as there are messages: no acknowledgement, no extension of a lease
// and no ping would go out meanwhile.
//
// Looking at the clock can cost as much as handling a message. While messages are handled quickly
// it is looked at for every eighth only; so if slow ones follow, up to eight of them may come
// before that is noticed, once.

/** Keeping the loop for this long delays nothing that matters; a turn costs a few µs. */
const KEEP_MS = 5;
/** Messages are handled quickly if two looks at the clock are less than this apart. */
const QUICK_MS = 0.5;
const MAX_STRIDE = 8;

export class Pace {
  /** When the clock was looked at last, by performance.now(). */
  nowMs = performance.now();
  #turnedMs = this.nowMs;
  #isDue = false;
  /** How many messages there are from one look to the next, and how many of them are left. */
  #stride = 1;
  #left = 1;
  #turn: Promise<void> | undefined;

  /** To be asked before each message: whether the loop has been kept for too long. */
  isDue(): boolean {
    if (--this.#left > 0 || this.#isDue) return this.#isDue;
    const nowMs = performance.now();
    this.#stride = nowMs - this.nowMs < QUICK_MS ? Math.min(2 * this.#stride, MAX_STRIDE) : 1;
    this.#left = this.#stride;
    this.nowMs = nowMs;
    this.#isDue = nowMs - this.#turnedMs > KEEP_MS;
    return this.#isDue;
  }

  /** Resolves when timers and sockets have had their turn. */
  turn(): Promise<void> {
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.nowMs = performance.now();
        this.#turnedMs = this.nowMs;
        this.#isDue = false;
        this.#turn = undefined;
        resolve();
      });
    });
    return this.#turn;
  }
}
