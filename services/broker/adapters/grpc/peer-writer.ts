// Gathers what one side of a link says in a turn into messages of bounded size. send() says when too much
// waits for the transport.
import type { Clock } from '../../ports/clock.ts';

/** From this size on a message is written at once; a single object may be larger. */
export const MAX_GATHERED_BYTES = 1024 * 1024;
/** What may be gathered, or written and not taken by the transport. Full: `send` returns false. */
const MAX_PENDING_BYTES = 2 * 1024 * 1024;

export interface WriterOptions<T> {
  readonly clock: Clock;
  /** One message of these objects, in parts. */
  readonly encode: (objects: readonly T[]) => Buffer[];
  /** About how many bytes an object takes encoded. */
  readonly bytesOf: (object: T) => number;
  /** Writes one message of these parts and calls back once the transport has taken it. */
  readonly write: (parts: readonly Buffer[], bytes: number, taken: () => void) => void;
  /** After a send that returned false. */
  readonly writableAgain: () => void;
}

export class PeerWriter<T> {
  readonly #options: WriterOptions<T>;
  #objects: T[] = [];
  #gathered = 0;
  #flushing = false;
  #pending = 0;
  #full = false;
  #closed = false;
  /** All bytes that were ever written. */
  writtenBytes = 0;

  constructor(options: WriterOptions<T>) {
    this.#options = options;
  }

  /** False: more waits than the transport will take soon. */
  send(object: T): boolean {
    if (this.#closed) return true;
    this.#objects.push(object);
    this.#gathered += this.#options.bytesOf(object);
    if (this.#gathered >= MAX_GATHERED_BYTES) this.flush();
    else if (!this.#flushing) {
      this.#flushing = true;
      this.#options.clock.defer(() => {
        this.#flushing = false;
        this.flush();
      });
    }
    if (this.#pending + this.#gathered > MAX_PENDING_BYTES) this.#full = true;
    return !this.#full;
  }

  flush(): void {
    if (this.#objects.length === 0 || this.#closed) return;
    const parts = this.#options.encode(this.#objects);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.#objects = [];
    this.#gathered = 0;
    this.#pending += bytes;
    this.writtenBytes += bytes;
    this.#options.write(parts, bytes, () => {
      this.#pending -= bytes;
      if (!this.#full || this.#pending > MAX_PENDING_BYTES / 2 || this.#closed) return;
      this.#full = false;
      this.#options.writableAgain();
    });
  }

  close(): void {
    this.#closed = true;
    this.#objects = [];
    this.#gathered = 0;
  }
}
