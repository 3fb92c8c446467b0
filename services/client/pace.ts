// Lets the event loop turn between messages. Code that handles one message after the other without ever waiting would keep it
// for as long as there are messages: no acknowledgement, no extension of a lease and no ping would go out meanwhile.

/** Keeping the loop for so long delays nothing that matters; a turn costs a few µs. */
const KEEP_MS = 5;

export class Pace {
  #turnedMs = performance.now();
  #turn: Promise<void> | undefined;

  /** The loop has been kept for long, or it is not known that it was not. */
  isDue(nowMs: number): boolean {
    return nowMs - this.#turnedMs > KEEP_MS;
  }

  /** Resolves when timers and sockets have had their turn. */
  turn(): Promise<void> {
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#turnedMs = performance.now();
        this.#turn = undefined;
        resolve();
      });
    });
    return this.#turn;
  }
}
