// Standard output: everything that a command prints goes through here. Nothing counts as printed
// before the system has taken it, and the first failure is final: what was not written then, and all
// that comes later, is not.
//
// Node's own stream for files takes a write for done of which the system took only a part, as it does on a
// disk that is nearly full; so files are written here.
import { fstatSync, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { getSystemErrorMessage } from 'node:util';

export class OutputError extends Error {
  override readonly name = 'OutputError';
  /** Whether nobody reads it any more, as in front of `| head`. */
  readonly isClosed: boolean;

  constructor(cause: NodeJS.ErrnoException) {
    const { code = 'UNKNOWN' } = cause;
    const isClosed = CLOSED.has(code);
    const reason = isClosed ? 'nobody reads it any more' : systemReason(cause);
    super(`the output can't be written: ${reason} (${code})`, { cause });
    this.isClosed = isClosed;
  }
}

/** The failure in the system's words, without the name of a call and its arguments. */
export function systemReason({ errno, message }: NodeJS.ErrnoException): string {
  return errno === undefined ? message : getSystemErrorMessage(errno);
}

const CLOSED: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET', 'ERR_STREAM_DESTROYED']);

/** How much may be handed in and not written before isFull. */
const FULL_BYTES = 64 * 1024;

type Done = (error?: NodeJS.ErrnoException | null) => void;

export interface OutputTarget {
  /** What was written to a pipe or a socket may lie there unread; elsewhere it has arrived. */
  readonly isPipe: boolean;
  readonly isTerminal: boolean;
  /**
   * Writes in the order of the calls; `done` is called later. Returns whether the
   * system has the bytes already.
   */
  write(bytes: Uint8Array, done: Done): boolean;
}

export class Output {
  readonly #target: OutputTarget;
  #failure: OutputError | undefined;
  #pendingBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(target: OutputTarget) {
    this.#target = target;
  }

  get isPipe(): boolean {
    return this.#target.isPipe;
  }

  get isTerminal(): boolean {
    return this.#target.isTerminal;
  }

  /** Why nothing can be printed any more. */
  get failure(): OutputError | undefined {
    return this.#failure;
  }

  /** Whether the output is slower than whoever prints, who should wait for room(). */
  get isFull(): boolean {
    return this.#pendingBytes >= FULL_BYTES && this.#failure === undefined;
  }

  /**
   * Writes in the order of the calls. `onWritten` is called, later, once the system has taken the text;
   * `onFailed` if it never will. Returns whether the system has taken it already.
   */
  write(text: Uint8Array | string, onWritten?: () => void, onFailed?: (error: OutputError) => void): boolean {
    if (this.#failure !== undefined) {
      onFailed?.(this.#failure);
      return false;
    }
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    this.#pendingBytes += bytes.length;
    return this.#target.write(bytes, (error) => {
      this.#pendingBytes -= bytes.length;
      if (error) this.#failure ??= new OutputError(error);
      if (this.#failure === undefined) onWritten?.();
      else onFailed?.(this.#failure);
      this.#wake();
    });
  }

  /** Resolves once the text is printed, and rejects with an OutputError if it never will be. */
  print(text: Uint8Array | string): Promise<void> {
    return new Promise((resolve, reject) => this.write(text, resolve, reject));
  }

  get isFlushed(): boolean {
    return this.#pendingBytes === 0;
  }

  /** Resolves when the output is not full any more, or has failed. */
  room(): Promise<void> {
    return this.#when(() => !this.isFull);
  }

  /** Resolves when everything is written, or the output has failed, or the signal is aborted. */
  flushed(signal: AbortSignal): Promise<void> {
    const onAbort = () => this.#wake();
    signal.addEventListener('abort', onAbort, { once: true });
    return this.#when(() => this.isFlushed || this.#failure !== undefined || signal.aborted).finally(() =>
      signal.removeEventListener('abort', onAbort),
    );
  }

  async #when(until: () => boolean): Promise<void> {
    while (!until()) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export function fileTarget(descriptor: number): OutputTarget {
  return {
    isPipe: false,
    isTerminal: false,
    write(bytes, done) {
      let failure: NodeJS.ErrnoException | undefined;
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
      } catch (error) {
        failure = error as NodeJS.ErrnoException;
      }
      process.nextTick(done, failure);
      return failure === undefined;
    },
  };
}

export function streamTarget(stream: Writable, isPipe: boolean): OutputTarget {
  // Each error is passed to a write's callback, too; without a listener it would end the process.
  stream.on('error', () => {});
  return {
    isPipe,
    isTerminal: !isPipe,
    write(bytes, done) {
      stream.write(bytes, done);
      return stream.writableLength === 0;
    },
  };
}

const STANDARD_OUTPUT = 1;

let shared: Output | undefined;

/** The standard output of this process. */
export function standardOutput(): Output {
  shared ??= new Output(standardTarget());
  return shared;
}

function standardTarget(): OutputTarget {
  if (process.stdout.isTTY) return streamTarget(process.stdout, false);
  const status = fstatSync(STANDARD_OUTPUT);
  if (status.isFIFO() || status.isSocket()) return streamTarget(process.stdout, true);
  return fileTarget(STANDARD_OUTPUT);
}
