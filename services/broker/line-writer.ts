// Lines for somebody who may not read them: the log, the audit. A write never waits: what does not go out at
// once stays in memory up to a bound; beyond it lines are dropped, counted, and spoken of when there is room.
//
// Two sorts. Kept lines (changes that were made, why the process ends) take the place of others: the newest
// of those go first. Invariant: lines go out whole and in order, and a kept one is dropped only when nothing
// but kept ones waits.
import type { Clock } from './ports/clock.ts';

/** Where lines go; open-lines.ts has the real ones. */
export interface LineTarget {
  /**
   * Writes without waiting; returns how many of the bytes it took. Throws with the code EAGAIN when it takes
   * none now.
   */
  write(bytes: Uint8Array): number;
}

export interface LineWriterOptions {
  readonly target: LineTarget;
  readonly clock: Clock;
  /** Of lines that wait, beside those that are being written, which are no more than one write. */
  readonly maxBytes: number;
  /** How soon a full target is tried again. */
  readonly retryMs: number;
}

/** Lines that nobody will ever read. */
export interface DroppedLines {
  readonly kept: number;
  readonly others: number;
}

/** Trying again helps: the pipe or the disk is full. */
const TEMPORARY: ReadonlySet<unknown> = new Set(['EAGAIN', 'EBUSY', 'EINTR', 'ENOSPC', 'EDQUOT']);
/** Of waiting lines, written at once. */
const WRITE_BYTES = 64 * 1024;

interface Waiting {
  readonly at: number;
  readonly bytes: Buffer;
}

export class LineWriter {
  readonly #options: LineWriterOptions;
  readonly #kept: Waiting[] = [];
  readonly #others: Waiting[] = [];
  /** What is left of lines that are being written: no longer dropped, or one of them would be cut. */
  #begun: Buffer = Buffer.alloc(0);
  #begunLines = { kept: 0, others: 0 };
  #waitingBytes = 0;
  #lines = 0;
  #cancelRetry: (() => void) | undefined;
  #dropped = { kept: 0, others: 0 };
  #told = 0;
  #onDropped: (lines: number) => void = () => {};

  constructor(options: LineWriterOptions) {
    this.#options = options;
  }

  get dropped(): DroppedLines {
    return this.#dropped;
  }

  /** `tell` is called when there is room again, with the number of lines dropped since it was last called. */
  onDropped(tell: (lines: number) => void): void {
    this.#onDropped = tell;
  }

  /** The line has its line feed. */
  write(line: string, sort: 'kept' | 'other' = 'other'): void {
    const bytes = Buffer.from(line);
    const isIdle = this.#isEmpty;
    if (!this.#takesRoom(bytes.length, sort)) {
      this.#drop(sort, 1);
      return;
    }
    this.#lines += 1;
    (sort === 'kept' ? this.#kept : this.#others).push({ at: this.#lines, bytes });
    this.#waitingBytes += bytes.length;
    // Else a retry is on its way already.
    if (isIdle) this.#drain();
  }

  /** Waits for what is left to go out, in the last moments of the process: at most so long. */
  flush(patienceMs: number): void {
    const { clock, retryMs } = this.#options;
    const deadlineMs = clock.monotonicMs() + patienceMs;
    const nobody = new Int32Array(new SharedArrayBuffer(4));
    for (;;) {
      this.#drain();
      const restMs = deadlineMs - clock.monotonicMs();
      if (this.#isEmpty || restMs <= 0) break;
      Atomics.wait(nobody, 0, 0, Math.min(retryMs, restMs));
    }
    this.#cancelRetry?.();
  }

  get #isEmpty(): boolean {
    return this.#begun.length === 0 && this.#kept.length === 0 && this.#others.length === 0;
  }

  #takesRoom(bytes: number, sort: 'kept' | 'other'): boolean {
    const { maxBytes } = this.#options;
    if (sort === 'kept') {
      while (this.#waitingBytes + bytes > maxBytes && this.#others.length > 0) {
        this.#waitingBytes -= this.#others.pop()!.bytes.length;
        this.#drop('other', 1);
      }
    }
    return this.#waitingBytes + bytes <= maxBytes;
  }

  #drop(sort: 'kept' | 'other', lines: number): void {
    this.#dropped[sort === 'kept' ? 'kept' : 'others'] += lines;
  }

  #drain(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    try {
      while (!this.#isEmpty) {
        if (this.#begun.length === 0) this.#begin();
        this.#begun = this.#begun.subarray(this.#options.target.write(this.#begun));
      }
    } catch (error) {
      if (TEMPORARY.has((error as NodeJS.ErrnoException).code)) {
        this.#cancelRetry = this.#options.clock.setTimer(this.#options.retryMs, () => this.#drain());
      } else {
        // Nobody will ever read them.
        this.#drop('kept', this.#kept.splice(0).length + this.#begunLines.kept);
        this.#drop('other', this.#others.splice(0).length + this.#begunLines.others);
        this.#begun = Buffer.alloc(0);
        this.#waitingBytes = 0;
        return;
      }
    }
    this.#tell();
  }

  /** Takes the oldest lines, as many as are written at once. */
  #begin(): void {
    const lines: Buffer[] = [];
    this.#begunLines = { kept: 0, others: 0 };
    for (let bytes = 0; bytes < WRITE_BYTES; ) {
      const [kept, other] = [this.#kept[0], this.#others[0]];
      const queue = other === undefined || (kept && kept.at < other.at) ? this.#kept : this.#others;
      const next = queue.shift();
      if (next === undefined) break;
      lines.push(next.bytes);
      this.#begunLines[queue === this.#kept ? 'kept' : 'others'] += 1;
      bytes += next.bytes.length;
    }
    this.#begun = Buffer.concat(lines);
    this.#waitingBytes -= this.#begun.length;
  }

  #tell(): void {
    const all = this.#dropped.kept + this.#dropped.others;
    const lines = all - this.#told;
    if (lines === 0 || this.#waitingBytes > this.#options.maxBytes / 2) return;
    // First, for the telling is a line itself.
    this.#told = all;
    this.#onDropped(lines);
  }
}
