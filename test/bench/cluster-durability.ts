// How long a publish takes on Redis at each durability level, at 1,000 publishes a second.
import type { TopicSettings } from '../../services/client/admin-types.ts';
import { startCluster } from '../support/cluster.ts';
import { startRedis } from '../support/redis.ts';
import { certsOf, pidOf, REDIS_ARGS } from './cluster-rig.ts';
import { type Durations, measure, rounded } from './measure.ts';

export interface DurabilityResult {
  readonly case: string;
  readonly durability: string;
  /** The setting of every Redis in the run. */
  readonly appendfsync: string;
  readonly replicas: number;
  readonly publishedPerS: number;
  readonly publishP50Ms: number;
  readonly publishP99Ms: number;
  /** CPU in cores: all brokers together, all Redis servers together. */
  readonly brokerCpu: number;
  readonly redisCpu: number;
}

interface Wanted {
  readonly name: string;
  readonly settings: TopicSettings;
}

const RATE = 1_000;
const MESSAGE_BYTES = 256;
const BROKERS = 3;

export async function runClusterDurability(
  durations: Durations,
  onResult: (result: DurabilityResult) => void,
): Promise<void> {
  const memory: Wanted = { name: 'memory', settings: { durability: 'memory' } };
  const stored: Wanted = { name: 'stored', settings: { durability: 'stored' } };
  const replicated: Wanted = {
    name: 'replicated(1)',
    settings: { durability: 'replicated', minReplicas: 1 },
  };
  await runWith(REDIS_ARGS, 1, [memory, stored, replicated], durations, onResult);
  const always = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const fsync: Wanted = { name: 'fsync', settings: { durability: 'fsync' } };
  await runWith(always, 0, [fsync], durations, onResult);
}

async function runWith(
  redisArgs: readonly string[],
  replicas: number,
  wanted: readonly Wanted[],
  durations: Durations,
  onResult: (result: DurabilityResult) => void,
): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const master = opened.use(await startRedis({ args: redisArgs }));
  const servers = [master];
  for (let i = 0; i < replicas; i += 1) {
    const replica = opened.use(await startRedis({ args: redisArgs }));
    await replica.follow(master);
    servers.push(replica);
  }
  const cluster = opened.use(await startCluster({ brokers: BROKERS, redis: master.address }));
  const client = opened.use(cluster.client(0));
  const pids = [
    ...cluster.brokers.map(({ process }) => process.pid),
    ...(await Promise.all(servers.map(pidOf))),
  ];
  for (const [i, { name, settings }] of wanted.entries()) {
    const topic = `bench-${i}`;
    await client.admin.createTopic(topic, { partitions: 1, ...settings });
    await cluster.settled();
    const { published, seconds, publishP50Ms, publishP99Ms, costs } = await measure(
      {
        address: cluster.brokers[0]!.address,
        direct: true,
        certs: certsOf(cluster),
        topic,
        consumers: [],
        connections: 'shared',
        messageBytes: MESSAGE_BYTES,
        rate: RATE,
        keys: 0,
        outstandingMessages: 20_000,
        ...durations,
      },
      pids,
    );
    const share = (from: number, to: number) =>
      rounded(costs.slice(from, to).reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) / seconds);
    onResult({
      case: 'cluster-durability',
      durability: name,
      appendfsync: redisArgs.at(-1)!,
      replicas,
      publishedPerS: Math.round(published / seconds),
      publishP50Ms: rounded(publishP50Ms),
      publishP99Ms: rounded(publishP99Ms),
      brokerCpu: share(0, BROKERS),
      redisCpu: share(BROKERS, pids.length),
    });
  }
}
