// fanfare pub: standard input (or a file) to a topic, a record a message. Reads no faster than the broker takes.
import { createReadStream } from 'node:fs';
import type { FanfareError } from '../../client/errors.ts';
import { measure, type OutgoingMessage } from '../../client/message-codec.ts';
import type { Publisher } from '../../client/publisher.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, describeFailure, EXIT } from '../failure.ts';
import { type ExtractedKey, type KeyFlags, keyExtractor } from '../ordering-key.ts';
import { splitRecords } from '../records.ts';
import { outageReporter, withClient } from '../session.ts';
import { formatCount } from '../units.ts';

export interface PubFlags extends CommonFlags, KeyFlags {
  readonly attr?: Readonly<Record<string, string>>;
  readonly file?: string;
  readonly null?: boolean;
  /** Milliseconds. */
  readonly retry: number;
}

const PROGRESS_MS = 200;

/** After one of these, the records behind it would fare no better. */
const HOPELESS: ReadonlySet<string> = new Set([
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'RESOURCE_EXHAUSTED',
]);

export async function pub(topic: string, flags: PubFlags, signal: AbortSignal): Promise<void> {
  const report = new PubReport(flags.output === 'json');
  const outage = outageReporter();
  await withClient(flags, async (client) => {
    await client.reach({ timeoutMs: flags.timeout, signal });
    const publisher = client.publisher(topic, { retryDeadlineMs: flags.retry, onRetry: outage.onRetry });
    const progress = process.stderr.isTTY
      ? setInterval(() => report.printProgress(), PROGRESS_MS)
      : undefined;
    try {
      await publishAll(publisher, flags, report, signal);
      await publisher.close();
    } finally {
      clearInterval(progress);
      report.finish();
    }
  });
  if (signal.aborted) {
    throw new CliError(`interrupted after ${report.published} messages`, EXIT.interrupted);
  }
  if (report.failed > 0) {
    throw new CliError(
      `${formatCount(report.failed)} of ${formatCount(report.published + report.failed)} messages were not published`,
      report.exitCode,
    );
  }
}

async function publishAll(
  publisher: Publisher,
  flags: PubFlags,
  report: PubReport,
  signal: AbortSignal,
): Promise<void> {
  const keyOf = keyExtractor(flags);
  const input = flags.file === undefined ? process.stdin : createReadStream(flags.file);
  // A terminal or pipe that says nothing more must not hold us up.
  signal.addEventListener('abort', () => input.destroy(), { once: true });
  let line = 0;
  let hasRest = false;
  try {
    for await (const record of splitRecords(input, flags.null ? 0 : 0x0a)) {
      if (signal.aborted || report.isHopeless) {
        hasRest = true;
        break;
      }
      const at = ++line;
      const message = messageOf(record, keyOf(record), flags);
      if (message instanceof Error) {
        report.onFailed(at, message);
        continue;
      }
      if (publisher.isFull) await publisher.ready();
      if (!report.hasRoom) await report.drained();
      publisher.publish(message).then(
        ({ messageId }) => report.onPublished(at, messageId),
        (error) => report.onRefused(at, error),
      );
    }
  } catch (error) {
    if (!signal.aborted) throw new CliError(`the input can't be read: ${(error as Error).message}`);
  }
  input.destroy();
  await publisher.flush();
  report.finish();
  if (hasRest) console.error(`fanfare: line ${line + 1} and those behind it were not published`);
}

/** The message, or why this record can't be one: then others can. */
function messageOf(record: Buffer, key: ExtractedKey, flags: PubFlags): OutgoingMessage | Error {
  if (key.error !== undefined) return new CliError(key.error);
  const message = {
    data: record,
    ...(flags.attr && { attributes: flags.attr }),
    ...(key.value !== undefined && { orderingKey: key.value }),
  };
  try {
    measure(message);
    return message;
  } catch (error) {
    return error as Error;
  }
}

/** Counts, and tells what came of each line. */
class PubReport {
  published = 0;
  failed = 0;
  exitCode: number = EXIT.failed;
  /** Whether what comes behind a failure would fail too. */
  isHopeless = false;
  readonly #json: boolean;
  readonly #startMs = performance.now();
  /** Consecutive lines that failed for one reason are one line on stderr. */
  #run: { first: number; last: number; text: string } | undefined;
  #hasProgress = false;

  constructor(json: boolean) {
    this.#json = json;
  }

  /** False while standard output is slower than we are. */
  get hasRoom(): boolean {
    return !process.stdout.writableNeedDrain;
  }

  async drained(): Promise<void> {
    await new Promise<void>((resolve) => process.stdout.once('drain', resolve));
  }

  onPublished(line: number, messageId: string): void {
    this.published++;
    if (this.#json) process.stdout.write(`{"line":${line},"messageId":"${messageId}"}\n`);
  }

  /** By the broker. */
  onRefused(line: number, error: FanfareError): void {
    if (HOPELESS.has(error.code)) {
      this.isHopeless = true;
      this.exitCode = describeFailure(error).exitCode;
    }
    this.onFailed(line, error);
  }

  onFailed(line: number, error: Error): void {
    this.failed++;
    const text = error.message;
    if (this.#run?.text === text && this.#run.last + 1 === line) this.#run.last = line;
    else {
      this.#printRun();
      this.#run = { first: line, last: line, text };
    }
  }

  printProgress(): void {
    const seconds = (performance.now() - this.#startMs) / 1_000;
    const rate = formatCount(this.published / seconds);
    process.stderr.write(`\r\x1b[K${formatCount(this.published)} published, ${rate}/s`);
    this.#hasProgress = true;
  }

  finish(): void {
    if (this.#hasProgress) {
      this.printProgress();
      process.stderr.write('\n');
      this.#hasProgress = false;
    }
    this.#printRun();
  }

  #printRun(): void {
    if (this.#run === undefined) return;
    const { first, last, text } = this.#run;
    const lines = first === last ? `line ${first}` : `lines ${first} to ${last}`;
    if (this.#hasProgress) process.stderr.write('\r\x1b[K');
    console.error(`fanfare: ${lines}: ${text}`);
    this.#run = undefined;
  }
}
