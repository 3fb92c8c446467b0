// The rules (CEL) of the CRDs by example: what the API server must accept and refuse.
import type { Json, Kind } from './kube-crd-samples.ts';

export interface RuleCase {
  readonly kind: Kind;
  /** The rule's place in the schema, with its fieldPath. */
  readonly field: string;
  readonly message: string;
  /** The spec that a resource is made with before; undefined: the rule holds at creation too. */
  readonly before?: Json;
  readonly accepted: readonly Json[];
  readonly rejected: readonly Json[];
  /** metadata.name, for rules of the whole object. */
  readonly name?: string;
}

const LONG_KEY = 'é'.repeat(32);
const LONG_VALUE = 'é'.repeat(128);
const noGoog = 'a name in the broker must not begin with "goog"';
const fixed = (what: string) => `${what} can't be changed: make a new resource`;
const unchanging = (what: string) => `${what} can't be changed, set or removed later: make a new resource`;
const fits = (field: string) =>
  `in the broker a name has at least 3 characters, begins with a letter and not with "goog": choose another one or set spec.${field}`;

const labelRules = (kind: Kind): RuleCase[] => [
  {
    kind,
    field: 'spec.labels',
    message: "a label's key has 1 to 63 bytes",
    accepted: [{ labels: { [`${LONG_KEY.slice(1)}a`]: 'v' } }],
    rejected: [{ labels: { [LONG_KEY]: 'v' } }, { labels: { '': 'v' } }],
  },
  {
    kind,
    field: 'spec.labels',
    message: "a label's key has no control characters, line separators or the like",
    accepted: [{ labels: { 'é ü 漢=/': 'v' } }],
    rejected: ['\u0007', '\u009b', '\u2028', '\u202e'].map((bad) => ({ labels: { [`a${bad}`]: 'v' } })),
  },
  {
    kind,
    field: 'spec.labels',
    message: "a label's value has at most 255 bytes",
    accepted: [{ labels: { a: `${LONG_VALUE.slice(1)}a` } }],
    rejected: [{ labels: { a: LONG_VALUE } }],
  },
];

const commonRules = (kind: Kind, override: string): RuleCase[] => [
  ...labelRules(kind),
  ...['ab', '7-days', 'google-orders'].map((name) => ({
    kind,
    name,
    field: '',
    message: fits(override),
    accepted: [{ [override]: 'orders' }],
    rejected: [{ [override]: undefined }],
  })),
  {
    kind,
    field: `spec.${override}`,
    message: noGoog,
    accepted: [{ [override]: 'gogle' }],
    rejected: [{ [override]: 'google' }],
  },
  {
    kind,
    field: `spec.${override}`,
    message: unchanging(override),
    before: { [override]: 'first' },
    accepted: [{ [override]: 'first', paused: true }],
    rejected: [{ [override]: 'second' }, { [override]: undefined }],
  },
  {
    kind,
    field: `spec.${override}`,
    message: unchanging(override),
    before: { [override]: undefined },
    accepted: [{ [override]: undefined, paused: true }],
    rejected: [{ [override]: 'second' }],
  },
  {
    kind,
    field: 'spec.connectionRef',
    message: fixed('connectionRef'),
    before: { connectionRef: undefined },
    accepted: [{ connectionRef: { name: 'default' } }],
    rejected: [{ connectionRef: { name: 'other' } }],
  },
];

export const RULE_CASES: readonly RuleCase[] = [
  {
    kind: 'Fanfare',
    field: 'spec.project',
    message: noGoog,
    accepted: [{ project: 'shop' }],
    rejected: [{ project: 'googshop' }],
  },
  {
    kind: 'Fanfare',
    field: 'spec.project',
    message: unchanging('project'),
    before: {},
    accepted: [{ address: '[fd00::1]:7443' }],
    rejected: [{ project: 'other' }, { project: undefined }],
  },
  ...commonRules('Topic', 'topicName'),
  {
    kind: 'Topic',
    field: 'spec.partitions',
    message: 'partitions can only grow: make a new topic with fewer',
    before: { partitions: 8 },
    accepted: [{ partitions: 8 }, { partitions: 9 }],
    rejected: [{ partitions: 7 }, { partitions: undefined }],
  },
  {
    kind: 'Topic',
    field: 'spec.retentionBytesPerPartition',
    message: 'must be 0 (no limit) or at least 1048576 (1 MiB)',
    accepted: [{ retentionBytesPerPartition: 0 }, { retentionBytesPerPartition: 1_048_576 }],
    rejected: [{ retentionBytesPerPartition: 1 }, { retentionBytesPerPartition: 1_048_575 }],
  },
  {
    kind: 'Topic',
    field: 'spec.minReplicas',
    message: 'minReplicas needs durability: Replicated',
    accepted: [{}, { durability: 'Fsync', minReplicas: undefined }],
    rejected: [{ durability: 'Fsync' }, { durability: undefined }],
  },
  {
    kind: 'Topic',
    field: 'spec.durability',
    message: unchanging('durability'),
    before: { durability: 'Stored', minReplicas: undefined },
    accepted: [{ durability: 'Stored', minReplicas: undefined }],
    rejected: [
      { durability: 'Fsync', minReplicas: undefined },
      { durability: undefined, minReplicas: undefined },
    ],
  },
  {
    kind: 'Topic',
    field: 'spec.minReplicas',
    message: unchanging('minReplicas'),
    before: { minReplicas: 2 },
    accepted: [{ minReplicas: 2 }],
    rejected: [{ minReplicas: 1 }, { minReplicas: undefined }],
  },
  ...commonRules('Subscription', 'subscriptionName'),
  {
    kind: 'Subscription',
    field: 'spec.topicRef.project',
    message: noGoog,
    accepted: [{ 'topicRef.project': 'shop' }],
    rejected: [{ 'topicRef.project': 'goog' }],
  },
  {
    kind: 'Subscription',
    field: 'spec.topicRef',
    message: fixed('topicRef'),
    before: {},
    accepted: [{ ackDeadlineSeconds: 31 }],
    rejected: [
      { 'topicRef.name': 'payments' },
      { 'topicRef.external': false, 'topicRef.project': undefined },
    ],
  },
  {
    kind: 'Subscription',
    field: 'spec.topicRef.project',
    message:
      'a Topic of this namespace is in the project of its connection: leave project out, or set external',
    accepted: [{ 'topicRef.external': false, 'topicRef.project': undefined }, {}],
    rejected: [{ 'topicRef.external': false }],
  },
  {
    kind: 'Subscription',
    field: 'spec.ordering',
    message: fixed('ordering'),
    before: { ordering: undefined },
    accepted: [{ ordering: false }],
    rejected: [{ ordering: true }],
  },
  {
    kind: 'Subscription',
    field: 'spec.start',
    message: fixed('start'),
    before: { start: undefined },
    accepted: [{ start: 'Latest' }],
    rejected: [{ start: 'Earliest' }],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.minReplicas',
    message: 'minReplicas must not exceed maxReplicas',
    accepted: [{ 'consumers.minReplicas': 3, 'consumers.maxReplicas': 3 }, { 'consumers.minReplicas': 0 }],
    rejected: [{ 'consumers.minReplicas': 4, 'consumers.maxReplicas': 3 }],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.targetBacklogPerReplica',
    message: 'mode Depth or Max needs targetBacklogPerReplica',
    accepted: [
      { 'consumers.mode': 'Depth' },
      { 'consumers.mode': 'Drain', 'consumers.targetBacklogPerReplica': undefined },
      { 'consumers.mode': undefined, 'consumers.targetBacklogPerReplica': undefined },
    ],
    rejected: [
      { 'consumers.mode': 'Depth', 'consumers.targetBacklogPerReplica': undefined },
      { 'consumers.mode': 'Max', 'consumers.targetBacklogPerReplica': undefined },
    ],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.replicas',
    message:
      'the operator decides how many replicas there are: change minReplicas and maxReplicas, or set strategy: None to decide yourself',
    accepted: [
      { 'consumers.strategy': 'KEDA' },
      { 'consumers.strategy': 'Internal', 'consumers.replicas': undefined },
    ],
    rejected: [{ 'consumers.strategy': 'Internal' }, { 'consumers.strategy': undefined }],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.replicas',
    message:
      'strategy KEDA or None needs replicas to begin with: who scales this Subscription changes it from there',
    accepted: [{ 'consumers.strategy': 'None' }],
    rejected: [
      { 'consumers.strategy': 'KEDA', 'consumers.replicas': undefined },
      { 'consumers.strategy': 'None', 'consumers.replicas': undefined },
    ],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.replicas',
    message: 'replicas must not exceed maxReplicas',
    accepted: [{ 'consumers.replicas': 7, 'consumers.maxReplicas': 7 }, { 'consumers.replicas': 0 }],
    rejected: [{ 'consumers.replicas': 8, 'consumers.maxReplicas': 7 }],
  },
  {
    kind: 'Subscription',
    field: 'spec.consumers.fallback.replicas',
    message: 'fallback.replicas must not exceed maxReplicas',
    accepted: [
      { 'consumers.fallback.replicas': 7, 'consumers.maxReplicas': 7 },
      { 'consumers.fallback.replicas': undefined },
      { 'consumers.fallback': undefined },
    ],
    rejected: [{ 'consumers.fallback.replicas': 8, 'consumers.maxReplicas': 7 }],
  },
];
