// What came of the lines of `fanfare pub`: counts them, prints what -o json asks for, and tells on stderr what failed.
import type { FanfareError } from '../client/errors.ts';
import { describeFailure, EXIT } from './failure.ts';
import { LineFailures } from './line-failures.ts';
import type { Output } from './standard-output.ts';
import { formatCount } from './units.ts';

/** After one of these, the lines behind it would fare no better. */
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
  /** Where each line that is published is told; undefined: nowhere. */
  readonly output: Output | undefined;
  /** Progress would stand among the lines. */
  readonly isTyped: boolean;
  /** What comes behind a failure would fail too. */
  readonly onHopeless: () => void;
}

export class PubReport {
  published = 0;
  /** Published, but not printed although that was asked for. */
  unprinted = 0;
  exitCode: number = EXIT.failed;
  isHopeless = false;
  readonly #output: Output | undefined;
  readonly #onHopeless: () => void;
  readonly #failures = new LineFailures((text) => this.#say(text));
  readonly #startMs = performance.now();
  readonly #timer: NodeJS.Timeout | undefined;
  #sent = 0;
  #hasProgress = false;

  constructor({ output, isTyped, onHopeless }: PubReportOptions) {
    this.#output = output;
    this.#onHopeless = onHopeless;
    if (process.stderr.isTTY && !isTyped) this.#timer = setInterval(() => this.#printProgress(), PROGRESS_MS);
  }

  get failed(): number {
    return this.#failures.count;
  }

  onPublished(line: number, messageId: string): void {
    this.published += 1;
    this.#output?.write(`{"line":${line},"messageId":"${messageId}"}\n`, undefined, () => {
      this.unprinted += 1;
    });
  }

  /** It can't be a message: others can. */
  onBad(line: number, reason: string): void {
    this.#sent += 1;
    this.#failures.add(line, reason);
  }

  /** It was not published. */
  onRefused(line: number, error: FanfareError): void {
    if (HOPELESS.has(error.code)) {
      this.exitCode = describeFailure(error).exitCode;
      if (!this.isHopeless) this.#onHopeless();
      this.isHopeless = true;
    }
    this.#failures.add(line, error.code === 'FAILED_PRECONDITION' ? HELD_BACK : error.message);
  }

  /** Neither published nor refused: what will come of it is not known yet. */
  get open(): number {
    return this.#sent - this.published - this.failed;
  }

  /** A line is given to the publisher. */
  onSent(): void {
    this.#sent += 1;
  }

  /** A note for people. */
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
    console.error(`fanfare: ${text}`);
  }

  #printProgress(): void {
    const seconds = (performance.now() - this.#startMs) / 1_000;
    const rate = formatCount(this.published / seconds);
    process.stderr.write(`\r\x1b[K${formatCount(this.published)} published, ${rate}/s`);
    this.#hasProgress = true;
  }
}

/** What the client says of it is for who can resume the key. */
const HELD_BACK =
  'held back to keep the order: an earlier line of its ordering key was not published; publish that one first';
