// The operator against a real API server, with the rights that the chart gives it, and a real broker: what
// people do with Topics and Subscriptions, and what happens in the broker.
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import {
  condition,
  isReady,
  type OperatorProcess,
  type Stage,
  startStage,
  subscription,
  topic,
} from '../support/operator.ts';

const SLOW = { timeout: 180_000 };
let stage: Stage;
let operator: OperatorProcess;
let client: Client;

beforeAll(async () => {
  stage = await startStage({ namespaces: ['shop', 'other'] });
  operator = await stage.startOperator({ resyncMs: 2_000 });
  client = stage.client();
}, 1_200_000);
afterAll(async () => {
  await client?.close();
  await stage?.[Symbol.asyncDispose]();
}, 60_000);

const ready = (name: string, namespace = 'shop') => isReady(stage.topic(namespace, name));
const subscriptionReady = (name: string) => isReady(stage.subscription('shop', name));
const labelsOf = async (name: string) => {
  const {
    'fanfare.dev/owner': owner,
    'fanfare.dev/owner-name': by,
    ...rest
  } = (await client.admin.getTopic(name)).labels;
  return { owner, by, rest };
};
const gone = (promise: Promise<unknown>) =>
  promise.then(
    () => false,
    (error: { code?: string }) => error.code === 'NOT_FOUND',
  );

test(
  'a Topic and its Subscription come to be, in whatever order, with all their settings',
  SLOW,
  async () => {
    await stage.apply(
      subscription('shop', 'billing', 'orders', {
        ackDeadlineSeconds: 42,
        ordering: true,
        labels: { team: 'b' },
      }),
    );
    await stage.until(
      'the Subscription waits for its Topic',
      () => condition(stage.subscription('shop', 'billing')) === 'False/TopicNotFound',
    );
    await stage.apply(
      topic('shop', 'orders', {
        partitions: 3,
        retentionSeconds: 3_600,
        retentionBytesPerPartition: 2 ** 21,
        durability: 'Stored',
        labels: { team: 'a' },
      }),
    );
    await stage.until('both are ready', () => ready('orders') && subscriptionReady('billing'));
    const made = await client.admin.getTopic('orders');
    expect(made).toMatchObject({
      partitions: 3,
      retentionMs: 3_600_000,
      retentionBytesPerPartition: 2 ** 21,
      durability: 'stored',
    });
    expect(await labelsOf('orders')).toMatchObject({ by: 'orders', rest: { team: 'a' } });
    expect(await client.admin.getSubscription('billing')).toMatchObject({
      topic: 'projects/shop/topics/orders',
      ackDeadlineSeconds: 42,
      ordering: true,
      start: 'latest',
    });
    const { status, metadata } = stage.topic('shop', 'orders')!;
    expect(status).toMatchObject({ name: 'projects/shop/topics/orders', partitions: 3 });
    expect(status?.applied?.incarnation).toBe(String(made.logEpoch));
    expect(metadata.finalizers).toEqual(['fanfare.dev/broker-cleanup']);
    await stage.until(
      'the Topic counts its Subscriptions',
      () => stage.topic('shop', 'orders')?.status?.subscriptions === 1,
    );
  },
);

test('a changed spec changes the broker; partitions only grow', SLOW, async () => {
  await stage.patch('topics', 'shop', 'orders', {
    spec: { partitions: 5, retentionSeconds: 7_200, labels: { team: 'c' } },
  });
  await stage.patch('subscriptions', 'shop', 'billing', { spec: { ackDeadlineSeconds: 60 } });
  await stage.until('both are ready again', () => ready('orders') && subscriptionReady('billing'));
  expect(await client.admin.getTopic('orders')).toMatchObject({ partitions: 5, retentionMs: 7_200_000 });
  expect((await labelsOf('orders')).rest).toEqual({ team: 'c' });
  expect((await client.admin.getSubscription('billing')).ackDeadlineSeconds).toBe(60);
});

test('drift in the broker is repaired: settings, labels, and what somebody deleted', SLOW, async () => {
  const before = await client.admin.getTopic('orders');
  const { incarnation: was } = await client.admin.getSubscription('billing');
  await client.admin.updateTopic('orders', { retentionMs: 120_000, labels: {} });
  await stage.eventually(
    'it is repaired',
    () => client.admin.getTopic('orders'),
    ({ retentionMs, labels }) =>
      retentionMs === 7_200_000 && labels['fanfare.dev/owner'] === before.labels['fanfare.dev/owner'],
  );
  await client.admin.deleteTopic('orders', { force: true });
  await stage.until('Topic and Subscription are made anew', () => {
    const incarnation = stage.topic('shop', 'orders')?.status?.applied?.incarnation;
    const ofSubscription = stage.subscription('shop', 'billing')?.status?.applied?.incarnation;
    const isNew = incarnation !== String(before.logEpoch) && ofSubscription !== String(was);
    return isNew && ready('orders') && subscriptionReady('billing');
  });
  expect((await client.admin.getSubscription('billing')).topic).toBe('projects/shop/topics/orders');
});

test('force-sync looks at the broker at once', SLOW, async () => {
  await client.admin.updateTopic('orders', { retentionMs: 180_000 });
  await stage.patch('topics', 'shop', 'orders', {
    metadata: { annotations: { 'fanfare.dev/force-sync': 'now' } },
  });
  await stage.eventually(
    'it is repaired',
    () => client.admin.getTopic('orders'),
    ({ retentionMs }) => retentionMs === 7_200_000,
  );
});

test('what exists already is adopted; what can’t be changed is said', SLOW, async () => {
  await client.admin.createTopic('legacy', { partitions: 8, labels: { by: 'hand' } });
  await stage.apply(topic('shop', 'legacy', { partitions: 4 }));
  await stage.until(
    'it says so',
    () => condition(stage.topic('shop', 'legacy')) === 'False/ImmutableFieldChanged',
  );
  expect((await client.admin.getTopic('legacy')).labels).toEqual({ by: 'hand' });
  await stage.patch('topics', 'shop', 'legacy', { spec: { partitions: 8 } });
  await stage.until('it is adopted', () => ready('legacy'));
  expect((await labelsOf('legacy')).rest).toEqual({ by: 'hand' });
});

test('a paused resource is left alone, and Paused is there only while it is', SLOW, async () => {
  await stage.patch('topics', 'shop', 'legacy', {
    metadata: { annotations: { 'fanfare.dev/paused': 'true' } },
  });
  await stage.until(
    'it is paused',
    () => condition(stage.topic('shop', 'legacy'), 'Paused') === 'True/Paused',
  );
  await stage.patch('topics', 'shop', 'legacy', { spec: { retentionSeconds: 600 } });
  await stage.until(
    'it was looked at',
    () =>
      stage.topic('shop', 'legacy')?.status?.observedGeneration ===
      stage.topic('shop', 'legacy')?.metadata.generation,
  );
  expect((await client.admin.getTopic('legacy')).retentionMs).not.toBe(600_000);
  await stage.patch('topics', 'shop', 'legacy', {
    metadata: { annotations: { 'fanfare.dev/paused': null } },
  });
  await stage.until(
    'it goes on',
    () => ready('legacy') && condition(stage.topic('shop', 'legacy'), 'Paused') === 'none',
  );
  await stage.eventually(
    'it is set',
    () => client.admin.getTopic('legacy'),
    ({ retentionMs }) => retentionMs === 600_000,
  );
});

test('ObserveOnly changes nothing and shows what is there', SLOW, async () => {
  await client.admin.createTopic('watched', { partitions: 2 });
  await stage.apply(topic('shop', 'watched', { managementPolicy: 'ObserveOnly', deletionPolicy: 'Delete' }));
  await stage.apply(topic('shop', 'nowhere', { managementPolicy: 'ObserveOnly' }));
  await stage.until(
    'both are looked at',
    () =>
      condition(stage.topic('shop', 'watched')) === 'True/Observed' &&
      condition(stage.topic('shop', 'nowhere')) === 'False/NotFound',
  );
  expect(stage.topic('shop', 'watched')?.status?.partitions).toBe(2);
  await stage.remove('topics', 'shop', 'watched');
  await stage.until('it goes', () => stage.topic('shop', 'watched') === undefined);
  expect((await client.admin.getTopic('watched')).labels).toEqual({});
});

test(
  'two that name one object: the oldest wins, the other says so, and follows when it goes',
  SLOW,
  async () => {
    await stage.apply(topic('shop', 'first', { topicName: 'shared', deletionPolicy: 'Retain' }));
    await stage.until('the first is ready', () => ready('first'));
    // Ages are in whole seconds: the next one may be as old, and then the uid decides.
    await stage.apply(
      topic('shop', 'second', { topicName: 'shared', retentionSeconds: 600, deletionPolicy: 'Delete' }),
    );
    const names = ['first', 'second'] as const;
    const loser = () => names.find((name) => condition(stage.topic('shop', name)) === 'False/NameConflict');
    await stage.until('one says so', () => loser() !== undefined && names.some((name) => ready(name)));
    const lost = loser()!;
    const won = names.find((name) => name !== lost)!;
    expect((await labelsOf('shared')).by).toBe(won);
    // The Topic that has lost goes: nothing happens in the broker.
    await stage.patch('topics', 'shop', won, { spec: { deletionPolicy: 'Retain' } });
    await stage.remove('topics', 'shop', won);
    await stage.until('the other follows', () => ready(lost));
    expect((await labelsOf('shared')).by).toBe(lost);
  },
);

test('what belongs to another cluster is left alone, until it is taken over', SLOW, async () => {
  await client.admin.createTopic('foreign', {
    labels: { 'fanfare.dev/owner': 'another-cluster/shop/uid-1', 'fanfare.dev/owner-name': 'foreign' },
  });
  await stage.apply(topic('shop', 'foreign', { deletionPolicy: 'Delete' }));
  await stage.until('it says so', () => condition(stage.topic('shop', 'foreign')) === 'False/NameConflict');
  await stage.remove('topics', 'shop', 'foreign');
  await stage.until('it goes', () => stage.topic('shop', 'foreign') === undefined);
  expect((await labelsOf('foreign')).owner).toBe('another-cluster/shop/uid-1');
  await stage.apply(topic('shop', 'foreign', {}, { annotations: { 'fanfare.dev/adopt': 'true' } }));
  await stage.until('it is taken over', () => ready('foreign'));
  expect((await labelsOf('foreign')).by).toBe('foreign');
});

test('deletionPolicy: Retain, Delete, DeleteIfEmpty', SLOW, async () => {
  await stage.apply(
    topic('shop', 'kept'),
    topic('shop', 'dropped', { deletionPolicy: 'Delete' }),
    topic('shop', 'guarded', { deletionPolicy: 'DeleteIfEmpty' }),
    subscription('shop', 'guard', 'guarded', { deletionPolicy: 'DeleteIfEmpty' }),
    topic('shop', 'crowded', { deletionPolicy: 'DeleteIfEmpty' }),
  );
  await stage.until(
    'all are ready',
    () =>
      ['kept', 'dropped', 'guarded', 'crowded'].every((name) => ready(name)) && subscriptionReady('guard'),
  );
  await client.publisher('guarded').publish({ data: 'precious' });
  // Made beside Kubernetes, after the operator has looked.
  await client.admin.createSubscription('beside', { topic: 'crowded' });
  await client.publisher('crowded').publish({ data: 'precious, too' });
  for (const name of ['kept', 'dropped', 'guarded', 'crowded']) await stage.remove('topics', 'shop', name);
  await stage.remove('subscriptions', 'shop', 'guard');
  await stage.until(
    'two go',
    () => stage.topic('shop', 'kept') === undefined && stage.topic('shop', 'dropped') === undefined,
  );
  expect((await client.admin.getTopic('kept')).id).toBe('kept');
  expect(await gone(client.admin.getTopic('dropped'))).toBe(true);
  await stage.until(
    'three wait',
    () =>
      condition(stage.topic('shop', 'guarded'), 'Synced') === 'False/DeletionBlocked' &&
      condition(stage.topic('shop', 'crowded'), 'Synced') === 'False/DeletionBlocked' &&
      condition(stage.subscription('shop', 'guard'), 'Synced') === 'False/DeletionBlocked',
  );
  expect(
    stage.subscription('shop', 'guard')?.status?.conditions?.find(({ type }) => type === 'Synced')?.message,
  ).toContain('1 messages are not acknowledged');
  for (const name of ['guard', 'beside'])
    for await (const message of client.subscribe(name)) {
      message.ack();
      break;
    }
  await stage.until(
    'they go',
    () =>
      ['guarded', 'crowded'].every((name) => stage.topic('shop', name) === undefined) &&
      stage.subscription('shop', 'guard') === undefined,
  );
  expect(await gone(client.admin.getTopic('guarded'))).toBe(true);
});

test('what the broker refuses is said in its words', SLOW, async () => {
  await stage.apply(topic('shop', 'impossible', { durability: 'Replicated', minReplicas: 2 }));
  await stage.until(
    'it says so',
    () => condition(stage.topic('shop', 'impossible')) === 'False/BrokerRefused',
  );
  await stage.apply(
    subscription('shop', 'orphan', 'elsewhere', { topicRef: { name: 'elsewhere', external: true } }),
  );
  await stage.until(
    'it says so',
    () => condition(stage.subscription('shop', 'orphan')) === 'False/TopicNotFound',
  );
  await client.admin.createTopic('elsewhere');
  await stage.until('it comes to be', () => subscriptionReady('orphan'));
});

test('a Fanfare: its Secret is read, its project is used, and it says what is wrong', SLOW, async () => {
  const { readFile } = await import('node:fs/promises');
  const { ca, cert, key } = stage.broker.tls;
  const read = async (path: string) => (await readFile(path)).toString('base64');
  const fanfare = {
    apiVersion: 'fanfare.dev/v1alpha1',
    kind: 'Fanfare',
    metadata: { name: 'mine', namespace: 'other' },
    spec: { address: stage.broker.address, tls: { secretName: 'mine' }, project: 'elsewhere' },
  };
  await stage.apply(topic('other', 'events', { connectionRef: { name: 'mine' }, deletionPolicy: 'Delete' }));
  await stage.until(
    'there is no such Fanfare',
    () => condition(stage.topic('other', 'events')) === 'False/ConnectionNotFound',
  );
  await stage.apply(fanfare);
  await stage.until(
    'there is no Secret',
    () => condition(stage.fanfare('other', 'mine')) === 'False/CertificateInvalid',
  );
  await stage.apply({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'mine', namespace: 'other' },
    data: { 'ca.crt': await read(ca), 'tls.crt': await read(cert), 'tls.key': await read(key) },
  });
  await stage.patch('fanfares', 'other', 'mine', { metadata: { annotations: { touched: 'now' } } });
  await stage.until('it works', () => isReady(stage.fanfare('other', 'mine')) && ready('events', 'other'));
  expect(stage.topic('other', 'events')?.status?.name).toBe('projects/elsewhere/topics/events');
  expect(Date.parse(stage.fanfare('other', 'mine')?.status?.certificateExpiryTime ?? '')).toBeGreaterThan(
    Date.now(),
  );
  await using elsewhere = stage.client('elsewhere');
  // The Fanfare goes first, as when a namespace is deleted: the Topic's cleanup still happens.
  await stage.remove('fanfares', 'other', 'mine');
  await stage.until('it is gone', () => stage.fanfare('other', 'mine') === undefined);
  await stage.remove('topics', 'other', 'events');
  await stage.until('the Topic goes', () => stage.topic('other', 'events') === undefined);
  expect(await gone(elsewhere.admin.getTopic('events'))).toBe(true);
});

test('a turn is an event, a look is none', SLOW, async () => {
  const { body } = await stage.kube.request('GET', '/apis/events.k8s.io/v1/namespaces/shop/events');
  const reasons = (body.items as { regarding: { name: string }; reason: string }[])
    .filter(({ regarding }) => regarding.name === 'orders')
    .map(({ reason }) => reason);
  expect(reasons).toEqual(expect.arrayContaining(['Created', 'Updated', 'DriftRepaired', 'Recreated']));
  expect(reasons.length).toBeLessThan(12);
});

test('nobody was in anybody’s way: no request was refused', SLOW, async () => {
  expect(await operator.metric('fanfare_operator_api_requests_total', 'code="403"')).toBe(0);
  expect(operator.lines.filter(({ level }) => level === 'error')).toEqual([]);
});
