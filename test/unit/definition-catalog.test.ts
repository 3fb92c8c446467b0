// engine/definitions/definitions.ts with its catalog, over the memory store with faults that strike when the
// test says so.
import { describe, expect, test } from 'vitest';
import type { SubscriptionDefinition, TopicDefinition } from '../../services/broker/core/definitions.ts';
import { AssertionError, BrokerError } from '../../services/broker/core/errors.ts';
import type { DefinitionChange } from '../../services/broker/engine/definitions/definition-catalog.ts';
import { type AuditRecord, Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import type { DefinitionStore } from '../../services/broker/ports/definition-store.ts';
import { createSharedMemory } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const ORDERS = 'projects/p/topics/orders';
const AUDIT = 'projects/p/subscriptions/audit';
const BILLING = 'projects/p/subscriptions/billing';

type Fault = 'none' | 'before' | 'after' | 'full';

/** A store whose next call of a kind fails: before it had an effect, after it, or because it is full. */
function scripted(inner: DefinitionStore) {
  const faults: Partial<Record<keyof DefinitionStore, Fault[]>> = {};
  const call = async <T>(name: keyof DefinitionStore, work: () => Promise<T>): Promise<T> => {
    const fault = faults[name]?.shift();
    if (fault === 'full') throw new BrokerError('RESOURCE_EXHAUSTED', 'full');
    if (fault === 'before') throw new BrokerError('UNAVAILABLE', 'away');
    const result = await work();
    if (fault === 'after') throw new BrokerError('UNAVAILABLE', 'timed out');
    return result;
  };
  const store: DefinitionStore = {
    list: () => call('list', () => inner.list()),
    version: () => call('version', () => inner.version()),
    get: (...args) => call('get', () => inner.get(...args)),
    put: (...args) => call('put', () => inner.put(...args)),
    remove: (...args) => call('remove', () => inner.remove(...args)),
    removals: () => call('removals', () => inner.removals()),
    nextIncarnation: (above) => call('nextIncarnation', () => inner.nextIncarnation(above)),
  };
  return { store, faults };
}

async function opened(store: DefinitionStore) {
  const definitions = new Definitions({
    store,
    clock: new VirtualClock(),
    durability: { supported: ['stored'], default: 'stored' },
    currentEnds: async () => [],
    audit: () => {},
    onWarning: () => {},
  });
  await definitions.load();
  const drop = { fails: false };
  definitions.onChange(async ({ kind }: DefinitionChange) => {
    if (kind === 'deleted' && drop.fails) throw new BrokerError('UNAVAILABLE', "can't drop");
  });
  return { definitions, drop };
}

function rig() {
  const memory = createSharedMemory({ rememberedRemovals: 3 });
  const inner = memory.open('this-broker').definitions;
  const { store, faults } = scripted(inner);
  const audit: AuditRecord[] = [];
  const warnings: string[] = [];
  const said: object[] = [];
  let ends: number[] = [3, 0, 0, 8];
  const another = { store: false };
  const open = async () => {
    const definitions = new Definitions({
      store,
      clock: new VirtualClock(),
      durability: { supported: ['memory', 'stored', 'fsync'], default: 'fsync' },
      currentEnds: async () => ends,
      audit: (record) => audit.push(record),
      onWarning: (message, fields) => {
        warnings.push(message);
        said.push(fields);
      },
      checkStore: async () => {
        if (another.store) throw new BrokerError('UNAVAILABLE', 'another cluster');
      },
    });
    await definitions.load();
    const changes: string[] = [];
    const drop = { fails: false };
    definitions.onChange(async (change: DefinitionChange) => {
      const { name } = 'topic' in change ? change.topic : change.subscription;
      if (change.kind === 'deleted' && drop.fails) throw new BrokerError('UNAVAILABLE', "can't drop");
      changes.push(`${change.kind} ${name.split('/').at(-1)}`);
    });
    return { definitions, changes, drop };
  };
  const setEnds = (next: number[]) => {
    ends = next;
  };
  return { open, memory, inner, store, faults, audit, warnings, said, another, setEnds };
}

async function withTopic() {
  const parts = rig();
  const opened = await parts.open();
  const topic = await opened.definitions.createTopic('me', { name: ORDERS });
  const subscription = await opened.definitions.createSubscription('me', { name: AUDIT, topic: ORDERS });
  opened.changes.length = 0;
  parts.audit.length = 0;
  return { ...parts, ...opened, topic, subscription };
}

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('creating', () => {
  test('is durable, listened to, and found again after a restart', async () => {
    const { open } = rig();
    const { definitions, changes } = await open();
    const topic = await definitions.createTopic('me', { name: ORDERS, labels: { a: 'b' } });
    expect(topic).toMatchObject<Partial<TopicDefinition>>({
      partitions: 4,
      durability: 'fsync',
      minReplicas: 0,
      revision: 1,
    });
    const subscription = await definitions.createSubscription('me', { name: AUDIT, topic: ORDERS });
    expect(subscription).toMatchObject<Partial<SubscriptionDefinition>>({
      topicEpoch: topic.logEpoch,
      startOffsets: [3, 0, 0, 8],
    });
    expect(subscription.incarnation).not.toBe(topic.logEpoch);
    expect(changes).toEqual(['created orders', 'created audit']);

    const again = await open();
    expect([...again.definitions.topics()]).toEqual([topic]);
    expect([...again.definitions.subscriptions()]).toEqual([subscription]);
    expect(again.definitions.subscriptionsOf(ORDERS)).toEqual([subscription]);
    expect(again.changes).toEqual([]);
  });

  test('from the earliest message records no offsets', async () => {
    const { definitions } = await withTopic();
    const input = { name: BILLING, topic: ORDERS, start: 'earliest' } as const;
    expect(await definitions.createSubscription('me', input)).not.toHaveProperty('startOffsets');
  });

  test('is answered only when the listeners are done', async () => {
    const { definitions } = await (await rig()).open();
    const { promise: ready, resolve } = Promise.withResolvers<void>();
    definitions.onChange(() => ready);
    let answered = false;
    const created = definitions.createTopic('me', { name: ORDERS }).then(() => (answered = true));
    await new Promise(setImmediate);
    expect(answered).toBe(false);
    resolve();
    await created;
  });

  test('refuses what is there, what is not there, and what the store cannot give', async () => {
    const { definitions, changes, audit } = await withTopic();
    await expect(definitions.createTopic('me', { name: ORDERS })).rejects.toEqual(code('ALREADY_EXISTS'));
    await expect(definitions.createSubscription('me', { name: AUDIT, topic: ORDERS })).rejects.toEqual(
      code('ALREADY_EXISTS'),
    );
    const other = { name: BILLING, topic: 'projects/p/topics/none' };
    await expect(definitions.createSubscription('me', other)).rejects.toEqual(code('NOT_FOUND'));
    const replicated = { name: 'projects/p/topics/abc', durability: 'replicated' } as const;
    await expect(definitions.createTopic('me', replicated)).rejects.toThrow(
      /it can give memory, stored, fsync/,
    );
    expect(changes).toEqual([]);
    expect(audit.map(({ result }) => result)).toEqual([
      'ALREADY_EXISTS',
      'ALREADY_EXISTS',
      'NOT_FOUND',
      'FAILED_PRECONDITION',
    ]);
  });

  test('of one name at the same time: one wins', async () => {
    const { definitions } = await (await rig()).open();
    const results = await Promise.allSettled(
      Array.from({ length: 5 }, () => definitions.createTopic('me', { name: ORDERS })),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  test('keeps the quota of partitions, also with several at the same time', async () => {
    const { definitions } = await (await rig()).open();
    const results = await Promise.allSettled(
      Array.from({ length: 120 }, (_, at) =>
        definitions.createTopic('me', { name: `projects/p/topics/t${100 + at}`, partitions: 1024 }),
      ),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(97);
    const refused = results.find((result) => result.status === 'rejected');
    expect(refused?.reason).toEqual(code('RESOURCE_EXHAUSTED'));
    await definitions.deleteTopic('me', 'projects/p/topics/t100', { force: false });
    await definitions.createTopic('me', { name: 'projects/p/topics/new', partitions: 1024 });
  });

  test('keeps the quota of topics of a project', async () => {
    const { open, inner } = rig();
    const { definitions: first } = await open();
    const { partitions: _, ...topic } = await first.createTopic('me', { name: ORDERS });
    const body = JSON.stringify({ format: 1, ...topic, partitions: 1 });
    for (let at = 1; at < 9_999; at++) await inner.put('topic', `projects/p/topics/n${at}`, body, 0);
    const { definitions } = await open();
    await definitions.createTopic('me', { name: 'projects/p/topics/last', partitions: 1 });
    await expect(definitions.createTopic('me', { name: 'projects/p/topics/more' })).rejects.toThrow(
      /10000 topics, which is the limit/,
    );
    await definitions.createTopic('me', { name: 'projects/q/topics/other' });
  });

  test('that failed before it was written leaves nothing', async () => {
    for (const fault of ['before', 'full'] as const) {
      const { open, faults } = rig();
      const { definitions, changes } = await open();
      faults.put = [fault];
      await expect(definitions.createTopic('me', { name: ORDERS })).rejects.toThrow(BrokerError);
      expect(definitions.topic(ORDERS)).toBeUndefined();
      await definitions.createTopic('me', { name: ORDERS });
      expect(changes).toEqual(['created orders']);
    }
  });

  test('that was written although the store timed out is found to be so', async () => {
    const { open, faults } = rig();
    const { definitions, changes } = await open();
    faults.put = ['after'];
    expect(await definitions.createTopic('me', { name: ORDERS })).toMatchObject({ revision: 1 });
    expect(changes).toEqual(['created orders']);
  });

  test('whose outcome stays unknown is looked up before the name is used again', async () => {
    const { open, faults } = rig();
    const { definitions, changes } = await open();
    faults.put = ['after'];
    faults.get = ['none', 'before'];
    await expect(definitions.createTopic('me', { name: ORDERS })).rejects.toEqual(code('UNAVAILABLE'));
    await expect(definitions.createTopic('me', { name: ORDERS })).rejects.toEqual(code('ALREADY_EXISTS'));
    expect(definitions.topic(ORDERS)).toMatchObject({ revision: 1 });
    expect(changes).toEqual(['created orders']);
  });
});

describe('updating', () => {
  test('is durable and listened to', async () => {
    const { definitions, changes, open } = await withTopic();
    const topic = await definitions.updateTopic('me', { name: ORDERS, partitions: 6 }, ['partitions']);
    expect(topic).toMatchObject({ partitions: 6, revision: 2 });
    await definitions.updateSubscription('me', { name: AUDIT, topic: '', labels: { a: 'b' } }, ['labels']);
    expect(changes).toEqual(['updated orders', 'updated audit']);
    const again = await open();
    expect(again.definitions.topic(ORDERS)).toEqual(topic);
    expect(again.definitions.subscription(AUDIT)).toMatchObject({ labels: { a: 'b' }, revision: 2 });
  });

  test('goes on from what another broker wrote', async () => {
    const { definitions, inner, topic, changes } = await withTopic();
    const { name: _name, revision: _revision, ...rest } = topic;
    const grown = { format: 1, ...rest, partitions: 9, formerPartitions: [topic.partitions] };
    await inner.put('topic', ORDERS, JSON.stringify(grown), 1);
    const label = () => definitions.updateTopic('me', { name: ORDERS, labels: { a: 'b' } }, ['labels']);
    expect(await label()).toMatchObject({ partitions: 9, revision: 3 });
    expect(changes).toEqual(['updated orders', 'updated orders']);
  });

  test('that loses to another writer in the same moment is ABORTED', async () => {
    const { definitions, inner, topic, store } = await withTopic();
    const { name: _name, revision: _revision, ...rest } = topic;
    const grown = { format: 1, ...rest, partitions: 9, formerPartitions: [topic.partitions] };
    const { get } = store;
    store.get = async (kind, name) => {
      const found = await get(kind, name);
      store.get = get;
      await inner.put('topic', ORDERS, JSON.stringify(grown), 1);
      return found;
    };
    const label = () => definitions.updateTopic('me', { name: ORDERS, labels: { a: 'b' } }, ['labels']);
    await expect(label()).rejects.toEqual(code('ABORTED'));
    expect(await label()).toMatchObject({ partitions: 9, revision: 3 });
  });
});

describe('what other brokers write', () => {
  test('is taken up: created, changed, deleted, created again under the same name', async () => {
    const one = await withTopic();
    const two = await one.open();
    expect(two.definitions.topic(ORDERS)).toBeDefined();
    await one.definitions.updateTopic('me', { name: ORDERS, labels: { a: 'b' } }, ['labels']);
    await two.definitions.refresh();
    expect(two.definitions.topic(ORDERS)).toMatchObject({ labels: { a: 'b' }, revision: 2 });
    await one.definitions.deleteTopic('me', ORDERS, { force: true });
    await one.definitions.createTopic('me', { name: ORDERS });
    await two.definitions.refresh();
    expect(two.definitions.topic(ORDERS)?.logEpoch).toBe(one.definitions.topic(ORDERS)?.logEpoch);
    expect(two.definitions.subscription(AUDIT)).toBeUndefined();
    expect(two.changes.filter((change) => change.endsWith('orders'))).toEqual([
      'updated orders',
      'deleted orders',
      'created orders',
    ]);
    expect(two.changes).toContain('deleted audit');
    await two.definitions.refresh();
    expect(two.changes).toHaveLength(4);
  });

  test('is not believed of a store that was emptied, or is another one: no data is dropped', async () => {
    const { definitions, changes, inner, another, topic } = await withTopic();
    for (const { kind, name, revision } of await inner.list()) await inner.remove(kind, name, revision);
    another.store = true;
    await expect(definitions.refresh()).rejects.toEqual(code('UNAVAILABLE'));
    await expect(definitions.createTopic('me', { name: `${ORDERS}-2` })).rejects.toEqual(code('UNAVAILABLE'));
    expect(definitions.topic(ORDERS)).toEqual(topic);
    expect(changes).toEqual([]);
    expect(await inner.list()).toEqual([]);
  });
});

const WRITTEN_AGAIN = 'the store had lost topics or subscriptions: written again from memory';
const DELETED_AGAIN = 'the store had lost deletions of topics or subscriptions: deleted again';
const NOT_THE_STORES =
  'what this broker knew under a name is not what the store has, and was not deleted as far as it knows: its data stays in the store';

describe('what another broker writes', () => {
  test('while this one looks is seen the next time', async () => {
    const one = await withTopic();
    const two = await one.open();
    const { list } = one.store;
    one.store.list = async () => {
      one.store.list = list;
      const listed = await list();
      await one.inner.put('topic', `${ORDERS}-2`, (await one.inner.get('topic', ORDERS))!.body, 0);
      return listed;
    };
    await one.definitions.createTopic('me', { name: `${ORDERS}-1` });
    await two.definitions.refresh();
    await two.definitions.refresh();
    expect(two.definitions.topic(`${ORDERS}-2`)).toBeDefined();
  });
});

describe('a store that went back', () => {
  test('gets what was created and changed again, is told so once, and drops nothing', async () => {
    const { definitions, memory, inner, warnings, said, changes } = await withTopic();
    const failOver = memory.checkpoint();
    const input = { name: ORDERS, partitions: 9 };
    const orders = await definitions.updateTopic('me', input, ['partitions']);
    await definitions.createTopic('me', { name: `${ORDERS}-2` });
    await definitions.createSubscription('me', { name: BILLING, topic: `${ORDERS}-2` });
    changes.length = 0;
    failOver();
    expect(await inner.list()).toHaveLength(2);
    await definitions.refresh();
    expect(await inner.list()).toHaveLength(4);
    expect(await inner.get('topic', ORDERS)).toMatchObject({ revision: 2 });
    expect(definitions.topic(ORDERS)).toEqual(orders);
    expect(changes).toEqual([]);
    expect(warnings).toEqual([WRITTEN_AGAIN]);
    expect(said).toEqual([{ topics: 2, subscriptions: 1, names: [ORDERS, `${ORDERS}-2`, BILLING] }]);
    await definitions.refresh();
    expect(warnings).toHaveLength(1);
  });

  test('is noticed whichever of its versions it goes back to', async () => {
    const one = await withTopic();
    const two = await one.open();
    await one.definitions.refresh();
    const failOver = one.memory.checkpoint();
    // Nothing looks between the write and the failover: the version is the one that was seen last.
    await one.definitions.createTopic('me', { name: `${ORDERS}-2` });
    failOver();
    await one.definitions.refresh();
    expect(await one.inner.list()).toHaveLength(3);
    await two.definitions.refresh();

    // Nor is it missed if another one lists meanwhile: what that learns came after the version that it had
    // asked for.
    await one.inner.put('topic', `${ORDERS}-4`, (await one.inner.get('topic', ORDERS))!.body, 0);
    const again = one.memory.checkpoint();
    const { list } = one.store;
    one.store.list = async () => {
      one.store.list = list;
      await one.definitions.createTopic('me', { name: `${ORDERS}-3` });
      return list();
    };
    await two.definitions.refresh();
    again();
    await two.definitions.refresh();
    expect(await one.inner.get('topic', `${ORDERS}-3`)).toBeDefined();
  });

  test('nothing is listed while nothing changes', async () => {
    const { definitions, store } = await withTopic();
    const { list } = store;
    let lists = 0;
    store.list = () => {
      lists += 1;
      return list();
    };
    for (let nth = 0; nth < 5; nth += 1) await definitions.refresh();
    expect(lists).toBe(1);
  });

  test('gives no number again that a broker remembers', async () => {
    const { definitions, memory, inner } = await withTopic();
    const failOver = memory.checkpoint();
    const { logEpoch } = await definitions.createTopic('me', { name: `${ORDERS}-2` });
    failOver();
    // This store does not leave out enough numbers.
    inner.nextIncarnation = async (above = 0) => above + 1;
    await definitions.refresh();
    expect((await definitions.createTopic('me', { name: `${ORDERS}-3` })).logEpoch).toBeGreaterThan(logEpoch);
  });

  test('is told of by a change, too, before that is made', async () => {
    const { definitions, memory, inner, warnings } = await withTopic();
    const failOver = memory.checkpoint();
    await definitions.createTopic('me', { name: `${ORDERS}-2` });
    failOver();
    const input = { name: `${ORDERS}-2`, labels: { a: 'b' } };
    expect(await definitions.updateTopic('me', input, ['labels'])).toMatchObject({ revision: 2 });
    expect(await inner.get('topic', `${ORDERS}-2`)).toMatchObject({ revision: 2 });
    expect(warnings).toEqual([WRITTEN_AGAIN]);
  });

  test('has deletions done again, also of what another broker has deleted', async () => {
    const one = await withTopic();
    const two = await one.open();
    const failOver = one.memory.checkpoint();
    await one.definitions.deleteTopic('me', ORDERS, { force: true });
    await two.definitions.refresh();
    two.changes.length = 0;
    failOver();
    await two.definitions.refresh();
    expect(two.changes).toEqual(['deleted orders', 'deleted audit']);
    expect(await one.inner.list()).toEqual([]);
    expect(one.warnings).toEqual([DELETED_AGAIN]);
    await one.definitions.refresh();
    expect(one.definitions.topic(ORDERS)).toBeUndefined();
    expect(one.warnings).toHaveLength(1);
  });

  test('gets a topic back that was deleted and created again, and not its predecessor', async () => {
    const one = await withTopic();
    const two = await one.open();
    const failOver = one.memory.checkpoint();
    await one.definitions.deleteTopic('me', ORDERS, { force: true });
    const { logEpoch } = await one.definitions.createTopic('me', { name: ORDERS });
    failOver();
    // One broker hears of it before the other has put it right, one after that.
    await two.definitions.refresh();
    expect(two.definitions.topic(ORDERS)).toMatchObject({ logEpoch: one.topic.logEpoch });
    one.changes.length = 0;
    await one.definitions.refresh();
    expect(one.changes).toEqual(['deleted orders', 'deleted audit']);
    await two.definitions.refresh();
    for (const { definitions } of [one, two]) {
      expect(definitions.topic(ORDERS)).toMatchObject({ logEpoch });
      expect(definitions.subscription(AUDIT)).toBeUndefined();
    }
    expect(two.changes.slice(-3).sort()).toEqual(['created orders', 'deleted audit', 'deleted orders']);
  });

  test('is given a subscription only after its topic', async () => {
    const { definitions, memory, inner, faults, open } = await withTopic();
    const failOver = memory.checkpoint();
    await definitions.createTopic('me', { name: `${ORDERS}-2` });
    await definitions.createSubscription('me', { name: BILLING, topic: `${ORDERS}-2` });
    failOver();
    faults.put = ['before'];
    await expect(definitions.refresh()).rejects.toEqual(code('UNAVAILABLE'));
    expect(await inner.list()).toHaveLength(2);
    // A broker that starts at this moment would take it for one whose topic was deleted.
    const { definitions: other, changes } = await open();
    await definitions.refresh();
    expect(await inner.list()).toHaveLength(4);
    await other.refresh();
    expect(other.subscription(BILLING)).toBeDefined();
    expect(changes).toEqual(['created orders-2', 'created billing']);
  });

  test('and got another topic of that name through a broker that did not know it keeps that one, and the data of both', async () => {
    const one = await withTopic();
    const two = await one.open();
    const failOver = one.memory.checkpoint();
    await one.definitions.createTopic('me', { name: `${ORDERS}-2` });
    await one.definitions.createSubscription('me', { name: BILLING, topic: `${ORDERS}-2` });
    failOver();
    const { logEpoch } = await two.definitions.createTopic('me', { name: `${ORDERS}-2` });
    one.changes.length = 0;
    await one.definitions.refresh();
    expect(one.changes).toEqual(['forgotten billing', 'forgotten orders-2', 'created orders-2']);
    expect(one.definitions.topic(`${ORDERS}-2`)).toMatchObject({ logEpoch });
    expect(one.warnings).toEqual([NOT_THE_STORES, NOT_THE_STORES]);
    expect(await one.inner.list()).toHaveLength(3);
  });

  test('a broker that was away for longer than deletions are remembered takes nothing missing for lost', async () => {
    const one = await withTopic();
    const two = await one.open();
    await one.definitions.deleteTopic('me', ORDERS, { force: true });
    for (let nth = 0; nth < 3; nth += 1) {
      await one.definitions.createTopic('me', { name: ORDERS });
      await one.definitions.deleteTopic('me', ORDERS, { force: true });
    }
    await two.definitions.refresh();
    expect(two.changes).toEqual(['forgotten audit', 'forgotten orders']);
    expect(await one.inner.list()).toEqual([]);
    // From now on the broker has seen everything again.
    await two.definitions.createTopic('me', { name: ORDERS });
    await one.definitions.refresh();
    const failOver = one.memory.checkpoint();
    await one.definitions.createTopic('me', { name: `${ORDERS}-2` });
    await two.definitions.refresh();
    failOver();
    await two.definitions.refresh();
    expect(await one.inner.list()).toHaveLength(2);
  });

  test('subscriptions that were created while their topic was deleted elsewhere go with it', async () => {
    const { open, inner, definitions, topic } = await withTopic();
    const other = await open();
    await definitions.deleteTopic('me', ORDERS, { force: true });
    const { name: _name, revision: _revision, ...rest } = (await other).definitions.subscription(AUDIT)!;
    const body = JSON.stringify({ format: 1, ...rest, incarnation: 99, topicEpoch: topic.logEpoch });
    await inner.put('subscription', BILLING, body, 0);
    await definitions.refresh();
    expect(await inner.list()).toEqual([]);
    expect(definitions.subscription(BILLING)).toBeUndefined();
  });
});

test('what must not happen is not taken for a store that fails: it ends the process', async () => {
  const impossible = new AssertionError('impossible');
  for (const of of ['get', 'put', 'remove', 'list'] as const) {
    const { definitions, store, inner } = await withTopic();
    await inner.put('topic', `${ORDERS}-2`, (await inner.get('topic', ORDERS))!.body, 0);
    const right = store[of];
    store[of] = (async () => {
      throw impossible;
    }) as never;
    if (of === 'get' || of === 'list') await expect(definitions.refresh()).rejects.toBe(impossible);
    if (of === 'list') continue;
    const deleted = definitions.deleteTopic('me', ORDERS, { force: true });
    await expect(deleted).rejects.toBe(impossible);
    store[of] = right as never;
  }
  const { definitions } = await withTopic();
  definitions.onChange(async (change) => {
    if (change.kind === 'deleted') throw impossible;
  });
  await expect(definitions.deleteTopic('me', ORDERS, { force: true })).rejects.toBe(impossible);
  await expect(definitions.finishDeletions()).rejects.toBe(impossible);
});

describe('deleting', () => {
  test('a topic with subscriptions needs force, and takes them with it', async () => {
    const { definitions, changes, inner } = await withTopic();
    await expect(definitions.deleteTopic('me', ORDERS, { force: false })).rejects.toThrow(/set force/);
    await definitions.deleteTopic('me', ORDERS, { force: true });
    expect(changes).toEqual(['deleted audit', 'deleted orders']);
    expect(await inner.list()).toEqual([]);
    expect(() => definitions.getSubscription(AUDIT)).toThrow(code('NOT_FOUND'));
    expect(definitions.subscriptionsOf(ORDERS)).toEqual([]);
    const again = await definitions.createTopic('me', { name: ORDERS });
    expect(again.logEpoch).toBeGreaterThan(1);
  });

  test('whose data cannot be dropped is finished later, and the name waits for it', async () => {
    const { definitions, changes, drop, warnings, inner } = await withTopic();
    drop.fails = true;
    await definitions.deleteTopic('me', ORDERS, { force: true });
    expect(warnings).toHaveLength(1);
    expect(() => definitions.getTopic(ORDERS)).toThrow(code('NOT_FOUND'));
    expect(() => definitions.getSubscription(AUDIT)).toThrow(code('NOT_FOUND'));
    await expect(definitions.createTopic('me', { name: ORDERS })).rejects.toEqual(code('UNAVAILABLE'));
    expect(await definitions.finishDeletions()).toBe(2);
    drop.fails = false;
    expect(await definitions.finishDeletions()).toBe(0);
    expect(changes).toEqual(['deleted audit', 'deleted orders']);
    expect(await inner.list()).toEqual([]);
  });

  test('that two brokers finish at once is not begun again by the slower one', async () => {
    const memory = createSharedMemory({ rememberedRemovals: 3 });
    const first = await opened(memory.open('a').definitions);
    const { store } = scripted(memory.open('b').definitions);
    let gets = 0;
    const written: string[] = [];
    const second = await opened({
      ...store,
      async get(kind, name) {
        gets += 1;
        // It has taken the deletion up, and the other one ends it.
        if (gets === 2) {
          first.drop.fails = false;
          await first.definitions.finishDeletions();
        }
        return store.get(kind, name);
      },
      put(kind, name, ...rest) {
        written.push(name);
        return store.put(kind, name, ...rest);
      },
    });
    await first.definitions.createTopic('tester', { name: ORDERS });
    await second.definitions.refresh();
    first.drop.fails = true;
    await first.definitions.deleteTopic('tester', ORDERS, { force: false });
    gets = 0;
    await second.definitions.refresh();
    expect(gets).toBeGreaterThan(1);
    expect(written).toEqual([]);
    expect(await store.get('topic', ORDERS)).toBeUndefined();
  });

  test('interrupted by a crash at any step is finished at the next start', async () => {
    // The steps: tombstone of the topic, tombstone of the subscription, its removal, the topic's.
    for (let crashAt = 1; crashAt <= 4; crashAt++) {
      const { definitions, open, faults, inner } = await withTopic();
      const away = Array.from<Fault>({ length: 9 }).fill('before');
      faults.put = [...['none' as const].slice(0, crashAt - 1), ...away].slice(crashAt > 2 ? 99 : 0);
      faults.remove = crashAt < 3 ? [] : [...['none' as const].slice(0, crashAt - 3), ...away];
      const deleted = definitions.deleteTopic('me', ORDERS, { force: true });
      await (crashAt === 1 ? expect(deleted).rejects.toEqual(code('UNAVAILABLE')) : deleted);

      faults.put = [];
      faults.remove = [];
      const again = await open();
      const there = crashAt === 1 ? 1 : 0;
      expect([...again.definitions.topics()], `topics after ${crashAt}`).toHaveLength(there);
      expect([...again.definitions.subscriptions()], `subscriptions after ${crashAt}`).toHaveLength(there);
      expect(await again.definitions.finishDeletions()).toBe(0);
      if (crashAt > 1) expect(again.changes.at(-1)).toBe('deleted orders');
      expect(await inner.list()).toHaveLength(2 * there);
    }
  });

  test('that was removed although the store timed out is done', async () => {
    const { definitions, faults, inner, warnings } = await withTopic();
    faults.remove = ['after'];
    await definitions.deleteSubscription('me', AUDIT);
    expect(warnings).toEqual([]);
    expect(await definitions.finishDeletions()).toBe(0);
    expect(await inner.list()).toHaveLength(1);
  });

  test('a topic while its subscription is being updated leaves nothing of either', async () => {
    const { definitions, inner } = await withTopic();
    const labels = { name: AUDIT, topic: '', labels: { a: 'b' } };
    await Promise.allSettled([
      definitions.updateSubscription('me', labels, ['labels']),
      definitions.deleteTopic('me', ORDERS, { force: true }),
      definitions.updateSubscription('me', labels, ['labels']),
      definitions.createSubscription('me', { name: BILLING, topic: ORDERS }),
    ]);
    await definitions.finishDeletions();
    expect([...definitions.subscriptions()]).toEqual([]);
    expect(await inner.list()).toEqual([]);
  });
});

describe('listing', () => {
  test('goes by name, in pages, within a project and topic', async () => {
    const { definitions } = await (await rig()).open();
    const ids = ['zebra', 'apple', 'mango', 'melon', 'berry'];
    for (const id of ids) await definitions.createTopic('me', { name: `projects/p/topics/${id}` });
    await definitions.createTopic('me', { name: 'projects/pp/topics/other' });
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = definitions.listTopics({ parent: 'projects/p', pageSize: 2, pageToken });
      seen.push(...page.items.map(({ name }) => name.split('/').at(-1) ?? ''));
      pageToken = page.nextPageToken;
      // Names that come and go between pages don't disturb the others.
      if (seen.length === 2) await definitions.deleteTopic('me', 'projects/p/topics/berry', { force: false });
    } while (pageToken !== '');
    expect(seen).toEqual(['apple', 'berry', 'mango', 'melon', 'zebra']);

    await definitions.createSubscription('me', { name: AUDIT, topic: 'projects/p/topics/apple' });
    await definitions.createSubscription('me', { name: BILLING, topic: 'projects/p/topics/mango' });
    const request = { parent: 'projects/p', pageSize: 0, pageToken: '' };
    expect(definitions.listSubscriptions(request, '').items).toHaveLength(2);
    const ofApple = definitions.listSubscriptions(request, 'projects/p/topics/apple').items;
    expect(ofApple.map(({ name }) => name)).toEqual([AUDIT]);
  });

  test('keeps an answer below its limit', async () => {
    const { definitions } = await (await rig()).open();
    const labels = Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`k${at}`, 'v'.repeat(255)]));
    for (let at = 0; at < 300; at++) {
      await definitions.createTopic('me', { name: `projects/p/topics/t${1000 + at}`, partitions: 1, labels });
    }
    const first = definitions.listTopics({ parent: 'projects/p', pageSize: 1000, pageToken: '' });
    expect(first.items.length).toBeLessThan(200);
    const pageToken = first.nextPageToken;
    const second = definitions.listTopics({ parent: 'projects/p', pageSize: 1000, pageToken });
    expect(first.items.length + second.items.length).toBe(300);
    expect(second.nextPageToken).toBe('');
  });

  test.each([{ parent: 'p' }, { pageSize: -1 }, { pageSize: 1001 }, { pageToken: 'nonsense' }])(
    'refuses %o',
    async (bad) => {
      const { definitions } = await (await rig()).open();
      const request = { parent: 'projects/p', pageSize: 0, pageToken: '', ...bad };
      expect(() => definitions.listTopics(request)).toThrow(code('INVALID_ARGUMENT'));
    },
  );
});

test('every change that was asked for is audited, with its result', async () => {
  const { definitions, audit } = await withTopic();
  await definitions.updateTopic('alice', { name: ORDERS, labels: {} }, ['labels']);
  await expect(definitions.deleteTopic('mallory', 'x'.repeat(9999), { force: true })).rejects.toThrow();
  await definitions.deleteSubscription('bob', AUDIT);
  expect(audit).toEqual([
    { principal: 'alice', verb: 'update', resource: ORDERS, result: 'OK' },
    {
      principal: 'mallory',
      verb: 'delete',
      resource: expect.stringMatching(/^x{1,600}$/),
      result: 'INVALID_ARGUMENT',
      message: expect.any(String),
    },
    { principal: 'bob', verb: 'delete', resource: AUDIT, result: 'OK' },
  ]);
});
