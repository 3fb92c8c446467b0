// Resources of every kind with every field of their spec set, and what becomes of a field's limits: for each
// bound of the generated schema, values just inside and just outside of it.
import type { JsonSchema } from '../../operator/api/schema.ts';

export type Json = Record<string, unknown>;
export type Kind = 'Fanfare' | 'Topic' | 'Subscription';

/** One value at one place, and what the API server has to say to it. */
export interface BoundCase {
  /** The field as the API server writes it: spec.consumers.behavior.scaleUp.policies[0].value. */
  readonly field: string;
  readonly what: string;
  readonly spec: Json;
  readonly accepted: boolean;
}

export const FULL_SPECS: Readonly<Record<Kind, Json>> = {
  Fanfare: {
    address: 'broker.shop.svc:7443',
    tls: { secretName: 'broker-client', serverName: 'broker' },
    project: 'shop',
  },
  Topic: {
    connectionRef: { name: 'default' },
    topicName: 'Orders.v1',
    partitions: 4,
    retentionSeconds: 3_600,
    retentionBytesPerPartition: 2 ** 30,
    durability: 'Replicated',
    minReplicas: 1,
    labels: { team: 'shop' },
    deletionPolicy: 'Retain',
    managementPolicy: 'Full',
    paused: false,
  },
  Subscription: {
    connectionRef: { name: 'default' },
    topicRef: { name: 'orders', external: true, project: 'shop' },
    subscriptionName: 'Billing.v1',
    ackDeadlineSeconds: 30,
    ordering: true,
    start: 'Earliest',
    labels: { team: 'shop' },
    deletionPolicy: 'Delete',
    managementPolicy: 'Full',
    paused: false,
    consumers: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'billing' },
      strategy: 'None',
      replicas: 1,
      minReplicas: 1,
      maxReplicas: 10_000,
      mode: 'Max',
      drainTimeSeconds: 60,
      targetBacklogPerReplica: 500,
      maxOldestAgeSeconds: 120,
      targetUtilizationPercent: 75,
      expectedProcessingMillis: 20,
      concurrency: 4,
      activationRate: 0.5,
      cooldownSeconds: 300,
      behavior: {
        scaleUp: {
          stabilizationWindowSeconds: 0,
          policies: [{ type: 'Pods', value: 4, periodSeconds: 15 }],
          selectPolicy: 'Max',
        },
        scaleDown: {
          stabilizationWindowSeconds: 300,
          policies: [{ type: 'Percent', value: 50, periodSeconds: 60 }],
          selectPolicy: 'Min',
        },
      },
      fallback: { failureThreshold: 3, replicas: 1, behavior: 'static' },
      alignToPartitions: true,
      dryRun: false,
      drain: { enabled: true, timeoutSeconds: 60 },
    },
  },
};

/**
 * Makes a value of `length` characters that is allowed by a field's pattern, for patterns that want more than
 * letters.
 */
const SAMPLES: Readonly<Record<string, (length: number) => string>> = {
  'spec.address': (length) => `${'a'.repeat(length - 2)}:1`,
  'spec.consumers.scaleTargetRef.apiVersion': (length) => `v${'1'.repeat(length - 1)}`,
  'spec.consumers.scaleTargetRef.kind': (length) => `K${'a'.repeat(length - 1)}`,
};

/** What else has to be set for a value to agree with the rules between fields. */
const COMPANIONS: Readonly<Record<string, (value: unknown) => Json>> = {
  'spec.durability': (value) => (value === 'Replicated' ? {} : { minReplicas: undefined }),
  'spec.consumers.strategy': (value) => (value === 'Internal' ? { 'consumers.replicas': undefined } : {}),
};

/** The cases of every bound of a kind's spec. */
export function boundCases(kind: Kind, schema: JsonSchema): BoundCase[] {
  const cases: BoundCase[] = [];
  visit(schema, 'spec', (field, part) => {
    const add = (what: string, value: unknown, accepted: boolean) => {
      const changes = { [field.slice('spec.'.length)]: value, ...COMPANIONS[field]?.(value) };
      const spec = withFields(FULL_SPECS[kind], changes);
      cases.push({ field, what: `${field} ${what}`, spec, accepted });
    };
    addCases(part, SAMPLES[field] ?? ((length) => 'a'.repeat(length)), add);
    if (field !== 'spec') {
      for (const name of part.required ?? []) {
        const inner = `${field}.${name}`;
        const spec = withFields(FULL_SPECS[kind], { [inner.slice('spec.'.length)]: undefined });
        cases.push({ field: inner, what: `${inner} absent`, spec, accepted: false });
      }
    }
  });
  return cases;
}

type Add = (what: string, value: unknown, accepted: boolean) => void;

function addCases(part: JsonSchema, sample: (length: number) => string, add: Add): void {
  const { minimum, maximum, minLength, maxLength, maxItems, minItems, maxProperties } = part;
  if (minimum !== undefined) add(`= ${minimum}`, minimum, true);
  if (minimum !== undefined) add(`= ${minimum} - 1`, minimum - 1, false);
  if (maximum !== undefined) add(`= ${maximum}`, maximum, true);
  // Numbers above 2^53 - 1 can't be sent exactly, so a little more than one above.
  if (maximum !== undefined) add(`above ${maximum}`, maximum + (maximum > 2 ** 52 ? 2_049 : 1), false);
  if (maxLength !== undefined) add(`of ${maxLength} characters`, sample(maxLength), true);
  if (maxLength !== undefined) add(`of ${maxLength} + 1 characters`, sample(maxLength + 1), false);
  if (minLength !== undefined) add(`of ${minLength} - 1 characters`, 'a'.repeat(minLength - 1), false);
  if (part.pattern !== undefined) add('with a control character', `${sample(6)}\u0007`, false);
  for (const value of part.enum ?? []) add(`= ${value}`, value, true);
  if (part.enum !== undefined) add('= Nonsense', 'Nonsense', false);
  if (part.type === 'boolean') add('= "yes"', 'yes', false);
  if (maxItems !== undefined) {
    const item = { type: 'Pods', value: 1, periodSeconds: 1 };
    add(`of ${maxItems} items`, Array(maxItems).fill(item), true);
    add(`of ${maxItems} + 1 items`, Array(maxItems + 1).fill(item), false);
    if (minItems !== undefined) add(`of ${minItems} - 1 items`, Array(minItems - 1).fill(item), false);
  }
  if (maxProperties !== undefined) {
    const entries = (length: number) =>
      Object.fromEntries(Array.from({ length }, (_, i) => [`key-${i}`, 'v']));
    add(`of ${maxProperties} entries`, entries(maxProperties), true);
    add(`of ${maxProperties} + 1 entries`, entries(maxProperties + 1), false);
  }
}

function visit(part: JsonSchema, field: string, found: (field: string, part: JsonSchema) => void): void {
  found(field, part);
  for (const [name, inner] of Object.entries(part.properties ?? {})) visit(inner, `${field}.${name}`, found);
  if (part.items !== undefined) visit(part.items, `${field}[0]`, found);
  if (part.additionalProperties !== undefined) visit(part.additionalProperties, `${field}.team`, found);
}

/**
 * A copy of the spec with fields by path ("consumers.drain.timeoutSeconds", "policies[0].value") set, or,
 * with undefined, taken out.
 */
export function withFields(spec: Json, changes: Json): Json {
  const copy = structuredClone(spec);
  for (const [path, value] of Object.entries(changes)) {
    const steps = path.replaceAll('[', '.').replaceAll(']', '').split('.');
    const last = steps.pop()!;
    let place = copy;
    for (const step of steps) {
      place[step] ??= {};
      place = place[step] as Json;
    }
    if (value === undefined) delete place[last];
    else place[last] = value;
  }
  return copy;
}
