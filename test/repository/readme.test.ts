// The README's guarantees: each is named by a test.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
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
