// A failover of Redis that loses its last writes, under load on a real cluster: replication to the replica
// stops, publishes go on and are acknowledged, the master is killed, the replica takes over. The owners live,
// so nothing that was acknowledged is lost: they append again what the new master lacks, and say so.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SAYS } from '../support/cluster-lines.ts';
import { ClusterLoad } from '../support/cluster-load.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { startRedis, TEST_HOST, type TestRedis, until } from '../support/redis.ts';
import { startRedisCluster } from '../support/redis-cluster.ts';
import { startRedisWithSentinels } from '../support/redis-sentinel.ts';

const PARTITIONS = 12;
const ALL = [...Array(PARTITIONS).keys()];
const LOAD = { partitions: PARTITIONS, subscriptions: 4, keys: 100, rate: 300, late: true };
const RESUME_MS = 30_000;

let parts: AsyncDisposableStack;
beforeEach(() => {
  parts = new AsyncDisposableStack();
});
afterEach(() => parts.disposeAsync());

async function startLoad(cluster: Cluster, topic: string): Promise<ClusterLoad> {
  const client = parts.use(cluster.client('all'));
  const load = parts.use(new ClusterLoad(client, { topic, ...LOAD }));
  await load.start();
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.settled();
  return load;
}

/** Publishes that only the master acknowledges. */
async function publishMore(load: ClusterLoad, count: number): Promise<void> {
  const enough = load.published + count;
  await until('more is published', async () => load.published >= enough);
}

/** Everything goes on, nothing is lost, and some broker has said what it did. */
async function expectRestored(
  cluster: Cluster,
  load: ClusterLoad,
  sinceMs: number,
  atLeast: number,
): Promise<void> {
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.settled();
  const report = await load.finish(30_000);
  const since = cluster.brokers
    .flatMap((_, i) => cluster.logs(i))
    .filter(({ time }) => Date.parse(String(time)) >= sinceMs);
  expect(since.some(({ msg }) => msg === SAYS.unreachable || msg === SAYS.slotsDown)).toBe(true);
  const said = since.filter(({ msg }) => msg === SAYS.appendedAgain);
  const restored = said.reduce((sum, { messages }) => sum + Number(messages), 0);
  console.log(`${restored} messages of ${said.length} partitions appended again; ${JSON.stringify(report)}`);
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
  expect(restored).toBeGreaterThan(atLeast);
}

interface ByHand {
  readonly cluster: Cluster;
  readonly master: TestRedis;
  readonly replica: TestRedis;
  /** The proxy between master and replica. */
  readonly replication: FaultProxy;
  /** All brokers go to the replica from now on. */
  moveTo(replica: TestRedis): void;
}

async function startByHand(): Promise<ByHand> {
  const master = parts.use(await startRedis());
  const replica = parts.use(await startRedis());
  const replication = parts.use(await startFaultProxy(master.address));
  await replica.command('REPLICAOF', TEST_HOST, replication.port);
  await until('the replica follows', async () => (await replica.info('master_link_status')) === 'up');
  const cluster = parts.use(await startCluster({ redis: master.address, proxies: true }));
  const proxies = cluster.brokers.map(({ storeProxy }) => storeProxy!);
  const moveTo = ({ address }: TestRedis): void => {
    for (const proxy of proxies) {
      proxy.target = address;
      proxy.heal();
      proxy.cut();
    }
  };
  return { cluster, master, replica, replication, moveTo };
}

for (const { how, outlastsLease, unreplicated } of [
  // 1,000 messages take so long that the last leases the replica has heard of are long over, while the
  // brokers live and hold theirs.
  { how: 'at once', outlastsLease: false, unreplicated: 1_000 },
  { how: 'after all leases have ended', outlastsLease: true, unreplicated: 400 },
]) {
  test(`guarantee 11: a replica that takes over ${how} gets what it had not received`, {
    timeout: 120_000,
  }, async () => {
    const { cluster, master, replica, replication, moveTo } = await startByHand();
    const load = await startLoad(cluster, 'by-hand');
    replication.set('toClient', { holds: true });
    await publishMore(load, unreplicated);
    const sinceMs = Date.now();
    await master.kill();
    if (outlastsLease) for (const i of cluster.brokers.keys()) await cluster.logged(i, SAYS.fenced, sinceMs);
    replication.cut();
    await replica.promote();
    moveTo(replica);
    await expectRestored(cluster, load, sinceMs, unreplicated / 2);
  });
}

test('what brokers had appended that have gone since, in order, those who have their partitions now append again', {
  timeout: 120_000,
}, async () => {
  const { cluster, master, replica, replication, moveTo } = await startByHand();
  const load = await startLoad(cluster, 'moved');
  replication.set('toClient', { holds: true });
  await publishMore(load, 400);
  expect(await cluster.terminate(1)).toMatchObject({ code: 0 });
  await load.resumed(ALL, performance.now(), RESUME_MS);
  const sinceMs = Date.now();
  await master.kill();
  replication.cut();
  await replica.promote();
  moveTo(replica);
  await load.resumed(ALL, performance.now(), RESUME_MS);
  await cluster.restart(1);
  await expectRestored(cluster, load, sinceMs, 350);
});

test('so does a replica that Sentinels make the master', { timeout: 120_000 }, async () => {
  const group = parts.use(await startRedisWithSentinels());
  const cluster = parts.use(await startCluster({ store: group.url }));
  const load = await startLoad(cluster, 'sentinels');
  const master = await group.master();
  const replica = group.servers.find((server) => server !== master)!;
  await replica.pauseReplication(master);
  await publishMore(load, 400);
  const sinceMs = Date.now();
  await master.kill();
  replica.cont();
  await group.failedOver(master);
  await expectRestored(cluster, load, sinceMs, 200);
});

test('so does a replica in a Redis Cluster, for the partitions of its slots', {
  timeout: 120_000,
}, async () => {
  const redis = parts.use(await startRedisCluster());
  const cluster = parts.use(await startCluster({ store: redis.url }));
  const load = await startLoad(cluster, 'slots');
  const { master, replicas } = await redis.nodesOf('fanfare:{1.0}:meta');
  const [replica] = replicas;
  await replica!.pauseReplication(master);
  await publishMore(load, 400);
  const sinceMs = Date.now();
  await master.kill();
  replica!.cont();
  await until('the replica is the master', async () => (await replica!.info('role')) === 'master');
  await expectRestored(cluster, load, sinceMs, 20);
});
