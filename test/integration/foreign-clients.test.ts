// Guarantee: the API is usable from any language. Clients in Go, Python and Java (test/clients), generated from proto/ by
// their languages' ordinary tools, publish to and subscribe at a real broker over mutual TLS. Topics are managed with
// `buf curl`, so that nothing of Fanfare but the broker itself takes part.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ForeignClient, foreignLanguages, setUpForeignClient } from '../support/foreign-clients.ts';
import { run } from '../support/foreign-toolchains.ts';

// Of each publisher: half by Publish, half by PublishStream, so that both need several batches.
const MESSAGES = 600;
const KEYS = 7;
// The first run installs and builds; a later one takes seconds.
const SET_UP_TIMEOUT_MS = 20 * 60_000;
const START_TIMEOUT_MS = 15_000;
const TEST_TIMEOUT_MS = 90_000;

const repository = join(import.meta.dirname, '..', '..');
const topic = 'projects/default/topics/foreign';
const subscriptionOf = (client: ForeignClient) => `projects/default/subscriptions/foreign-${client.language}`;

type Broker = { process: ChildProcess; address: string; tls: { ca: string; cert: string; key: string } };

describe('clients in other languages', () => {
  const clients: ForeignClient[] = [];
  let dataDir: string;
  let broker: Broker;

  beforeAll(async () => {
    // One after the other: each build can use the whole machine.
    for (const language of foreignLanguages) clients.push(await setUpForeignClient(language));
    dataDir = await mkdtemp(join(tmpdir(), 'fanfare-foreign-'));
    broker = await startBroker(dataDir);
  }, SET_UP_TIMEOUT_MS);

  afterAll(async () => {
    if (broker !== undefined) await stopBroker(broker);
    if (dataDir !== undefined) await rm(dataDir, { recursive: true, force: true });
  });

  it(
    'each gets what all of them published, in order within a key, and leaves no backlog',
    async () => {
      await admin(broker, 'CreateTopic', { topic: { name: topic, partitions: 4 } });
      const subscriptions = clients.map(subscriptionOf);
      for (const name of subscriptions) {
        const subscription = { name, topic, enableMessageOrdering: true };
        await admin(broker, 'CreateSubscription', { subscription });
      }

      const total = clients.length * MESSAGES;
      const [published, received] = await Promise.all([
        Promise.all(clients.map((client) => publish(broker, client))),
        Promise.all(clients.map((client) => subscribe(broker, client, total))),
      ]);
      expect(published).toEqual(clients.map(() => `OK ${MESSAGES} ${MESSAGES}\n`));

      const expected = clients.flatMap(({ language }) => payloads(language)).sort();
      for (const [i, lines] of received.entries()) {
        const { language } = clients[i]!;
        expect(lines.toSorted(), `what the ${language} subscriber got`).toEqual(expected);
        expect(misordered(lines), `misordered for the ${language} subscriber`).toEqual([]);
      }

      // Acknowledged by id, by range and by the last call: all of it counts.
      const { backlogs } = await admin(broker, 'GetBacklog', { parent: 'projects/default', subscriptions });
      const left = (backlogs as { subscription: string; messages?: string }[]).map((backlog) => [
        backlog.subscription,
        Number(backlog.messages ?? 0),
      ]);
      expect(left.toSorted()).toEqual(subscriptions.map((name) => [name, 0]).toSorted());
    },
    TEST_TIMEOUT_MS,
  );
});

function payloads(prefix: string): string[] {
  return Array.from({ length: MESSAGES }, (_, i) => `${prefix}-${i}`);
}

// Payloads that came after a later one of the same publisher and ordering key.
function misordered(lines: string[]): string[] {
  const latest = new Map<string, number>();
  return lines.filter((line) => {
    const dash = line.lastIndexOf('-');
    const number = Number(line.slice(dash + 1));
    const run = `${line.slice(0, dash)} k${number % KEYS}`;
    const before = latest.get(run) ?? -1;
    latest.set(run, Math.max(before, number));
    return number < before;
  });
}

function publish(broker: Broker, client: ForeignClient): Promise<string> {
  const what = ['--topic', topic, '--prefix', client.language, '--key-mod', `${KEYS}`];
  return runClient(broker, client, 'publish', [...what, '--count', `${MESSAGES}`]);
}

async function subscribe(broker: Broker, client: ForeignClient, count: number): Promise<string[]> {
  const what = ['--subscription', subscriptionOf(client), '--count', `${count}`];
  const output = await runClient(broker, client, 'subscribe', what);
  return output.trimEnd().split('\n');
}

function runClient(
  { address, tls }: Broker,
  { command, args }: ForeignClient,
  verb: 'publish' | 'subscribe',
  what: string[],
): Promise<string> {
  const where = ['--address', address, '--ca', tls.ca, '--cert', tls.cert, '--key', tls.key];
  return run(command, [...args, verb, ...where, ...what]);
}

async function admin({ address, tls }: Broker, method: string, request: object) {
  const buf = join(repository, 'node_modules', '@bufbuild', 'buf', 'bin', 'buf');
  const security = ['--cacert', tls.ca, '--cert', tls.cert, '--key', tls.key];
  const call = ['curl', '--protocol', 'grpc', '--schema', join(repository, 'proto'), ...security];
  const url = `https://${address}/fanfare.v1.Admin/${method}`;
  const answer = await run(process.execPath, [buf, ...call, '--data', JSON.stringify(request), url]);
  return JSON.parse(answer) as Record<string, unknown>;
}

// Starts a broker on a free port and returns when it serves. Where it listens and which certificates a client takes are in
// the CLI context that it leaves in its data folder.
async function startBroker(dataDir: string): Promise<Broker> {
  const main = join(repository, 'services', 'broker', 'main.ts');
  const child = spawn(process.execPath, [main, '--listen', '127.0.0.1:0', '--data-dir', dataDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  let output = '';
  const fail = (what: string) => reject(new Error(`the broker ${what}:\n${output}`));
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (/listening/i.test(output)) resolve();
    });
  }
  child.once('error', reject);
  child.once('exit', (code) => fail(`ended with exit code ${code}`));
  const timer = setTimeout(
    () => fail(`said nothing of listening in ${START_TIMEOUT_MS} ms`),
    START_TIMEOUT_MS,
  );
  try {
    await listening;
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }

  const context = JSON.parse(await readFile(join(dataDir, 'context.json'), 'utf8')) as Omit<
    Broker,
    'process'
  >;
  const { ca, cert, key } = context.tls;
  const tls = { ca: join(dataDir, ca), cert: join(dataDir, cert), key: join(dataDir, key) };
  return { process: child, address: context.address, tls };
}

async function stopBroker({ process: child }: Broker): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exited;
}
