// Probes, and the order of starting and stopping.
import { expect, test } from 'vitest';
import { createController, done, gone } from '../../operator/kube/controller.ts';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { createInformer } from '../../operator/kube/informer.ts';
import { LeaderElector } from '../../operator/kube/leader.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { PODS } from '../../operator/kube/objects.ts';
import { openProbes } from '../../operator/kube/probes.ts';
import { createRuntime } from '../../operator/kube/runtime.ts';
import { FakeKubeServer } from '../support/fake-kube-server.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

function rig() {
  const server = new FakeKubeServer();
  const clock = new VirtualClock();
  const metrics = new Metrics();
  const random = seededRandom(1);
  const http = createKubeHttp({ transport: server.transport, clock, random, metrics });
  return { server, clock, common: { http, clock, random, metrics, logger: silent } };
}

test('probes say why not', async () => {
  const metrics = new Metrics();
  let problems: string[] = ['the cache of topics has not been read yet'];
  const probes = await openProbes({
    host: '127.0.0.1',
    port: 0,
    metrics,
    ready: () => problems,
    live: () => [],
  });
  const ask = async (path: string, method = 'GET') => {
    const answer = await fetch(`http://127.0.0.1:${probes.port}${path}`, { method });
    return [answer.status, await answer.text()];
  };
  expect(await ask('/readyz')).toEqual([503, 'the cache of topics has not been read yet\n']);
  problems = [];
  expect(await ask('/readyz?verbose')).toEqual([200, 'ok\n']);
  expect((await ask('/metrics'))[1]).toContain('# TYPE fanfare_operator_api_requests_total counter');
  expect((await ask('/livez', 'POST'))[0]).toBe(405);
  expect((await ask('/other'))[0]).toBe(404);
  const taken = openProbes({
    host: '127.0.0.1',
    port: probes.port,
    metrics,
    ready: () => [],
    live: () => [],
  });
  await expect(taken).rejects.toThrow('the port is in use');
  await probes.close();
});

function runtimeRig(graceMs = 30_000, fault: FakeKubeServer['fault'] = () => undefined) {
  const { server, clock, common } = rig();
  server.fault = fault;
  const informer = createInformer({ ...common, resource: PODS });
  const began: string[] = [];
  const aborted: string[] = [];
  const finish = new Map<string, () => void>();
  const controller = createController({
    ...common,
    name: 'pod',
    reconcile: (key, signal) => {
      began.push(key);
      signal.addEventListener('abort', () => aborted.push(key));
      return new Promise((resolve) => finish.set(key, () => resolve(informer.get(key) ? done : gone)));
    },
  });
  informer.onChange(({ key, listed }) => controller.add(key, listed ? 'low' : 'normal'));
  const elector = new LeaderElector({ ...common, namespace: 'fanfare', name: 'operator', identity: 'me' });
  const leading: string[] = [];
  const runtime = createRuntime({
    ...common,
    informers: [informer],
    controllers: [controller],
    elector,
    graceMs,
    whileLeading: async ({ term }, signal) => {
      leading.push(`began ${typeof term}`);
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      leading.push('ended');
    },
  });
  const stop = new AbortController();
  const ending = runtime.run(stop.signal);
  return { server, clock, informer, runtime, began, aborted, finish, leading, stop, ending, elector };
}

const POD = '/api/v1/namespaces/a/pods';
const LEASE = '/apis/coordination.k8s.io/v1/namespaces/fanfare/leases/operator';

test('starts when caches are read and the lease is held; stops gracefully and gives the lease back', async () => {
  let locked = true;
  const { server, clock, runtime, began, aborted, finish, leading, stop, ending } = runtimeRig(
    30_000,
    ({ path }) => (locked && path.startsWith('/api/v1/pods') ? { kind: 'cut' } : undefined),
  );
  server.put(POD, 'one');
  await clock.advance(5_000);
  expect(runtime.ready()).toEqual([expect.stringContaining('the cache of pods has not been read yet')]);
  expect([began, runtime.leadership]).toEqual([[], undefined]);
  locked = false;
  await clock.runUntil(() => began.length === 1);
  expect([runtime.ready(), runtime.live(), leading]).toEqual([[], [], ['began number']]);
  stop.abort();
  await clock.advance(20_000);
  expect([aborted, leading.length]).toEqual([[], 1]);
  finish.get('a/one')!();
  expect(await ending).toBe('stopped');
  expect(leading).toEqual(['began number', 'ended']);
  expect(server.get(LEASE)).toMatchObject({ spec: { holderIdentity: '' } });
  expect(clock.timerCount).toBe(0);
});

test('what does not end in its grace is aborted, and left behind if it ignores that', async () => {
  const { server, clock, began, aborted, stop, ending } = runtimeRig(10_000);
  server.put(POD, 'one');
  await clock.runUntil(() => began.length === 1);
  stop.abort();
  await clock.advance(9_999);
  expect(aborted).toEqual([]);
  await clock.advance(1);
  expect(aborted).toEqual(['a/one']);
  await clock.advance(5_000);
  expect(await ending).toBe('stopped');
});

test('a lost lease aborts what runs at once', async () => {
  const { server, clock, began, aborted, finish, ending, elector } = runtimeRig();
  server.put(POD, 'one');
  await clock.runUntil(() => began.length === 1);
  server.fault = ({ path }) => (path.includes('leases') ? { kind: 'cut' } : undefined);
  await clock.runUntil(() => aborted.length === 1, 15_001);
  expect(elector.held()).toBe(false);
  finish.get('a/one')!();
  await clock.settle();
  expect(await ending).toBe('lost');
});

test('a stop before it ever led ends it too', async () => {
  const { clock, stop, ending } = runtimeRig(30_000, () => ({ kind: 'hang' }));
  await clock.advance(1_000);
  stop.abort();
  await clock.settle();
  expect(await ending).toBe('stopped');
  expect(clock.timerCount).toBe(0);
});
