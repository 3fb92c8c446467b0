// What a cluster costs that has much to look after and nothing to do: three brokers, 1,000 partitions and
// 1,000 subscriptions (fewer with --quick), at first without consumers, then with one for each subscription.
import { connect } from '../../services/client/client.ts';
import { startCluster } from '../support/cluster.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { pidOf, REDIS_ARGS } from './cluster-rig.ts';
import { rounded, significant } from './measure.ts';
import { cpuSeconds, memoryMb } from './process-stats.ts';

export interface ClusterIdleShape {
  readonly topics: number;
  /** Partitions of each topic. */
  readonly partitions: number;
  /** Subscriptions of each topic. */
  readonly subscriptions: number;
}

export interface ClusterIdleResult {
  readonly case: string;
  readonly topics: number;
  /** Partitions of all topics. */
  readonly partitions: number;
  readonly subscriptions: number;
  readonly consumers: number;
  /** Seconds it took to define all of it; 0: nothing was defined. */
  readonly definedInS: number;
  /** CPU in cores: all three brokers together, Redis. */
  readonly brokersCpu: number;
  readonly redisCpu: number;
  /** The largest broker's. */
  readonly brokerRssMb: number;
  readonly redisRssMb: number;
  readonly redisCommandsPerS: number;
  readonly redisInKbPerS: number;
}

const CONNECTIONS = 10;
/** Admin calls under way at once. */
const AT_ONCE = 8;
/**
 * New cursors are written, and 10 s later once more (engine/log/cursor-committer.ts): until then the cluster
 * is not idle.
 */
const REST_MS = 12_000;

export async function runClusterIdle(
  shape: ClusterIdleShape,
  seconds: number,
  onResult: (result: ClusterIdleResult) => void,
): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const redis = opened.use(await startRedis({ args: REDIS_ARGS }));
  const cluster = opened.use(await startCluster({ redis: redis.address }));
  const client = opened.use(cluster.client(0));
  const pids = cluster.brokers.map(({ process }) => process.pid);
  const redisPid = await pidOf(redis);

  const nothing = { topics: 0, partitions: 0, subscriptions: 0, consumers: 0, definedInS: 0 };
  onResult({ case: 'cluster-idle', ...nothing, ...(await watch(pids, redisPid, redis, seconds)) });

  const startMs = performance.now();
  const names = subscriptionNames(shape);
  await inTurn([...Array(shape.topics).keys()], (i) =>
    client.admin.createTopic(`bench-${i}`, { partitions: shape.partitions }),
  );
  await inTurn(names, ({ name, topic }) => client.admin.createSubscription(name, { topic }));
  await cluster.settled();
  const defined = {
    topics: shape.topics,
    partitions: shape.topics * shape.partitions,
    subscriptions: names.length,
    definedInS: rounded((performance.now() - startMs) / 1000),
  };
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  const without = await watch(pids, redisPid, redis, seconds);
  onResult({ case: 'cluster-idle', ...defined, consumers: 0, ...without });

  const addresses = cluster.brokers.map(({ address }) => address).join(',');
  const clients = Array.from({ length: CONNECTIONS }, () =>
    opened.use(connect({ address: addresses, tls: cluster.tls })),
  );
  for (const [i, { name }] of names.entries()) {
    clients[i % CONNECTIONS]!.subscribeRaw(name, { onChunk: () => {} });
  }
  // The brokers say when all consumers are open.
  await cluster.until(
    ({ brokers }) => brokers.reduce((sum, { consumers }) => sum + consumers, 0) >= names.length,
    0,
  );
  const attached = await watch(pids, redisPid, redis, seconds);
  onResult({ case: 'cluster-idle', ...defined, consumers: names.length, ...attached });
}

async function watch(pids: readonly number[], redisPid: number, redis: TestRedis, seconds: number) {
  const read = async () => ({
    brokers: pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0),
    redis: cpuSeconds(redisPid),
    commands: Number(await redis.info('total_commands_processed')),
    inBytes: Number(await redis.info('total_net_input_bytes')),
    atMs: performance.now(),
  });
  const before = await read();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const after = await read();
  const passed = (after.atMs - before.atMs) / 1000;
  return {
    brokersCpu: significant((after.brokers - before.brokers) / passed),
    redisCpu: significant((after.redis - before.redis) / passed),
    brokerRssMb: Math.round(Math.max(...pids.map((pid) => memoryMb(pid).nowMb))),
    redisRssMb: Math.round(memoryMb(redisPid).nowMb),
    redisCommandsPerS: Math.round((after.commands - before.commands) / passed),
    redisInKbPerS: rounded((after.inBytes - before.inBytes) / passed / 1000),
  };
}

function subscriptionNames({ topics, subscriptions }: ClusterIdleShape) {
  return Array.from({ length: topics * subscriptions }, (_, i) => ({
    name: `bench-${i}`,
    topic: `bench-${i % topics}`,
  }));
}

async function inTurn<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  const lane = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}
