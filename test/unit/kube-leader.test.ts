// One leader at a time, and another one soon when it is gone.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { LeaderElector, type Leadership } from '../../operator/kube/leader.ts';
import type { Lease } from '../../operator/kube/lease.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { FakeKubeServer, type Fault } from '../support/fake-kube-server.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const LEASES = '/apis/coordination.k8s.io/v1/namespaces/fanfare/leases';
const LEASE = `${LEASES}/operator`;

class Candidate {
  readonly stop = new AbortController();
  readonly elector: LeaderElector;
  /** Set while it leads. */
  reign: Leadership | undefined;
  ending: string | undefined;
  fault: () => Fault | undefined = () => undefined;
  readonly terms: number[] = [];
  readonly requests: string[] = [];
  readonly ended: Promise<void>;
  #finish: () => void = () => undefined;

  constructor(server: FakeKubeServer, clock: VirtualClock, identity: string, seed = 1) {
    const random = seededRandom(seed);
    const metrics = new Metrics();
    // Each candidate has a network of its own, so that one can be cut off alone.
    const transport = {
      ...server.transport,
      send: (request: Parameters<typeof server.transport.send>[0]) => {
        this.requests.push(request.method);
        server.fault = this.fault;
        return server.transport.send(request);
      },
    };
    const http = createKubeHttp({ transport, clock, random, metrics, mayWrite: () => false });
    const fixed = { http, clock, random, metrics, logger: silent, namespace: 'fanfare', name: 'operator' };
    this.elector = new LeaderElector({ ...fixed, identity });
    this.ended = this.elector
      .run(this.stop.signal, async (reign) => {
        this.reign = reign;
        this.terms.push(reign.term);
        await new Promise<void>((resolve) => {
          this.#finish = resolve;
          reign.signal.addEventListener('abort', () => resolve(), { once: true });
          this.stop.signal.addEventListener('abort', () => resolve(), { once: true });
        });
        this.reign = undefined;
      })
      .then((ending) => {
        this.ending = ending;
      });
  }

  finish(): void {
    this.#finish();
  }
}

function rig() {
  const server = new FakeKubeServer();
  const clock = new VirtualClock();
  const first = new Candidate(server, clock, 'first');
  return { server, clock, first, lease: () => server.get(LEASE) as Lease | undefined };
}

test('takes a lease that nobody has made, with times that the API server accepts', async () => {
  const { clock, first, lease } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const spec = lease()!.spec!;
  expect(spec).toMatchObject({ holderIdentity: 'first', leaseDurationSeconds: 15 });
  expect(spec.renewTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  expect(first.elector.held()).toBe(true);
  first.stop.abort();
  await first.ended;
  expect(first.ending).toBe('stopped');
  expect(lease()!.spec!.holderIdentity).toBe('');
  expect(clock.timerCount).toBe(0);
});

test('a standby costs next to nothing and takes a released lease at once', async () => {
  const { server, clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const second = new Candidate(server, clock, 'second', 2);
  const term = first.reign!.term;
  await clock.advance(3_600_000);
  expect(second.reign).toBeUndefined();
  expect(second.requests.length).toBeLessThan(40);
  expect(first.requests.length).toBeLessThan(730);
  const before = clock.monotonicMs();
  first.stop.abort();
  await clock.runUntil(() => second.reign !== undefined);
  expect(clock.monotonicMs() - before).toBeLessThan(500);
  expect(second.reign!.term).toBeGreaterThan(term);
  second.stop.abort();
  await second.ended;
});

test('a dead leader is followed within the lease and a little', async () => {
  const { server, clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const second = new Candidate(server, clock, 'second', 2);
  await clock.advance(60_000);
  first.fault = () => ({ kind: 'hang' });
  const before = clock.monotonicMs();
  await clock.runUntil(() => second.reign !== undefined);
  expect(clock.monotonicMs() - before).toBeLessThan(15_000 + 5_000 + 500);
  expect(first.ending).toBe('lost');
  second.stop.abort();
  await Promise.all([first.ended, second.ended]);
});

test('a standby whose watch is dead looks again when the lease should have run out', async () => {
  const { server, clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const second = new Candidate(server, clock, 'second', 2);
  await clock.advance(1_000);
  for (const watch of server.watches) watch.fallSilent();
  await clock.advance(60_000);
  expect(second.reign).toBeUndefined();
  first.stop.abort();
  await clock.runUntil(() => second.reign !== undefined, 31_000);
  second.stop.abort();
  await second.ended;
});

test('a leader that cannot renew stops before anybody may follow it', async () => {
  const { clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  await clock.advance(5_000);
  const renewedMs = clock.monotonicMs();
  const { signal } = first.reign!;
  first.fault = () => ({ kind: 'cut' });
  await clock.advance(9_999);
  expect([first.elector.held(), signal.aborted]).toEqual([true, false]);
  await clock.advance(1);
  expect([first.elector.held(), signal.aborted]).toEqual([false, true]);
  expect(clock.monotonicMs() - renewedMs).toBe(10_000);
  await first.ended;
  expect(first.ending).toBe('lost');
});

test('an answer that got lost is no loss of the lease', async () => {
  const { clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  let lost = 2;
  first.fault = () => (lost-- > 0 ? { kind: 'lost' } : undefined);
  await clock.advance(60_000);
  expect([first.elector.held(), first.ending]).toEqual([true, undefined]);
  first.stop.abort();
  await first.ended;
});

test('a lease that somebody took by hand is lost at once; a label on it is nothing', async () => {
  const { server, clock, first, lease } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  server.put(LEASES, 'operator', { metadata: { labels: { a: 'b' } } });
  await clock.advance(30_000);
  expect(first.elector.held()).toBe(true);
  server.put(LEASES, 'operator', { spec: { ...lease()!.spec, holderIdentity: 'admin' } });
  await clock.advance(5_000);
  expect([first.elector.held(), first.ending]).toEqual([false, 'lost']);
});

test('a wall clock that jumps changes nothing', async () => {
  const { server, clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const second = new Candidate(server, clock, 'second', 2);
  await clock.advance(10_000);
  clock.jumpWallClock(3_600_000);
  await clock.advance(60_000);
  clock.jumpWallClock(-7_200_000);
  await clock.advance(60_000);
  expect([first.elector.held(), second.reign]).toEqual([true, undefined]);
  first.stop.abort();
  second.stop.abort();
  await Promise.all([first.ended, second.ended]);
});

test('a lease that was deleted begins with a greater term', async () => {
  const { server, clock, first } = rig();
  await clock.runUntil(() => first.reign !== undefined);
  const { term } = first.reign!;
  await clock.advance(120_000);
  server.delete(LEASES, 'operator');
  await clock.advance(10_000);
  expect(first.ending).toBe('lost');
  const second = new Candidate(server, clock, 'second', 2);
  await clock.runUntil(() => second.reign !== undefined);
  expect(second.reign!.term).toBeGreaterThan(term);
  second.stop.abort();
  await second.ended;
});

const trouble = fc.record({
  who: fc.integer({ min: 0, max: 2 }),
  fault: fc.constantFrom<Fault | 'stop' | 'none'>(
    { kind: 'cut' },
    { kind: 'hang' },
    { kind: 'lost' },
    { kind: 'status', status: 429, retryAfter: '1' },
    { kind: 'status', status: 500 },
    'stop',
    'none',
  ),
  ms: fc.integer({ min: 0, max: 30_000 }),
});

test('property: never two leaders by their own clocks, terms only grow, and one leads in the end', {
  timeout: TIMEOUT_MS,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(trouble, { maxLength: 25 }), fc.integer(), async (troubles, seed) => {
      const server = new FakeKubeServer();
      const clock = new VirtualClock();
      let made = 0;
      const make = () => new Candidate(server, clock, `c${made}`, seed + made++);
      const present = [make(), make(), make()];
      let last: Candidate | undefined;
      const terms: number[] = [];
      const check = (): void => {
        const leading = present.filter(({ elector }) => elector.held());
        expect(leading.length).toBeLessThanOrEqual(1);
        const [leader] = leading;
        if (leader?.reign !== undefined && leader !== last) {
          last = leader;
          terms.push(leader.reign.term);
        }
        // A process that lost its lease ends and starts again.
        for (const [place, { ending }] of present.entries())
          if (ending !== undefined) present[place] = make();
      };
      for (const { who, fault, ms } of troubles) {
        if (fault === 'stop') present[who]!.stop.abort();
        else present[who]!.fault = () => (fault === 'none' ? undefined : fault);
        for (let passed = 0; passed <= ms; passed += 500) {
          await clock.advance(Math.min(500, ms - passed + 1));
          check();
        }
      }
      for (const candidate of present) candidate.fault = () => undefined;
      for (let n = 0; n < 120; n += 1) {
        await clock.advance(500);
        check();
      }
      expect(present.filter(({ elector }) => elector.held()).length).toBe(1);
      expect(terms).toEqual([...new Set(terms)].sort((a, b) => a - b));
      for (const { stop } of present) stop.abort();
      await clock.advance(10_000);
      await Promise.all(present.map(({ ended }) => ended));
    }),
    cases(60),
  );
});
