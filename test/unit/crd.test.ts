// The CRDs and the types behind them: generated files are current, limits are the broker's, everything is
// described and bounded.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, expectTypeOf, test } from 'vitest';
import { parse } from 'yaml';
import { customResourceDefinitions, generatedFiles } from '../../operator/api/crd.ts';
import type { JsonSchema } from '../../operator/api/schema.ts';
import type { Reason } from '../../operator/api/v1alpha1/reasons.ts';
import { REASONS } from '../../operator/api/v1alpha1/reasons.ts';
import type { Subscription, SubscriptionSpec } from '../../operator/api/v1alpha1/subscription.ts';
import { subscriptionSpec } from '../../operator/api/v1alpha1/subscription.ts';
import { type Topic, topicSpec } from '../../operator/api/v1alpha1/topic.ts';
import { scaleSpec } from '../../operator/core/autoscale/spec.ts';
import { OWNER_LABELS } from '../../operator/core/plan-owner.ts';
import { DURABILITY_LEVELS } from '../../services/broker/core/definitions.ts';
import { MAX_ID_LENGTH, MIN_ID_LENGTH, nameProblem } from '../../services/broker/core/names.ts';
import {
  DEFINITION_DEFAULTS,
  DEFINITION_LIMITS,
  MAX_CONSUMERS_PER_SUBSCRIPTION,
} from '../../services/broker/limits.ts';

const root = join(import.meta.dirname, '../..');

test('the CRDs in operator/manifests and charts are what operator/api/crd.ts makes', () => {
  for (const [path, content] of generatedFiles()) {
    expect(readFileSync(join(root, path), 'utf8'), `${path}: run npm run generate`).toBe(content);
  }
  expect(generatedFiles().size).toBe(6);
});

test('operator/DESIGN.md shows what kubectl prints', () => {
  const printed = readFileSync(join(root, 'test/golden/crd/get.txt'), 'utf8');
  const block = printed.split('$ ').find((part) => part.startsWith('kubectl get ffsub\n'));
  expect(readFileSync(join(root, 'operator/DESIGN.md'), 'utf8')).toContain(`$ ${block?.trimEnd()}\n`);
});

test('a YAML reader finds in the manifests what was meant', () => {
  const read = [...generatedFiles()]
    .filter(([path]) => path.startsWith('operator/'))
    .map(([, content]) => parse(content));
  expect(read).toEqual(JSON.parse(JSON.stringify(customResourceDefinitions())));
});

test('everything in a spec or status is described and bounded', () => {
  const offences: string[] = [];
  let fields = 0;
  for (const { names, schema } of versions()) {
    for (const part of ['spec', 'status']) {
      walk(schema.properties?.[part], `${names.kind}.${part}`, (path, field) => {
        fields += 1;
        if (!path.endsWith('[]') && !field.description) offences.push(`${path} is not described`);
        if (!isBounded(field)) offences.push(`${path} has no limit`);
        const rules = field['x-kubernetes-validations'] ?? [];
        if (rules.some(({ message }) => message === '')) offences.push(`${path} has a rule without message`);
      });
    }
  }
  expect(offences).toEqual([]);
  expect(fields).toBeGreaterThan(100);
});

test('limits and defaults of topics and subscriptions are the broker’s', () => {
  const topic = topicSpec.json.properties!;
  const subscription = subscriptionSpec.json.properties!;
  const limits = DEFINITION_LIMITS;
  expect(topic.partitions).toMatchObject({
    minimum: 1,
    maximum: limits.maxPartitions,
    default: DEFINITION_DEFAULTS.partitions,
  });
  expect(topic.retentionSeconds).toMatchObject({
    minimum: limits.minRetentionMs / 1000,
    maximum: limits.maxRetentionMs / 1000,
    default: DEFINITION_DEFAULTS.retentionMs / 1000,
  });
  expect(JSON.stringify(topic.retentionBytesPerPartition)).toContain(`>= ${limits.minRetentionBytes}"`);
  expect(topic.durability?.enum?.map((level) => level.toLowerCase())).toEqual(DURABILITY_LEVELS);
  expect(topic.labels).toMatchObject({
    // Two of the labels are the operator's.
    maxProperties: limits.maxLabels - OWNER_LABELS,
    additionalProperties: { maxLength: limits.maxLabelValueBytes },
  });
  expect(JSON.stringify(topic.labels)).toContain(`size(bytes(key)) <= ${limits.maxLabelKeyBytes}`);
  expect(topic.topicName).toMatchObject({ minLength: MIN_ID_LENGTH, maxLength: MAX_ID_LENGTH });
  expect(subscription.ackDeadlineSeconds).toMatchObject({
    minimum: limits.minAckDeadlineMs / 1000,
    maximum: limits.maxAckDeadlineMs / 1000,
    default: DEFINITION_DEFAULTS.ackDeadlineMs / 1000,
  });
  expect(subscription.consumers?.properties?.maxReplicas?.maximum).toBe(MAX_CONSUMERS_PER_SUBSCRIPTION);
});

test('topicName allows exactly the names that the broker allows', () => {
  const { pattern, minLength, maxLength } = topicSpec.json.properties!.topicName!;
  const allowed = (id: string) =>
    new RegExp(pattern!, 'u').test(id) &&
    id.length >= minLength! &&
    id.length <= maxLength! &&
    !id.startsWith('goog');
  const character = fc.constantFrom(
    'a',
    'Z',
    '7',
    '-',
    '_',
    '.',
    '~',
    '+',
    '%',
    '/',
    ' ',
    'é',
    '\n',
    'g',
    'o',
  );
  fc.assert(
    fc.property(fc.string({ unit: character, maxLength: 8 }), (id) => {
      expect(allowed(id)).toBe(nameProblem(`projects/p/topics/${id}`, 'topics') === undefined);
    }),
  );
  for (const id of ['goog', 'google-topic', 'Goog', 'abc', 'ab', 'a'.repeat(255), 'a'.repeat(256)]) {
    expect(allowed(id), id).toBe(nameProblem(`projects/p/topics/${id}`, 'topics') === undefined);
  }
});

test('the defaults of consumers are those of the autoscaler', () => {
  const { consumers } = subscriptionSpec.json.properties!;
  const inCrd = defaultsOf(consumers!);
  const inCode = scaleSpec({ maxReplicas: 10, fallback: {} });
  for (const [name, value] of Object.entries(inCrd)) {
    if (['strategy', 'drain'].includes(name)) continue;
    expect(inCode, name).toHaveProperty(name, value);
  }
  expect(Object.keys(inCrd).length).toBeGreaterThan(7);
  expect(inCode.fallback).toMatchObject(defaultsOf(consumers!.properties!.fallback!));
});

test('a consumers block is what the autoscaler takes', () => {
  const take = (consumers: NonNullable<SubscriptionSpec['consumers']>) => scaleSpec(consumers);
  expectTypeOf(take).returns.toEqualTypeOf(scaleSpec({}));
});

test('the types have required, defaulted and optional fields', () => {
  expectTypeOf<Topic['spec']['partitions']>().toEqualTypeOf<number>();
  expectTypeOf<Topic['spec']['minReplicas']>().toEqualTypeOf<number | undefined>();
  expectTypeOf<Topic['spec']['deletionPolicy']>().toEqualTypeOf<'Retain' | 'DeleteIfEmpty' | 'Delete'>();
  expectTypeOf<Subscription['spec']['topicRef']['name']>().toEqualTypeOf<string>();
  expectTypeOf<NonNullable<Subscription['status']>['conditions']>().toExtend<
    readonly { readonly reason: Reason }[] | undefined
  >();
});

test('a reason is in the list once and is one word', () => {
  expect(new Set(REASONS).size).toBe(REASONS.length);
  for (const reason of REASONS) expect(reason).toMatch(/^[A-Z][A-Za-z]+$/);
});

function versions() {
  return customResourceDefinitions().map(({ spec }) => ({
    names: spec.names,
    schema: spec.versions[0]!.schema.openAPIV3Schema,
  }));
}

function walk(
  schema: JsonSchema | undefined,
  path: string,
  visit: (path: string, schema: JsonSchema) => void,
): void {
  if (schema === undefined) return;
  visit(path, schema);
  for (const [name, field] of Object.entries(schema.properties ?? {})) walk(field, `${path}.${name}`, visit);
  walk(schema.items, `${path}[]`, visit);
  walk(schema.additionalProperties, `${path}[]`, visit);
}

function isBounded(schema: JsonSchema): boolean {
  switch (schema.type) {
    case 'string':
      return schema.enum !== undefined || schema.maxLength !== undefined;
    case 'integer':
    case 'number':
      return schema.minimum !== undefined && schema.maximum !== undefined;
    case 'array':
      return schema.maxItems !== undefined;
    case 'object':
      return schema.properties !== undefined || schema.maxProperties !== undefined;
    case 'boolean':
      return true;
  }
}

function defaultsOf({ properties = {} }: JsonSchema): Record<string, unknown> {
  const entries = Object.entries(properties).filter(([, field]) => field.default !== undefined);
  return Object.fromEntries(entries.map(([name, field]) => [name, field.default]));
}
