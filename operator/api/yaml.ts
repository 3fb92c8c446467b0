// Writes plain data as YAML, as far as manifests need it: maps, lists, strings, numbers, booleans. Generating
// manifests thus needs no library; test/unit/crd.test.ts reads the result back with one.

type Plain = string | number | boolean | readonly Plain[] | { readonly [key: string]: Plain };

/** The last line has no end. Fields that are undefined are left out. */
export function toYaml(value: unknown, indent = 0): string {
  return lines(JSON.parse(JSON.stringify(value)) as Plain, ' '.repeat(indent)).join('\n');
}

function lines(value: Plain, indent: string): string[] {
  if (typeof value !== 'object') return [indent + scalar(value)];
  if (isList(value)) return value.flatMap((item) => itemLines(item, indent));
  return Object.entries(value).flatMap(([key, part]) => {
    const head = `${indent}${scalar(key)}:`;
    if (typeof part !== 'object') return [`${head} ${scalar(part)}`];
    if (isEmpty(part)) return [`${head} ${isList(part) ? '[]' : '{}'}`];
    return [head, ...lines(part, `${indent}  `)];
  });
}

/** A map's first line stands behind the dash. */
function itemLines(item: Plain, indent: string): string[] {
  if (typeof item === 'object' && isEmpty(item)) return [`${indent}- ${isList(item) ? '[]' : '{}'}`];
  const [first, ...rest] = lines(item, `${indent}  `);
  return [`${indent}- ${first?.trimStart()}`, ...rest];
}

function scalar(value: string | number | boolean): string {
  if (typeof value !== 'string' || isSafe(value)) return String(value);
  // Single quotes where they spare backslashes.
  return /^[ -~]*["\\][ -~]*$/.test(value) ? `'${value.replaceAll("'", "''")}'` : JSON.stringify(value);
}

/** Whether YAML reads it as this string without quotes. */
function isSafe(text: string): boolean {
  return /^[A-Za-z][-\w./]*( [-\w./]+)*$/.test(text) && !/^(true|false|yes|no|on|off|y|n|null)$/i.test(text);
}

function isList(value: Plain): value is readonly Plain[] {
  return Array.isArray(value);
}

function isEmpty(value: object): boolean {
  return Object.keys(value).length === 0;
}
