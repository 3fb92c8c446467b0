// A Redis whose master dies while a broker's owner appends: under Sentinels, in a Cluster, and with what was
// not replicated lost. Nothing acknowledged at `replicated` is lost, and what was only `stored` comes back
// from the owner's memory.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RedisStore } from '../../services/broker/adapters/redis/store.ts';
import type { Durability } from '../../services/broker/ports/log-store.ts';
import type { Member } from '../../services/broker/ports/membership-store.ts';
import { readAll } from '../conformance/harness.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createNotes } from '../support/notes.ts';
import { startRedis, until } from '../support/redis.ts';
import { RedisAppender } from '../support/redis-appender.ts';
import { startRedisCluster, type TestRedisCluster } from '../support/redis-cluster.ts';
import { type SentinelGroup, startRedisWithSentinels } from '../support/redis-sentinel.ts';
import { openTestStore } from '../support/redis-store.ts';

const STORED: Durability = { level: 'stored', minReplicas: 0 };
const REPLICATED: Durability = { level: 'replicated', minReplicas: 1 };
const P = { logEpoch: 7, partition: 3 };
const MEMBER: Member = {
  id: 'member-a',
  name: 'a',
  address: 'a:1',
  draining: false,
  version: '1',
  load: { partitions: 0, consumers: 0, publishedPerSecond: 0, deliveredPerSecond: 0 },
};

describe('under Sentinels', { timeout: 120_000 }, () => {
  let group: SentinelGroup;
  let store: RedisStore;
  const notes = createNotes();
  beforeAll(async () => {
    group = await startRedisWithSentinels();
    store = await openTestStore(group, { onWarning: notes.add });
  }, 60_000);
  afterAll(async () => {
    await store.close();
    await group[Symbol.asyncDispose]();
  });

  test('a master that dies loses nothing that was acknowledged as replicated, and appending goes on', async () => {
    await store.membership.initialize('cluster-1');
    expect((await store.membership.heartbeat('cluster-1', MEMBER, 600_000)).members).toHaveLength(1);
    const missed = new Promise<void>((resolve) => store.signals.listen(() => {}, resolve));
    const appender = new RedisAppender(store, P, REPLICATED);
    await appender.start();
    await appender.more(50);
    const before = await group.master();
    await before.kill();
    const after = await group.failedOver(before);
    // The old master comes back as a replica, so that there is one to confirm. The Sentinels would make it
    // one, too, after a while.
    await before.restart();
    await before.follow(after);
    await appender.more(50);
    await appender.stop();
    expect(appender.met.unknown).toBeGreaterThan(0);
    expect(await readAll(store, P)).toEqual(appender.acknowledged);
    await missed;
    const view = await store.membership.heartbeat('cluster-1', MEMBER, 600_000);
    expect(view.members).toEqual([MEMBER]);
    await notes.next(
      'Redis cannot be reached: check that it runs and that the network and its TLS certificates are good; the broker reconnects by itself',
    );
  });
});

describe('in a Cluster', { timeout: 120_000 }, () => {
  let cluster: TestRedisCluster;
  let store: RedisStore;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    store = await openTestStore(cluster);
  }, 120_000);
  afterAll(async () => {
    await store.close();
    await cluster[Symbol.asyncDispose]();
  });

  test('a master that dies loses nothing that was acknowledged, and the other slots go on', async () => {
    const { master, replicas } = await cluster.nodesOf(keyOf(P));
    const elsewhere = await partitionOnAnotherMaster(cluster);
    const appender = new RedisAppender(store, P, REPLICATED);
    const other = new RedisAppender(store, elsewhere, REPLICATED);
    await Promise.all([appender.start(), other.start()]);
    await Promise.all([appender.more(50), other.more(50)]);
    await master.kill();
    await other.more(100);
    await until('the replica is the master', async () => (await replicas[0]!.info('role')) === 'master');
    await master.restart();
    await until('a replica follows again', async () => (await replicas[0]!.info('connected_slaves')) === '1');
    await appender.more(50);
    await Promise.all([appender.stop(), other.stop()]);
    expect(appender.met.unknown).toBeGreaterThan(0);
    expect(await readAll(store, P)).toEqual(appender.acknowledged);
    expect(await readAll(store, elsewhere)).toEqual(other.acknowledged);
  });

  test('a planned failover is hardly noticed', async () => {
    await cluster.serves();
    const partition = { logEpoch: 8, partition: 3 };
    const { replicas } = await cluster.nodesOf(keyOf(partition));
    const appender = new RedisAppender(store, partition, STORED);
    await appender.start();
    await appender.more(50);
    await replicas[0]!.command('CLUSTER', 'FAILOVER');
    await until('the replica is the master', async () => (await replicas[0]!.info('role')) === 'master');
    await appender.more(50);
    await appender.stop();
    expect(await readAll(store, partition)).toEqual(appender.acknowledged);
  });
});

describe('a failover that loses the last writes', { timeout: 60_000 }, () => {
  test('is FAILED_PRECONDITION, and the owner brings back what is missing', async () => {
    await using master = await startRedis();
    await using replica = await startRedis();
    await replica.follow(master);
    // One address leads to whichever is the master, as a service does.
    await using proxy = await startFaultProxy(master.address);
    await using store = await opened(`redis://${proxy.address}`);
    await store.membership.initialize('cluster-1');
    const known = new RedisAppender(store, P, STORED);
    await known.start();
    await known.more(20);
    await until(
      'the replica has some of it',
      async () => Number(await replica.command('XLEN', logOf(P))) >= 20,
    );
    await replica.pauseReplication(master);
    // The replica never hears of this partition at all.
    const Q = { logEpoch: 7, partition: 4 };
    const unknown = new RedisAppender(store, Q, STORED);
    await unknown.start();
    await Promise.all([known.more(20), unknown.more(20)]);

    await master.kill();
    replica.cont();
    await replica.promote();
    proxy.target = replica.address;
    proxy.cut();
    await Promise.all([known.more(20), unknown.more(20)]);
    await Promise.all([known.stop(), unknown.stop()]);
    for (const [appender, partition] of [
      [known, P],
      [unknown, Q],
    ] as const) {
      expect(appender.met.wentBack).toBeGreaterThan(0);
      expect(appender.met.appendedAgain).toBeGreaterThanOrEqual(20);
      expect(await readAll(store, partition)).toEqual(appender.acknowledged);
    }
  });

  test('no incarnation number comes again, though the server that gave it is gone', async () => {
    await using master = await startRedis();
    await using replica = await startRedis();
    await replica.follow(master);
    await using proxy = await startFaultProxy(master.address);
    await using store = await opened(`redis://${proxy.address}`);
    const first = await store.definitions.nextIncarnation();
    const version = await store.definitions.version();
    await until('the replica has it', async () => {
      return (await replica.command('HGET', 'fanfare:{cluster}:incarnation', 'last')) === `${first}`;
    });
    await replica.pauseReplication(master);
    const given = [first];
    for (let i = 0; i < 5; i++) given.push(await store.definitions.nextIncarnation());
    await store.definitions.put('topic', 'projects/p/topics/lost', '{}', 0);
    const lost = await store.definitions.version();
    await master.kill();
    replica.cont();
    await replica.promote();
    proxy.target = replica.address;
    proxy.cut();
    await until('the store answers', async () => (await store.definitions.version()) === version);
    expect(given).not.toContain(await store.definitions.nextIncarnation());
    expect(await store.definitions.list()).toEqual([]);
    await store.definitions.put('topic', 'projects/p/topics/other', '{}', 0);
    expect(await store.definitions.version()).not.toBe(lost);
  });
});

async function opened(url: string): Promise<RedisStore & AsyncDisposable> {
  const store = await openTestStore({ url });
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}

function logOf({ logEpoch, partition }: typeof P): string {
  return `fanfare:{${logEpoch}.${partition}}:log`;
}

function keyOf({ logEpoch, partition }: typeof P): string {
  return `fanfare:{${logEpoch}.${partition}}:meta`;
}

async function partitionOnAnotherMaster(cluster: TestRedisCluster): Promise<typeof P> {
  const { master } = await cluster.nodesOf(keyOf(P));
  for (let partition = 0; ; partition++) {
    const id = { logEpoch: 9, partition };
    if ((await cluster.nodesOf(keyOf(id))).master !== master) return id;
  }
}
