// The command line at a real broker, in pipelines of a real shell: exit codes tell whether everything was
// done and printed, and what a reader did not get is not acknowledged.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { runPipeline, startCli } from '../support/cli.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 });

let broker: BrokerProcess;
let client: Client;
let cwd: string;
/** Each test has a topic and a subscription of its own. */
let topic: string;
let audit: string;
let tests = 0;

beforeAll(async () => {
  broker = await startBroker();
  client = broker.connect();
  cwd = await mkdtemp(join(tmpdir(), 'fanfare-cli-'));
});

afterAll(async () => {
  await client.close();
  await broker[Symbol.asyncDispose]();
  await rm(cwd, { recursive: true, force: true });
});

beforeEach(async () => {
  tests += 1;
  topic = `topic-${tests}`;
  audit = `audit-${tests}`;
  await client.admin.createTopic(topic, { partitions: 3 });
  await client.admin.createSubscription(audit, { topic });
});

function environment(): Record<string, string> {
  const { ca, cert, key } = broker.tls;
  return {
    ...{ FANFARE_ADDRESS: broker.address, FANFARE_TLS_CA: ca, FANFARE_TLS_CERT: cert, FANFARE_TLS_KEY: key },
    ...{ TOPIC: topic, AUDIT: audit },
  };
}

const run = (script: string) => runPipeline(script, { cwd, env: environment() });

async function publish(count: number, from = 1): Promise<void> {
  await using publisher = client.publisher(topic);
  const texts = Array.from({ length: count }, (_, n) => `${from + n}`);
  for (const data of texts) {
    await publisher.ready();
    void publisher.publish({ data });
  }
}

async function backlog() {
  const [found] = await client.admin.getBacklog([audit]);
  return found!;
}

const numbers = (output: Buffer) =>
  output
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map(Number)
    .sort((a, b) => a - b);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);

describe('an output that is full', () => {
  test.each([
    'fanfare topic list',
    'fanfare topic list -o json',
    'fanfare topic describe $TOPIC',
    'fanfare subscription list',
    'fanfare subscription describe $AUDIT -o json',
    'fanfare sub $AUDIT --count 1',
    'fanfare top --once --interval 100ms',
    'fanfare top --interval 100ms',
    'fanfare cluster',
    'fanfare cluster --watch',
    'fanfare context show',
    'fanfare bench --messages 10 --subscriptions 1',
    'fanfare --help',
    'fanfare pub --help',
    'fanfare help sub',
    'fanfare serve --help',
    'fanfare --version',
  ])('%s: 1, and a line that says so', async (command) => {
    await publish(1);
    const { codes, stderr } = await run(`${command} > /dev/full`);
    expect(codes).toEqual([1]);
    expect(stderr).toMatch(/^fanfare: the output can't be written: no space left on device \(ENOSPC\)/m);
    expect((await backlog()).messages).toBe(1);
  });
});

test.each([
  ['topic create made-$TOPIC', 'the topic was created'],
  ['topic update $TOPIC --label a=b', 'the topic was changed'],
  ['subscription create made-$AUDIT --topic $TOPIC', 'the subscription was created'],
  ['subscription update $AUDIT --ack-deadline 20s', 'the subscription was changed'],
  ['pub $TOPIC -o json <<< hello', '1 message published'],
])('%s: says that it was done when that could not be printed', async (command, done) => {
  const closed = await run(`fanfare ${command} | true`);
  expect(closed.codes).toEqual([1, 0]);
  expect(closed.stderr).toMatch(new RegExp(`^fanfare: ${done}, but .*\\(EPIPE\\)\n$`));
  await run('fanfare topic delete made-$TOPIC --force; fanfare subscription delete made-$AUDIT');
  const full = await run(`fanfare ${command} > /dev/full`);
  expect(full.codes).toEqual([1]);
  expect(full.stderr).toMatch(new RegExp(`^fanfare: ${done}, but .*\\(ENOSPC\\)\n$`));
});

test('a reader that has gone ends what only prints as SIGPIPE would, without a word', async () => {
  for (const command of ['topic list', 'topic list -o json', 'subscription describe $AUDIT', 'sub --help']) {
    const { codes, stderr } = await run(`fanfare ${command} | true`);
    expect([codes, stderr]).toEqual([[141, 0], '']);
  }
  await publish(1);
  expect(await run('fanfare sub $AUDIT | true')).toMatchObject({ codes: [141, 0], stderr: '' });
  expect(await run('fanfare top --interval 100ms | true')).toMatchObject({ codes: [141, 0], stderr: '' });
  expect((await backlog()).messages).toBe(1);
});

test('pub publishes everything, whatever becomes of its output, and says what could not be printed', async () => {
  const { codes, stdout, stderr } = await run('seq 1 200000 | fanfare pub $TOPIC -o json | head -1');
  expect(codes).toEqual([0, 1, 0]);
  expect(stdout.toString()).toMatch(/^{"line":1,"messageId":".*"}\n$/);
  expect(stderr).toMatch(
    /^fanfare: 200,000 messages published, but [\d,]+ of the lines that say so could not be printed: .*EPIPE\)\n$/,
  );
  expect((await backlog()).messages).toBe(200_000);
});

describe('a reader that goes away', () => {
  test.each([1, 2, 100, 3_000])('after %i lines: nothing is lost', async (lines) => {
    await publish(5_000);
    const first = await run(`fanfare sub $AUDIT | head -${lines}`);
    expect(first).toMatchObject({ codes: [141, 0], stderr: '' });
    const printed = numbers(first.stdout);
    expect(printed).toHaveLength(lines);
    const { ackedTotal, messages, outstandingMessages } = await backlog();
    expect(ackedTotal).toBeLessThanOrEqual(lines);
    expect([messages, outstandingMessages]).toEqual([5_000 - ackedTotal, 0]);
    const rest = await run('fanfare sub $AUDIT --exit-at-end');
    expect(rest.code).toBe(0);
    expect([...new Set([...printed, ...numbers(rest.stdout)])].sort((a, b) => a - b)).toEqual(upTo(5_000));
  });

  test('one line of a thousand that are waiting: few are even taken', async () => {
    await publish(1_000);
    await run('fanfare sub $AUDIT | head -1');
    const { deliveredTotal, ackedTotal } = await backlog();
    expect(ackedTotal).toBe(0);
    expect(deliveredTotal).toBeLessThan(100);
  });

  test.each(['', '--count 60000', '--exit-at-end'])(
    'in the middle of a large backlog, with "%s": nothing is lost',
    async (flags) => {
      await publish(60_000);
      // The reader goes away in the middle of a line.
      const { codes } = await run(`fanfare sub $AUDIT ${flags} | head -c 100003 > part`);
      expect(codes).toEqual([141, 0]);
      const rest = await run('fanfare sub $AUDIT --exit-at-end > rest');
      expect(rest).toMatchObject({ code: 0, stderr: '' });
      const [part, others] = await Promise.all(['part', 'rest'].map((file) => readFile(join(cwd, file))));
      const whole = part!.subarray(0, part!.lastIndexOf('\n'));
      expect([...new Set([...numbers(whole), ...numbers(others!)])].sort((a, b) => a - b)).toEqual(
        upTo(60_000),
      );
    },
  );
});

test('what a reader gets to the end is acknowledged, in any number', async () => {
  for (const count of [1, 2, 10, 1_000, 100_000]) {
    await publish(count);
    const { codes, stdout, stderr } = await run('fanfare sub $AUDIT --exit-at-end | cat');
    expect([codes, stderr]).toEqual([[0, 0], '']);
    expect(numbers(stdout)).toEqual(upTo(count));
    const { messages, redeliveredTotal } = await backlog();
    expect([messages, redeliveredTotal]).toEqual([0, 0]);
  }
});

test('a file has what is acknowledged', async () => {
  await publish(3_000);
  const { code, stderr } = await run('fanfare sub $AUDIT --exit-at-end > printed');
  expect([code, stderr]).toEqual([0, '']);
  expect(numbers(await readFile(join(cwd, 'printed')))).toEqual(upTo(3_000));
  expect((await backlog()).messages).toBe(0);
});

test('a message counts as read a second after it was written to a reader that keeps up', async () => {
  const { child, finished } = startCli(['sub', audit], { cwd, env: environment() });
  child.stdout.resume();
  await publish(3);
  await expect.poll(async () => (await backlog()).ackedTotal, { timeout: 10_000 }).toBe(3);
  child.kill('SIGINT');
  expect(await finished).toMatchObject({ code: 130, stderr: 'fanfare: interrupted: 3 messages printed\n' });
});

test('--count takes so many and no more, wherever they are printed', async () => {
  await publish(1_000);
  let taken = 0;
  for (const [count, to] of [
    [1, '> printed'],
    [5, '> printed'],
    [5, '| cat > printed'],
    [300, '| cat > printed'],
    [300, '> printed'],
  ] as const) {
    const { codes, stderr } = await run(`fanfare sub $AUDIT --count ${count} ${to}`);
    expect([new Set(codes), stderr]).toEqual([new Set([0]), '']);
    taken += count;
    expect(numbers(await readFile(join(cwd, 'printed')))).toHaveLength(count);
    expect(await backlog()).toMatchObject({
      ...{ deliveredTotal: taken, ackedTotal: taken, outstandingMessages: 0 },
      ...{ messages: 1_000 - taken },
    });
  }
});

describe('--exit-at-end', () => {
  test('ends at the end as it was, however much is published', async () => {
    await publish(500);
    const publisher = client.publisher(topic);
    let published = 500;
    const timer = setInterval(() => void publisher.publish({ data: `${++published}` }), 5);
    try {
      for (const to of ['', '| cat']) {
        const before = published;
        const { code, stdout, stderr } = await run(`fanfare sub $AUDIT --exit-at-end ${to}`);
        expect([code, stderr]).toEqual([0, '']);
        if (to === '') expect(numbers(stdout).slice(0, 500)).toEqual(upTo(500));
        else expect(before).toBeGreaterThan(500);
      }
    } finally {
      clearInterval(timer);
      await publisher.close();
    }
  });

  test.each([false, true])(
    'does not wait for what others have, and says so; ordering: %s',
    async (ordering) => {
      const shared = `shared-${tests}`;
      await client.admin.createSubscription(shared, { topic, ordering });
      await using publisher = client.publisher(topic);
      for (let n = 0; n < 60; n += 1) await publisher.publish({ data: `${n}`, orderingKey: `${n % 20}` });
      await using holder = client.subscribe(shared, { maxOutstandingMessages: 1, clientId: 'holder' });
      await holder.next();
      const { code, stdout, stderr } = await run(`fanfare sub ${shared} --exit-at-end`);
      expect(code).toBe(0);
      const printed = numbers(stdout).length;
      expect(stderr).toBe(
        `fanfare: ${60 - printed} ${printed === 59 ? 'message' : 'messages'} before the end ${printed === 59 ? 'is' : 'are'} not printed here: other consumers have them, or are to have them\n`,
      );
      // The holder has one message; with ordering all of its share of the keys waits for it.
      if (!ordering) expect(printed).toBe(59);
      else expect(printed).toBeGreaterThan(0);
    },
  );

  test('of nothing is at once', async () => {
    expect(await run('fanfare sub $AUDIT --exit-at-end')).toMatchObject({ code: 0, stderr: '' });
    await publish(2);
    await using holder = client.subscribe(audit, { clientId: 'holder' });
    await holder.next();
    const { code, stdout } = await run('fanfare sub $AUDIT --exit-at-end');
    expect([code, stdout.toString()]).toEqual([0, '']);
  });
});

test('--exit-when-empty waits for what others have', async () => {
  await publish(10);
  await using holder = client.subscribe(audit, { maxOutstandingMessages: 1, clientId: 'holder' });
  const { value: held } = await holder.next();
  const { child, finished } = startCli(['sub', audit, '--exit-when-empty'], { cwd, env: environment() });
  let ended = false;
  void finished.then(() => {
    ended = true;
  });
  await expect.poll(async () => (await backlog()).messages, { timeout: 10_000 }).toBe(1);
  expect(ended).toBe(false);
  holder.end();
  held.ack();
  expect(await finished).toMatchObject({ code: 0, stderr: '' });
  child.kill();
});
