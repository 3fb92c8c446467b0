// Machine check 2 of the repository: generated code is current, and the lockfile has no node but that of
// services/node.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VERSION } from '../../services/broker/version.ts';
import { otherNodes, withEngines } from '../support/complete-lockfile.ts';

const root = join(import.meta.dirname, '../..');

test('services/gen is what `npm run generate` makes of proto', () => {
  const out = mkdtempSync(join(tmpdir(), 'fanfare-generated-'));
  try {
    // `npm test` finds buf and its plugins by the PATH; vitest alone does not.
    const PATH = `${join(root, 'node_modules/.bin')}:${process.env.PATH}`;
    const env = { ...process.env, PATH };
    execFileSync('buf', ['generate', '--output', out], { cwd: root, stdio: 'pipe', env });
    expect(contents(join(out, 'services/gen'))).toEqual(contents(join(root, 'services/gen')));
  } finally {
    rmSync(out, { recursive: true });
  }
}, 60_000);

test("the broker's version is the package's", () => {
  expect(VERSION).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
});

test('no package is for certain nodes only: all run on that of services/node, whatever node the machine has', () => {
  expect(withEngines(lockedPackages()), 'run: npx node test/support/complete-lockfile.ts').toEqual([]);
});

test('no package but services/node brings a `node`, so that every npm links ours', () => {
  expect(otherNodes(lockedPackages()), 'run: npx node test/support/complete-lockfile.ts').toEqual([]);
  expect(lockedPackages()['services/node'].bin).toEqual({ node: 'node' });
});

function lockedPackages() {
  return JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
}

function contents(folder: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files[path.slice(folder.length)] = readFileSync(path, 'utf8');
  }
  return files;
}
