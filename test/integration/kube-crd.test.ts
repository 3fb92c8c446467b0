// The CRDs in a real API server: every bound of a spec, every rule, defaults, the scale subresource, and what
// people see with kubectl (test/golden/crd/, quoted in the docs).
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { customResourceDefinitions } from '../../operator/api/crd.ts';
import type { JsonSchema } from '../../operator/api/schema.ts';
import { API_VERSION } from '../../operator/api/v1alpha1/group.ts';
import { type Kube, startKube } from '../support/kube.ts';
import type { KubeResponse } from '../support/kube-calls.ts';
import { RULE_CASES, type RuleCase } from '../support/kube-crd-rules.ts';
import { boundCases, FULL_SPECS, type Json, type Kind, withFields } from '../support/kube-crd-samples.ts';
import { GOLDEN_RESOURCES } from '../support/kube-crd-scene.ts';

// The first start includes building kube-apiserver.
const START_TIMEOUT_MS = 1_200_000;
const TEST_TIMEOUT_MS = 120_000;
const KINDS: readonly Kind[] = ['Fanfare', 'Topic', 'Subscription'];

let kube: Kube;
beforeAll(async () => {
  kube = await startKube();
  await kube.apply(customResourceDefinitions());
}, START_TIMEOUT_MS);
afterAll(() => kube?.stop(), TEST_TIMEOUT_MS);

describe.each(KINDS)('%s', (kind) => {
  test(
    'every bound of the spec: accepted inside, rejected outside, and the field is named',
    async () => {
      const wrong: string[] = [];
      const cases = boundCases(kind, specSchema(kind));
      for (const { field, what, spec, accepted } of cases) {
        const { status, body } = await create(kind, 'probe', spec, { dryRun: true });
        if (accepted !== status < 300) wrong.push(`${what}: ${status} ${body.message ?? ''}`);
        if (!accepted && !fieldsOf(body).some((each) => each.startsWith(field))) {
          wrong.push(`${what}: the answer names ${fieldsOf(body)}`);
        }
      }
      expect(wrong).toEqual([]);
      expect(cases.length).toBeGreaterThan(8);
    },
    TEST_TIMEOUT_MS,
  );

  test('an unknown field is refused by strict clients', async () => {
    const spec = { ...FULL_SPECS[kind], retentionDays: 3 };
    const { status, body } = await create(kind, 'probe', spec, { dryRun: true });
    expect(status).toBe(400);
    expect(body.message).toContain('unknown field "spec.retentionDays"');
  });
});

const MINIMAL: Readonly<Record<Kind, Json>> = {
  Fanfare: { address: 'broker:7443', tls: { secretName: 'client' } },
  Topic: {},
  Subscription: {
    topicRef: { name: 'orders' },
    consumers: { scaleTargetRef: { name: 'billing' }, maxReplicas: 5, fallback: {} },
  },
};

test('what is left out gets its default', async () => {
  const specs: Json = {};
  for (const kind of KINDS) {
    const { status, body } = await create(kind, 'probe', MINIMAL[kind], { dryRun: true });
    expect(status).toBe(201);
    specs[kind] = body.spec;
  }
  await expect(`${JSON.stringify(specs, null, 2)}\n`).toMatchFileSnapshot('../golden/crd/defaults.json');
});

test("the README's resources are accepted", async () => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, manifest] = /kubectl apply -f - <<EOF\n(.*?)\nEOF/s.exec(readme)!;
  const resources = parseAllDocuments(manifest!).map((each) => each.toJSON() as Json);
  expect(resources.length).toBe(2);
  for (const { kind, metadata, spec } of resources) {
    const { status, body } = await create(kind as Kind, (metadata as Json).name as string, spec as Json, {
      dryRun: true,
    });
    expect([status, body.message]).toEqual([201, undefined]);
  }
});

describe('rules', () => {
  test.each(RULE_CASES.map((each) => [title(each), each] as const))(
    '%s',
    async (_, { kind, name = 'probe', field, message, before, accepted, rejected }) => {
      const made = before && (await create(kind, name, withFields(FULL_SPECS[kind], before), {}));
      if (made !== undefined) expect(made.body.message).toBeUndefined();
      const send = (change: Json) => {
        const spec = withFields(FULL_SPECS[kind], change);
        return made === undefined
          ? create(kind, name, spec, { dryRun: true })
          : kube.request('PUT', `${path(kind, name)}${STRICT}&dryRun=All`, { ...made.body, spec });
      };
      try {
        for (const change of accepted) {
          const { status, body } = await send({ ...before, ...change });
          expect(status, `${JSON.stringify(change)}: ${body.message}`).toBeLessThan(300);
        }
        for (const change of rejected) {
          const { status, body } = await send({ ...before, ...change });
          expect(status, JSON.stringify(change)).toBe(422);
          const cause = body.details.causes.find((each: Json) => String(each.message).includes(message));
          expect(cause?.field, body.message).toBe(field || '<nil>');
        }
      } finally {
        if (made !== undefined) await kube.request('DELETE', path(kind, name));
      }
    },
    TEST_TIMEOUT_MS,
  );

  test('each rule of the CRDs has a case above', () => {
    const cases = new Set(RULE_CASES.map(({ kind, field, message }) => `${kind} ${field} ${message}`));
    const rules = KINDS.flatMap((kind) => [
      ...rulesOf(rootSchema(kind), '').map(({ message }) => `${kind}  ${message}`),
      ...allRules(specSchema(kind), 'spec').map(({ field, message }) => `${kind} ${field} ${message}`),
    ]);
    expect(rules.filter((rule) => !cases.has(rule))).toEqual([]);
    expect(rules.length).toBeGreaterThan(25);
  });
});

describe('the scale subresource of a Subscription', () => {
  const scaleOf = (name: string) => `${path('Subscription', name)}/scale`;
  const scaled = (body: Json, replicas: number) => ({ ...body, spec: { replicas } });

  test('with strategy None anybody can set the replicas, up to maxReplicas', async () => {
    const spec = withFields(MINIMAL.Subscription, { 'consumers.strategy': 'None', 'consumers.replicas': 1 });
    await create('Subscription', 'by-hand', spec, {});
    const { body } = await kube.request('GET', scaleOf('by-hand'));
    expect((await kube.request('PUT', scaleOf('by-hand'), scaled(body, 5))).status).toBe(200);
    const found = await kube.request('GET', path('Subscription', 'by-hand'));
    expect(found.body.spec.consumers.replicas).toBe(5);
    const { body: newer } = await kube.request('GET', scaleOf('by-hand'));
    const refused = await kube.request('PUT', scaleOf('by-hand'), scaled(newer, 6));
    expect([refused.status, refused.body.message]).toEqual([422, expect.stringContaining('maxReplicas')]);
    expect(await kube.kubectl(['scale', 'ffsub/by-hand', '--replicas=2'])).toContain('scaled');
  });

  test('with strategy Internal it is refused, and the answer says what to do', async () => {
    await create('Subscription', 'by-operator', MINIMAL.Subscription, {});
    await expect(kube.kubectl(['scale', 'ffsub/by-operator', '--replicas=2'])).rejects.toThrow(
      'change minReplicas and maxReplicas, or set strategy: None to decide yourself',
    );
  });

  test('it shows replicas and selector of the status', async () => {
    const spec = withFields(MINIMAL.Subscription, { 'consumers.strategy': 'KEDA', 'consumers.replicas': 3 });
    const { body } = await create('Subscription', 'shown', spec, {});
    const status = { replicas: 3, selector: 'app=billing' };
    const put = await kube.request('PUT', `${path('Subscription', 'shown')}/status`, { ...body, status });
    expect(put.status).toBe(200);
    const scale = await kube.request('GET', scaleOf('shown'));
    expect(scale.body.status).toEqual(status);
  });
});

test('two writers of status own their conditions one by one', async () => {
  await create('Topic', 'shared', {}, {});
  const write = (manager: string, type: string) =>
    kube.request(
      'PATCH',
      `${path('Topic', 'shared')}/status?fieldManager=${manager}`,
      {
        apiVersion: API_VERSION,
        kind: 'Topic',
        status: {
          conditions: [
            {
              type,
              status: 'True',
              reason: 'Reconciled',
              message: '',
              lastTransitionTime: '2026-03-01T12:00:00Z',
            },
          ],
        },
      },
      { contentType: 'application/apply-patch+yaml' },
    );
  await write('one', 'Ready');
  const { status, body } = await write('two', 'Synced');
  expect(status).toBe(200);
  expect(body.status.conditions.map(({ type }: Json) => type)).toEqual(['Ready', 'Synced']);
  expect(body.metadata.generation).toBe(1);
});

describe('what people see', () => {
  test('kubectl explain', async () => {
    const fields = ['fanfares.fanfare.dev.spec', 'topics.fanfare.dev.spec', 'subscriptions.fanfare.dev.spec'];
    // The API server publishes the schemas of new CRDs a moment later.
    await expect
      .poll(() => kube.kubectl(['explain', fields[0]!]).catch(String), { timeout: 30_000 })
      .not.toContain("couldn't find resource");
    const texts: string[] = [];
    for (const field of [...fields, 'subscriptions.fanfare.dev.spec.consumers']) {
      texts.push(`$ kubectl explain ${field}\n${await kube.kubectl(['explain', field])}`);
    }
    await expect(texts.map(tidy).join('\n')).toMatchFileSnapshot('../golden/crd/explain.txt');
  });

  test('kubectl get', async () => {
    await kube.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } }]);
    for (const { kind, name, spec, status } of GOLDEN_RESOURCES(Date.now())) {
      const made = await create(kind, name, spec, { namespace: 'shop' });
      expect(made.body.message).toBeUndefined();
      const put = await kube.request('PUT', `${path(kind, name, 'shop')}/status`, { ...made.body, status });
      expect(put.body.message).toBeUndefined();
    }
    const texts: string[] = [];
    for (const words of ['get fftopic', 'get ffsub', 'get ffsub -o wide', 'get fanfare']) {
      const printed = await kube.kubectl([...words.split(' '), '--namespace', 'shop']);
      // Age is the last column, and differs with the speed of the machine.
      texts.push(`$ kubectl ${words}\n${printed.replaceAll(/\d+s$/gm, '5s')}`);
    }
    await expect(texts.map(tidy).join('\n')).toMatchFileSnapshot('../golden/crd/get.txt');
    const selected = [
      'get',
      'ffsub',
      '-n',
      'shop',
      '--field-selector',
      'spec.topicRef.name=orders',
      '-o',
      'name',
    ];
    expect((await kube.kubectl(selected)).split('\n')).toContain('subscription.fanfare.dev/billing');
  });
});

const STRICT = '?fieldValidation=Strict';

function create(
  kind: Kind,
  name: string,
  spec: Json,
  { dryRun = false, namespace = 'default' }: { readonly dryRun?: boolean; readonly namespace?: string },
): Promise<KubeResponse> {
  const query = `${STRICT}${dryRun ? '&dryRun=All' : ''}`;
  const object = { apiVersion: API_VERSION, kind, metadata: { name }, spec };
  return kube.request('POST', `${path(kind, '', namespace)}${query}`, object);
}

function path(kind: Kind, name: string, namespace = 'default'): string {
  const collection = `/apis/${API_VERSION}/namespaces/${namespace}/${kind.toLowerCase()}s`;
  return name === '' ? collection : `${collection}/${name}`;
}

function fieldsOf(body: { details?: { causes?: { field: string }[] } }): string[] {
  return (body.details?.causes ?? []).map(({ field }) => field);
}

function title({ kind, name, field, message, before }: RuleCase): string {
  const when = before === undefined ? 'at creation' : 'on update';
  return `${kind} ${name ?? field} ${when}: ${message}`;
}

function rootSchema(kind: Kind): JsonSchema {
  const definition = customResourceDefinitions().find(({ spec }) => spec.names.kind === kind);
  return definition!.spec.versions[0]!.schema.openAPIV3Schema as JsonSchema;
}

function specSchema(kind: Kind): JsonSchema {
  return rootSchema(kind).properties!.spec!;
}

function rulesOf(schema: JsonSchema, field: string) {
  const rules = schema['x-kubernetes-validations'] ?? [];
  return rules.map(({ message, fieldPath = '' }) => ({ field: field + fieldPath, message }));
}

function allRules(schema: JsonSchema, field: string): { field: string; message: string }[] {
  return [
    ...rulesOf(schema, field),
    ...Object.entries(schema.properties ?? {}).flatMap(([name, part]) => allRules(part, `${field}.${name}`)),
    ...(schema.items === undefined ? [] : allRules(schema.items, `${field}[]`)),
  ];
}

/** The text without the blanks at the ends of kubectl's lines. */
function tidy(text: string): string {
  return text.replaceAll(/[ \t]+$/gm, '');
}
