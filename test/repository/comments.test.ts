// Comments can be trusted: what they name exists, no line is too long, every file says what it owns.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const MAX_COLUMNS = 110;
/** Names that look like files of ours and are not: of other projects, of users, made at run time. */
const FOREIGN = new Set(['context.json', 'package.json', 'NOTES.txt', 'health.proto', 'reflection.proto']);

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '' && path !== 'node_modules');
const sources = tracked.filter(
  (path) => /^(services|operator|test)\/.*\.(ts|lua)$/.test(path) && !path.startsWith('services/gen/'),
);
const documents = tracked.filter((path) => /\.md$/.test(path));
const names = new Set(tracked.map((path) => basename(path)));
const texts = new Map(sources.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
const words = new Set([...texts.values()].flatMap((text) => stripped(text).match(/[A-Za-z_$][\w$]*/g) ?? []));

interface Line {
  readonly text: string;
  readonly number: number;
}

/** The lines of comments that stand by themselves, and where they are. */
function comments(text: string, path: string): Line[] {
  const sign = path.endsWith('.lua') ? /^\s*--/ : /^\s*(\/\/|\/\*\*|\*)/;
  return text
    .split('\n')
    .map((line, at) => ({ text: line, number: at + 1 }))
    .filter((line) => sign.test(line.text));
}

function stripped(text: string): string {
  return text.replaceAll(/^\s*(\/\/|\/\*\*|\*|--).*$/gm, '');
}

test('no line of a comment is longer than the code may be', () => {
  const long = [...texts].flatMap(([path, text]) =>
    comments(text, path)
      .filter((line) => [...line.text].length > MAX_COLUMNS && !line.text.includes('biome-ignore'))
      .map(({ number }) => `${path}:${number}`),
  );
  expect(long).toEqual([]);
});

test('files that comments and documents name exist', () => {
  const missing: string[] = [];
  const look = (path: string, number: number, text: string): void => {
    for (const [, name] of text.matchAll(
      /(?<![\w/.*$<{-])((?:[\w.-]+\/)*[\w-][\w.-]*\.(?:ts|lua|md|proto))\b(?![\w*-])/g,
    ))
      if (!names.has(basename(name!)) && !FOREIGN.has(basename(name!)))
        missing.push(`${path}:${number} ${name}`);
  };
  for (const [path, text] of texts)
    for (const line of comments(text, path)) look(path, line.number, line.text);
  for (const path of documents)
    for (const [at, line] of readFileSync(join(root, path), 'utf8').split('\n').entries())
      look(path, at + 1, line);
  expect(missing).toEqual([]);
});

test('places of the tree that comments name without an ending exist', () => {
  const folders =
    'core|ports|engine|adapters|log|delivery|definitions|membership|links|controllers|kube|support|sim';
  const pattern = new RegExp(`(?<![\\w/.-])((?:${folders})/[a-z][\\w/-]*[\\w])(?![\\w/.*-])`, 'g');
  const missing: string[] = [];
  for (const [path, text] of texts)
    for (const line of comments(text, path))
      for (const [, name] of line.text.matchAll(pattern))
        if (!tracked.some((each) => each.includes(`/${name}/`) || each.includes(`/${name}.`)))
          missing.push(`${path}:${line.number} ${name}`);
  expect(missing).toEqual([]);
});

test('functions that comments name exist', () => {
  const missing: string[] = [];
  for (const [path, text] of texts)
    for (const line of comments(text, path))
      for (const [, name] of line.text.matchAll(/(?<![\w'"`$.])([a-z]\w*)\(\)/g))
        if (!words.has(name!)) missing.push(`${path}:${line.number} ${name}()`);
  expect(missing).toEqual([]);
});

test('every file says what it owns', () => {
  const silent = [...texts].flatMap(([path, text]) => {
    const first = text.replace(/^#!.*\n/, '').trimStart();
    return /^(\/\/|\/\*|--)/.test(first) ? [] : [path];
  });
  expect(silent).toEqual([]);
});
