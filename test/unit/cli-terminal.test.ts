// What `fanfare` shows on a terminal: nothing that somebody else has written can do anything to it. A broker
// that takes such labels is a fake one.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { contextPath, writeContext } from '../../services/certs/context-file.ts';
import { runCli, runOnTerminal } from '../support/cli.ts';
import { FakeBroker } from '../support/fake-broker.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

const EVIL = '\u001b]0;title\u0007\u009b2J\u202e\nforged';
const SHOWN = '\\u001b]0;title\\u0007\\u009b2J\\u202e\\nforged';
/** Whatever a terminal obeys, or shows as nothing; lines of a terminal end with both. */
const UNPRINTABLE = /(?!\r?\n)[\p{C}\p{Zl}\p{Zp}]/u;

let broker: FakeBroker;
let cwd: string;

beforeAll(async () => {
  broker = await FakeBroker.start();
  cwd = broker.directory;
  const { ca, clientCert: cert, clientKey: key } = broker.certificates;
  await writeContext(contextPath(join(cwd, '.fanfare')), {
    address: broker.address,
    project: 'default',
    tls: { ca, cert, key },
  });
});

afterAll(() => broker.stop());

beforeEach(() => {
  broker.topics.clear();
  broker.subscriptions.clear();
  broker.createTopic('orders');
  broker.createSubscription('audit', 'orders');
  broker.topics.get('projects/default/topics/orders')!.definition.labels = { [EVIL]: EVIL };
});

test.each(['topic list', 'topic describe orders', 'topic list -o json', 'topic describe orders -o json'])(
  '%s',
  async (line) => {
    const { code, stdout } = await runOnTerminal(line.split(' '), { cwd });
    expect(code).toBe(0);
    expect(stdout.toString()).toContain(SHOWN);
    expect(stdout.toString()).not.toMatch(UNPRINTABLE);
  },
);

test('a forged row is none in a pipe either, and programs get the text as it is', async () => {
  const table = await runCli(['topic', 'list'], { cwd });
  expect(table.stdout.toString().trimEnd().split('\n')).toHaveLength(2);
  const json = await runCli(['topic', 'list', '-o', 'json'], { cwd });
  expect(JSON.parse(json.stdout.toString())[0].labels).toEqual({ [EVIL]: EVIL });
});

test('what is wrong', async () => {
  for (const args of [
    ['topic', 'describe', EVIL],
    [EVIL],
    ['topic', 'list', '--timeout', EVIL],
    ['sub', EVIL],
    ['topic', 'list', '--address', EVIL],
    ['topic', 'list', '--context', EVIL],
  ]) {
    const { code, stdout } = await runOnTerminal(args, { cwd });
    expect(code, args.join(' ')).not.toBe(0);
    expect(stdout.toString()).toContain('title');
    expect(stdout.toString()).not.toMatch(UNPRINTABLE);
  }
});

test('messages: a line each, escaped on a terminal unless --raw, byte for byte in a pipe', async () => {
  broker.store('orders', EVIL);
  const sub = ['sub', 'audit', '--exit-at-end'];
  expect((await runOnTerminal(sub, { cwd })).stdout.toString()).toBe(`${SHOWN}\r\n`);
  broker.store('orders', EVIL);
  const json = await runOnTerminal([...sub, '-o', 'json'], { cwd });
  expect(json.stdout.toString()).not.toMatch(UNPRINTABLE);
  expect(JSON.parse(json.stdout.toString()).data).toBe(EVIL);
  broker.store('orders', EVIL);
  const raw = await runOnTerminal([...sub, '--raw'], { cwd });
  expect(raw.stdout.toString().replaceAll('\r', '')).toBe(`${EVIL}\n`);
  broker.store('orders', EVIL);
  expect((await runCli(sub, { cwd })).stdout.toString()).toBe(`${EVIL}\n`);
});

test('standard error is written to in one place, but for texts of our own', () => {
  const folder = fileURLToPath(new URL('../../services/cli/', import.meta.url));
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  const writing = files.filter((file) =>
    /console\.|process\.stderr\.write\((?!'|`\\r)/.test(readFileSync(join(folder, file), 'utf8')),
  );
  expect(writing).toEqual(['notice.ts']);
});
