// The commands of `fanfare` on a fake broker: what they print, and with which exit codes they end.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { contextPath, writeContext } from '../../services/certs/context-file.ts';
import { runCli, startCli } from '../support/cli.ts';
import { FakeBroker } from '../support/fake-broker.ts';
import { until } from '../support/until.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

let broker: FakeBroker;
let cwd: string;

beforeAll(async () => {
  broker = await FakeBroker.start();
  const { ca, clientCert, clientKey } = broker.certificates;
  // The context is found from a folder below the one that has it.
  cwd = join(broker.directory, 'deep', 'er');
  await mkdir(cwd, { recursive: true });
  await writeContext(contextPath(join(broker.directory, '.fanfare')), {
    address: broker.address,
    project: 'default',
    tls: { ca, cert: clientCert, key: clientKey },
  });
});

afterAll(() => broker.stop());

beforeEach(() => {
  broker.topics.clear();
  broker.subscriptions.clear();
  broker.onPublish = () => undefined;
  broker.createTopic('orders');
  broker.createSubscription('audit', 'orders');
});

const run = (args: string, input?: string | Buffer) =>
  runCli(args.split(' '), { cwd, ...(input !== undefined && { input }) });

test('topics and subscriptions: create, list, describe, update, delete', async () => {
  const created = await run('topic create invoices --partitions 8 --label team=web -o json');
  expect(JSON.parse(created.stdout.toString())).toMatchObject({
    id: 'invoices',
    partitions: 8,
    labels: { team: 'web' },
  });
  const again = await run('topic create invoices');
  expect(again).toMatchObject({ code: 1, stderr: 'fanfare: projects/default/topics/invoices exists\n' });
  const list = await run('topic list');
  expect(list.stdout.toString()).toMatch(/^NAME +PARTITIONS.*\norders +1 .*\ninvoices +8 /);
  await run('topic update invoices --partitions 16');
  expect((await run('topic describe invoices')).stdout.toString()).toMatch(/partitions: +16/);
  const bills = await run('subscription create bills --topic invoices --ordering --ack-deadline 30s -o json');
  expect(JSON.parse(bills.stdout.toString())).toMatchObject({ ordering: true, ackDeadlineSeconds: 30 });
  const described = await run('subscription describe bills -o json');
  expect(JSON.parse(described.stdout.toString())).toMatchObject({ id: 'bills', backlog: { messages: 0 } });
  expect((await run('subscription delete bills')).code).toBe(0);
  expect((await run('topic delete invoices --yes')).code).toBe(0);
  expect(await run('topic describe invoices')).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(
      /^fanfare: projects\/default\/topics\/invoices does not exist; .*topic list/,
    ),
  });
}, 30_000);

test('pub and sub carry bytes, keys and attributes', async () => {
  const input = Buffer.concat([
    Buffer.from('a 1\nb 2\n'),
    Buffer.from([0x61, 0x20, 0xff, 0x00, 0xfe, 0x0d]),
    Buffer.from('\na 4'),
  ]);
  const pub = await runCli(['pub', 'orders', '--raw', '--key-field', '1', '--attr', 'x=1', '-o', 'json'], {
    cwd,
    input,
  });
  expect(pub).toMatchObject({ code: 0, stderr: '' });
  const acknowledged = pub.stdout
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(acknowledged.map((ack) => ack.line)).toEqual([1, 2, 3, 4]);
  expect(acknowledged[0].messageId).toMatch(/^\d+\.0-0$/);

  const json = await run('sub audit --count 2 -o json');
  expect(JSON.parse(json.stdout.toString().split('\n')[1]!)).toMatchObject({
    orderingKey: 'b',
    attributes: { x: '1' },
    deliveryAttempt: 1,
    data: 'b 2',
  });
  const rest = await run('sub audit --exit-at-end');
  expect(rest.code).toBe(0);
  expect(rest.stdout).toEqual(
    Buffer.from([0x61, 0x20, 0xff, 0x00, 0xfe, 0x0d, 0x0a, ...Buffer.from('a 4\n')]),
  );
  expect(broker.acked('audit')).toEqual([0, 1, 2, 3]);
});

test('records of several lines, separated by NUL, with a key found by a pattern', async () => {
  const stanzas = ['Package: a\nSection: libs\n', 'Package: b\nSection: admin\n'];
  const pub = await runCli(['pub', 'orders', '-0', '--key-match', '^Section: (.*)$'], {
    cwd,
    input: stanzas.join('\0'),
  });
  expect(pub.code).toBe(0);
  const sub = await run('sub audit -0 --exit-at-end');
  expect(sub.stdout.toString()).toBe(stanzas.map((stanza) => `${stanza}\0`).join(''));
  const { log } = broker.topics.get('projects/default/topics/orders')!;
  expect(log.map(({ message }) => message.orderingKey)).toEqual(['libs', 'admin']);
});

test('what could not be published is named by line, the rest is published', async () => {
  const pub = await runCli(['pub', 'orders', '--key-field', '2'], { cwd, input: 'a 1\nb\nc\n\nd 2\n' });
  expect(pub.code).toBe(1);
  expect(pub.stderr).toBe(
    'fanfare: lines 2 to 3: it has no field 2 to be its ordering key\nfanfare: 1 empty line left out (see --raw)\nfanfare: 2 of 4 messages were not published\n',
  );
  expect(broker.stored('orders')).toEqual(['a 1', 'd 2']);
});

test('an unknown topic ends pub with 3 before anything is read', async () => {
  const { child, finished } = startCli(['pub', 'nothing'], { cwd });
  child.stdin.write('a line, and no end\n');
  expect(await finished).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(/^fanfare: projects\/default\/topics\/nothing does not exist;/),
  });
});

test('a topic that goes ends pub with 3, and says which lines were not published', async () => {
  broker.onPublish = ({ requestId }) =>
    requestId === 1n ? undefined : { refuse: status.NOT_FOUND, message: 'the topic was deleted' };
  const { child, finished } = startCli(['pub', 'orders'], { cwd });
  child.stdin.write('1\n2\n');
  await until(() => broker.stored('orders').length === 2);
  // It stops there: it does not wait for its input to go on, or to end.
  child.stdin.write('3\n');
  const pub = await finished;
  expect(pub.code).toBe(3);
  expect(pub.stderr).toBe(
    [
      'fanfare: line 3: the topic was deleted',
      'fanfare: line 4 and those behind it were not read, and not published',
      'fanfare: 1 of 3 messages was not published',
      '',
    ].join('\n'),
  );
});

test('a line that the broker refuses is named, and the others are published', async () => {
  broker.onPublish = ({ messages }) =>
    messages.some(({ data }) => Buffer.from(data).toString() === 'k bad')
      ? { refuse: status.INVALID_ARGUMENT, message: 'messages[0]: not so' }
      : undefined;
  const { child, finished } = startCli(['pub', 'orders', '--key-field', '1'], { cwd });
  child.stdin.write('k 1\n');
  await until(() => broker.stored('orders').length === 1);
  const before = broker.publishRequests.length;
  child.stdin.write('k bad\n');
  await until(() => broker.publishRequests.length > before);
  child.stdin.end('k 3\nother\n');
  const pub = await finished;
  expect(pub).toMatchObject({ code: 1, stderr: expect.stringMatching(/^fanfare: line 2: .*not so$/m) });
  expect(broker.stored('orders')).toEqual(expect.arrayContaining(['k 1', 'other']));
});

test('a full broker is asked again until --retry is over', async () => {
  broker.onPublish = () => ({ refuse: status.RESOURCE_EXHAUSTED, message: 'the disk is full' });
  const pub = await runCli(['pub', 'orders', '--retry', '300ms'], { cwd, input: '1\n2\n' });
  expect(pub).toMatchObject({ code: 1, stderr: expect.stringContaining('lines 1 to 2: the disk is full') });
});

test('a reader that goes away ends sub as SIGPIPE would, and what it may not have read is not acked', async () => {
  const lines = Array.from({ length: 2_000 }, (_, n) => `${n} ${'x'.repeat(500)}`).join('\n');
  await runCli(['pub', 'orders'], { cwd, input: lines });
  const { child, finished } = startCli(['sub', 'audit', '--max-outstanding', '2000'], { cwd });
  child.stdout.once('data', () => child.stdout.destroy());
  expect(await finished).toMatchObject({ code: 141, stderr: '' });
  await until(() => [...broker.subscriptions.values()][0]!.leased.size === 0);
  expect(broker.acked('audit')).toEqual([]);
  const { attempts } = [...broker.subscriptions.values()][0]!;
  expect(attempts.size).toBeLessThan(100);
});

test('Ctrl-C ends sub with 130 and says how much was printed; what may lie unread in the pipe comes again', async () => {
  await runCli(['pub', 'orders'], { cwd, input: '1\n' });
  const early = startCli(['sub', 'audit'], { cwd });
  early.child.stdout.once('data', () => early.child.kill('SIGINT'));
  expect(await early.finished).toMatchObject({
    code: 130,
    stderr: expect.stringMatching(/^fanfare: interrupted: 1 message printed; the last one comes again, /),
  });
  expect(broker.acked('audit')).toEqual([]);
  const late = startCli(['sub', 'audit'], { cwd });
  await until(() => broker.acked('audit').length === 1);
  late.child.kill('SIGINT');
  expect(await late.finished).toMatchObject({
    code: 130,
    stderr: 'fanfare: interrupted: 1 message printed\n',
  });
});

test('a second Ctrl-C ends pub at once, with what nobody knows; the first one and its echo wait for answers', async () => {
  broker.onPublish = ({ messages }) =>
    messages.some(({ data }) => Buffer.from(data).toString() === '1') ? undefined : 'ignore';
  const { child, finished } = startCli(['pub', 'orders'], { cwd });
  child.stdin.write('1\n');
  await until(() => broker.stored('orders').length === 1);
  const before = broker.publishRequests.length;
  child.stdin.write('2\n3\n');
  await until(() => broker.publishRequests.length > before);
  child.kill('SIGINT');
  const impatience = setInterval(() => child.kill('SIGINT'), 100);
  const pub = await finished;
  clearInterval(impatience);
  expect(pub).toMatchObject({
    code: 130,
    stderr: 'fanfare: interrupted: 1 message published; 2 more may have been\n',
  });
});

test('exit codes and errors that say what to do', async () => {
  expect(await run('sub nothing')).toMatchObject({
    code: 3,
    stderr: expect.stringContaining('no subscription'),
  });
  expect(await run('pub')).toMatchObject({ code: 2, stderr: "fanfare: missing required argument 'topic'\n" });
  expect(await run('topic create a --retention 5')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('such as 30s'),
  });
  expect(await run('topic list --address 127.0.0.1:1')).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(
      /^fanfare: the broker at 127.0.0.1:1 can't be reached: nobody listens there \(.*ECONNREFUSED.*\); is the broker running/,
    ),
  });
  expect(await runCli(['topic', 'list'], { cwd: '/' })).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^fanfare: no broker is known here: .*--address/),
  });
});

test('contexts: flags before environment before the selected one', async () => {
  const home = join(broker.directory, '..');
  const env = { XDG_CONFIG_HOME: join(broker.directory, 'config') };
  const show = async (args: string, more: Record<string, string> = {}, from = cwd) => {
    const { stdout, stderr } = await runCli(`context show -o json ${args}`.trim().split(' '), {
      cwd: from,
      env: { ...env, ...more },
    });
    expect(stderr).toBe('');
    return JSON.parse(stdout.toString());
  };
  expect(await show('')).toMatchObject({
    address: broker.address,
    source: expect.stringContaining('.fanfare/context.json'),
  });
  expect(await show('', { FANFARE_ADDRESS: 'b:2' })).toMatchObject({
    address: 'b:2',
    source: 'FANFARE_ADDRESS',
  });
  expect(await show('--address c:3 --project other', { FANFARE_ADDRESS: 'b:2' })).toMatchObject({
    address: 'c:3',
    project: 'other',
    source: '--address',
  });
  expect(await show('--address https://E/,:5')).toMatchObject({ address: 'e:7443,localhost:5' });
  const refused = await runCli(['topic', 'list'], { cwd, env: { ...env, FANFARE_ADDRESS: 'b:99999' } });
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^fanfare: FANFARE_ADDRESS: .*has port "99999": a port is 1 to 65535/),
  });
  expect((await runCli(['context', 'add', 'mine', '--address', 'd:4', '--select'], { cwd, env })).code).toBe(
    0,
  );
  expect(await show('--context mine')).toMatchObject({ address: 'd:4', source: 'context mine' });
  // A context whose broker speaks plaintext is no reason to speak it to another one.
  const plain = ['context', 'add', 'plain', '--address', 'e:5', '--insecure'];
  expect((await runCli(plain, { cwd, env })).code).toBe(0);
  expect(await show('--context plain')).toMatchObject({ address: 'e:5', source: 'context plain' });
  const other = ['topic', 'list', '--context', 'plain', '--address', 'f:6'];
  expect(await runCli(other, { cwd: '/', env })).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^fanfare: f:6 needs mutual TLS: give --tls-ca/),
  });
  expect(await show('', {}, home)).toMatchObject({ address: 'd:4', source: 'context mine' });
  expect((await runCli(['context', 'add', 'local', '--context', '.'], { cwd, env })).code).toBe(0);
  expect(await show('--context local')).toMatchObject({ address: broker.address });
  expect((await runCli(['context', 'list'], { cwd, env })).stdout.toString()).toMatch(/^\* +mine +d:4/m);
  expect((await runCli(['context', 'remove', 'mine'], { cwd, env })).code).toBe(0);
  expect(await runCli(['context', 'select', 'mine'], { cwd, env })).toMatchObject({ code: 3 });
});

test('top --once and bench print what they measured', async () => {
  const top = await run('top --once --interval 100ms -o json');
  expect(JSON.parse(top.stdout.toString())).toMatchObject({ messages: 0, ackedPerS: 0 });
  const bench = await run('bench --messages 300 --subscriptions 2 -o json');
  expect(JSON.parse(bench.stdout.toString())).toMatchObject({ messages: 300, deliveries: 600 });
  expect([...broker.topics.keys()]).toEqual(['projects/default/topics/orders']);
});
