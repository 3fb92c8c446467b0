// The plans of Topic and Subscription as tables: what was observed, what is done next, what is said. And
// which resource an object belongs to.
import { expect, test } from 'vitest';
import type { Metadata } from '../../operator/api/v1alpha1/group.ts';
import type { Subscription, SubscriptionSpec } from '../../operator/api/v1alpha1/subscription.ts';
import type { Topic, TopicSpec } from '../../operator/api/v1alpha1/topic.ts';
import {
  type DefinitionObserved,
  planDefinition,
  planFailure,
  settingsHash,
} from '../../operator/core/plan-definition.ts';
import { type ClaimInputs, claimOf, ownerLabels, ownerOf } from '../../operator/core/plan-owner.ts';
import {
  compareSubscription,
  desiredSubscription,
  topicGate,
} from '../../operator/core/plan-subscription.ts';
import { compareTopic, desiredTopic, type FoundTopic, topicName } from '../../operator/core/plan-topic.ts';

const NOW_MS = Date.parse('2026-01-01T00:10:00Z');
const FINALIZER = 'fanfare.dev/broker-cleanup';
const SELF: Metadata = {
  name: 'orders',
  namespace: 'shop',
  uid: 'u-2',
  generation: 3,
  creationTimestamp: '2026-01-01T00:00:00Z',
  finalizers: [FINALIZER],
};
const GOING: Metadata = { ...SELF, deletionTimestamp: '2026-01-01T00:00:00Z' };
const BARE: Metadata = { ...SELF, finalizers: [] };
const AWAY = { kind: 'unusable', reason: 'BrokerUnreachable', message: 'nobody there' } as const;

type Observed = DefinitionObserved<string, string>;
const SAME = { incarnation: '7', comparison: { fixed: [], change: undefined } };
const DRIFTED = { incarnation: '7', comparison: { fixed: [], change: 'retention' } };
const APPLIED = { hash: 'h', incarnation: '7' };

function observed(changes: Partial<Observed>): Observed {
  return {
    metadata: SELF,
    spec: { deletionPolicy: 'Delete', managementPolicy: 'Full' },
    paused: false,
    connection: { kind: 'ready', project: 'shop' },
    asked: true,
    gate: { kind: 'open' },
    desired: { create: 'settings', hash: 'h' },
    found: SAME,
    claim: { kind: 'ours' },
    applied: APPLIED,
    backlog: undefined,
    namespaceEnds: false,
    finalizers: true,
    finalizerTimeoutMs: 600_000,
    nowMs: NOW_MS,
    ...changes,
  };
}

const spec = (
  deletionPolicy: Observed['spec']['deletionPolicy'],
  managementPolicy: 'Full' | 'ObserveOnly' = 'Full',
) => ({
  deletionPolicy,
  managementPolicy,
});

/**
 * "create", "update DriftRepaired", or what is said: "Ready False/NameConflict Synced False/NameConflict".
 */
function outcome(changes: Partial<Observed>): string {
  const { action, conditions } = planDefinition(observed(changes));
  if (action?.kind === 'update') return `update ${action.why}`;
  if (action?.kind === 'create') return action.again ? 'create again' : 'create';
  if (action?.kind === 'removeFinalizer')
    return action.left === undefined ? 'let go' : `leave: ${action.left}`;
  if (action !== undefined) return action.kind;
  return conditions.map(({ type, status, reason }) => `${type} ${status}/${reason}`).join(' ') || 'nothing';
}

const said = (status: string, reason: string) => `Ready ${status}/${reason} Synced ${status}/${reason}`;

test.each<[what: string, observed: Partial<Observed>, outcome: string]>([
  ['all is well', {}, said('True', 'Reconciled')],
  [
    'it is new: the finalizer comes first',
    { metadata: BARE, found: undefined, applied: undefined },
    'addFinalizer',
  ],
  ['then it is made', { found: undefined, applied: undefined }, 'create'],
  ['somebody deleted it', { found: undefined }, 'create again'],
  ['it was there already', { found: DRIFTED, applied: undefined, claim: { kind: 'free' } }, 'update Adopted'],
  ['the same, as it should be but for the finalizer', { metadata: BARE, applied: undefined }, 'addFinalizer'],
  ['somebody changed it', { found: DRIFTED }, 'update DriftRepaired'],
  ['the spec was changed', { found: DRIFTED, desired: { create: '', hash: 'other' } }, 'update Updated'],
  [
    'it differs in what can’t be changed, and more',
    { found: { incarnation: '7', comparison: { fixed: ['partitions'], change: 'retention' } } },
    said('False', 'ImmutableFieldChanged'),
  ],
  [
    'somebody else has it',
    { claim: { kind: 'theirs', message: '' }, found: DRIFTED },
    said('False', 'NameConflict'),
  ],
  ['paused', { paused: true, found: DRIFTED }, 'nothing'],
  ['the connection is not known yet', { connection: { kind: 'pending' }, found: undefined }, 'nothing'],
  ['no such connection', { connection: { kind: 'missing', name: 'x' } }, said('False', 'ConnectionNotFound')],
  ['the broker is away', { connection: AWAY, found: undefined }, said('Unknown', 'BrokerUnreachable')],
  ['the broker was not asked', { asked: false, found: undefined }, 'nothing'],
  [
    'its topic is missing',
    { gate: { kind: 'closed', reason: 'TopicNotFound', message: '' }, found: undefined, desired: undefined },
    said('False', 'TopicNotFound'),
  ],
  [
    'its topic is not ready any more: nothing is undone',
    { gate: { kind: 'closed', reason: 'TopicNotReady', message: '' } },
    'Ready False/TopicNotReady Synced True/Reconciled',
  ],
  [
    'only observed',
    { spec: spec('Delete', 'ObserveOnly'), metadata: BARE, found: DRIFTED },
    said('True', 'Observed'),
  ],
  [
    'only observed, absent',
    { spec: spec('Delete', 'ObserveOnly'), metadata: BARE, found: undefined },
    said('False', 'NotFound'),
  ],
  ['only observed from now on', { spec: spec('Delete', 'ObserveOnly') }, 'let go'],
  ['no finalizers wanted', { finalizers: false }, 'let go'],
  [
    'no finalizers wanted, new',
    { finalizers: false, metadata: BARE, found: undefined, applied: undefined },
    'create',
  ],
])('%s', (_, changes, expected) => {
  expect(outcome(changes)).toBe(expected);
});

const blocked = (reason: string) => `Ready False/Deleting Synced False/${reason}`;
const LATE = { metadata: { ...GOING, deletionTimestamp: '2025-12-31T23:50:00Z' }, namespaceEnds: true };

test.each<[what: string, observed: Partial<Observed>, outcome: string]>([
  ['Delete', {}, 'delete'],
  ['gone from the broker', { found: undefined }, 'let go'],
  ['Retain', { spec: spec('Retain') }, 'let go'],
  ['Retain while the broker is away', { spec: spec('Retain'), connection: AWAY }, 'let go'],
  ['only observed', { spec: spec('Delete', 'ObserveOnly') }, 'let go'],
  ['no finalizers wanted', { finalizers: false, connection: AWAY }, 'let go'],
  ['others’ finalizers', { metadata: { ...GOING, finalizers: ['other'] } }, 'nothing'],
  ['somebody else’s', { claim: { kind: 'theirs', message: '' } }, 'let go'],
  ['not marked, but the one that we made', { claim: { kind: 'free' } }, 'delete'],
  [
    'not marked, and not the one that we made',
    { claim: { kind: 'free' }, found: { ...SAME, incarnation: '8' } },
    'leave: what the broker has now was not made for this resource',
  ],
  [
    'never made by us',
    { claim: { kind: 'free' }, applied: undefined },
    'leave: what the broker has now was not made for this resource',
  ],
  ['empty', { spec: spec('DeleteIfEmpty'), backlog: 0 }, 'delete'],
  ['not empty', { spec: spec('DeleteIfEmpty'), backlog: 5 }, blocked('DeletionBlocked')],
  ['not known whether empty', { spec: spec('DeleteIfEmpty') }, blocked('DeletionBlocked')],
  [
    'the connection is gone',
    { connection: { kind: 'missing', name: 'x' } },
    'leave: the connection x is gone',
  ],
  ['the broker is away', { connection: AWAY }, blocked('BrokerUnreachable')],
  ['paused', { paused: true }, blocked('Paused')],
  ['the broker was not asked', { asked: false, found: undefined }, blocked('Deleting')],
  [
    'the broker is away, in a namespace that ends',
    { connection: AWAY, namespaceEnds: true, nowMs: NOW_MS - 300_000 },
    blocked('BrokerUnreachable'),
  ],
  ['the same, for too long', { ...LATE, connection: AWAY }, 'leave: nobody there'],
  [
    'not empty for too long, in a namespace that ends',
    { ...LATE, spec: spec('DeleteIfEmpty'), backlog: 5 },
    'leave: 5 messages are not acknowledged, and deletionPolicy is DeleteIfEmpty: wait for the consumers, or set deletionPolicy to Retain or Delete',
  ],
  [
    'paused for too long, in a namespace that ends',
    { ...LATE, paused: true },
    'leave: it is paused, and deletionPolicy asks for the broker',
  ],
  [
    'the broker is away for long, elsewhere',
    { ...LATE, namespaceEnds: false, connection: AWAY },
    blocked('BrokerUnreachable'),
  ],
])('being deleted: %s', (_, changes, expected) => {
  expect(outcome({ metadata: GOING, ...changes })).toBe(expected);
});

test('whatever is observed, nothing is deleted but for what is being deleted and ours', () => {
  const choices = {
    metadata: [SELF, BARE, GOING, { ...GOING, finalizers: [] }],
    spec: (['Retain', 'Delete', 'DeleteIfEmpty'] as const).flatMap((policy) => [
      spec(policy),
      spec(policy, 'ObserveOnly'),
    ]),
    paused: [true, false],
    connection: [
      { kind: 'ready', project: 'p' } as const,
      AWAY,
      { kind: 'missing', name: 'x' } as const,
      { kind: 'pending' } as const,
    ],
    asked: [true, false],
    found: [undefined, SAME, DRIFTED],
    claim: [{ kind: 'ours' }, { kind: 'free' }, { kind: 'theirs', message: '' }] as Observed['claim'][],
    applied: [undefined, APPLIED, { ...APPLIED, incarnation: '6' }],
    backlog: [undefined, 0, 5],
    finalizers: [true, false],
  };
  let cases: Partial<Observed>[] = [{}];
  for (const [name, values] of Object.entries(choices)) {
    cases = cases.flatMap((one) => (values as unknown[]).map((value) => ({ ...one, [name]: value })));
  }
  for (const one of cases) {
    const { action } = planDefinition(observed(one));
    const what = JSON.stringify(one);
    if (action?.kind === 'delete') {
      expect(one.metadata?.deletionTimestamp, what).toBeDefined();
      expect(one.spec?.deletionPolicy, what).not.toBe('Retain');
      expect(one.spec?.managementPolicy, what).toBe('Full');
      expect(one.claim?.kind, what).not.toBe('theirs');
      if (one.claim?.kind === 'free') expect(one.applied?.incarnation, what).toBe(one.found?.incarnation);
      if (one.spec?.deletionPolicy === 'DeleteIfEmpty') expect(one.backlog, what).toBe(0);
    }
    // An object that nobody has asked the broker for is not taken for gone.
    if (action?.kind === 'removeFinalizer' && action.left === undefined && !one.asked) {
      const isLetGo = one.spec?.deletionPolicy === 'Retain' || one.spec?.managementPolicy === 'ObserveOnly';
      expect(isLetGo || one.finalizers === false, what).toBe(true);
    }
    if (action?.kind === 'create' || action?.kind === 'update') {
      expect(one.asked, what).toBe(true);
      expect(one.claim?.kind, what).not.toBe('theirs');
      expect(one.paused, what).toBe(false);
      if (one.finalizers) expect(one.metadata?.finalizers, what).toContain(FINALIZER);
    }
  }
  expect(cases.length).toBeGreaterThan(5_000);
});

test('the wait of a resource in a namespace that ends is no longer than its time', () => {
  const { lookAgainMs } = planDefinition(
    observed({ metadata: GOING, connection: AWAY, namespaceEnds: true, nowMs: NOW_MS - 4_000 }),
  );
  expect(lookAgainMs).toBe(4_000);
});

const CLUSTER = 'c-1';
const mark = (self: Metadata, cluster = CLUSTER) => ownerLabels(ownerOf(cluster, self));
const OLDER: Metadata = { ...SELF, name: 'older', uid: 'u-1', creationTimestamp: '2025-01-01T00:00:00Z' };
const YOUNGER: Metadata = { ...SELF, name: 'younger', uid: 'u-3', creationTimestamp: '2026-02-01T00:00:00Z' };
const SAME_AGE: Metadata = { ...SELF, name: 'twin', uid: 'u-1' };

test.each<[what: string, inputs: Partial<ClaimInputs>, kind: string]>([
  ['not there yet', { labels: undefined }, 'free'],
  ['no mark', { labels: { team: 'a' } }, 'free'],
  ['our mark', { labels: mark(SELF) }, 'ours'],
  ['an older rival', { rivals: [OLDER], labels: mark(SELF) }, 'theirs'],
  ['a younger rival', { rivals: [YOUNGER], labels: mark(SELF) }, 'ours'],
  ['a rival of the same second with a smaller uid', { rivals: [SAME_AGE] }, 'theirs'],
  ['the mark of one that is older', { labels: mark(OLDER), resourceOf: () => OLDER }, 'theirs'],
  ['the mark of one that is younger', { labels: mark(YOUNGER), resourceOf: () => YOUNGER }, 'free'],
  ['the mark of one that is gone', { labels: mark(OLDER) }, 'free'],
  [
    'the mark of one that was made anew since',
    { labels: mark(OLDER), resourceOf: () => ({ ...OLDER, uid: 'u-9' }) },
    'free',
  ],
  ['our mark from before we were made anew', { labels: mark({ ...SELF, uid: 'u-0' }) }, 'free'],
  [
    'the mark of a namespace that is not watched',
    { labels: mark({ ...OLDER, namespace: 'x' }), resourceOf: () => 'unseen' },
    'theirs',
  ],
  [
    'the same, taken over',
    { labels: mark({ ...OLDER, namespace: 'x' }), resourceOf: () => 'unseen', adopt: true },
    'free',
  ],
  ['another cluster’s', { labels: mark({ ...SELF, uid: 'u-0' }, 'c-2') }, 'theirs'],
  ['another cluster’s, taken over', { labels: mark({ ...SELF, uid: 'u-0' }, 'c-2'), adopt: true }, 'free'],
  [
    'adopting is no weapon against the older one',
    { rivals: [OLDER], labels: mark(OLDER), adopt: true },
    'theirs',
  ],
  ['a mark that makes no sense', { labels: { 'fanfare.dev/owner': '?' } }, 'theirs'],
])('whose: %s', (_, inputs, kind) => {
  const claim = claimOf({
    self: SELF,
    cluster: CLUSTER,
    rivals: [],
    labels: undefined,
    resourceOf: () => undefined,
    adopt: false,
    ...inputs,
  });
  expect(claim.kind).toBe(kind);
});

test('of any two rivals exactly one wins, whoever asks', () => {
  for (const [a, b] of [
    [SELF, OLDER],
    [SELF, YOUNGER],
    [SELF, SAME_AGE],
  ] as const) {
    const kinds = [claimOf(rival(a, b)).kind, claimOf(rival(b, a)).kind];
    expect(kinds.filter((kind) => kind === 'theirs')).toHaveLength(1);
  }
  function rival(self: Metadata, other: Metadata): ClaimInputs {
    return {
      self,
      cluster: CLUSTER,
      rivals: [other],
      labels: undefined,
      resourceOf: () => other,
      adopt: false,
    };
  }
});

const TOPIC_SPEC: TopicSpec = {
  connectionRef: { name: 'default' },
  partitions: 4,
  retentionSeconds: 3_600,
  retentionBytesPerPartition: 0,
  deletionPolicy: 'Retain',
  managementPolicy: 'Full',
  paused: false,
};
const OWNER = ownerOf(CLUSTER, SELF);
const FOUND: FoundTopic = {
  name: 'projects/shop/topics/orders',
  partitions: 4,
  retentionMs: 3_600_000,
  retentionBytesPerPartition: 0,
  durability: 'fsync',
  minReplicas: 0,
  labels: mark(SELF),
  logEpoch: 7,
};

test('a topic as it should be is compared by what the spec says, and no more', () => {
  expect(compareTopic(TOPIC_SPEC, OWNER, FOUND)).toEqual({ fixed: [], change: undefined });
  // Neither the broker's default durability nor labels of others are drift.
  expect(
    compareTopic(TOPIC_SPEC, OWNER, { ...FOUND, labels: { ...FOUND.labels, by: 'hand' } }).change,
  ).toBeUndefined();
  expect(
    compareTopic({ ...TOPIC_SPEC, labels: {} }, OWNER, { ...FOUND, labels: { ...FOUND.labels, by: 'hand' } })
      .change,
  ).toEqual({ labels: mark(SELF) });
  expect(compareTopic(TOPIC_SPEC, OWNER, { ...FOUND, labels: { by: 'hand' } }).change).toEqual({
    labels: { by: 'hand', ...mark(SELF) },
  });
  expect(
    compareTopic(
      { ...TOPIC_SPEC, partitions: 6, retentionSeconds: 60, retentionBytesPerPartition: 2 ** 20 },
      OWNER,
      FOUND,
    ).change,
  ).toEqual({
    partitions: 6,
    retentionMs: 60_000,
    retentionBytesPerPartition: 2 ** 20,
  });
  expect(compareTopic({ ...TOPIC_SPEC, partitions: 2 }, OWNER, FOUND).fixed).toHaveLength(1);
  expect(compareTopic({ ...TOPIC_SPEC, durability: 'Stored' }, OWNER, FOUND).fixed).toHaveLength(1);
  expect(compareTopic({ ...TOPIC_SPEC, durability: 'Fsync' }, OWNER, FOUND).fixed).toEqual([]);
  expect(
    compareTopic({ ...TOPIC_SPEC, durability: 'Replicated', minReplicas: 2 }, OWNER, {
      ...FOUND,
      durability: 'replicated',
      minReplicas: 1,
    }).fixed,
  ).toHaveLength(1);
});

test('the hash is that of the settings, whatever their order', () => {
  expect(settingsHash({ a: 1, b: { c: 2, d: 3 } })).toBe(settingsHash({ b: { d: 3, c: 2 }, a: 1 }));
  expect(settingsHash({ a: 1 })).not.toBe(settingsHash({ a: 2 }));
  expect(desiredTopic(TOPIC_SPEC, OWNER).hash).not.toBe(
    desiredTopic({ ...TOPIC_SPEC, labels: {} }, OWNER).hash,
  );
  // The owner is no setting.
  expect(desiredTopic(TOPIC_SPEC, OWNER).hash).toBe(desiredTopic(TOPIC_SPEC, { ...OWNER, uid: 'x' }).hash);
});

const SUBSCRIPTION_SPEC: SubscriptionSpec = {
  connectionRef: { name: 'default' },
  topicRef: { name: 'orders', external: false },
  ackDeadlineSeconds: 10,
  ordering: false,
  start: 'Earliest',
  deletionPolicy: 'Delete',
  managementPolicy: 'Full',
  paused: false,
};
const SUBSCRIPTION = {
  apiVersion: 'fanfare.dev/v1alpha1',
  kind: 'Subscription',
  metadata: SELF,
  spec: SUBSCRIPTION_SPEC,
} as Subscription;
const topicWith = (changes: Partial<TopicSpec>, ready: 'True' | 'False' = 'True') =>
  ({
    apiVersion: 'fanfare.dev/v1alpha1',
    kind: 'Topic',
    metadata: SELF,
    spec: { ...TOPIC_SPEC, ...changes },
    status: {
      conditions: [
        { type: 'Ready', status: ready, reason: 'NameConflict', lastTransitionTime: '', message: '' },
      ],
    },
  }) as Topic;

test('where a subscription’s topic is', () => {
  const gate = (topic: Topic | undefined, spec: Partial<SubscriptionSpec> = {}) => {
    const { gate: found, topic: name } = topicGate(
      { ...SUBSCRIPTION, spec: { ...SUBSCRIPTION_SPEC, ...spec } },
      topic,
      'p',
    );
    return [found.kind === 'closed' ? found.reason : found.kind, name];
  };
  expect(gate(topicWith({}))).toEqual(['open', 'projects/p/topics/orders']);
  expect(gate(topicWith({ topicName: 'other' }))).toEqual(['open', 'projects/p/topics/other']);
  expect(gate(topicWith({}, 'False'))).toEqual(['TopicNotReady', 'projects/p/topics/orders']);
  const { status: _, ...unseen } = topicWith({});
  expect(gate(unseen)).toEqual(['waiting', 'projects/p/topics/orders']);
  expect(gate(topicWith({ connectionRef: { name: 'x' } }))).toEqual(['InvalidSpec', undefined]);
  expect(gate(undefined)).toEqual(['TopicNotFound', undefined]);
  expect(gate(undefined, { topicRef: { name: 'far', external: true } })).toEqual([
    'open',
    'projects/p/topics/far',
  ]);
  expect(gate(undefined, { topicRef: { name: 'far', external: true, project: 'q' } })).toEqual([
    'open',
    'projects/q/topics/far',
  ]);
  expect(topicName('p', topicWith({}))).toBe('projects/p/topics/orders');
});

test('a subscription as it should be', () => {
  const topic = 'projects/p/topics/orders';
  const found = {
    name: 's',
    topic,
    ackDeadlineSeconds: 10,
    ordering: false,
    labels: mark(SELF),
    incarnation: 1,
  };
  expect(desiredSubscription(SUBSCRIPTION_SPEC, topic, OWNER).create).toMatchObject({
    topic,
    start: 'earliest',
  });
  expect(compareSubscription(SUBSCRIPTION_SPEC, topic, OWNER, found)).toEqual({
    fixed: [],
    change: undefined,
  });
  expect(compareSubscription(SUBSCRIPTION_SPEC, undefined, OWNER, found)).toEqual({
    fixed: [],
    change: undefined,
  });
  expect(
    compareSubscription({ ...SUBSCRIPTION_SPEC, ackDeadlineSeconds: 20 }, topic, OWNER, found).change,
  ).toEqual({ ackDeadlineSeconds: 20 });
  expect(
    compareSubscription({ ...SUBSCRIPTION_SPEC, ordering: true }, topic, OWNER, found).fixed,
  ).toHaveLength(1);
  expect(compareSubscription(SUBSCRIPTION_SPEC, 'projects/p/topics/x', OWNER, found).fixed).toHaveLength(1);
});

test.each([
  ['INVALID_ARGUMENT', 'False/InvalidSpec', false],
  ['FAILED_PRECONDITION', 'False/BrokerRefused', false],
  ['RESOURCE_EXHAUSTED', 'False/BrokerRefused', true],
  ['PERMISSION_DENIED', 'False/PermissionDenied', false],
  ['UNAVAILABLE', 'Unknown/BrokerUnreachable', true],
  ['INTERNAL', 'False/InternalError', true],
] as const)('a call that failed with %s is %s', (code, expected, retry) => {
  const failure = planFailure(code, 'why');
  expect(failure.conditions.map(({ status, reason }) => `${status}/${reason}`)).toEqual([expected, expected]);
  expect(failure.retry).toBe(retry);
});
