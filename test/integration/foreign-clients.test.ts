// The API from other languages: clients in Go, Python and Java (test/clients), generated from proto/ by their
// languages' ordinary tools, publish to and subscribe at a real broker over mutual TLS.
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { type ForeignClient, foreignLanguages, setUpForeignClient } from '../support/foreign-clients.ts';
import { run } from '../support/foreign-toolchains.ts';

// Messages of each publisher: half by Publish, half by PublishStream, so that both need several batches.
const MESSAGES = 600;
const KEYS = 7;
// The first run installs and builds; a later one takes seconds.
const SET_UP_TIMEOUT_MS = 20 * 60_000;
// The clients give up after 60 s, and say more than this time-out would.
const TEST_TIMEOUT_MS = 90_000;

const topicOf = (id: string) => `projects/default/topics/${id}`;
const subscriptionOf = (id: string) => `projects/default/subscriptions/${id}`;

const foreign: ForeignClient[] = [];
let broker: BrokerProcess;
let client: Client;

beforeAll(async () => {
  // They are built one after the other: each build can use the whole machine.
  for (const language of foreignLanguages) foreign.push(await setUpForeignClient(language));
  broker = await startBroker();
  client = broker.connect();
}, SET_UP_TIMEOUT_MS);

afterAll(async () => {
  await client?.[Symbol.asyncDispose]();
  await broker?.[Symbol.asyncDispose]();
});

test(
  'Go, Python and Java each get what all of them publish, in order within a key, and leave no backlog',
  async () => {
    await client.admin.createTopic('live', { partitions: 4 });
    const subscriptions = foreign.map(({ language }) => `${language}-live`);
    for (const id of subscriptions) {
      await client.admin.createSubscription(id, { topic: 'live', ordering: true });
    }

    const [published, received] = await Promise.all([
      Promise.all(foreign.map((program) => publish(program, 'live', ['--key-mod', `${KEYS}`]))),
      Promise.all(foreign.map((program, i) => subscribe(program, subscriptions[i]!))),
    ]);

    expect(published).toEqual(foreign.map(() => `OK ${MESSAGES} ${MESSAGES}\n`));
    for (const [i, lines] of received.entries()) {
      expect(lines.toSorted(), `what ${subscriptions[i]} got`).toEqual(everything());
      expect(misordered(lines), `misordered in ${subscriptions[i]}`).toEqual([]);
    }
    await expectNoBacklog(subscriptions);
  },
  TEST_TIMEOUT_MS,
);

test(
  'Go, Python and Java each read a backlog of messages without a key',
  async () => {
    await client.admin.createTopic('stored', { partitions: 4 });
    const subscriptions = foreign.map(({ language }) => `${language}-later`);
    for (const id of subscriptions) await client.admin.createSubscription(id, { topic: 'stored' });

    await Promise.all(foreign.map((program) => publish(program, 'stored')));
    const received = await Promise.all(foreign.map((program, i) => subscribe(program, subscriptions[i]!)));

    for (const [i, lines] of received.entries()) {
      expect(lines.toSorted(), `what ${subscriptions[i]} got`).toEqual(everything());
    }
    await expectNoBacklog(subscriptions);
  },
  TEST_TIMEOUT_MS,
);

// What all publishers together publish to a topic, sorted.
function everything(): string[] {
  return foreign
    .flatMap(({ language }) => Array.from({ length: MESSAGES }, (_, i) => `${language}-${i}`))
    .sort();
}

// Payloads that came after a later one of the same publisher and ordering key.
function misordered(lines: string[]): string[] {
  const latest = new Map<string, number>();
  return lines.filter((line) => {
    const dash = line.lastIndexOf('-');
    const number = Number(line.slice(dash + 1));
    const key = `${line.slice(0, dash)} k${number % KEYS}`;
    const before = latest.get(key) ?? -1;
    latest.set(key, Math.max(before, number));
    return number < before;
  });
}

// Every acknowledgement has counted, whether by id, by range or by the last call.
async function expectNoBacklog(ids: string[]): Promise<void> {
  const backlogs = await client.admin.getBacklog(ids);
  const left = backlogs.map(({ subscription, messages }) => [subscription, messages]);
  expect(left.toSorted()).toEqual(ids.map((id) => [subscriptionOf(id), 0]).toSorted());
}

function publish(program: ForeignClient, topic: string, more: string[] = []): Promise<string> {
  const what = ['--topic', topicOf(topic), '--prefix', program.language, '--count', `${MESSAGES}`];
  return runProgram(program, 'publish', [...what, ...more]);
}

async function subscribe(program: ForeignClient, id: string): Promise<string[]> {
  const what = ['--subscription', subscriptionOf(id), '--count', `${foreign.length * MESSAGES}`];
  const output = await runProgram(program, 'subscribe', what);
  return output.trimEnd().split('\n');
}

function runProgram({ command, args }: ForeignClient, verb: string, what: string[]): Promise<string> {
  const { ca, cert, key } = broker.tls;
  const where = ['--address', broker.address, '--ca', ca, '--cert', cert, '--key', key];
  return run(command, [...args, verb, ...where, ...what]);
}
