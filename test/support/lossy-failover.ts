// Clusters of brokers whose Redis fails over and loses its last writes: one server whose replica is promoted
// by hand, Sentinels, a Redis Cluster. The replica stops hearing of its master's writes with fallBehind(),
// and takes over with failOver().
//
//   await using redis = await startPromotable();
//   await redis.fallBehind();
//   …what is written now is acknowledged, and lost…
//   await redis.failOver();
import { type Cluster, type ClusterOptions, startCluster } from './cluster.ts';
import { startFaultProxy } from './fault-proxy.ts';
import { startRedis, TEST_HOST, type TestRedis, until } from './redis.ts';
import { startRedisCluster, type TestRedisCluster } from './redis-cluster.ts';
import { startRedisWithSentinels } from './redis-sentinel.ts';

export interface LossyFailover extends AsyncDisposable {
  readonly cluster: Cluster;
  /** From now on writes are on the master alone. */
  fallBehind(): Promise<void>;
  /**
   * Kills the master with SIGKILL, and runs `meanwhile` before the replica takes over. Resolves once it has.
   */
  failOver(meanwhile?: () => Promise<void>): Promise<void>;
  /** The server that has the key now. */
  serverOf(key: string): Promise<TestRedis>;
}

type BrokerOptions = Pick<ClusterOptions, 'brokers' | 'args'>;

export interface Promotable extends LossyFailover {
  /** Cuts a broker off from everything, even from the new master after a failover, until reconnect(). */
  cutOff(broker: number): void;
  reconnect(broker: number): void;
}

/** One server with a replica; brokers reach whichever is the master through their store proxies. */
export async function startPromotable(options: BrokerOptions = {}): Promise<Promotable> {
  await using opened = new AsyncDisposableStack();
  const master = opened.use(await startRedis());
  const replica = opened.use(await startRedis());
  const replication = opened.use(await startFaultProxy(master.address));
  await replica.command('REPLICAOF', TEST_HOST, replication.port);
  await until('the replica follows', async () => (await replica.info('master_link_status')) === 'up');
  const cluster = opened.use(await startCluster({ ...options, redis: master.address, proxies: true }));
  const parts = opened.move();
  const cutOff = new Set<number>();
  const reconnect = (broker: number): void => {
    const storeProxy = cluster.brokers[broker]!.storeProxy!;
    storeProxy.heal();
    storeProxy.cut();
  };
  return {
    cluster,
    cutOff(broker) {
      cutOff.add(broker);
      cluster.brokers[broker]!.storeProxy!.set('both', { holds: true });
    },
    reconnect,
    async fallBehind() {
      replication.set('toClient', { holds: true });
    },
    async failOver(meanwhile) {
      await master.kill();
      await meanwhile?.();
      replication.cut();
      await replica.promote();
      for (const [broker, { storeProxy }] of cluster.brokers.entries()) {
        storeProxy!.target = replica.address;
        if (!cutOff.has(broker)) reconnect(broker);
      }
    },
    serverOf: async () => (master.running ? master : replica),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

export async function startSentinels(options: BrokerOptions = {}): Promise<LossyFailover> {
  await using opened = new AsyncDisposableStack();
  const group = opened.use(await startRedisWithSentinels());
  const cluster = opened.use(await startCluster({ ...options, store: group.url }));
  const parts = opened.move();
  const master = await group.master();
  const replica = group.servers.find((server) => server !== master)!;
  return {
    cluster,
    fallBehind: () => replica.pauseReplication(master),
    async failOver(meanwhile) {
      await master.kill();
      await meanwhile?.();
      replica.cont();
      await group.failedOver(master);
    },
    serverOf: () => group.master(),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** A Redis Cluster; the master that fails over is the one with the slot of the given key. */
export async function startSlots(key: string, options: BrokerOptions = {}): Promise<LossyFailover> {
  await using opened = new AsyncDisposableStack();
  const redis: TestRedisCluster = opened.use(await startRedisCluster());
  const cluster = opened.use(await startCluster({ ...options, store: redis.url }));
  const { master, replicas } = await redis.nodesOf(key);
  const replica = replicas[0]!;
  const parts = opened.move();
  return {
    cluster,
    fallBehind: () => replica.pauseReplication(master),
    async failOver(meanwhile) {
      await master.kill();
      await meanwhile?.();
      replica.cont();
      await until('the replica is the master', async () => (await replica.info('role')) === 'master');
    },
    serverOf: async (key) => (await redis.nodesOf(key)).master,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}
