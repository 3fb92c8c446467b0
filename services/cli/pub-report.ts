// What came of the lines of `fanfare pub`: counts them, prints what -o json asks for, and
// tells on stderr what failed.
import type { FanfareError } from '../client/errors.ts';
import { describeFailure, EXIT } from './failure.ts';
import { LineFailures } from './line-failures.ts';
import { notice } from './notice.ts';
import type { Output } from './standard-output.ts';
import { formatCount } from './units.ts';

/** Codes of failures after which the lines behind would fare no better. */
const HOPELESS: ReadonlySet<string> = new Set([
  'NOT_FOUND',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'RESOURCE_EXHAUSTED',
]);

const PROGRESS_MS = 200;

export interface PubReportOptions {
  /** Where each published line is told; undefined: nowhere. */
  readonly output: Output | undefined;
  /** Whether lines are typed at a terminal: progress would stand among them. */
  readonly isTyped: boolean;
  /** Called once, when lines behind a failure would fail too. */
  readonly onHopeless: () => void;
  /** Called with each message that was published. */
  readonly onAlive: () => void;
}

export class PubReport {
  published = 0;
  /** How many were published but not printed, although that was asked for. */
  unprinted = 0;
  exitCode: number = EXIT.failed;
  isHopeless = false;
  readonly #output: Output | undefined;
  readonly #onHopeless: () => void;
  readonly #onAlive: () => void;
  readonly #failures = new LineFailures((text) => this.#say(text));
  readonly #startMs = performance.now();
  readonly #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  #hasProgress = false;

  constructor({ output, isTyped, onHopeless, onAlive }: PubReportOptions) {
    this.#output = output;
    this.#onHopeless = onHopeless;
    this.#onAlive = onAlive;
    if (process.stderr.isTTY && !isTyped) this.#timer = setInterval(() => this.#printProgress(), PROGRESS_MS);
  }

  get failed(): number {
    return this.#failures.count;
  }

  onPublished(line: number, messageId: string): void {
    this.published += 1;
    this.#onAlive();
    this.#output?.write(`{"line":${line},"messageId":"${messageId}"}\n`, undefined, () => {
      this.unprinted += 1;
    });
  }

  /** The line can't be a message; other lines can. */
  onBad(line: number, reason: string): void {
    this.#sent += 1;
    this.#failures.add(line, reason);
  }

  /** The message was not published. */
  onRefused(line: number, error: FanfareError): void {
    if (HOPELESS.has(error.code)) {
      this.exitCode = describeFailure(error).exitCode;
      if (!this.isHopeless) this.#onHopeless();
      this.isHopeless = true;
    }
    this.#failures.add(line, error.code === 'FAILED_PRECONDITION' ? HELD_BACK : error.message);
  }

  /** How many were neither published nor refused: what will come of them is not known yet. */
  get open(): number {
    return this.#sent - this.published - this.failed;
  }

  /** A line was given to the publisher. */
  onSent(): void {
    this.#sent += 1;
  }

  /** Prints a note for people. */
  tell(text: string): void {
    this.#failures.flush();
    this.#say(text);
  }

  finish(): void {
    clearInterval(this.#timer);
    if (this.#hasProgress) {
      this.#printProgress();
      process.stderr.write('\n');
      this.#hasProgress = false;
    }
    this.#failures.flush();
  }

  #say(text: string): void {
    if (this.#hasProgress) process.stderr.write('\r\x1b[K');
    notice(`fanfare: ${text}`);
  }

  #printProgress(): void {
    const seconds = (performance.now() - this.#startMs) / 1_000;
    const rate = formatCount(this.published / seconds);
    process.stderr.write(`\r\x1b[K${formatCount(this.published)} published, ${rate}/s`);
    this.#hasProgress = true;
  }
}

/** Said in place of the client's own text, which is meant for programs that can resume a key. */
const HELD_BACK =
  'held back to keep the order: an earlier line of its ordering key was not published; publish that one first';
