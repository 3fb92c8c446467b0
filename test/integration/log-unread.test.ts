// A broker whose log nobody reads: it goes on serving, its memory of lines is bounded, and when somebody
// reads again, the changes that were made are all there, and how many other lines are not. And a broker that
// audits into a file.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { REFUSAL_BURST } from '../../services/broker/limits.ts';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, type LogLine, startBroker } from '../support/broker.ts';
import { until } from '../support/until.ts';

// A test starts several processes, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

/** With them every frame of HTTP/2 is a line or several. */
const TALKATIVE = {
  args: ['--log-level', 'debug', '--metrics-listen', '127.0.0.1:0'],
  env: { GRPC_TRACE: 'all', GRPC_VERBOSITY: 'DEBUG' },
};

test('guarantee 4: nobody waits for the log: it fills, the broker serves on, and tells later what was lost', async () => {
  await using broker = await startBroker(TALKATIVE);
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  const url = String((await broker.logged('listening')).metrics);

  broker.pauseLog();
  let topics = 0;
  await until(async () => {
    await callMuch(client);
    topics += 1;
    await client.admin.createTopic(`unread-${topics}`);
    return (await metric(url, 'fanfare_broker_lines_dropped_total')) > 0;
  });
  expect(await metric(url, 'fanfare_broker_audit_dropped_total')).toBe(0);
  // Published while every line was dropped.
  await client.publisher('orders').publish({ data: 'an order' });

  broker.resumeLog();
  const told = await broker.logged(({ msg }) => msg.startsWith('lines were dropped'));
  expect(told).toMatchObject({ level: 'warn', lines: expect.any(Number) });
  expect(told.lines).toBeGreaterThan(0);
  const last = `projects/default/topics/unread-${topics}`;
  await broker.logged((line) => auditOf(line)?.resource === last);
  const created = audits(broker).filter(({ resource }) => resource.includes('/unread-'));
  expect(created).toHaveLength(topics);
});

test('a broker whose log nobody reads stops in order all the same', async () => {
  await using broker = await startBroker(TALKATIVE);
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  const url = String((await broker.logged('listening')).metrics);
  broker.pauseLog();
  await until(async () => {
    await callMuch(client);
    return (await metric(url, 'fanfare_broker_lines_dropped_total')) > 0;
  });
  await client.close();
  await broker.kill('SIGTERM');
  await until(() => !isAlive(broker.pid));
  broker.resumeLog();
  expect(await broker.exited).toEqual({ code: 0, signal: null });
});

test('10,000 refused changes of one client are few lines and a sum, and wash no change away', {
  timeout: 180_000,
}, async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await client.admin.createTopic('before');
  const name = '\u0001'.repeat(600);
  for (let i = 0; i < 20; i += 1) {
    const refused = Array.from({ length: 500 }, () =>
      client.admin.createTopic(`projects/default/topics/${name}`),
    );
    for (const { status } of await Promise.allSettled(refused)) expect(status).toBe('rejected');
  }
  await client.admin.createTopic('after');
  expect(await broker.stop()).toEqual({ code: 0, signal: null });
  const lines = audits(broker);
  const ok = lines.filter(({ result }) => result === 'OK').map(({ resource }) => resource.split('/').at(-1));
  expect(ok).toEqual(['before', 'after']);
  const sums = lines.filter(({ result }) => result === 'REFUSED');
  const single = lines.filter(({ result }) => result === 'INVALID_ARGUMENT');
  expect(single.length).toBeGreaterThanOrEqual(REFUSAL_BURST);
  expect(lines.length).toBeLessThan(REFUSAL_BURST + 100);
  const summed = sums.reduce((all, { refusals = 0 }) => all + refusals, 0);
  expect(summed + single.length).toBe(10_000);
  expect(sums[0]!.message).toMatch(/^… and [\d,]+ more of \S+ in the last \d+ s$/);
});

test('--audit-log: all of the audit is in the file, whatever the log’s level, and only there', async () => {
  await using broker = await startBroker();
  const file = join(broker.dataDir, 'audit.jsonl');
  const { dataDir } = broker;
  await broker.stop();
  await using again = await startBroker({ dataDir, args: ['--audit-log', file] });
  await using client = again.connect();
  await client.admin.createTopic('orders');
  await expect(client.admin.createTopic('orders')).rejects.toThrow('already');
  await again.stop();
  const lines = (await readFile(file, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map(({ msg, audit }) => [msg, audit.verb, audit.result])).toEqual([
    ['audit', 'create', 'OK'],
    ['audit', 'create', 'ALREADY_EXISTS'],
  ]);
  expect(again.logLines.filter(({ msg }) => msg === 'audit')).toEqual([]);
});

test('an audit file that can’t be opened ends the start with a sentence', async () => {
  await expect(startBroker({ args: ['--audit-log', '/nonexistent/audit'] })).rejects.toThrow(
    "--audit-log /nonexistent/audit can't be opened: ENOENT",
  );
});

async function callMuch(client: Client): Promise<void> {
  await Promise.all(Array.from({ length: 200 }, () => client.admin.getTopic('orders')));
}

interface Audited {
  readonly resource: string;
  readonly result: string;
  readonly message?: string;
  readonly refusals?: number;
}

function auditOf(line: LogLine): Audited | undefined {
  return line.msg === 'audit' ? (line.audit as Audited) : undefined;
}

function audits(broker: BrokerProcess): Audited[] {
  return broker.logLines.map(auditOf).filter((audit) => audit !== undefined);
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(url)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
