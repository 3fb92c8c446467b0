// Whose broker a command talks to, in folders that are somebody else's: a folder's context never comes before
// the selected one, counts only if nobody else could have written it, and is no reason for plaintext.
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Context, contextPath, writeContext } from '../../services/certs/context-file.ts';
import { runCli } from '../support/cli.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

const TLS = { ca: 'ca', cert: 'cert', key: 'key' };

let cwd: string;
let path: string;
let env: { XDG_CONFIG_HOME: string };

beforeEach(async () => {
  const root = await mkdtemp(join(tmpdir(), 'fanfare-contexts-'));
  cwd = join(root, 'clone', 'deep');
  path = contextPath(join(root, 'clone', '.fanfare'));
  env = { XDG_CONFIG_HOME: join(root, 'config') };
  await mkdir(cwd, { recursive: true });
});

afterEach(() => rm(join(cwd, '../..'), { recursive: true }));

const folder = (context: Partial<Context>) =>
  writeContext(path, { address: 'folder:1', project: 'default', tls: TLS, ...context });
const fanfare = (args: string, more: Record<string, string> = {}) =>
  runCli(args.split(' '), { cwd, env: { ...env, ...more } });

async function select(): Promise<void> {
  const flags = '--address chosen:2 --tls-ca a --tls-cert b --tls-key c';
  expect(await fanfare(`context add prod ${flags} --select`)).toMatchObject({ code: 0 });
}

async function shown(args = '', more: Record<string, string> = {}) {
  const { code, stdout, stderr } = await fanfare(`context show -o json ${args}`.trim(), more);
  return { code, stderr, ...(code === 0 && JSON.parse(stdout.toString())) };
}

test('alone, it says where the broker is, also in folders below', async () => {
  await folder({});
  expect(await shown()).toMatchObject({ code: 0, stderr: '', address: 'folder:1', source: path });
});

test('the selected one is used, and that there is another one here is said', async () => {
  await select();
  expect(await shown()).toMatchObject({ stderr: '', address: 'chosen:2' });
  await folder({});
  const notice = `fanfare: context prod is used (chosen:2); for the broker of ${join(path, '..')}: --context .\n`;
  expect(await shown()).toMatchObject({ stderr: notice, address: 'chosen:2', source: 'context prod' });
  const here = { stderr: '', address: 'folder:1', source: path };
  expect(await shown('--context .')).toMatchObject(here);
  expect(await shown('', { FANFARE_CONTEXT: '.' })).toMatchObject(here);
  // Who names the broker needs no advice, nor does anybody if both are the same.
  expect(await shown('--address x:3')).toMatchObject({ stderr: '', address: 'x:3' });
  await folder({ address: 'chosen:2' });
  expect(await shown()).toMatchObject({ stderr: '' });
  await writeFile(path, 'no JSON');
  expect(await shown()).toMatchObject({ code: 0, stderr: notice, address: 'chosen:2' });
});

test.each([0o644, 0o660, 0o602, 0o604])('a file with mode %o may have come with a copy', async (mode) => {
  await folder({});
  await chmod(path, mode);
  for (const args of ['', '--context .']) {
    expect(await shown(args)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^fanfare: .*context\.json is not used: others have access .*"chmod 600"/,
      ),
    });
  }
  // Nor do its certificates count for another address.
  expect(await shown('--address x:3')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^fanfare: x:3 needs mutual TLS/),
  });
  await select();
  expect(await shown()).toMatchObject({ code: 0, address: 'chosen:2' });
});

test.runIf(process.getuid?.() === 0)('nor does that of another user', async () => {
  await folder({});
  await chown(path, 12_345, 0);
  expect(await shown()).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('is not used: it belongs to another user (12345)'),
  });
});

test.each([
  ['127.0.0.1:7443', 0],
  ['localhost:7443,[::1]:7443', 0],
  ['10.0.0.1:7443', 2],
  ['localhost:7443,10.0.0.1:7443', 2],
  ['localhost.evil.example:7443', 2],
])('without TLS it may name this machine only: %s', async (address, code) => {
  await writeContext(path, { address, project: 'default' });
  const found = await shown();
  expect(found.code).toBe(code);
  if (code !== 0) expect(found.stderr).toContain('without TLS, and that is another machine: give --insecure');
  expect(await shown('--insecure')).toMatchObject({ code: 0, address });
});
