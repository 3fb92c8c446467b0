// fanfare pub: standard input (or a file) to a topic, a message for each record. Reads no faster than
// the broker takes messages.
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Client } from '../../client/client.ts';
import { FanfareError } from '../../client/errors.ts';
import { measure, type OutgoingMessage } from '../../client/message-codec.ts';
import type { Publisher } from '../../client/publisher.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { sayWhenCutOff } from '../interruption.ts';
import { notice } from '../notice.ts';
import { type KeyFlags, keyExtractor } from '../ordering-key.ts';
import { PubReport } from '../pub-report.ts';
import { isTooLong, type LineRecord, splitRecords } from '../records.ts';
import { outageReporter, withClient } from '../session.ts';
import { standardOutput, systemReason } from '../standard-output.ts';
import { formatCount, formatMessages } from '../units.ts';

export interface PubFlags extends CommonFlags, KeyFlags {
  readonly attr?: Readonly<Record<string, string>>;
  readonly file?: string;
  readonly null?: boolean;
  readonly raw?: boolean;
  /** Milliseconds. */
  readonly retry: number;
}

/**
 * Codes of getTopic() that stop nothing: this client may publish to the topic but not look at it, or that
 * broker has no such call.
 */
const NOT_TO_BE_SEEN: ReadonlySet<string> = new Set(['PERMISSION_DENIED', 'UNIMPLEMENTED']);

export async function pub(topic: string, flags: PubFlags, signal: AbortSignal): Promise<void> {
  const toMessage = messageMaker(flags);
  const input = await openInput(flags);
  // A terminal or pipe that says nothing more must not hold us up, now or when nothing more can be published.
  signal.addEventListener('abort', () => input.destroy(), { once: true });
  const isTyped = input === process.stdin && process.stdin.isTTY;
  const outage = outageReporter();
  const report = new PubReport({
    output: flags.output === 'json' ? standardOutput() : undefined,
    isTyped,
    onHopeless: () => input.destroy(),
    onAlive: outage.onAlive,
  });
  sayWhenCutOff(() => interruptedText(report));
  try {
    await withClient(flags, async (client) => {
      await client.reach({ timeoutMs: flags.timeout, signal });
      await checkTopic(client, topic, signal);
      if (isTyped) notice('a line is a message; Ctrl-D ends');
      const publisher = client.publisher(topic, { retryDeadlineMs: flags.retry, onRetry: outage.onRetry });
      await publishAll(publisher, splitInput(input, flags), toMessage, report, signal);
      await publisher.close();
    });
  } finally {
    report.finish();
  }
  await standardOutput().flushed(signal);
  if (signal.aborted) throw new CliError(interruptedText(report), EXIT.interrupted);
  conclude(report);
}

/** Finds a missing topic before anything is read: else every line would fail, one after the other. */
async function checkTopic(client: Client, topic: string, signal: AbortSignal): Promise<void> {
  try {
    await client.admin.getTopic(topic, { signal });
  } catch (error) {
    if (!(error instanceof FanfareError) || !NOT_TO_BE_SEEN.has(error.code)) throw error;
  }
}

async function openInput({ file }: PubFlags): Promise<Readable> {
  if (file === undefined || file === '-') return process.stdin;
  try {
    return (await open(file)).createReadStream();
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    throw new CliError(
      `${file} can't be read: ${systemReason(cause)}`,
      cause.code === 'ENOENT' ? EXIT.notFound : EXIT.failed,
      { cause },
    );
  }
}

function splitInput(input: Readable, flags: PubFlags): AsyncIterable<LineRecord> {
  const isText = !flags.null && !flags.raw;
  return splitRecords(input, { end: flags.null ? 0 : 0x0a, isText });
}

/**
 * The message that a record becomes; a text: why it can't be one; undefined: the record is empty, left out.
 */
type MessageMaker = (record: LineRecord) => OutgoingMessage | string | undefined;

/** INVALID_ARGUMENT if the flags are such that no record could become a message. */
function messageMaker(flags: PubFlags): MessageMaker {
  const keyOf = keyExtractor(flags);
  const attributes = flags.attr && { attributes: flags.attr };
  measure({ data: 'x', ...attributes, ...(flags.key !== undefined && { orderingKey: flags.key }) });
  return (record) => {
    if (isTooLong(record))
      return `it has ${formatCount(record.bytes)} bytes: a message has at most 2,097,152 (2 MiB)`;
    if (record.length === 0 && !flags.raw) return undefined;
    const { value: orderingKey, error } = keyOf(record);
    if (error !== undefined) return error;
    const message = { data: record, ...attributes, ...(orderingKey !== undefined && { orderingKey }) };
    try {
      measure(message);
      return message;
    } catch (failure) {
      return (failure as Error).message;
    }
  };
}

async function publishAll(
  publisher: Publisher,
  records: AsyncIterable<LineRecord>,
  toMessage: MessageMaker,
  report: PubReport,
  signal: AbortSignal,
): Promise<void> {
  const output = standardOutput();
  let line = 0;
  let empty = 0;
  let isCutShort = false;
  let inputError: Error | undefined;
  try {
    for await (const record of records) {
      isCutShort = signal.aborted || report.isHopeless;
      if (isCutShort) break;
      line += 1;
      const message = toMessage(record);
      if (message === undefined) empty += 1;
      else if (typeof message === 'string') report.onBad(line, message);
      else {
        if (publisher.isFull) await publisher.ready({ signal });
        if (output.isFull) await output.room();
        publish(publisher, message, line, report);
      }
    }
  } catch (error) {
    isCutShort = report.isHopeless;
    if (!isCutShort && !signal.aborted) inputError = error as Error;
  }
  await publisher.flush();
  if (empty > 0) {
    report.tell(`${formatCount(empty)} empty ${empty === 1 ? 'line' : 'lines'} left out (see --raw)`);
  }
  if (line === 0 && inputError === undefined && !signal.aborted)
    report.tell('the input is empty: nothing was published');
  if (isCutShort && !signal.aborted)
    report.tell(`line ${line + 1} and those behind it were not read, and not published`);
  if (inputError !== undefined) {
    const done = `${formatMessages(report.published)} published, up to line ${line}`;
    throw new CliError(`the input can't be read: ${systemReason(inputError)}; ${done}`, EXIT.failed, {
      cause: inputError,
    });
  }
}

function publish(publisher: Publisher, message: OutgoingMessage, line: number, report: PubReport): void {
  report.onSent();
  publisher.publish(message).then(
    ({ messageId }) => report.onPublished(line, messageId),
    (error: FanfareError) => {
      report.onRefused(line, error);
      // This line can't be published, now or later: the other lines of its key need not wait for it.
      if (error.code === 'INVALID_ARGUMENT' && message.orderingKey) publisher.resumeKey(message.orderingKey);
    },
  );
}

function conclude({ published, failed, unprinted, exitCode }: PubReport): void {
  if (failed > 0) {
    const of = formatMessages(published + failed);
    throw new CliError(
      `${formatCount(failed)} of ${of} ${failed === 1 ? 'was' : 'were'} not published`,
      exitCode,
    );
  }
  if (unprinted > 0) {
    const { failure } = standardOutput();
    throw new CliError(
      `${formatMessages(published)} published, but ${formatCount(unprinted)} of the lines that say so could not be printed: ${failure?.message}`,
      EXIT.failed,
      { cause: failure },
    );
  }
}

function interruptedText({ published, failed, open: unknown }: PubReport): string {
  const unpublished = failed === 0 ? '' : `, ${formatCount(failed)} not`;
  const maybe = unknown === 0 ? '' : `; ${formatCount(unknown)} more may have been`;
  return `interrupted: ${formatMessages(published)} published${unpublished}${maybe}`;
}
