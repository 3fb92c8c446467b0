// The runtime against a real API server: what a fake could only repeat after us.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createKubeClient } from '../../operator/kube/client.ts';
import { systemClock } from '../../operator/kube/clock.ts';
import { createEventRecorder } from '../../operator/kube/events.ts';
import { createKubeHttp, type KubeHttp } from '../../operator/kube/http.ts';
import { createInformer, type Informer } from '../../operator/kube/informer.ts';
import { LeaderElector } from '../../operator/kube/leader.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { DEPLOYMENTS, type KubeObject, PODS, type Resource } from '../../operator/kube/objects.ts';
import { kubeTransport, parseKubeConfig } from '../../operator/kube/transport.ts';
import { type Kube, startKube } from '../support/kube.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const CONFIG_MAPS: Resource = {
  group: '',
  version: 'v1',
  plural: 'configmaps',
  kind: 'ConfigMap',
  namespaced: true,
};
const THINGS: Resource = {
  group: 'test.fanfare.dev',
  version: 'v1',
  plural: 'things',
  kind: 'Thing',
  namespaced: true,
};
const ANYTHING = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const THINGS_DEFINITION = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'things.test.fanfare.dev' },
  spec: {
    group: THINGS.group,
    scope: 'Namespaced',
    names: { plural: THINGS.plural, singular: 'thing', kind: THINGS.kind },
    versions: [
      {
        name: THINGS.version,
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: ANYTHING, status: ANYTHING } } },
      },
    ],
  },
};
const SLOW = { timeout: 120_000 };

interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

interface Deployment extends KubeObject {
  readonly spec: { readonly replicas: number };
}

interface Thing extends KubeObject {
  readonly status?: { readonly value?: number; readonly note?: string };
}

let kube: Kube;
const closing: (() => void)[] = [];
let namespace = '';
let namespaces = 0;

beforeAll(async () => {
  kube = await startKube();
}, 900_000);
afterAll(async () => {
  for (const close of closing) close();
  await kube?.stop();
}, 60_000);
beforeEach(async () => {
  namespace = `test-${++namespaces}`;
  await kube.apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } }]);
});

function connect(token?: string): { http: KubeHttp; metrics: Metrics } {
  const metrics = new Metrics();
  const transport = kubeTransport(parseKubeConfig(kube.kubeconfig(token)), systemClock);
  const http = createKubeHttp({ transport, clock: systemClock, random: Math.random, metrics });
  closing.push(() => http.close());
  return { http, metrics };
}

const common = (http: KubeHttp, metrics = new Metrics()) => ({
  http,
  metrics,
  clock: systemClock,
  random: Math.random,
  logger: silent,
});

function watchConfigMaps(
  http: KubeHttp,
  metrics: Metrics,
  idleMs: number,
): { informer: Informer<ConfigMap>; stop: () => Promise<void> } {
  const informer = createInformer<ConfigMap>({
    ...common(http, metrics),
    resource: CONFIG_MAPS,
    namespaces: [namespace],
    labelSelector: 'mine=yes',
    idleMs,
  });
  const stop = new AbortController();
  const running = informer.run(stop.signal);
  return {
    informer,
    stop: async () => {
      stop.abort();
      await running;
    },
  };
}

/** Resolves with the next change after which the condition holds. */
function until<T extends KubeObject>(informer: Informer<T>, condition: () => boolean): Promise<void> {
  if (condition()) return Promise.resolve();
  return new Promise((resolve) => informer.onChange(() => condition() && resolve()));
}

const map = (name: string, value = 'x') =>
  [{ namespace, name, labels: { mine: 'yes' } }, { data: { value } }] as const;

const deployment = (replicas: number) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'consumer', namespace },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'consumer' } },
    template: {
      metadata: { labels: { app: 'consumer' } },
      spec: { containers: [{ name: 'c', image: 'localhost/none' }] },
    },
  },
});

test('applies what is new, changed and gone', SLOW, async () => {
  const { http, metrics } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  const first = await client.apply<ConfigMap>(CONFIG_MAPS, ...map('one'));
  expect(first.metadata.managedFields?.[0]).toMatchObject({
    manager: 'fanfare-operator/test',
    operation: 'Apply',
  });
  const second = await client.apply<ConfigMap>(CONFIG_MAPS, ...map('one', 'y'));
  expect([second.metadata.uid, second.data]).toEqual([first.metadata.uid, { value: 'y' }]);
  const stranger = createKubeClient(http, 'stranger');
  await stranger.mergePatch(CONFIG_MAPS, second.metadata, { data: { value: 'z' } });
  expect((await client.apply<ConfigMap>(CONFIG_MAPS, ...map('one', 'y'))).data).toEqual({ value: 'y' });
  await expect(client.create(CONFIG_MAPS, { ...second, metadata: map('one')[0] })).rejects.toMatchObject({
    status: 409,
    reason: 'AlreadyExists',
  });
  for (let n = 0; n < 5; n += 1) await client.apply(CONFIG_MAPS, ...map(`more-${n}`));
  const all = await client.list<ConfigMap>(CONFIG_MAPS, { namespace, labelSelector: 'mine=yes' });
  expect(all.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toContain('ConfigMap more-4');
  expect(typeof all[0]!.metadata.creationTimestamp).toBe('string');
  await expect(client.delete(CONFIG_MAPS, second.metadata, { uid: 'another' })).rejects.toMatchObject({
    status: 409,
  });
  expect(await client.delete(CONFIG_MAPS, second.metadata, { uid: second.metadata.uid })).toBe(true);
  expect(await client.delete(CONFIG_MAPS, second.metadata)).toBe(false);
  expect(await client.get(CONFIG_MAPS, second.metadata)).toBeUndefined();
  expect(metrics.apiCalls()[0]).toEqual({ verb: 'patch', resource: 'configmaps', calls: 9 });
});

test('a status is written once, and never to a successor', SLOW, async () => {
  await kube.apply([THINGS_DEFINITION]);
  const { http, metrics } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  const ref = { namespace, name: 'one' };
  const object = await client.apply<Thing>(THINGS, ref, { spec: {} });
  const written = await client.applyStatus(THINGS, object, { value: 1, note: 'first' });
  expect(written.status).toEqual({ value: 1, note: 'first' });
  expect(written.metadata.generation).toBe(1);
  expect(await client.applyStatus(THINGS, written, { note: 'first', value: 1 })).toBe(written);
  const second = await client.applyStatus(THINGS, written, { value: 2 });
  expect(second.status).toEqual({ value: 2 });
  expect(metrics.apiCalls().find(({ resource }) => resource === 'things/status')?.calls).toBe(2);
  const conflict = { status: 409, reason: 'Conflict' };
  await client.apply(THINGS, ref, { spec: { changed: true } });
  await expect(client.applyStatus(THINGS, second, { value: 3 })).rejects.toMatchObject(conflict);
  await client.delete(THINGS, object.metadata);
  await expect(client.applyStatus(THINGS, second, { value: 3 })).rejects.toMatchObject({ status: 404 });
  await client.apply(THINGS, ref, { spec: {} });
  await expect(client.applyStatus(THINGS, second, { value: 3 })).rejects.toMatchObject(conflict);
});

test('finalizers: added and removed by themselves, refused if others changed them', SLOW, async () => {
  const { http } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  const bare = await client.apply<ConfigMap>(CONFIG_MAPS, ...map('one'));
  const mine = await client.addFinalizer(CONFIG_MAPS, bare, 'fanfare.dev/broker-cleanup');
  expect(mine.metadata.finalizers).toEqual(['fanfare.dev/broker-cleanup']);
  expect(await client.addFinalizer(CONFIG_MAPS, mine, 'fanfare.dev/broker-cleanup')).toBe(mine);
  await expect(client.addFinalizer(CONFIG_MAPS, bare, 'fanfare.dev/other')).rejects.toMatchObject({
    status: 409,
    reason: 'Conflict',
  });
  const both = await client.addFinalizer(CONFIG_MAPS, mine, 'example.com/other');
  await expect(client.removeFinalizer(CONFIG_MAPS, mine, 'fanfare.dev/broker-cleanup')).rejects.toMatchObject(
    { reason: 'Conflict' },
  );
  await expect(client.addFinalizer(CONFIG_MAPS, both, 'no finalizer')).rejects.toMatchObject({ status: 422 });
  await client.delete(CONFIG_MAPS, both.metadata);
  const deleting = (await client.get<ConfigMap>(CONFIG_MAPS, both.metadata))!;
  expect(deleting.metadata.deletionTimestamp).toBeDefined();
  const other = await client.removeFinalizer(CONFIG_MAPS, deleting, 'fanfare.dev/broker-cleanup');
  expect(other?.metadata.finalizers).toEqual(['example.com/other']);
  await client.removeFinalizer(CONFIG_MAPS, other!, 'example.com/other');
  expect(await client.removeFinalizer(CONFIG_MAPS, other!, 'example.com/other')).toBeUndefined();
});

test('scale: compared before it is written, decided again after a conflict', SLOW, async () => {
  const { http, metrics } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  const ref = { namespace, name: 'consumer' };
  expect(await client.setScale(DEPLOYMENTS, ref, () => 3)).toBeUndefined();
  await client.create(DEPLOYMENTS, deployment(0) as Deployment);
  expect((await client.getScale(DEPLOYMENTS, ref))?.status?.selector).toBe('app=consumer');
  expect(await client.setScale(DEPLOYMENTS, ref, () => undefined)).toEqual({ from: 0, to: 0 });
  expect(await client.setScale(DEPLOYMENTS, ref, () => 0)).toEqual({ from: 0, to: 0 });
  const puts = () => metrics.apiCalls().find(({ verb }) => verb === 'update')?.calls ?? 0;
  expect(puts()).toBe(0);
  // Both read 0; the one that writes second is told of the conflict, reads 5 and decides again.
  const seen: number[] = [];
  const [slow, quick] = await Promise.all([
    client.setScale(DEPLOYMENTS, ref, (present) => {
      seen.push(present);
      return 3;
    }),
    client.setScale(DEPLOYMENTS, ref, (present) => (present === 3 ? undefined : 5)),
  ]);
  const { spec } = (await client.get<Deployment>(DEPLOYMENTS, ref))!;
  expect([slow?.to, quick?.to]).toContain(spec.replicas);
  expect(seen.length).toBeLessThanOrEqual(2);
  const { managedFields } = (await client.get(DEPLOYMENTS, ref))!.metadata;
  expect(managedFields?.find(({ subresource }) => subresource === 'scale')?.manager).toBe(
    'fanfare-operator/test',
  );
});

test('the cache goes on through a killed and a hanging API server', SLOW, async () => {
  const { http } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  for (const name of ['kept', 'deleted']) await client.apply(CONFIG_MAPS, ...map(name));
  const metrics = new Metrics();
  const { informer, stop } = watchConfigMaps(http, metrics, 3_000);
  await until(informer, () => informer.size === 2);
  await kube.stopApiServer('SIGKILL');
  await kube.startApiServer();
  // Another client makes these changes before the cache's next try.
  await kube.request('DELETE', `/api/v1/namespaces/${namespace}/configmaps/deleted`);
  await client.apply(CONFIG_MAPS, ...map('added'));
  await until(informer, () => informer.size === 2 && informer.get(`${namespace}/added`) !== undefined);
  expect(informer.get(`${namespace}/deleted`)).toBeUndefined();

  const told = Promise.withResolvers<void>();
  kube.pauseApiServer();
  const silent = () => metrics.render().includes('{resource="configmaps",how="silent"}');
  const poll = setInterval(() => silent() && told.resolve(), 20);
  await told.promise;
  clearInterval(poll);
  kube.resumeApiServer();
  await client.apply(CONFIG_MAPS, ...map('after'));
  await until(informer, () => informer.get(`${namespace}/after`) !== undefined);
  expect(
    informer
      .list()
      .map(({ metadata }) => metadata.name)
      .sort(),
  ).toEqual(['added', 'after', 'kept']);
  await stop();
});

test('two electors on one lease: one leads, the other follows when it stops', SLOW, async () => {
  const order: string[] = [];
  const candidate = (identity: string) => {
    const stop = new AbortController();
    const leads = Promise.withResolvers<number>();
    const elector = new LeaderElector({
      ...common(connect().http),
      namespace,
      name: 'operator',
      identity,
      times: { renewMs: 100 },
    });
    const ended = elector.run(stop.signal, async ({ term }) => {
      order.push(identity);
      leads.resolve(term);
      await new Promise((resolve) => stop.signal.addEventListener('abort', resolve, { once: true }));
    });
    return { stop, ended, elector, leads: leads.promise };
  };
  const first = candidate('first');
  const term = await first.leads;
  const second = candidate('second');
  await new Promise<void>((resolve) => {
    const seen = setInterval(() => {
      if (second.elector.holder !== 'first') return;
      clearInterval(seen);
      resolve();
    }, 10);
  });
  expect(order).toEqual(['first']);
  const before = performance.now();
  first.stop.abort();
  expect(await first.ended).toBe('stopped');
  expect(await second.leads).toBeGreaterThan(term);
  // It would take 15 s if the release were not seen.
  expect(performance.now() - before).toBeLessThan(10_000);
  second.stop.abort();
  expect(await second.ended).toBe('stopped');
});

test('an event is what kubectl shows', SLOW, async () => {
  const { http } = connect();
  const client = createKubeClient(http, 'fanfare-operator/test');
  const object = await client.apply<ConfigMap>(CONFIG_MAPS, ...map('one'));
  const clock = new VirtualClock();
  const recorder = createEventRecorder({
    ...common(http),
    clock,
    controller: 'fanfare.dev/operator',
    instance: 'pod',
  });
  const stop = new AbortController();
  const running = recorder.run(stop.signal);
  const event = {
    type: 'Warning',
    reason: 'BrokerUnreachable',
    action: 'Reconcile',
    note: 'no answer',
  } as const;
  recorder.record(object, event);
  await recorder.flushed();
  await clock.advance(61_000);
  recorder.record(object, event);
  await recorder.flushed();
  const shown = await kube.kubectl(['events', '-n', namespace, '--for', 'configmap/one', '--no-headers']);
  expect(shown).toMatch(/\(x2 over .*Warning\s+BrokerUnreachable\s+ConfigMap\/one\s+no answer/);
  stop.abort();
  await running;
});

test('who has no rights is told which', SLOW, async () => {
  const { http } = connect(await kube.serviceAccountToken(namespace, 'nobody'));
  const client = createKubeClient(http, 'fanfare-operator/test');
  await expect(client.list(PODS, { namespace })).rejects.toThrow(
    /403 Forbidden: pods is forbidden: .*nobody/,
  );
});

test('a certificate authority that is replaced on disk is used from then on', SLOW, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kube-ca-'));
  const file = join(folder, 'ca.crt');
  const other = JSON.parse(kube.kubeconfig());
  delete other.clusters[0].cluster['certificate-authority-data'];
  other.clusters[0].cluster['certificate-authority'] = file;
  await writeFile(file, '');
  const clock = new VirtualClock();
  const http = createKubeHttp({
    transport: kubeTransport(parseKubeConfig(JSON.stringify(other)), clock),
    clock,
    random: Math.random,
    metrics: new Metrics(),
  });
  closing.push(() => http.close());
  const ask = () => http.json({ verb: 'get', resource: 'version', path: '/version', maxTries: 1 });
  await expect(ask()).rejects.toThrow(/can't be reached: .*certificate/);
  await writeFile(file, kube.ca);
  await clock.advance(10_000);
  expect(await ask()).toMatchObject({ major: '1' });
  await rm(folder, { recursive: true });
});
