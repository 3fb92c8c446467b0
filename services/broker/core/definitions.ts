// Topics and subscriptions as their users define them: the types, the rules, and what an update may change.
//
// A definition that these functions return satisfies every rule of admin.proto. All problems of a request are
// reported together, each with its field and limit.
import { BrokerError } from './errors.ts';
import { nameProblem, quote } from './names.ts';

/** What precedes the answer to a publish, the weakest first. */
export const DURABILITY_LEVELS = ['memory', 'stored', 'replicated', 'fsync'] as const;
export type DurabilityLevel = (typeof DURABILITY_LEVELS)[number];

export type Labels = Readonly<Record<string, string>>;

export interface TopicDefinition {
  readonly name: string;
  readonly partitions: number;
  /** The partition counts of before, rising (see growth.ts); absent: the topic has not grown. */
  readonly formerPartitions?: readonly number[];
  readonly retentionMs: number;
  /** 0: no limit. */
  readonly retentionBytesPerPartition: number;
  readonly durability: DurabilityLevel;
  /** How many replicas of the store confirm, with `replicated`; else 0. */
  readonly minReplicas: number;
  readonly labels: Labels;
  /** The incarnation of its logs. */
  readonly logEpoch: number;
  readonly createTimeMs: number;
  /** As the DefinitionStore counts it. */
  readonly revision: number;
}

export type StartPosition = 'latest' | 'earliest';

export interface SubscriptionDefinition {
  readonly name: string;
  readonly topic: string;
  readonly ackDeadlineMs: number;
  readonly ordering: boolean;
  readonly start: StartPosition;
  /**
   * Each partition's end when the subscription was created, with `latest`: so what is published right after
   * that is never missed, whatever crashes. Partitions added later begin at 0.
   */
  readonly startOffsets?: readonly number[];
  readonly labels: Labels;
  /** A number given once in a store's life. */
  readonly incarnation: number;
  readonly createTimeMs: number;
  /** The topic's logEpoch: a subscription belongs to one incarnation of its topic. */
  readonly topicEpoch: number;
  readonly revision: number;
}

/** What a user asks for. Undefined: the default. */
export interface TopicInput {
  readonly name: string;
  readonly partitions?: number | undefined;
  readonly retentionMs?: number | undefined;
  readonly retentionBytesPerPartition?: number | undefined;
  readonly durability?: DurabilityLevel | undefined;
  readonly minReplicas?: number | undefined;
  readonly labels?: Labels | undefined;
}

export interface SubscriptionInput {
  readonly name: string;
  readonly topic: string;
  readonly ackDeadlineMs?: number | undefined;
  readonly ordering?: boolean | undefined;
  readonly start?: StartPosition | undefined;
  readonly labels?: Labels | undefined;
}

export type TopicSpec = Omit<TopicDefinition, 'logEpoch' | 'createTimeMs' | 'revision'>;
export type SubscriptionSpec = Pick<
  SubscriptionDefinition,
  'name' | 'topic' | 'ackDeadlineMs' | 'ordering' | 'start' | 'labels'
>;

export interface DefinitionLimits {
  readonly maxPartitions: number;
  readonly minRetentionMs: number;
  readonly maxRetentionMs: number;
  readonly minRetentionBytes: number;
  readonly maxReplicas: number;
  readonly minAckDeadlineMs: number;
  readonly maxAckDeadlineMs: number;
  readonly maxLabels: number;
  readonly maxLabelKeyBytes: number;
  readonly maxLabelValueBytes: number;
}

export interface DefinitionDefaults {
  readonly partitions: number;
  readonly retentionMs: number;
  readonly ackDeadlineMs: number;
  readonly durability: DurabilityLevel;
}

/** A new topic's spec. INVALID_ARGUMENT with all problems. */
export function newTopic(
  input: TopicInput,
  limits: DefinitionLimits,
  defaults: DefinitionDefaults,
): TopicSpec {
  const durability = input.durability ?? defaults.durability;
  const spec: TopicSpec = {
    name: input.name,
    partitions: input.partitions ?? defaults.partitions,
    retentionMs: input.retentionMs ?? defaults.retentionMs,
    retentionBytesPerPartition: input.retentionBytesPerPartition ?? 0,
    durability,
    minReplicas: input.minReplicas ?? (durability === 'replicated' ? 1 : 0),
    labels: input.labels ?? {},
  };
  refuse([named('topic.name', nameProblem(spec.name, 'topics')), ...topicProblems(spec, limits)]);
  return spec;
}

/** A new subscription's spec. INVALID_ARGUMENT with all problems. */
export function newSubscription(
  input: SubscriptionInput,
  limits: DefinitionLimits,
  defaults: DefinitionDefaults,
): SubscriptionSpec {
  const spec: SubscriptionSpec = {
    name: input.name,
    topic: input.topic,
    ackDeadlineMs: input.ackDeadlineMs ?? defaults.ackDeadlineMs,
    ordering: input.ordering ?? false,
    start: input.start ?? 'latest',
    labels: input.labels ?? {},
  };
  refuse([
    named('subscription.name', nameProblem(spec.name, 'subscriptions')),
    named('subscription.topic', nameProblem(spec.topic, 'topics')),
    ...subscriptionProblems(spec, limits),
  ]);
  return spec;
}

/**
 * The topic after an update of the fields that `paths` names (admin.proto's update_mask). Retention, its
 * bytes and labels go back to their defaults if the input leaves them out. INVALID_ARGUMENT: a bad path or
 * value. FAILED_PRECONDITION: an immutable field, or fewer partitions.
 */
export function changedTopic(
  current: TopicDefinition,
  input: TopicInput,
  paths: readonly string[],
  limits: DefinitionLimits,
  defaults: DefinitionDefaults,
): TopicDefinition {
  checkPaths('topic', paths, TOPIC_FIELDS);
  const named = new Set(paths);
  const next: TopicDefinition = {
    ...current,
    ...(named.has('partitions') && { partitions: input.partitions ?? 0 }),
    ...(named.has('retention') && { retentionMs: input.retentionMs ?? defaults.retentionMs }),
    ...(named.has('retention_bytes_per_partition') && {
      retentionBytesPerPartition: input.retentionBytesPerPartition ?? 0,
    }),
    ...(named.has('labels') && { labels: input.labels ?? {} }),
  };
  refuse(topicProblems(next, limits));
  if (next.partitions < current.partitions) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `topic.partitions: ${current.name} has ${current.partitions} and can't shrink to ${next.partitions}; ` +
        'make a new topic with fewer',
    );
  }
  if (next.partitions === current.partitions) return next;
  return { ...next, formerPartitions: [...(current.formerPartitions ?? []), current.partitions] };
}

/** The subscription after an update, as changedTopic. The ack deadline has no default here. */
export function changedSubscription(
  current: SubscriptionDefinition,
  input: SubscriptionInput,
  paths: readonly string[],
  limits: DefinitionLimits,
): SubscriptionDefinition {
  checkPaths('subscription', paths, SUBSCRIPTION_FIELDS);
  const named = new Set(paths);
  const next: SubscriptionDefinition = {
    ...current,
    ...(named.has('ack_deadline_seconds') && { ackDeadlineMs: input.ackDeadlineMs ?? 0 }),
    ...(named.has('labels') && { labels: input.labels ?? {} }),
  };
  refuse(subscriptionProblems(next, limits));
  return next;
}

/** An upper bound of the bytes that a definition takes in an answer, for pages that have a limit. */
export function definitionBytes(definition: TopicDefinition | SubscriptionDefinition): number {
  let bytes = 128 + definition.name.length + ('topic' in definition ? definition.topic.length : 0);
  for (const [key, value] of Object.entries(definition.labels)) {
    bytes += 12 + utf8Length(key) + utf8Length(value);
  }
  return bytes;
}

const TOPIC_FIELDS = new Map([
  ['partitions', 'mutable'],
  ['retention', 'mutable'],
  ['retention_bytes_per_partition', 'mutable'],
  ['labels', 'mutable'],
  ['name', 'fixed'],
  ['durability', 'fixed'],
  ['min_replicas', 'fixed'],
  ['log_epoch', 'fixed'],
  ['create_time', 'fixed'],
]);

const SUBSCRIPTION_FIELDS = new Map([
  ['ack_deadline_seconds', 'mutable'],
  ['labels', 'mutable'],
  ['name', 'fixed'],
  ['topic', 'fixed'],
  ['enable_message_ordering', 'fixed'],
  ['start', 'fixed'],
  ['incarnation', 'fixed'],
  ['create_time', 'fixed'],
]);

function checkPaths(message: string, paths: readonly string[], fields: ReadonlyMap<string, string>): void {
  const mutable = [...fields].filter(([, kind]) => kind === 'mutable').map(([field]) => field);
  if (paths.length === 0) {
    refuse([`update_mask is empty: name at least one of ${mutable.join(', ')}`]);
  }
  if (paths.length > MAX_MASK_PATHS) {
    refuse([`update_mask has ${paths.length} paths: at most ${MAX_MASK_PATHS}`]);
  }
  const unknown = paths.filter((path) => !fields.has(path));
  refuse(unknown.map((path) => `update_mask has ${quote(path)}: must be of ${mutable.join(', ')}`));
  const fixed = paths.find((path) => fields.get(path) === 'fixed');
  if (fixed !== undefined) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${message}.${fixed} can't be changed; what can be: ${mutable.join(', ')}`,
    );
  }
}

const MAX_MASK_PATHS = 32;

function topicProblems(spec: TopicSpec, limits: DefinitionLimits): (string | undefined)[] {
  const bytes = spec.retentionBytesPerPartition;
  return [
    outside('topic.partitions', spec.partitions, 1, limits.maxPartitions, ''),
    outside('topic.retention', spec.retentionMs, limits.minRetentionMs, limits.maxRetentionMs, ' ms'),
    bytes === 0
      ? undefined
      : outside(
          'topic.retention_bytes_per_partition',
          bytes,
          limits.minRetentionBytes,
          Number.MAX_SAFE_INTEGER,
          ' bytes, or 0 for no limit',
        ),
    spec.durability === 'replicated'
      ? outside('topic.min_replicas', spec.minReplicas, 1, limits.maxReplicas, '')
      : spec.minReplicas === 0
        ? undefined
        : `topic.min_replicas is ${spec.minReplicas}: it goes with durability replicated only`,
    ...labelProblems('topic.labels', spec.labels, limits),
  ];
}

function subscriptionProblems(spec: SubscriptionSpec, limits: DefinitionLimits): (string | undefined)[] {
  const { minAckDeadlineMs, maxAckDeadlineMs } = limits;
  const field = 'subscription.ack_deadline_seconds';
  return [
    outside(field, spec.ackDeadlineMs / 1000, minAckDeadlineMs / 1000, maxAckDeadlineMs / 1000, ' s'),
    ...labelProblems('subscription.labels', spec.labels, limits),
  ];
}

/**
 * What a label must not hold, since people read labels in tables: control characters, and such as format or
 * turn text. The CRDs have the same classes; none of them depends on the version of Unicode.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/u;
const NO_CONTROL_CHARACTERS = 'must be without control characters, line separators and the like';

function labelProblems(field: string, labels: Labels, limits: DefinitionLimits): string[] {
  const entries = Object.entries(labels);
  if (entries.length > limits.maxLabels) {
    return [`${field} has ${entries.length} entries: at most ${limits.maxLabels}`];
  }
  const problems: string[] = [];
  for (const [key, value] of entries) {
    const keyBytes = utf8Length(key);
    if (keyBytes < 1 || keyBytes > limits.maxLabelKeyBytes) {
      problems.push(
        `${field} has the key ${quote(key)} of ${keyBytes} bytes: must have 1 to ${limits.maxLabelKeyBytes}`,
      );
    }
    if (INVISIBLE.test(key)) problems.push(`${field} has the key ${quote(key)}: ${NO_CONTROL_CHARACTERS}`);
    if (INVISIBLE.test(value)) {
      problems.push(`${field}[${quote(key)}] is ${quote(value)}: ${NO_CONTROL_CHARACTERS}`);
    }
    const valueBytes = utf8Length(value);
    if (valueBytes > limits.maxLabelValueBytes) {
      problems.push(`${field}[${quote(key)}] has ${valueBytes} bytes: at most ${limits.maxLabelValueBytes}`);
    }
  }
  return problems;
}

function outside(field: string, value: number, min: number, max: number, unit: string): string | undefined {
  if (Number.isFinite(value) && value >= min && value <= max) return undefined;
  return `${field} is ${value}: must be ${min} to ${max}${unit}`;
}

function named(field: string, problem: string | undefined): string | undefined {
  return problem === undefined ? undefined : `${field}: ${problem}`;
}

function refuse(problems: readonly (string | undefined)[]): void {
  const found = problems.filter((problem) => problem !== undefined);
  if (found.length > 0) throw new BrokerError('INVALID_ARGUMENT', found.join('; '));
}

function utf8Length(text: string): number {
  let bytes = 0;
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
