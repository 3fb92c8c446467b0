// Owners that do not know that they are owners no more: a process that stood still for longer than its lease,
// and writes that the network held up for as long. What they send reaches Redis when others own their
// partitions. Every one of these writes is refused, said in the log and counted: compared with what Redis
// itself saw arrive (MONITOR).
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { METRICS } from '../../services/broker/adapters/otel/metric-catalog.ts';
import { appendTo, chunksAfter, EMPTY, expectCode, readAll } from '../conformance/harness.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SAYS } from '../support/cluster-lines.ts';
import { ClusterLoad } from '../support/cluster-load.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createNotes } from '../support/notes.ts';
import { startRedis, TEST_HOST, type TestRedis, until } from '../support/redis.ts';
import { openTestStore } from '../support/redis-store.ts';

const PARTITIONS = 12;
const ALL = [...Array(PARTITIONS).keys()];
const LOAD = { partitions: PARTITIONS, subscriptions: 8, keys: 200, rate: 400, late: true };
const RESUME_MS = 20_000;
const VICTIM = 0;
const SEEN_BY = 1;
const METRIC = 'fanfare_broker_cluster_stale_writes_total';

/** A command that came from outside, with those that the script it called gave in turn. */
interface Arrival {
  readonly args: readonly string[];
  readonly inner: string[];
}

/** Collects everything that Redis carries out from now on. */
async function watchCommands(redis: TestRedis) {
  const socket = connect(redis.port, TEST_HOST).on('error', () => {});
  const lines = createInterface({ input: socket });
  const arrivals: Arrival[] = [];
  socket.write('MONITOR\r\n');
  await once(lines, 'line');
  // A line of MONITOR: +1795276619.068851 [0 127.0.0.1:43374] "evalsha" "3ac7…" …, or [0 lua] for what a
  // script does
  lines.on('line', (line) => {
    const args = [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, arg]) => arg!);
    if (line.includes('[0 lua] ')) arrivals.at(-1)?.inner.push(args[0]!.toLowerCase());
    else arrivals.push({ args, inner: [] });
  });
  return { arrivals, [Symbol.dispose]: () => socket.destroy() };
}

/**
 * Writes of the member to partitions, with claims older than those given. All scripts that write say first
 * the claim, then the member.
 */
function staleWrites(arrivals: readonly Arrival[], member: string, epochs: ReadonlyMap<string, number>) {
  return arrivals.filter(({ args: [command = '', , keyCount = '0', ...rest] }) => {
    if (!/^eval/i.test(command)) return false;
    const [epoch = '', writer] = rest.slice(Number(keyCount));
    const newest = epochs.get(/^fanfare:\{(.*)\}:meta$/.exec(rest[0] ?? '')?.[1] ?? '');
    return writer === member && newest !== undefined && Number(epoch) < newest;
  });
}

async function startLoad(cluster: Cluster, parts: AsyncDisposableStack): Promise<ClusterLoad> {
  const load = parts.use(new ClusterLoad(parts.use(cluster.client('all')), { topic: 'stale', ...LOAD }));
  await load.start();
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.settled();
  return load;
}

/** Resolves when others own everything, with the new claims by partition. */
async function othersOwnAll(cluster: Cluster) {
  const { name } = cluster.brokers[VICTIM]!;
  const { partitions } = await cluster.until(
    (info) => info.partitions.every(({ owner }) => owner !== '' && owner !== name),
    SEEN_BY,
  );
  // The first topic of the cluster has the first incarnation.
  return new Map(partitions.map(({ partition, ownerEpoch }) => [`1.${partition}`, ownerEpoch]));
}

async function memberId(cluster: Cluster): Promise<string> {
  const { brokers } = await cluster.until(() => true, SEEN_BY);
  return brokers.find(({ name }) => name === cluster.brokers[VICTIM]!.name)!.id;
}

/**
 * Each of these writes was refused, has a line in the log and is counted; and nothing else is. Resolves with
 * the lines.
 */
async function expectRefused(cluster: Cluster, stale: readonly Arrival[]) {
  for (const { args, inner } of stale) {
    // The script looked at the claim and wrote nothing.
    expect(inner, args.slice(0, 8).join(' ')).toEqual(['hmget']);
  }
  const lines = () => cluster.logs(VICTIM).filter(({ msg }) => msg === SAYS.staleWrite);
  await until('each is in the log', async () => lines().length >= stale.length);
  expect(lines()).toHaveLength(stale.length);
  expect(await cluster.metric(VICTIM, METRIC)).toBe(stale.length);
  // The endpoint has all the other metrics of a cluster, too: telemetry.test.ts looks at a broker that is
  // alone.
  for (const { name, kind } of METRICS) {
    if (!name.startsWith('fanfare.broker.cluster.')) continue;
    await cluster.metric(VICTIM, `${name.replaceAll('.', '_')}${kind === 'counter' ? '_total' : ''}`);
  }
  return lines();
}

async function expectClean(cluster: Cluster, load: ClusterLoad): Promise<void> {
  await cluster.settled();
  const report = await load.finish(60_000);
  console.log(JSON.stringify(report));
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
}

test('guarantee 9: a broker that stood still for longer than its lease: its every late write is refused', {
  timeout: 300_000,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const redis = parts.use(await startRedis());
  const cluster = parts.use(
    await startCluster({ redis: redis.address, args: ['--metrics-listen', '127.0.0.1:0'] }),
  );
  const load = await startLoad(cluster, parts);
  const member = await memberId(cluster);
  const { name } = cluster.brokers[VICTIM]!;
  let epochs = new Map<string, number>();
  const commands = parts.use(await watchCommands(redis));
  const refused = () => staleWrites(commands.arrivals, member, epochs);
  // Under load a commit or an append is about to be made except in a few milliseconds; a broker stopped in
  // these is stopped once more.
  for (let round = 0; round < 20 && refused().length === 0; round += 1) {
    await cluster.stop(VICTIM);
    const claims = await othersOwnAll(cluster);
    commands.arrivals.length = 0;
    epochs = claims;
    const sinceMs = Date.now();
    await cluster.cont(VICTIM);
    await cluster.logged(VICTIM, SAYS.fenced, sinceMs);
    await cluster.until(({ partitions }) => partitions.some(({ owner }) => owner === name), SEEN_BY);
    await cluster.settled();
  }
  const lines = await expectRefused(cluster, refused());
  console.log(`SIGSTOP: ${lines.map(({ write }) => write).join(', ')} refused`);
  expect(lines.length).toBeGreaterThan(0);
  await expectClean(cluster, load);
});

test('writes that the network held up for longer than a lease are refused', {
  timeout: 180_000,
}, async () => {
  await using parts = new AsyncDisposableStack();
  const redis = parts.use(await startRedis());
  const cluster = parts.use(
    await startCluster({
      redis: redis.address,
      proxies: true,
      args: ['--metrics-listen', '127.0.0.1:0'],
    }),
  );
  const load = await startLoad(cluster, parts);
  const member = await memberId(cluster);
  const { storeProxy } = cluster.brokers[VICTIM]!;
  const commands = parts.use(await watchCommands(redis));
  const stale: Arrival[] = [];
  const writes = new Set<unknown>();
  // An append is about to be made at almost any moment; if none was, the write is held up once more.
  for (let round = 0; round < 5 && !writes.has('append'); round += 1) {
    storeProxy!.set('toServer', { holds: true });
    const epochs = await othersOwnAll(cluster);
    commands.arrivals.length = 0;
    storeProxy!.heal();
    await load.resumed(ALL, performance.now(), RESUME_MS);
    await cluster.settled();
    stale.push(...staleWrites(commands.arrivals, member, epochs));
    for (const { write } of await expectRefused(cluster, stale)) writes.add(write);
  }
  console.log(`held up: ${stale.length} writes refused, of these kinds: ${[...writes].join(', ')}`);
  expect(writes).toContain('append');
  await expectClean(cluster, load);
});

test('a refusal is heard of even if nobody waits for the answer any more', { timeout: 60_000 }, async () => {
  await using redis = await startRedis();
  await using proxy = await startFaultProxy(redis.address);
  const notes = createNotes();
  const place = { url: `redis://${proxy.address}` };
  const former = await openTestStore(place, { memberId: 'former', onWarning: notes.add });
  const newer = await openTestStore({ url: redis.url }, { memberId: 'newer' });
  try {
    const partition = { logEpoch: 1, partition: 2 };
    const { ownerEpoch } = await former.ownership.acquire(partition);
    proxy.set('toServer', { holds: true });
    await expectCode(former.log.append(partition, ownerEpoch, 0, chunksAfter(EMPTY, [10])), 'UNAVAILABLE');
    const claim = await newer.ownership.acquire(partition);
    const written = await appendTo(newer, partition, claim.ownerEpoch, [20]);
    proxy.heal();
    expect(await notes.next(SAYS.staleWrite)).toEqual({
      partition: '1.2',
      write: 'append',
      ownerEpoch,
      newestEpoch: claim.ownerEpoch,
      holder: 'newer',
    });
    expect(former.stats().staleWrites).toBe(1);
    expect(newer.stats().staleWrites).toBe(0);
    expect(await readAll(newer, partition)).toEqual(written);
  } finally {
    await former.close();
    await newer.close();
  }
});
