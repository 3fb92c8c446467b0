// Messages to standard output: each is acknowledged once it counts as printed. To a file or a terminal that
// is when the system has taken it. In a pipe it may then still lie unread, and be lost with a reader that
// goes away: pipe-rounds.ts says how much is written at a time, pipe-lag.ts what counts as read.
import type { ReceivedMessage } from '../client/received-message.ts';
import { PipeLag } from './pipe-lag.ts';
import { PipeRounds } from './pipe-rounds.ts';
import type { Output } from './standard-output.ts';

export interface AckingOutputOptions {
  readonly output: Output;
  /** Called when the system has taken these messages. */
  readonly onWritten: (messages: readonly ReceivedMessage[]) => void;
  /** Called when these messages count as read; they are acknowledged right after the call. */
  readonly onRead: (messages: readonly ReceivedMessage[]) => void;
  /** Called when nothing more can be printed. */
  readonly onFailed: () => void;
}

interface Waiting {
  readonly message: ReceivedMessage;
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
}

/** How much may be handed in and not written before room() waits. */
const FULL_BYTES = 64 * 1024;
/** What a pipe of Linux holds. Without being root it can be enlarged up to /proc/sys/fs/pipe-max-size. */
const USUAL_PIPE_BYTES = 64 * 1024;
const LARGE_PIPE_BYTES = 1024 * 1024;
const REST_MS = 1_000;

export class AckingOutput {
  readonly #options: AckingOutputOptions;
  readonly #rounds: PipeRounds | undefined;
  readonly #lag: PipeLag<ReceivedMessage>;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #written: readonly Waiting[] = [];
  #isScheduled = false;
  #isAbandoned = false;
  #timer: NodeJS.Timeout | undefined;
  #wake: () => void = () => {};

  constructor(options: AckingOutputOptions) {
    this.#options = options;
    const { isPipe } = options.output;
    if (isPipe) this.#rounds = new PipeRounds();
    this.#lag = new PipeLag({
      capacityBytes: isPipe ? LARGE_PIPE_BYTES : 0,
      leastBytes: USUAL_PIPE_BYTES,
      restMs: REST_MS,
    });
  }

  /** How many messages are written and not acknowledged: they may lie in a pipe. */
  get unread(): number {
    return this.#lag.size;
  }

  /** How many messages it makes sense to have at hand: at first a pipe is given few at a time. */
  get appetite(): number {
    return this.#rounds === undefined ? Number.POSITIVE_INFINITY : 4 * this.#rounds.size;
  }

  add(message: ReceivedMessage, ...parts: Uint8Array[]): void {
    if (this.#isOver()) return;
    const bytes = parts.reduce((sum, { length }) => sum + length, 0);
    this.#waiting.push({ message, parts, bytes });
    this.#waitingBytes += bytes;
    if (this.#isScheduled) return;
    // What comes in one turn of the event loop is written together.
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  /** Resolves when there is room for more, or never will be. */
  async room(): Promise<void> {
    while (this.#waitingBytes >= FULL_BYTES && !this.#isOver()) await this.#changed();
  }

  /** Resolves when everything handed in is written and acknowledged, or never will be. */
  async finish(): Promise<void> {
    while ((this.#waiting.length > 0 || this.#written.length > 0) && !this.#isOver()) await this.#changed();
    clearTimeout(this.#timer);
    // Nothing comes behind the last messages to show that they were read; up to now the reader was there.
    if (!this.#isOver()) this.#ack(this.#lag.takeAll());
  }

  /** Writes no more, and acknowledges only what counts as read by now. */
  abandon(): void {
    if (this.#isAbandoned) return;
    if (!this.#isOver()) this.#ack(this.#lag.read(performance.now()));
    this.#isAbandoned = true;
    clearTimeout(this.#timer);
    this.#wake();
  }

  #isOver(): boolean {
    return this.#isAbandoned || this.#options.output.failure !== undefined;
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Writes and acknowledges what is due, and sets the timer for what is due next. */
  #pump(): void {
    clearTimeout(this.#timer);
    if (this.#isOver()) return;
    const nowMs = performance.now();
    this.#ack(this.#lag.read(nowMs));
    if (this.#lag.size === 0 && this.#written.length === 0) this.#rounds?.rest();
    const roundMs = this.#nextRoundMs();
    if (roundMs <= nowMs) {
      this.#writeRound(nowMs);
      return;
    }
    const nextMs = Math.min(roundMs, this.#lag.nextMs);
    if (nextMs !== Number.POSITIVE_INFINITY)
      this.#timer = setTimeout(() => this.#pump(), Math.ceil(nextMs - nowMs));
  }

  #nextRoundMs(): number {
    if (this.#waiting.length === 0 || this.#written.length > 0) return Number.POSITIVE_INFINITY;
    return this.#rounds?.nextMs(this.#waiting.length) ?? 0;
  }

  #writeRound(nowMs: number): void {
    const waiting = this.#waiting;
    const count = this.#rounds?.begin(waiting.length, (at) => waiting[at]!.bytes, nowMs) ?? waiting.length;
    this.#written = waiting.slice(0, count);
    this.#waiting = waiting.slice(count);
    const bytes = Buffer.concat(this.#written.flatMap(({ parts }) => parts));
    this.#waitingBytes -= bytes.length;
    const isTakenAtOnce = this.#options.output.write(
      bytes,
      () => this.#onWritten(),
      () => this.#onFailed(),
    );
    this.#lag.writes(bytes.length, isTakenAtOnce, nowMs);
  }

  #onWritten(): void {
    const written = this.#written;
    this.#written = [];
    this.#lag.wrote(
      written.map(({ message, bytes }) => [message, bytes]),
      performance.now(),
    );
    this.#options.onWritten(written.map(({ message }) => message));
    this.#pump();
    this.#wake();
  }

  #onFailed(): void {
    clearTimeout(this.#timer);
    this.#wake();
    this.#options.onFailed();
  }

  #ack(messages: readonly ReceivedMessage[]): void {
    if (messages.length === 0) return;
    this.#options.onRead(messages);
    for (const message of messages) message.ack();
  }
}
