// Everything that goes wrong with one Redis: what callers are told, what is there afterwards, what the log
// says, and that it goes on by itself. Failovers are in redis-failover.test.ts.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { scriptText } from '../../services/broker/adapters/redis/scripts.ts';
import type { RedisStore, RedisStoreOptions } from '../../services/broker/adapters/redis/store.ts';
import { MIN_REMEMBERED } from '../../services/broker/ports/definition-store.ts';
import { appendTo, chunksAfter, EMPTY, expectCode, readAll } from '../conformance/harness.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { createNotes, type Notes } from '../support/notes.ts';
import { startRedis, type TestRedis, until } from '../support/redis.ts';
import { RedisAppender } from '../support/redis-appender.ts';
import { openTestStore } from '../support/redis-store.ts';

const P = { logEpoch: 7, partition: 3 };
const STORED = { level: 'stored', minReplicas: 0 } as const;
const MEMBER = {
  id: 'member-a',
  name: 'a',
  address: 'a:1',
  draining: false,
  version: '1',
  load: { partitions: 0, consumers: 0, publishedPerSecond: 0, deliveredPerSecond: 0 },
};
const WORKS_AGAIN = 'Redis works again';
const FULL =
  'Redis is out of memory, so publishes are refused: raise maxmemory, shorten retention or delete topics; it goes on by itself';
const ALONE =
  'Redis refuses writes because too few replicas follow it (min-replicas-to-write): bring them back, see INFO replication';
const UNREACHABLE =
  'Redis cannot be reached: check that it runs and that the network and its TLS certificates are good; the broker reconnects by itself';
const EVICTS =
  'the maxmemory-policy of Redis is no longer noeviction, so Redis may delete messages: set it back at once (CONFIG SET maxmemory-policy noeviction)';

let redis: TestRedis;
let proxy: FaultProxy;
beforeAll(async () => {
  redis = await startRedis({ args: ['--appendonly', 'yes'] });
  proxy = await startFaultProxy(redis.address);
}, 60_000);
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});
beforeEach(async () => {
  proxy.heal();
  await redis.command('FLUSHALL');
});

/** Opens a store that reaches Redis through the proxy. */
async function opened(options: Partial<RedisStoreOptions> = {}): Promise<RedisStore & AsyncDisposable> {
  const store = await openTestStore({ url: `redis://${proxy.address}` }, options);
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}

async function acquired(store: RedisStore): Promise<number> {
  return (await store.ownership.acquire(P)).ownerEpoch;
}

/** Calls until Redis answers, which ends a condition. */
async function untilOver(store: RedisStore, notes: Notes, condition: string): Promise<void> {
  let over = false;
  const heard = (async () => {
    while (!over) {
      over = ((await notes.next(WORKS_AGAIN)) as { condition: string }).condition === condition;
    }
  })();
  await until(`${condition} is over`, async () => {
    await appendTo(store, { logEpoch: 99, partition: 0 }, 0, [1]);
    return over;
  });
  await heard;
}

describe('a Redis that fails', { timeout: 60_000 }, () => {
  test('its clock set by hours takes no removal from brokers that was a moment ago', async () => {
    await using store = await opened();
    const { definitions } = store;
    const remove = async (nth: number): Promise<void> => {
      await definitions.put('topic', `projects/p/topics/t${nth}`, `${nth}`, 0);
      await definitions.remove('topic', `projects/p/topics/t${nth}`, 1);
    };
    const many = MIN_REMEMBERED + 40;
    for (let nth = 0; nth < many; nth += 1) await remove(nth);
    // To the next removal these are as old as if the clock had been set ahead.
    const [key] = (await redis.command('KEYS', '*removed-definitions')) as string[];
    await redis.command(
      'EVAL',
      `for _, each in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], -1e10, each) end`,
      '1',
      key!,
    );
    await remove(many);
    const { removed, forgottenTo } = await definitions.removals();
    const newest = Array.from({ length: MIN_REMEMBERED }, (_, nth) => `${many + 1 - MIN_REMEMBERED + nth}`);
    expect(removed.map(({ body }) => body).sort()).toEqual(newest.sort());
    expect(forgottenTo).toBeGreaterThan(0);
  });

  test('killed and restarted with its append-only file: everything is there, and appends go on', async () => {
    await using store = await opened();
    const appender = new RedisAppender(store, P, STORED);
    await appender.start();
    await appender.more(30);
    await redis.kill();
    await until('an append has failed', async () => appender.met.unknown > 0);
    await redis.restart();
    await appender.more(30);
    await appender.stop();
    expect(await readAll(store, P)).toEqual(appender.acknowledged);
  });

  test('its clock goes back: a dead broker does not live so much longer', async () => {
    const clusterPrefix = `back-${process.pid}`;
    await using store = await opened({ clusterPrefix });
    await store.membership.initialize('c');
    const leaseMs = 500;
    const beat = (name: string) =>
      store.membership.heartbeat('c', { ...MEMBER, id: `member-${name}`, name }, leaseMs);
    await beat('dead');
    await beat('a');
    // The store is as if everything had been said by a clock that was 40 s ahead.
    const key = (name: string) => `${clusterPrefix}:{cluster}:${name}`;
    for (const field of ['at', 'until'])
      expect(await redis.command('HINCRBY', key('coordinator'), field, 40_000)).toBeGreaterThan(40_000);
    for (const name of ['dead', 'a']) await redis.command('ZINCRBY', key('leases'), 40_000, name);
    await until('the dead one is gone', async () => {
      const { members, coordinator } = await beat('a');
      return members.length === 1 && coordinator.id === 'member-a';
    });
  });

  test('out of memory: appends are refused, acks and changes of topics are not, and trimming brings it back', async () => {
    const notes = createNotes();
    await using store = await opened({ onWarning: notes.add });
    const epoch = await acquired(store);
    const written = await appendTo(
      store,
      P,
      epoch,
      Array.from({ length: 40 }, () => 50_000),
    );
    const dropped = { logEpoch: 98, partition: 0 };
    await appendTo(store, dropped, 0, [1_000]);
    const revision = await store.definitions.put('topic', 'old', '{}', 0);
    const used = Number(await redis.info('used_memory'));
    await redis.command('CONFIG', 'SET', 'maxmemory', used - 500_000);
    try {
      const next = chunksAfter(await store.log.bounds(P), [100]);
      await expectCode(store.log.append(P, epoch, 40, next), 'RESOURCE_EXHAUSTED');
      await expectCode(store.log.append(P, epoch, 40, next), 'RESOURCE_EXHAUSTED');
      expect(await notes.next(FULL)).toMatchObject({ condition: 'full' });
      await expectCode(store.definitions.put('topic', 't', '{}', 0), 'RESOURCE_EXHAUSTED');
      const record = Buffer.from('x');
      expect(
        await store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: epoch, record }]),
      ).toEqual([]);
      expect(await readAll(store, P)).toEqual(written);
      // What is still possible: shorter retention, and a deletion from the tombstone to the end.
      expect(await store.definitions.put('topic', 'old', '{"retentionMs":60000}', revision)).toBe(2);
      expect(await store.definitions.put('topic', 'old', '{"deleted":true}', 2)).toBe(3);
      await store.log.drop(dropped.logEpoch);
      await store.definitions.remove('topic', 'old', 3);
      expect(await readAll(store, dropped)).toEqual([]);
      await store.log.trim(P, epoch, 30, 100);
      await untilOver(store, notes, 'full');
      expect(store.stats().conditions).toEqual([]);
      await store.log.append(P, epoch, 40, next);
      expect(await readAll(store, P)).toEqual([...written.slice(30), ...next]);
    } finally {
      await redis.command('CONFIG', 'SET', 'maxmemory', 0);
    }
  });

  test('without the replicas that it must have: appends are refused, said once, and over when it writes again', async () => {
    const notes = createNotes();
    await using store = await opened({ onWarning: notes.add });
    const epoch = await acquired(store);
    await redis.command('CONFIG', 'SET', 'min-replicas-to-write', 1);
    try {
      await expectCode(appendTo(store, P, epoch, [1]), 'UNAVAILABLE');
      await expectCode(appendTo(store, P, epoch, [1]), 'UNAVAILABLE');
      expect(await notes.next(ALONE)).toMatchObject({ condition: 'alone' });
    } finally {
      await redis.command('CONFIG', 'SET', 'min-replicas-to-write', 0);
    }
    await untilOver(store, notes, 'alone');
    expect(store.stats().conditions).toEqual([]);
  });

  test('silent: calls end in time, and what they did is known afterwards', async () => {
    const notes = createNotes();
    await using store = await opened({ onWarning: notes.add });
    await store.membership.initialize('cluster-1');
    const epoch = await acquired(store);
    redis.stop();
    const begun = performance.now();
    const [next] = chunksAfter(EMPTY, [10]);
    try {
      await Promise.all([
        expectCode(store.log.append(P, epoch, 0, [next!]), 'UNAVAILABLE'),
        expectCode(store.membership.heartbeat('cluster-1', MEMBER, 2_000), 'UNAVAILABLE').then(() => {
          // A lease of 2 s can be fenced in time.
          expect(performance.now() - begun).toBeLessThan(1_800);
        }),
      ]);
    } finally {
      redis.cont();
    }
    await until('it answers', async () => (await store.log.bounds(P)).endOffset >= 0);
    const { endOffset } = await store.log.bounds(P);
    if (endOffset === 0) await store.log.append(P, epoch, 0, [next!]);
    expect(await readAll(store, P)).toEqual([next]);
  });

  test('an append that was given up cannot happen any more once bounds() has answered', async () => {
    const number = Date.now() * 1_000;
    await using store = await opened();
    const epoch = await acquired(store);
    proxy.set('toServer', { holds: true });
    await expectCode(store.log.append(P, epoch, 0, chunksAfter(EMPTY, [10])), 'UNAVAILABLE');
    proxy.cut();
    proxy.heal();
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    const keys = ['meta', 'log', 'index'].map((name) => `fanfare:{7.3}:${name}`);
    const late = [epoch, 'member-a', number, 0, 1, 10, '1', '1 1 0 10', 'x'.repeat(10)];
    expect(await redis.command('EVAL', scriptText('append'), 3, ...keys, ...late)).toEqual(['LATE']);
    expect(await readAll(store, P)).toEqual([]);
    await appendTo(store, P, epoch, [20]);
    expect((await store.log.bounds(P)).endByte).toBe(20);
  });

  test('the answer lost: bounds() finds the append, and the same command again changes nothing', async () => {
    await using store = await opened();
    const epoch = await acquired(store);
    proxy.set('toClient', { holds: true });
    const chunks = chunksAfter(EMPTY, [10]);
    await expectCode(store.log.append(P, epoch, 0, chunks), 'UNAVAILABLE');
    proxy.heal();
    await until('it is found', async () => (await store.log.bounds(P)).endOffset === 1);
    await store.log.confirm(P, epoch, 1, STORED);
    expect(await readAll(store, P)).toEqual(chunks);
  });

  test('a cursor commit that comes late does not put the cursor back', async () => {
    const number = Date.now() * 1_000;
    await using store = await opened();
    const epoch = await acquired(store);
    const record = Buffer.from('newer');
    await store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: epoch, record }]);
    const keys = ['meta', 'cursors'].map((name) => `fanfare:{7.3}:${name}`);
    const late = [epoch, 'member-a', number, '1', 'older'];
    expect(await redis.command('EVAL', scriptText('commit'), 2, ...keys, ...late)).toEqual(['LATE']);
    expect(Buffer.from((await store.cursors.load(1, P))!).toString()).toBe('newer');
  });

  test('the answers to a release and an acquire lost: repeated, they end as if they had come', async () => {
    await using store = await opened();
    const note = Buffer.from('note');
    const epoch = await acquired(store);
    proxy.set('toClient', { holds: true });
    await expectCode(store.ownership.release(P, epoch, note), 'UNAVAILABLE');
    proxy.heal();
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    await store.ownership.release(P, epoch, note);
    proxy.set('toClient', { holds: true });
    await expectCode(store.ownership.acquire(P), 'UNAVAILABLE');
    proxy.heal();
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    const claim = await store.ownership.acquire(P);
    expect(claim.ownerEpoch).toBe(epoch + 2);
    expect(claim.handOver).toEqual(note);
    expect((await store.ownership.acquire(P)).handOver).toBeUndefined();
  });

  test('unreachable, then back: said once, and signals may have been missed', async () => {
    const notes = createNotes();
    const warnings: string[] = [];
    await using store = await opened({
      onWarning: (message, fields) => {
        warnings.push(message);
        notes.add(message, fields);
      },
    });
    const missed = new Promise<void>((resolve) => store.signals.listen(() => {}, resolve));
    proxy.refuse(true);
    proxy.cut();
    for (let i = 0; i < 20; i++) await expectCode(store.log.bounds(P), 'UNAVAILABLE');
    await notes.next(UNREACHABLE);
    proxy.heal();
    await missed;
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    await untilOver(store, notes, 'unreachable');
    expect(warnings.filter((message) => message === UNREACHABLE)).toHaveLength(1);
    const heard = new Promise((resolve) => store.signals.listen(resolve, () => {}));
    store.signals.send('assignment', '');
    expect(await heard).toBe('assignment');
  });

  test('half-open: the connection is given up and made anew', async () => {
    await using store = await opened();
    proxy.set('both', { holds: true });
    const [held] = await Promise.allSettled([store.log.bounds(P)]);
    expect(held.status).toBe('rejected');
    const { connects } = store.stats().data;
    const accepted = proxy.accepted;
    await until('it was given up', async () => {
      await store.log.bounds(P).catch(() => undefined);
      return proxy.accepted > accepted;
    });
    proxy.cut();
    proxy.heal();
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    expect(store.stats().data.connects).toBeGreaterThan(connects);
  });

  test('emptied: heartbeats and appends are refused, and nobody acquires what was there', async () => {
    await using store = await opened();
    await store.membership.initialize('cluster-1');
    await store.membership.heartbeat('cluster-1', MEMBER, 60_000);
    const epoch = await acquired(store);
    await appendTo(store, P, epoch, [10]);
    await redis.command('FLUSHALL');
    await expectCode(store.membership.heartbeat('cluster-1', MEMBER, 60_000), 'FAILED_PRECONDITION');
    const next = chunksAfter({ endOffset: 1, endByte: 10 }, [10]);
    await expectCode(store.log.append(P, epoch, 1, next), 'FAILED_PRECONDITION');
    const record = Buffer.from('x');
    await expectCode(
      store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: epoch, record }]),
      'FAILED_PRECONDITION',
    );
    await expectCode(store.ownership.acquire(P, { above: epoch }), 'FAILED_PRECONDITION');
    expect(await store.membership.identity()).toBeUndefined();
  });

  test('started empty: nothing is written to it, not even by who believes in a lease still', async () => {
    await using store = await opened();
    await store.membership.initialize('cluster-1');
    const epoch = await acquired(store);
    const connects = store.stats().data.connects;
    await redis.command('FLUSHALL');
    proxy.cut();
    await until('it is connected again', async () => store.stats().data.connects > connects);
    const record = Buffer.from('x');
    await expectCode(store.ownership.acquire(P, { above: epoch }), 'UNAVAILABLE');
    await expectCode(
      store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: epoch, record }]),
      'UNAVAILABLE',
    );
    expect(await redis.command('DBSIZE')).toBe(0);
    // Its data is back.
    await store.membership.initialize('cluster-1');
    expect((await store.ownership.acquire(P, { above: epoch })).ownerEpoch).toBeGreaterThan(epoch);
  });

  test('scripts forgotten: everything goes on', async () => {
    await using store = await opened();
    const epoch = await acquired(store);
    await appendTo(store, P, epoch, [10]);
    await redis.command('SCRIPT', 'FLUSH');
    await appendTo(store, P, epoch, [10]);
    await redis.command('SCRIPT', 'FLUSH');
    const commit = (text: string) =>
      store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: epoch, record: Buffer.from(text) }]);
    const outcomes = await Promise.allSettled(['1', '2', '3', '4'].map(commit));
    for (const outcome of outcomes) {
      // A call that was overtaken says so.
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'UNAVAILABLE' });
    }
    expect(Buffer.from((await store.cursors.load(1, P))!).toString()).toBe('4');
  });
});

describe('a Redis that is not fit', { timeout: 60_000 }, () => {
  test('an eviction policy that deletes messages is refused, and noticed when it comes later', async () => {
    const notes = createNotes();
    await using store = await opened({ onWarning: notes.add });
    await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    try {
      await expect(opened()).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        message: expect.stringMatching(
          /maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction/,
        ),
      });
      proxy.cut();
      expect(await notes.next(EVICTS)).toMatchObject({ condition: 'eviction' });
      expect(store.stats().conditions).toContain('eviction');
    } finally {
      await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    }
    await until('it answers', async () => (await store.log.bounds(P)).endOffset === 0);
    proxy.cut();
    await until('it is over', async () => !store.stats().conditions.includes('eviction'));
  });

  test('a replica, a wrong password, an address where nothing is: each says what to do', async () => {
    await using replica = await startRedis({ password: 'secret' });
    const url = `redis://${replica.address}`;
    const open = (options: Partial<RedisStoreOptions>) => openTestStore({ url }, options);
    await expect(open({})).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/refuses our credentials.*check user, password and ACL/),
    });
    await expect(open({ credentials: { password: 'wrong' } })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
    });
    const good = await open({ credentials: { password: 'secret' } });
    await good.close();
    await expect(
      openTestStore({ url: 'redis://127.0.0.1:1' }, { connectTimeoutMs: 300 }),
    ).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/redis:\/\/127.0.0.1:1 cannot be reached.*ECONNREFUSED.*check/),
    });
    await using follower = await startRedis();
    await follower.follow(redis);
    await expect(openTestStore(follower)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/is a replica: name its master/),
    });
  });

  test('what a user may not see is said', async () => {
    await redis.command('ACL', 'SETUSER', 'app', 'on', '>pw', '~*', '&*', '+@all', '-@dangerous');
    const notes = createNotes();
    await using store = await opened({
      credentials: { username: 'app', password: 'pw' },
      onWarning: notes.add,
    });
    await notes.next(
      'Redis does not let us see its settings (INFO): make sure that maxmemory-policy is noeviction, or messages may be lost',
    );
    const epoch = await acquired(store);
    await appendTo(store, P, epoch, [10]);
    expect(await store.definitions.nextIncarnation()).toBeGreaterThan(0);
    expect(store.durability.supported).toEqual(['memory', 'stored', 'replicated']);
  });

  test('durability levels that it cannot give are refused beforehand, and fail while it cannot', async () => {
    await using store = await opened();
    const { durability } = store;
    expect(await durability.check('stored', 0)).toBeUndefined();
    expect(await durability.check('replicated', 1)).toMatch(/0 connected replicas/);
    expect(await durability.check('fsync', 0)).toMatch(/appendfsync always/);
    const epoch = await acquired(store);
    const replicated = { level: 'replicated', minReplicas: 1 } as const;
    await expect(store.log.append(P, epoch, 0, chunksAfter(EMPTY, [10]), replicated)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/0 of 1 replicas/),
    });
    expect((await store.log.bounds(P)).endOffset).toBe(1);
    await using replica = await startRedis();
    await replica.follow(redis);
    await store.log.confirm(P, epoch, 1, replicated);
    expect(await durability.check('replicated', 1)).toBeUndefined();
    expect(await durability.check('replicated', 2)).toMatch(/1 connected replica of Redis, and 2/);
    await redis.command('CONFIG', 'SET', 'appendfsync', 'always');
    expect(await durability.check('fsync', 0)).toBeUndefined();
    expect(durability.supported).toContain('fsync');
    const fsync = { level: 'fsync', minReplicas: 0 } as const;
    await store.log.append(P, epoch, 1, chunksAfter({ endOffset: 1, endByte: 10 }, [5]), fsync);
    await redis.command('CONFIG', 'SET', 'appendfsync', 'everysec');
  });
});
