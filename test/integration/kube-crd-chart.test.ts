// charts/fanfare: rendered by a real helm for the ways to install it, and accepted by a real API server; what
// makes no sense is refused with advice; pods are allowed in a restricted namespace; the operator has the
// rights it needs and no others.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type Kube, startKube } from '../support/kube.ts';
import type { KubeObject } from '../support/kube-calls.ts';
import { CHART, helm, renderChart, type Values } from '../support/kube-chart.ts';

// The first start includes building kube-apiserver and helm.
const START_TIMEOUT_MS = 1_200_000;
const TEST_TIMEOUT_MS = 120_000;
const NAMESPACE = 'fanfare';

const INSTALLATIONS: Readonly<Record<string, Values>> = {
  'by default': {},
  'three brokers on Redis, cert-manager': {
    broker: { replicas: 3 },
    redis: {
      url: 'rediss+sentinel://user@s0:26379,s1:26379/mymaster',
      existingSecret: 'redis',
      tlsSecret: 'redis-tls',
      tlsClientCertificate: true,
      clusterId: 'abc',
    },
    tls: { mode: 'certManager', certManager: { issuerRef: { name: 'ca' } } },
  },
  'everything on': {
    commonLabels: { team: 'platform' },
    image: { digest: `sha256:${'a'.repeat(64)}`, pullSecrets: [{ name: 'registry' }] },
    broker: {
      options: { cache: '1GiB', keepalive: '10s' },
      podAnnotations: { a: 'b' },
      nodeSelector: { disk: 'ssd' },
      priorityClassName: 'high',
      extraEnv: [{ name: 'X', value: 'y' }],
      service: { type: 'LoadBalancer', annotations: { a: 'b' } },
    },
    tls: { extraDnsNames: ['broker.example.org'] },
    operator: {
      watchNamespaces: ['shop', 'billing'],
      extraScaleTargets: [{ group: 'argoproj.io', resource: 'rollouts' }],
      keda: { enabled: true },
    },
    networkPolicy: { clients: [{ namespaceSelector: {} }], metrics: [{ namespaceSelector: {} }] },
    metrics: { tokenSecret: 'scrapes', serviceMonitor: { enabled: true, labels: { release: 'prometheus' } } },
    otlpEndpoint: 'http://collector:4317',
    extraObjects: [
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '{{ include "fanfare.fullname" . }}-more' } },
    ],
  },
  'only the operator': {
    broker: { enabled: false },
    operator: { address: 'broker.example.org:7443' },
    tls: { mode: 'existingSecret', existingSecret: { operator: 'operator-tls' } },
  },
  'only brokers, nothing kept': {
    operator: { enabled: false },
    persistence: { enabled: false },
    crds: { install: false },
  },
};

/** API groups of other projects, whose CRDs are not here. */
const FOREIGN_GROUPS = ['cert-manager.io', 'monitoring.coreos.com'];

let kube: Kube;
beforeAll(async () => {
  kube = await startKube();
  for (const name of [NAMESPACE, 'shop', 'billing']) {
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    await kube.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }]);
  }
}, START_TIMEOUT_MS);
afterAll(() => kube?.stop(), TEST_TIMEOUT_MS);

describe.each(Object.entries(INSTALLATIONS))('%s', (_, values) => {
  test('helm finds nothing to complain of', () => helm(['lint', '--strict', CHART], values), TEST_TIMEOUT_MS);

  test(
    'the API server takes every object, with no unknown field',
    async () => {
      const objects = (await renderChart(values)).filter((object) => !isForeign(object));
      expect(objects.length).toBeGreaterThan(3);
      await install(objects);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'its pods may run in a restricted namespace',
    async () => {
      const workloads = (await renderChart(values)).filter(({ kind }) =>
        /^(StatefulSet|Deployment|Job)$/.test(kind),
      );
      expect(workloads.length).toBeGreaterThan(0);
      for (const workload of workloads) {
        const { status, body } = await kube.request(
          'POST',
          `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`,
          podOf(workload),
        );
        expect(status, body.message).toBe(201);
      }
    },
    TEST_TIMEOUT_MS,
  );
});

test('an unrestricted pod is refused there, so the test above can fail', async () => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: { containers: [{ name: 'c', image: 'i' }] },
  };
  const { status } = await kube.request('POST', `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`, pod);
  expect(status).toBe(403);
});

const REFUSALS: readonly [values: Values, advice: string][] = [
  [{ broker: { replicas: 2 } }, 'set redis.url, or broker.replicas=1'],
  [{ tls: { mode: 'existingSecret' } }, 'tls.existingSecret.broker'],
  [{ tls: { mode: 'existingSecret', existingSecret: { broker: 'b' } } }, 'tls.existingSecret.operator'],
  [{ tls: { mode: 'certManager' } }, 'tls.certManager.issuerRef.name'],
  [{ broker: { enabled: false } }, 'operator.address'],
  [{ redis: { url: 'redis://r:6379', tlsSecret: 's' } }, 'use rediss://'],
  [{ broker: { options: { 'tls-cert': 'x' } } }, 'is set by the chart'],
  [{ broker: { options: { 'health-listen': '1' } } }, 'is set by the chart'],
  [{ metrics: { serviceMonitor: { enabled: true } } }, 'networkPolicy.metrics lets nobody scrape'],
  [{ redis: { url: 'redis://user:secret@r:6379' } }, '/redis/url'],
  [{ image: { tag: 'latest' } }, '/image/tag'],
  [{ brokr: {} }, 'brokr'],
  [{ broker: { replicas: 0 } }, '/broker/replicas'],
];

test.each(REFUSALS)('%j is refused with advice', async (values, advice) => {
  await expect(renderChart(values)).rejects.toThrow(advice);
});

test('the schema knows every value, and every value is in values.yaml', async () => {
  const values = parse(await readFile(join(CHART, 'values.yaml'), 'utf8'));
  const schema = JSON.parse(await readFile(join(CHART, 'values.schema.json'), 'utf8'));
  const inSchema = leaves(schema).filter((path) => path !== 'global');
  const missing = inSchema.filter((path) => valueAt(values, path) === undefined && !/resources\./.test(path));
  expect(missing).toEqual([]);
  // Helm checks the other direction: it refuses values.yaml if the schema does not know a value.
  expect(inSchema.length).toBeGreaterThan(70);
});

test('CRDs: field selectors only where the API server has them, kept on uninstall unless told otherwise', async () => {
  const crd = async (values: Values, version: string) => {
    const objects = await renderChart(values, ['--kube-version', version]);
    return objects.find(({ metadata }) => metadata.name === 'subscriptions.fanfare.dev');
  };
  const text = async (values: Values, version: string) => JSON.stringify(await crd(values, version));
  expect(await text({}, '1.34.0')).toContain('selectableFields');
  expect(await text({}, '1.30.9')).not.toContain('selectableFields');
  expect(await text({}, '1.34.0')).toContain('"helm.sh/resource-policy":"keep"');
  expect(await text({ crds: { keep: false } }, '1.34.0')).not.toContain('resource-policy');
  expect(await crd({ crds: { install: false } }, '1.34.0')).toBeUndefined();
  await expect(renderChart({}, ['--kube-version', '1.28.0'])).rejects.toThrow('1.29.0');
});

test('a cluster is made of an empty store at installation, and not again', async () => {
  const makes = async (initCluster: unknown, args: readonly string[]) =>
    JSON.stringify(await renderChart({ redis: { url: 'redis://r:6379', initCluster } }, args)).includes(
      'FANFARE_INIT_CLUSTER',
    );
  expect(await makes('auto', [])).toBe(true);
  expect(await makes('auto', ['--is-upgrade'])).toBe(false);
  expect(await makes(true, ['--is-upgrade'])).toBe(true);
  expect(await makes(false, [])).toBe(false);
});

test('metrics are closed to everybody until values say who may scrape; probes have a port that no policy opens', async () => {
  const portsOf = async (values: Values) => {
    const policies = (await renderChart(values)).filter(({ kind }) => kind === 'NetworkPolicy');
    return policies.map(({ spec }) => {
      const { ingress } = spec as { ingress: { ports: { port: string }[]; from?: unknown[] }[] };
      return ingress.map(
        ({ ports, from }) => `${ports[0]!.port} ${from === undefined ? 'all' : from.length}`,
      );
    });
  };
  expect(await portsOf({})).toEqual([['grpc all'], []]);
  const metrics = [{ namespaceSelector: {} }];
  expect(await portsOf({ networkPolicy: { metrics } })).toEqual([['grpc all', 'metrics 1'], ['probes 1']]);

  const set = (await renderChart({ metrics: { tokenSecret: 's' } })).find(
    ({ kind }) => kind === 'StatefulSet',
  );
  const [container] = (set!.spec as { template: { spec: { containers: Record<string, unknown>[] } } })
    .template.spec.containers;
  const { startupProbe, readinessProbe, livenessProbe, env, ports } = container as {
    [probe: string]: { httpGet: unknown };
  } & { env: { name: string }[]; ports: unknown[] };
  expect([startupProbe, readinessProbe, livenessProbe].map((probe) => probe!.httpGet)).toEqual([
    { path: '/readyz', port: 'health' },
    { path: '/readyz', port: 'health' },
    { path: '/livez', port: 'health' },
  ]);
  expect(ports).toContainEqual({ name: 'health', containerPort: 9465 });
  expect(env).toContainEqual({ name: 'FANFARE_HEALTH_LISTEN', value: '0.0.0.0:9465' });
  expect(env).toContainEqual({
    name: 'FANFARE_METRICS_TOKEN',
    valueFrom: { secretKeyRef: { name: 's', key: 'token' } },
  });
});

describe('the operator’s rights', () => {
  const account = 'demo-fanfare-operator';
  const topics = (namespace: string) => `/apis/fanfare.dev/v1alpha1/namespaces/${namespace}/topics`;

  async function tokenWith(values: Values): Promise<string> {
    await kube.request('DELETE', `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/${account}-fanfare`);
    await install((await renderChart(values)).filter((object) => !isForeign(object)));
    return kube.serviceAccountToken(NAMESPACE, account);
  }

  test(
    'in the whole cluster',
    async () => {
      const token = await tokenWith({});
      const status = async (method: string, path: string, body?: unknown, contentType?: string) =>
        (await kube.request(method, path, body, { token, ...(contentType && { contentType }) })).status;
      const merge = 'application/merge-patch+json';
      await kube.apply([
        {
          apiVersion: 'fanfare.dev/v1alpha1',
          kind: 'Topic',
          metadata: { name: 'orders', namespace: 'shop' },
          spec: {},
        },
        { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'client', namespace: 'shop' } },
      ]);
      expect(await status('GET', '/apis/fanfare.dev/v1alpha1/subscriptions')).toBe(200);
      const finalizers = { metadata: { finalizers: ['fanfare.dev/broker-cleanup'] } };
      expect(await status('PATCH', `${topics('shop')}/orders`, finalizers, merge)).toBe(200);
      expect(await status('PATCH', `${topics('shop')}/orders/status`, { status: {} }, merge)).toBe(200);
      expect(await status('GET', '/api/v1/namespaces/shop/secrets/client')).toBe(200);
      expect(await status('GET', '/api/v1/namespaces/shop')).toBe(200);
      const leases = (namespace: string) => `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
      expect(await status('POST', leases(NAMESPACE), { metadata: { name: 'leader' } })).toBe(201);

      expect(await status('POST', leases('shop'), { metadata: { name: 'leader' } })).toBe(403);
      expect(await status('GET', '/api/v1/namespaces/shop/secrets')).toBe(403);
      expect(await status('DELETE', `${topics('shop')}/orders`)).toBe(403);
      expect(await status('POST', topics('shop'), { metadata: { name: 'other' }, spec: {} })).toBe(403);
      const deployment = '/apis/apps/v1/namespaces/shop/deployments/billing';
      expect(await status('PATCH', deployment, {}, merge)).toBe(403);
      // 404: the operator has the right, and there is no such Deployment.
      expect(await status('PATCH', `${deployment}/scale`, {}, merge)).toBe(404);
      expect(await status('POST', '/api/v1/namespaces/shop/pods', {})).toBe(403);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    'in watched namespaces only',
    async () => {
      const token = await tokenWith({ operator: { watchNamespaces: ['shop'] } });
      const status = async (path: string) => (await kube.request('GET', path, undefined, { token })).status;
      expect(await status(topics('shop'))).toBe(200);
      expect(await status('/api/v1/namespaces/shop')).toBe(200);
      expect(await status('/apis/fanfare.dev/v1alpha1/topics')).toBe(403);
      expect(await status('/api/v1/namespaces/billing')).toBe(403);
    },
    TEST_TIMEOUT_MS,
  );
});

async function install(objects: readonly KubeObject[]): Promise<void> {
  // What the installation before has left goes first: most of a StatefulSet can't be changed, and nothing of
  // a Job, which Helm makes anew.
  await kube.request('DELETE', `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets/demo-fanfare`);
  const job = `/apis/batch/v1/namespaces/${NAMESPACE}/jobs/demo-fanfare-operator-uninstall`;
  await kube.request('DELETE', `${job}?propagationPolicy=Background`);
  // The hook is a Job that Helm makes anew each time.
  const hook = `/apis/batch/v1/namespaces/${NAMESPACE}/jobs/demo-fanfare-operator-uninstall`;
  await kube.request('DELETE', `${hook}?propagationPolicy=Background`);
  await kube.apply(objects);
}

function isForeign({ apiVersion }: KubeObject): boolean {
  return FOREIGN_GROUPS.some((group) => apiVersion.startsWith(`${group}/`));
}

function podOf(workload: KubeObject): unknown {
  // biome-ignore lint/suspicious/noExplicitAny: a rendered object; the API server checks its shape.
  const { template } = workload.spec as any;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: 'probe' },
    spec: withClaims(template.spec),
  };
}

/** The pod's spec with the volumes that the StatefulSet's controller would add for its claims. */
function withClaims(spec: {
  volumes: { name: string }[];
  containers: { volumeMounts: { name: string }[] }[];
}) {
  const known = new Set(spec.volumes.map(({ name }) => name));
  const mounted = spec.containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name));
  const claims = mounted.filter((name) => !known.has(name));
  const more = claims.map((name) => ({ name, persistentVolumeClaim: { claimName: name } }));
  // A priority class that is not there would be refused before security is looked at.
  return { ...spec, priorityClassName: undefined, volumes: [...spec.volumes, ...more] };
}

interface ValuesSchema {
  readonly properties?: Readonly<Record<string, ValuesSchema>>;
}

function leaves(schema: ValuesSchema, path = ''): string[] {
  if (schema.properties === undefined) return [path];
  return Object.entries(schema.properties).flatMap(([name, part]) =>
    leaves(part, path === '' ? name : `${path}.${name}`),
  );
}

function valueAt(values: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], values);
}
