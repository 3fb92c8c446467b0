// What each failure of Redis looks like to those who run a cluster: three real brokers under load, one Redis
// with an append-only file. For each failure: what publishers and subscribers notice, the line in the log
// that says what to do, and that everything goes on by itself afterwards with nothing lost. The table is in
// services/CLUSTER.md. Failovers are in cluster-lost-tail.test.ts, networks in cluster-network.test.ts.
//
// CLUSTER_OUTAGE_MS says how long Redis is away (CI: a minute).
import { readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startBroker } from '../support/broker.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SAYS } from '../support/cluster-lines.ts';
import { ClusterLoad } from '../support/cluster-load.ts';
import { startRedis, type TestRedis, until } from '../support/redis.ts';

const OUTAGE_MS = Number(process.env.CLUSTER_OUTAGE_MS ?? 4_000);
const PARTITIONS = 12;
const ALL = [...Array(PARTITIONS).keys()];
const LOAD = { partitions: PARTITIONS, subscriptions: 4, keys: 100, rate: 200, late: true };
const RESUME_MS = 30_000;
const TEST_MS = 120_000 + OUTAGE_MS;
/** Longer than anything that was sent before could still be under way. */
const QUIET_MS = 2_500;

const FENCED_METRIC = 'fanfare_broker_cluster_fenced_total';

let redis: TestRedis;
let cluster: Cluster;
beforeAll(async () => {
  redis = await startRedis({ args: ['--appendonly', 'yes'] });
  cluster = await startCluster({ redis: redis.address, args: ['--metrics-listen', '127.0.0.1:0'] });
}, 60_000);
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

async function startLoad(parts: AsyncDisposableStack, topic: string): Promise<ClusterLoad> {
  const load = parts.use(new ClusterLoad(parts.use(cluster.client('all')), { topic, ...LOAD }));
  await load.start();
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.settled();
  return load;
}

async function everyBroker(said: string, sinceMs: number): Promise<void> {
  for (const i of cluster.brokers.keys()) await cluster.logged(i, said, sinceMs);
}

async function expectClean(load: ClusterLoad): Promise<void> {
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.settled();
  const report = await load.finish(60_000);
  console.log(JSON.stringify(report));
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
}

/** This is how long a failure lasts, not a wait for something. */
function lasts(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

test(`killed, away for ${OUTAGE_MS} ms, and restarted with its data`, { timeout: TEST_MS }, async () => {
  await using parts = new AsyncDisposableStack();
  const load = await startLoad(parts, 'away');
  const sinceMs = Date.now();
  await redis.kill();
  await everyBroker(SAYS.unreachable, sinceMs);
  await everyBroker(SAYS.fenced, sinceMs);
  await lasts(OUTAGE_MS);
  const restartedMs = performance.now();
  await redis.restart();
  const gaps = await load.resumed(ALL, restartedMs, RESUME_MS);
  console.log(`everything goes on ${Math.round(Math.max(...gaps.values()))} ms after the restart`);
  await everyBroker(SAYS.heartbeatsAgain, sinceMs);
  await everyBroker(SAYS.worksAgain, sinceMs);
  await expectClean(load);
});

test('slow: it stands still for a second, and nobody loses its lease for long', {
  timeout: TEST_MS,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const load = await startLoad(parts, 'slow');
  const sinceMs = Date.now();
  redis.stop();
  try {
    await everyBroker(SAYS.slow, sinceMs);
  } finally {
    redis.cont();
  }
  await everyBroker(SAYS.worksAgain, sinceMs);
  await expectClean(load);
});

test('out of memory: publishes are refused, all else goes on', { timeout: TEST_MS }, async () => {
  await using parts = new AsyncDisposableStack();
  const load = await startLoad(parts, 'full');
  const fencedBefore = await Promise.all(cluster.brokers.map((_, i) => cluster.metric(i, FENCED_METRIC)));
  await using admin = cluster.client('all');
  await admin.admin.createTopic('doomed');
  const sinceMs = Date.now();
  await redis.command('CONFIG', 'SET', 'maxmemory', Math.floor(Number(await redis.info('used_memory')) / 2));
  try {
    await everyBroker(SAYS.full, sinceMs);
    await everyBroker(SAYS.refusedAppend, sinceMs);
    const impatient = parts.use(cluster.client('all')).publisher('full', { retryDeadlineMs: 500 });
    await expect(impatient.publish({ data: '[0,0]' })).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringMatching(/out of memory.*raise maxmemory or shorten retention/),
    });
    await admin.admin.updateTopic('doomed', { retentionBytesPerPartition: 1 << 20 });
    await admin.admin.deleteTopic('doomed');
    // What was published before is delivered and acknowledged now.
    await using client = cluster.client('all');
    await until('the subscriptions have caught up', async () => {
      const backlogs = await client.admin.getBacklog(
        ALL.slice(0, LOAD.subscriptions).map((i) => `full-${i}`),
      );
      return backlogs.every(({ messages }) => messages === 0);
    });
    const fenced = await Promise.all(cluster.brokers.map((_, i) => cluster.metric(i, FENCED_METRIC)));
    expect(fenced).toEqual(fencedBefore);
  } finally {
    await redis.command('CONFIG', 'SET', 'maxmemory', 0);
  }
  await everyBroker(SAYS.worksAgain, sinceMs);
  await expectClean(load);
});

test('a wrong eviction policy: brokers say so and go on, and no broker starts', {
  timeout: TEST_MS,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const load = await startLoad(parts, 'evicting');
  const sinceMs = Date.now();
  await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
  try {
    // Brokers look each minute, and when they have connected again.
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await everyBroker(SAYS.evicts, sinceMs);
    await expect(startBroker({ args: ['--store', redis.url, '--name', 'late'] })).rejects.toThrow(
      /maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction/,
    );
  } finally {
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
  }
  const setBackMs = Date.now();
  await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
  await everyBroker(SAYS.worksAgain, setBackMs);
  await expectClean(load);
});

test('started empty by mistake: nothing is served or written, until its data is back', {
  timeout: TEST_MS,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const load = await startLoad(parts, 'emptied');
  const data = join(redis.dir, 'appendonlydir');
  const sinceMs = Date.now();
  await redis.kill();
  await rename(data, join(redis.dir, 'kept'));
  await redis.restart();
  await everyBroker(SAYS.anotherStore, sinceMs);
  await everyBroker(SAYS.fenced, sinceMs);
  await expect(startBroker({ args: ['--store', redis.url, '--name', 'late'] })).rejects.toThrow(
    /holds no Fanfare cluster. If it should, it was emptied or is the wrong one: restore it, or correct --store/,
  );
  // Publishes are tried all the time.
  await lasts(QUIET_MS);
  expect(await redis.command('DBSIZE')).toBe(0);
  await redis.kill();
  await rm(data, { recursive: true });
  await rename(join(redis.dir, 'kept'), data);
  await redis.restart();
  await everyBroker(SAYS.heartbeatsAgain, sinceMs);
  await expectClean(load);
});

test('the page for operators lists what brokers say', async () => {
  const page = await readFile(new URL('../../services/CLUSTER.md', import.meta.url), 'utf8');
  expect(Object.values(SAYS).filter((line) => !page.includes(line))).toEqual([]);
});
