// The forms of what commands print on standard output: tables for people, JSON for programs. Lists are JSON
// arrays, single things JSON objects; streams (pub, sub, top) are one JSON object a line.
//
// Other people's text in a table is escaped wherever the table goes, since a line break would make a row of
// its own; on a terminal all text is. In JSON for programs each text is as it was.
import { printable, printableLines } from '../broker/core/printable.ts';
import { CliError, EXIT } from './failure.ts';
import { OutputError, standardOutput } from './standard-output.ts';

export type OutputFormat = 'table' | 'json';

/** The heading of each column, and its cell in a row. Numbers are aligned to the right. */
export type Columns<Row> = Readonly<Record<string, (row: Row) => string | number>>;

/** Prints rows. Rejects, as all of these do, with an OutputError if they could not be printed. */
export function printList<Row>(
  format: OutputFormat,
  rows: readonly Row[],
  columns: Columns<Row>,
): Promise<void> {
  return printText(format === 'json' ? JSON.stringify(rows, null, 2) : formatTable(rows, columns));
}

/** Prints one thing; for people, a line for each name and value. */
export function printOne<Row>(format: OutputFormat, row: Row, columns: Columns<Row>): Promise<void> {
  if (format === 'json') return printText(JSON.stringify(row, null, 2));
  const names = Object.keys(columns);
  const width = Math.max(...names.map((name) => name.length)) + 2;
  const cell = (name: string): string => printable(String(columns[name]!(row)));
  return printText(names.map((name) => `${`${name}:`.padEnd(width)}${cell(name)}`).join('\n'));
}

/**
 * Prints as printOne does what has just been done; if that can't be printed, the error says at least that it
 * was done. `done`: "the topic was created".
 */
export async function printDone<Row>(
  done: string,
  format: OutputFormat,
  row: Row,
  columns: Columns<Row>,
): Promise<void> {
  try {
    await printOne(format, row, columns);
  } catch (error) {
    if (!(error instanceof OutputError)) throw error;
    throw new CliError(`${done}, but ${error.message}`, EXIT.failed, { cause: error });
  }
}

/** Prints lines; the last one gets its newline here. */
export function printText(text: string): Promise<void> {
  const output = standardOutput();
  return output.print(`${output.isTerminal ? printableLines(text) : text}\n`);
}

/** Prints over what stands on the terminal: clears the rest of each line, and everything below. */
export function printOver(text: string): Promise<void> {
  return standardOutput().print(`\x1b[H${printableLines(text).replaceAll('\n', '\x1b[K\n')}\x1b[K\n\x1b[J`);
}

export function formatTable<Row>(rows: readonly Row[], columns: Columns<Row>): string {
  const names = Object.keys(columns);
  const cells = rows.map((row) =>
    names.map((name) => {
      const cell = columns[name]!(row);
      return typeof cell === 'number' ? cell : printable(cell);
    }),
  );
  const widths = names.map((name, at) =>
    Math.max(name.length, ...cells.map((row) => String(row[at]).length)),
  );
  const isNumber = names.map(
    (_, at) => cells.length > 0 && cells.every((row) => typeof row[at] === 'number'),
  );
  const line = (texts: readonly (string | number)[]) =>
    texts
      .map((text, at) =>
        isNumber[at] ? String(text).padStart(widths[at]!) : String(text).padEnd(widths[at]!),
      )
      .join('  ')
      .trimEnd();
  return [names.map((name) => name.toUpperCase()), ...cells].map(line).join('\n');
}

/** The cell of a labels column. */
export function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.join(',') || '-';
}
