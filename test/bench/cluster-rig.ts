// What the cases of the cluster measure: brokers of one kind, ready and with a topic, each broker and each
// Redis a process of its own. The same load goes to each kind, so that costs can be compared within one run.
//
//   embedded   one broker on LMDB
//   redis      one broker on Redis
//   direct     three brokers on Redis; clients follow the routes to the owner
//   relayed    the same; all clients stay with a broker that does not own the partition
//
// Redis keeps an append-only file and flushes it every second (appendfsync everysec), as services/CLUSTER.md
// recommends.
import { dirname } from 'node:path';
import type { Client } from '../../services/client/client.ts';
import { startBroker } from '../support/broker.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import type { LoadJob } from './load.ts';

export type Side = 'embedded' | 'redis' | 'direct' | 'relayed';

export const REDIS_ARGS = ['--appendonly', 'yes', '--appendfsync', 'everysec'];

export interface RigOptions {
  readonly side: Side;
  readonly profileDir?: string | undefined;
}

/** Where the load goes, and whom it costs. */
export interface Rig extends AsyncDisposable {
  readonly target: Pick<LoadJob, 'address' | 'certs' | 'direct'>;
  readonly processes: readonly RigProcess[];
  readonly client: Client;
  /** Stops the brokers with SIGTERM, so that they leave their profiles. */
  stop(): Promise<void>;
}

export interface RigProcess {
  /** 'other': a broker that has nothing to do with the partition. */
  readonly role: 'owner' | 'relay' | 'other' | 'redis';
  readonly pid: number;
}

export interface TopicShape {
  readonly topic: string;
  readonly subscriptions: readonly string[];
}

/**
 * Starts the brokers with a topic of one partition and its subscriptions. In a cluster every broker knows the
 * owner.
 */
export async function startRig({ side, profileDir }: RigOptions, shape: TopicShape): Promise<Rig> {
  const nodeArgs = profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`];
  return side === 'embedded' ? startEmbedded(nodeArgs, shape) : startOnRedis(side, nodeArgs, shape);
}

async function startEmbedded(nodeArgs: readonly string[], shape: TopicShape): Promise<Rig> {
  await using opened = new AsyncDisposableStack();
  const broker = opened.use(await startBroker({ nodeArgs }));
  const client = opened.use(broker.connect());
  await define(client, shape);
  const parts = opened.move();
  return {
    target: { address: broker.address, certs: `${broker.dataDir}/certs` },
    processes: [{ role: 'owner', pid: broker.pid }],
    client,
    stop: async () => void (await broker.stop()),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

async function startOnRedis(
  side: Exclude<Side, 'embedded'>,
  nodeArgs: readonly string[],
  shape: TopicShape,
): Promise<Rig> {
  await using opened = new AsyncDisposableStack();
  const redis = opened.use(await startRedis({ args: REDIS_ARGS }));
  const brokers = side === 'redis' ? 1 : 3;
  const cluster = opened.use(await startCluster({ brokers, redis: redis.address, nodeArgs }));
  const client = opened.use(cluster.client(0));
  await define(client, shape);
  const owner = await ownerOf(cluster, shape.topic);
  const relay = (owner + 1) % brokers;
  const processes: RigProcess[] = cluster.brokers.map(({ process: { pid } }, i) => ({
    role: i === owner ? 'owner' : i === relay && side === 'relayed' ? 'relay' : 'other',
    pid,
  }));
  processes.push({ role: 'redis', pid: await pidOf(redis) });
  const entry = side === 'relayed' ? relay : owner;
  const parts = opened.move();
  return {
    target: { address: cluster.brokers[entry]!.address, certs: certsOf(cluster), direct: side === 'direct' },
    processes,
    client,
    stop: () => stopAll(cluster),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

export async function define(client: Client, { topic, subscriptions }: TopicShape): Promise<void> {
  await client.admin.createTopic(topic, { partitions: 1 });
  for (const name of subscriptions)
    await client.admin.createSubscription(name, { topic, ackDeadlineSeconds: 60 });
}

/** The index of the broker that owns partition 0, once all brokers say so. */
export async function ownerOf(cluster: Cluster, topic: string): Promise<number> {
  let owner = '';
  for (const i of cluster.brokers.keys()) {
    const { partitions } = await cluster.until(
      (info) =>
        info.partitions.some(
          (each) => each.topic.endsWith(`/${topic}`) && each.owner !== '' && each.owner === each.assigned,
        ),
      i,
    );
    owner = partitions.find((each) => each.topic.endsWith(`/${topic}`))!.owner;
  }
  return cluster.brokers.findIndex(({ name }) => name === owner);
}

/** The certificates' folder, as LoadJob.certs. */
export function certsOf(cluster: Cluster): string {
  return dirname(cluster.tls.ca);
}

export async function pidOf(redis: TestRedis): Promise<number> {
  return Number(await redis.info('process_id'));
}

async function stopAll(cluster: Cluster): Promise<void> {
  for (const i of cluster.brokers.keys()) await cluster.terminate(i);
}
