// All planted bugs, and the document that shows them.
import { dirname, join } from 'node:path';
import type { PlantedBug } from './bug.ts';
import { ADAPTER_BUGS } from './bugs/adapters.ts';
import { CORE_BUGS } from './bugs/core.ts';
import { ENGINE_BUGS } from './bugs/engine.ts';
import { LINK_BUGS } from './bugs/links.ts';
import { OPERATOR_BUGS } from './bugs/operator.ts';
import { SCRIPT_BUGS } from './bugs/scripts.ts';
import { nameOf } from './check.ts';

export const BUGS: readonly PlantedBug[] = [
  ...CORE_BUGS,
  ...ENGINE_BUGS,
  ...LINK_BUGS,
  ...ADAPTER_BUGS,
  ...SCRIPT_BUGS,
  ...OPERATOR_BUGS,
];

export const DOCUMENT = join(import.meta.dirname, 'README.md');

/** The folder of the file that has the bug. */
export function roomOf({ file }: PlantedBug): string {
  return dirname(file).replace(/^services\/broker\//, '');
}

export function documentText(): string {
  const rows = BUGS.map(({ name, file, noticed }) => [
    name,
    `\`${file.replace(/^services\/broker\//, '')}\``,
    nameOf(noticed).replaceAll('|', '\\|'),
  ]);
  return [
    '# Planted bugs',
    '',
    `Each of these ${BUGS.length} bugs is a line that somebody could forget, or get wrong. \`npm run planted\` puts one after the other`,
    'into a copy of the tree and expects that the check beside it fails, by what it asserts and not by a crash; without a bug the same',
    'check passes. `npm run planted -- redis` takes only those with that word in name, file or check.',
    '',
    'The texts that are replaced are in `bugs/`; `test/repository` looks that each is still in its file exactly once. More bugs, put in at',
    'run time by replacing methods, are in `test/sim/sabotage.test.ts` and',
    '`test/client-conformance/planted-faults.test.ts`. This page is written by `npm run planted -- --document`.',
    '',
    ...aligned([['bug', 'file', 'noticed by'], ...rows]),
    '',
  ].join('\n');
}

/** A table in Markdown as biome formats it. */
function aligned([head, ...rows]: readonly (readonly string[])[]): string[] {
  const widths = head!.map((cell, at) => Math.max(cell.length, ...rows.map((row) => row[at]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at]!)).join(' | ')} |`;
  return [line(head!), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)];
}
