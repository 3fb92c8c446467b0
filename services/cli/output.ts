// What commands print on standard output: tables for people, JSON for programs. Lists are JSON arrays, single things
// JSON objects; streams (pub, sub, top) are one JSON object a line.

export type OutputFormat = 'table' | 'json';

/** A column's heading and the cell of a row. Numbers are aligned to the right. */
export type Columns<Row> = Readonly<Record<string, (row: Row) => string | number>>;

export function printList<Row>(format: OutputFormat, rows: readonly Row[], columns: Columns<Row>): void {
  console.log(format === 'json' ? JSON.stringify(rows, null, 2) : formatTable(rows, columns));
}

/** Under each other: name and value. */
export function printOne<Row>(format: OutputFormat, row: Row, columns: Columns<Row>): void {
  if (format === 'json') {
    console.log(JSON.stringify(row, null, 2));
    return;
  }
  const names = Object.keys(columns);
  const width = Math.max(...names.map((name) => name.length)) + 2;
  for (const name of names) console.log(`${`${name}:`.padEnd(width)}${columns[name]!(row)}`);
}

export function formatTable<Row>(rows: readonly Row[], columns: Columns<Row>): string {
  const names = Object.keys(columns);
  const cells = rows.map((row) => names.map((name) => columns[name]!(row)));
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

/** A labels column. */
export function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.join(',') || '-';
}
