// The README's guarantees: each is named by a test. And commands that no text may suggest.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

test('every guarantee of the README is named by a test', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const section = readme.slice(readme.indexOf('## Guarantees'), readme.indexOf('## Limits'));
  const promised = [...section.matchAll(/^(\d+)\. /gm)].map(([, number]) => Number(number));
  expect(promised.length).toBeGreaterThan(5);
  const named = new Set<number>();
  for (const entry of readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })) {
    if (!entry.endsWith('.test.ts') || entry.startsWith('repository')) continue;
    for (const [, numbers] of readFileSync(join(root, 'test', entry), 'utf8').matchAll(
      /guarantees? ([\d, ]+):/g,
    )) {
      for (const number of numbers!.split(',')) named.add(Number(number));
    }
  }
  expect(promised.filter((number) => !named.has(number))).toEqual([]);
});

test('no text leads to a stranger’s package: outside of this folder npm would fetch one of that name', () => {
  const fetches = /\b(npx|bunx|npm (exec|x|i|install|add)|pnpm dlx|yarn dlx)( -\S+)* fanfare\b/;
  const texts = ['README.md', ...['services', 'operator', 'charts', 'proto', 'test'].flatMap(filesBelow)];
  // These two files are about that very command.
  const allowed = ['services/cli/fanfare', 'test/first-contact/newcomer.ts'];
  expect(texts.length).toBeGreaterThan(500);
  expect(
    texts.filter((file) => !allowed.includes(file) && fetches.test(readFileSync(join(root, file), 'utf8'))),
  ).toEqual([]);
});

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}
