// Scaling carried out against an API server whose writes fail in every way that there is: replicas fall all
// the same once it can be done, and consumers do not stand idle meanwhile. And what is said while the broker
// is away.
//
// The rig is a Deployment with its controller, a broker that notes who gets no work, and the Subscription's
// worker, which looks again as the operator's does.
import { describe, expect, test } from 'vitest';
import type { Subscription } from '../../operator/api/v1alpha1/subscription.ts';
import type { DrainRequest } from '../../operator/broker/admin.ts';
import { BrokerCallError } from '../../operator/broker/admin.ts';
import type { Place } from '../../operator/broker/links.ts';
import { ReplicaCount } from '../../operator/controllers/replica-count.ts';
import { type ConvergedPart, type Scaled, Scaling } from '../../operator/controllers/scaling.ts';
import { LOWERING_MS, RESTING_MS } from '../../operator/core/scale-down.ts';
import { createKubeClient, type Scale } from '../../operator/kube/client.ts';
import { KubeError } from '../../operator/kube/errors.ts';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { DEPLOYMENTS } from '../../operator/kube/objects.ts';
import type { TransportRequest } from '../../operator/kube/transport.ts';
import { FakeKubeServer, type Fault } from '../support/fake-kube-server.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const DEPLOYMENT = '/apis/apps/v1/namespaces/shop/deployments/workers';
const PODS = '/api/v1/namespaces/shop/pods';
/** A pushed backlog brings the next look, however long the backoff of a failed one is. */
const AGAIN_MS = 5_000;
/** Kubernetes takes a pod away after this time. */
const GRACE_MS = 3_000;

const subscription = (consumers: object = {}, spec: object = {}): Subscription =>
  ({
    apiVersion: 'fanfare.dev/v1alpha1',
    kind: 'Subscription',
    metadata: { name: 'work', namespace: 'shop', uid: 'u1' },
    spec: {
      topicRef: { name: 'orders', external: false },
      connectionRef: { name: 'default' },
      ordering: false,
      consumers: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'workers' },
        strategy: 'None',
        replicas: 1,
        maxReplicas: 9,
        dryRun: false,
        drain: { enabled: true, timeoutSeconds: 600 },
        ...consumers,
      },
      ...spec,
    },
  }) as unknown as Subscription;

class Rig {
  readonly clock = new VirtualClock();
  readonly server = new FakeKubeServer();
  readonly scaling: Scaling;
  /** How long the longest time was in which a pod got no work, without having been taken away. */
  longestIdleMs = 0;
  idleMs = 0;
  fellMs: number | undefined;
  partitions: number | Error = 4;
  away = false;
  readonly events: string[] = [];
  #drain: { readonly request: DrainRequest; readonly atMs: number } | undefined;
  #idleSinceMs: number | undefined;

  constructor(replicas = 2) {
    const { clock, server } = this;
    server.put(DEPLOYMENT, 'scale', { spec: { replicas } });
    for (let at = 1; at <= replicas; at += 1) {
      const status = { phase: 'Running', podIP: `10.0.0.${at}` };
      server.put(PODS, `workers-${at}`, { metadata: { name: `workers-${at}` }, status });
    }
    const { transport } = server;
    const http = createKubeHttp({ transport, clock, random: () => 0.5, metrics: new Metrics() });
    const client = createKubeClient(http, 'test');
    const events = { record: (_: unknown, { note }: { note: string }) => this.events.push(note) };
    const ctx = { clock, logger: silent, client: () => client, events, podDeletionCost: true };
    this.scaling = new Scaling(
      { ...ctx, backlog: { get: () => undefined } } as unknown as ConstructorParameters<typeof Scaling>[0],
      { find: async () => this.#found(), refusalOf: async () => undefined },
    );
  }

  get replicas(): number {
    return (this.server.get(`${DEPLOYMENT}/scale`) as Scale).spec!.replicas!;
  }

  /** Lets the time pass, with as many looks as the operator would take. */
  async run(forMs: number, of = subscription()): Promise<Scaled | undefined> {
    const untilMs = this.clock.monotonicMs() + forMs;
    let scaled: Scaled | undefined;
    while (this.clock.monotonicMs() < untilMs) {
      const began = this.clock.monotonicMs();
      const looking = this.scaling
        .reconcile(of, this.#converged, new AbortController().signal)
        .catch((error: unknown) => {
          if (!(error instanceof KubeError)) throw error;
          return undefined;
        });
      scaled = await this.clock.finish(looking);
      const waitMs = Math.min(scaled?.lookAgainMs ?? 1_000, AGAIN_MS);
      await this.clock.advance(waitMs);
      this.#kubernetes(began);
    }
    return scaled;
  }

  readonly #converged = {
    name: 'projects/shop/subscriptions/work',
    found: { topic: 'projects/shop/topics/orders' },
    place: {
      project: 'shop',
      link: {
        health: { kind: 'up' },
        closed: new AbortController().signal,
        admin: { drainConsumers: (request: DrainRequest) => this.#drainConsumers(request) },
        view: () => ({
          topic: async () => {
            if (this.away) throw new BrokerCallError('UNAVAILABLE', 'away');
            return { partitions: this.partitions };
          },
        }),
      },
    } as unknown as Place,
  } as ConvergedPart;

  #found() {
    const { replicas } = this;
    const target = { replicas, statusReplicas: replicas, readyReplicas: replicas, selector: 'app=workers' };
    return {
      resource: DEPLOYMENTS,
      target: { ...target, revision: undefined, rolling: false, managers: [] },
    };
  }

  async #drainConsumers(request: DrainRequest) {
    this.#drain = { request, atMs: this.clock.monotonicMs() };
    return { streams: 1, outstandingMessages: 0 };
  }

  /** Takes pods away that are too many, and reckons how long those that stay have had no work. */
  #kubernetes(sinceMs: number): void {
    const nowMs = this.clock.monotonicMs();
    const pods = this.server.list(PODS);
    if (pods.length > this.replicas) {
      this.fellMs ??= nowMs;
      if (nowMs - this.fellMs >= GRACE_MS) {
        const cost = 'controller.kubernetes.io/pod-deletion-cost';
        const [taken] = pods.filter(({ metadata }) => metadata.annotations?.[cost] === '-1000');
        this.server.delete(PODS, taken!.metadata.name);
      }
      return;
    }
    const { request, atMs } = this.#drain ?? { request: { ttlMs: 0 }, atMs: 0 };
    if (nowMs >= atMs + request.ttlMs) this.#idleSinceMs = undefined;
    else {
      this.#idleSinceMs ??= atMs;
      this.idleMs += nowMs - sinceMs;
      this.longestIdleMs = Math.max(this.longestIdleMs, nowMs - this.#idleSinceMs);
    }
  }
}

const isWrite = ({ method, path }: TransportRequest): boolean =>
  method === 'PUT' && path.startsWith(`${DEPLOYMENT}/scale`);

const FAULTS: [what: string, fault: Fault][] = [
  ['403', { kind: 'status', status: 403 }],
  ['409', { kind: 'status', status: 409 }],
  ['422', { kind: 'status', status: 422 }],
  ['429', { kind: 'status', status: 429 }],
  ['500', { kind: 'status', status: 500 }],
  ['a broken connection', { kind: 'cut' }],
  ['no answer', { kind: 'hang' }],
];

test('without faults replicas fall within seconds, the pod that goes is marked, the other one works', async () => {
  const rig = new Rig();
  await rig.run(20_000);
  expect(rig.replicas).toBe(1);
  expect(rig.fellMs).toBeLessThan(3_000);
  expect(rig.events).toEqual(['Deployment workers from 2 to 1 replicas: strategy None']);
  const [left] = rig.server.list(PODS);
  expect(left!.metadata.name).toBe('workers-2');
  expect(left!.metadata.annotations).toBeUndefined();
});

describe.each(FAULTS)('a write that is answered by %s', (what, fault) => {
  test('once: it is made again, and nobody waits for long', async () => {
    const rig = new Rig();
    let failed = 0;
    // The client itself tries a few times to write where nothing was begun, or somebody came between.
    const times = what === '409' ? 4 : what === '429' ? 5 : 1;
    rig.server.fault = (request) => {
      if (!isWrite(request) || failed === times) return undefined;
      failed += 1;
      return fault;
    };
    await rig.run(RESTING_MS + 30_000);
    expect(failed).toBe(times);
    expect(rig.replicas).toBe(1);
    expect(rig.fellMs).toBeLessThan(what === '403' ? RESTING_MS + 10_000 : 15_000);
    expect(rig.longestIdleMs).toBeLessThan(15_000);
    expect(rig.events).toHaveLength(1);
  });

  test('for ten minutes: consumers work meanwhile, and replicas fall soon after', async () => {
    const rig = new Rig();
    const endMs = 600_000;
    rig.server.fault = (request) => (isWrite(request) ? fault : undefined);
    await rig.run(endMs);
    rig.server.fault = () => undefined;
    expect(rig.replicas).toBe(2);
    expect(rig.longestIdleMs).toBeLessThan(LOWERING_MS + 20_000);
    expect(rig.idleMs).toBeLessThan(0.5 * endMs);
    await rig.run(RESTING_MS + 30_000);
    expect(rig.replicas).toBe(1);
    expect(rig.server.list(PODS)).toHaveLength(1);
  });
});

test('a write whose answer is lost is seen in what the target has, and is nobody else’s', async () => {
  const rig = new Rig(8);
  for (let to = 7; to > 0; to -= 1) {
    let isLost = to % 2 === 0;
    rig.server.fault = (request) => {
      if (!isWrite(request) || !isLost) return undefined;
      isLost = false;
      return { kind: 'lost' };
    };
    const scaled = await rig.run(30_000, subscription({ replicas: to }));
    expect(rig.server.list(PODS)).toHaveLength(to);
    expect(scaled!.conditions.find(({ type }) => type === 'Degraded')).toMatchObject({ status: 'False' });
  }
  expect(rig.server.requests.filter((request) => request.startsWith('PUT'))).toHaveLength(7);
});

test('a refusal is said until a write is made, also while nothing is tried', async () => {
  const rig = new Rig();
  const said = new Set<string>();
  rig.server.fault = (request) => (isWrite(request) ? { kind: 'status', status: 403 } : undefined);
  await rig.run(5_000);
  for (let look = 0; look < 40; look += 1) {
    const scaled = await rig.run(4_000);
    said.add(scaled!.conditions.find(({ type }) => type === 'Scaling')!.reason);
  }
  expect([...said]).toEqual(['PermissionDenied']);
  rig.server.fault = () => undefined;
  const scaled = await rig.run(RESTING_MS + 20_000);
  expect(scaled!.conditions.find(({ type }) => type === 'Scaling')).toMatchObject({ status: 'True' });
});

test('a pod that could not be marked, or not be unmarked, is tried again', async () => {
  const rig = new Rig();
  const marks = ({ method, path }: TransportRequest): boolean => method === 'PATCH' && path.startsWith(PODS);
  let failed = 0;
  const FIRST = 5;
  rig.server.fault = (request) =>
    marks(request) && failed++ < FIRST ? { kind: 'status', status: 403 } : undefined;
  await rig.run(30_000);
  expect(failed).toBeGreaterThan(FIRST);
  expect(rig.server.list(PODS)).toHaveLength(1);

  const back = new Rig();
  const marked = () =>
    back.server
      .list(PODS)
      .filter(({ metadata }) => Object.values(metadata.annotations ?? {}).some((value) => value === '-1000'));
  let unmarks = 0;
  back.server.fault = (request) => {
    if (isWrite(request)) return { kind: 'status', status: 403 };
    const isUnmark = marks(request) && request.body!.includes('null');
    return isUnmark && unmarks++ < FIRST ? { kind: 'status', status: 500 } : undefined;
  };
  await back.run(4_000);
  expect(marked()).toHaveLength(1);
  await back.run(30_000);
  expect(unmarks).toBeGreaterThan(FIRST);
  expect(marked()).toEqual([]);
});

test('our own write counts until the cache has it; what somebody else makes of it is theirs', () => {
  const clock = new VirtualClock();
  const count = new ReplicaCount(clock, 2);
  count.sending(3);
  expect(count.current).toBe(2);
  count.answered(3);
  expect([count.see(2), count.current, count.isKnown(2), count.isKnown(4)]).toEqual([false, 3, true, false]);
  expect([count.see(3), count.current]).toEqual([false, 3]);
  expect([count.see(2), count.current]).toEqual([true, 2]);
  // What others do among themselves is no contest.
  expect([count.see(5), count.current]).toEqual([false, 5]);
});

test('a write that the cache never shows was undone by somebody quicker', async () => {
  const clock = new VirtualClock();
  const count = new ReplicaCount(clock, 2);
  count.sending(3);
  count.answered(3);
  await clock.advance(9_999);
  expect([count.see(2), count.current]).toEqual([false, 3]);
  await clock.advance(1);
  expect([count.see(2), count.current]).toEqual([true, 2]);
});

describe('while the broker does not say how many partitions there are', () => {
  const ordered = subscription({ replicas: 2, maxReplicas: 300 }, { ordering: true });
  const degraded = (scaled: Scaled | undefined) =>
    scaled!.conditions.find(({ type }) => type === 'Degraded')?.reason;

  test('they are as many as they were', async () => {
    const rig = new Rig();
    expect(degraded(await rig.run(1_000, ordered))).toBe('Reconciled');
    rig.away = true;
    expect(degraded(await rig.run(60_000, ordered))).toBe('Reconciled');
    const few = new Rig();
    few.partitions = 1;
    expect(degraded(await few.run(1_000, ordered))).toBe('TooFewPartitions');
    few.away = true;
    expect(degraded(await few.run(60_000, ordered))).toBe('TooFewPartitions');
  });

  test('after a restart, what status says; else nothing is said', async () => {
    const rig = new Rig();
    rig.away = true;
    expect(degraded(await rig.run(1_000, ordered))).toBeUndefined();
    const kept = new Rig();
    kept.away = true;
    const status = { autoscaling: { inputs: { partitions: 1 } } };
    expect(degraded(await kept.run(1_000, { ...ordered, status } as Subscription))).toBe('TooFewPartitions');
  });
});
