// The cache follows the API server through whatever happens between them.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { createInformer, type Informer, withoutManagedFields } from '../../operator/kube/informer.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { type KubeObject, keyOf, PODS } from '../../operator/kube/objects.ts';
import { FakeKubeServer, type Fault, status } from '../support/fake-kube-server.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const A = '/api/v1/namespaces/a/pods';
const B = '/api/v1/namespaces/b/pods';
const ALL = '/api/v1/pods';

interface Thing extends KubeObject {
  readonly value?: number;
}

function rig(options: { namespaces?: string[]; seed?: number } = {}) {
  const server = new FakeKubeServer();
  const clock = new VirtualClock();
  const random = seededRandom(options.seed ?? 1);
  const metrics = new Metrics();
  const http = createKubeHttp({ transport: server.transport, clock, random, metrics });
  const informer: Informer<Thing> = createInformer<Thing>({
    http,
    clock,
    random,
    metrics,
    logger: silent,
    resource: PODS,
    namespaces: options.namespaces ?? [],
    indexes: { parity: ({ value = 0 }) => [value % 2 === 0 ? 'even' : 'odd'] },
  });
  const stop = new AbortController();
  const changes: string[] = [];
  /** The objects as somebody knows them who was only told of changes. */
  const told = new Map<string, Thing>();
  informer.onChange(({ key, type, object }) => {
    changes.push(`${type} ${key}`);
    if (type === 'deleted') told.delete(key);
    else told.set(key, object);
  });
  return { server, clock, metrics, informer, changes, told, stop, start: () => informer.run(stop.signal) };
}

const lists = (server: FakeKubeServer) => server.requests.filter((r) => !r.includes('watch=1')).length;
const opened = (server: FakeKubeServer) => server.requests.filter((r) => r.includes('watch=1')).length;

test('lists, then follows', async () => {
  const { server, clock, informer, changes, start, stop } = rig();
  server.put(A, 'one', { value: 1 });
  const running = start();
  expect(informer.synced).toBe(false);
  await informer.waitForSync(stop.signal);
  await clock.settle();
  server.put(A, 'two', { value: 2 });
  server.put(A, 'one', { value: 4 });
  server.delete(A, 'two');
  server.put(B, 'one', { value: 3 });
  await clock.settle();
  expect(changes).toEqual(['added a/one', 'added a/two', 'updated a/one', 'deleted a/two', 'added b/one']);
  expect(informer.list('a').map(keyOf)).toEqual(['a/one']);
  expect(informer.byIndex('parity', 'even').map(keyOf)).toEqual(['a/one']);
  expect(informer.byIndex('parity', 'odd').map(keyOf)).toEqual(['b/one']);
  expect(() => informer.byIndex('colour', 'red')).toThrow('no index colour');
  expect(informer.get('a/one')).toMatchObject({ apiVersion: 'v1', kind: 'Thing', value: 4 });
  expect(() => Object.assign(informer.get('a/one')!.metadata, { name: 'x' })).toThrow(TypeError);
  stop.abort();
  await running;
  expect(clock.timerCount).toBe(0);
  expect(server.watches.size).toBe(0);
});

test('a large collection comes in pages, and pages that expire are read again as one', async () => {
  const { server, clock, informer, start, stop } = rig();
  for (let n = 0; n < 1_201; n += 1) server.put(A, `n${n}`);
  let compacted = false;
  server.fault = ({ path }) => {
    if (!compacted && path.includes('continue')) {
      compacted = true;
      server.put(A, 'late');
      server.compact();
    }
    return undefined;
  };
  const running = start();
  await clock.runUntil(() => informer.synced);
  expect(informer.size).toBe(1_202);
  expect(
    server.requests.slice(0, 3).map((r) => new URL(r.slice(4), 'http://f').searchParams.get('limit')),
  ).toEqual(['500', '500', null]);
  stop.abort();
  await running;
});

test('a cut watch goes on where it was, without another list', async () => {
  const { server, clock, informer, start, stop } = rig();
  const running = start();
  await clock.runUntil(() => server.watches.size === 1);
  server.put(A, 'seen');
  await clock.settle();
  for (const watch of server.watches) watch.cut();
  server.put(A, 'missed');
  await clock.runUntil(() => informer.size === 2, 10_000);
  expect([lists(server), opened(server)]).toEqual([1, 2]);
  expect(clock.monotonicMs()).toBeGreaterThanOrEqual(800);
  stop.abort();
  await running;
});

test('a server that is away for an hour is asked gently and then caught up with', async () => {
  const { server, clock, informer, start, stop } = rig();
  const running = start();
  await clock.runUntil(() => server.watches.size === 1);
  server.fault = () => ({ kind: 'cut' });
  for (const watch of server.watches) watch.cut();
  await clock.advance(3_600_000);
  expect(informer.problem).toContain('cut');
  expect(server.requests.length).toBeLessThan(130);
  expect(informer.idleForMs).toBeLessThan(61_000);
  server.put(A, 'missed');
  server.fault = () => undefined;
  await clock.runUntil(() => informer.size === 1, 61_000);
  expect(informer.problem).toBeUndefined();
  expect(lists(server)).toBe(1);
  stop.abort();
  await running;
});

test.each(['a status', 'an ERROR frame'])(
  '410 by %s: lists again, and reports deletions that nobody saw',
  async (by) => {
    const { server, clock, informer, changes, start, stop } = rig();
    server.put(A, 'gone');
    server.put(A, 'kept');
    const running = start();
    await clock.runUntil(() => server.watches.size === 1);
    const [watch] = server.watches;
    watch!.fallSilent();
    server.delete(A, 'gone');
    server.compact();
    if (by === 'a status') watch!.cut();
    else watch!.raw(`${JSON.stringify({ type: 'ERROR', object: status(410, 'Expired') })}\n`);
    await clock.runUntil(() => informer.size === 1, 20_000);
    expect(changes).toEqual(['added a/gone', 'added a/kept', 'deleted a/gone']);
    stop.abort();
    await running;
  },
);

test('a watch that fell silent is given up; bookmarks are not silence', async () => {
  const { server, clock, informer, start, stop } = rig();
  const running = start();
  await clock.runUntil(() => server.watches.size === 1);
  for (let minute = 0; minute < 10; minute += 1) {
    await clock.advance(60_000);
    server.bookmark();
  }
  expect(opened(server)).toBe(1);
  for (const watch of server.watches) watch.fallSilent();
  server.put(A, 'unheard');
  await clock.runUntil(() => informer.size === 1, 155_000);
  expect([lists(server), opened(server)]).toEqual([1, 2]);
  stop.abort();
  await running;
});

test('a collection in which nothing happens is in order, and costs 24 watches an hour', async () => {
  const { server, clock, informer, start, stop } = rig();
  const running = start();
  await clock.advance(3_599_999);
  expect([lists(server), opened(server), informer.problem]).toEqual([1, 24, undefined]);
  stop.abort();
  await running;
});

test('a server that went back in time is listed again', async () => {
  const { server, clock, informer, start, stop } = rig();
  const running = start();
  await clock.runUntil(() => server.watches.size === 1);
  for (let n = 0; n < 20; n += 1) server.put(A, 'one', { value: n });
  await clock.settle();
  for (const watch of server.watches) watch.cut();
  server.rollBack(15);
  await clock.runUntil(() => server.watches.size === 1);
  server.bookmark();
  await clock.runUntil(() => lists(server) === 2, 10_000);
  expect(informer.problem).toBeUndefined();
  stop.abort();
  await running;
});

test('Retry-After is kept to', async () => {
  const { server, clock, start, stop } = rig();
  server.fault = () => ({ kind: 'status', status: 429, retryAfter: '7' });
  const running = start();
  await clock.advance(6_999);
  expect(server.requests.length).toBe(1);
  await clock.advance(500);
  expect(server.requests.length).toBe(2);
  stop.abort();
  await running;
});

test('a watch that ends politely at once is no hot loop', async () => {
  const { server, clock, start, stop } = rig();
  const running = start();
  for (let n = 0; n < 600; n += 1) {
    await clock.advance(1_000);
    for (const watch of server.watches) watch.end();
  }
  expect(server.requests.length).toBeLessThan(60);
  stop.abort();
  await running;
});

test('namespaces of their own: a list of one leaves the other alone', async () => {
  const { server, clock, informer, start, stop } = rig({ namespaces: ['a', 'b'] });
  server.put(A, 'one');
  server.put(B, 'one');
  server.put('/api/v1/namespaces/c/pods', 'one');
  const running = start();
  await clock.runUntil(() => server.watches.size === 2);
  server.put('/api/v1/namespaces/c/pods', 'two');
  server.compact();
  for (const watch of server.watches) if (watch.collection === A) watch.cut();
  await clock.runUntil(() => lists(server) === 3);
  expect(informer.list().map(keyOf).sort()).toEqual(['a/one', 'b/one']);
  stop.abort();
  await running;
});

test('managed fields can be left out', () => {
  const metadata = { name: 'x', managedFields: [{ manager: 'm' }] };
  expect(withoutManagedFields({ apiVersion: 'v1', kind: 'K', metadata })).toEqual({
    apiVersion: 'v1',
    kind: 'K',
    metadata: { name: 'x' },
  });
});

const fault = fc.constantFrom<Fault>(
  { kind: 'cut' },
  { kind: 'hang' },
  { kind: 'status', status: 429, retryAfter: '2' },
  { kind: 'status', status: 500 },
  { kind: 'status', status: 410 },
);
const name = fc.constantFrom('one', 'two', 'three');
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), in: fc.constantFrom(A, B), name }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('delete' as const), in: fc.constantFrom(A, B), name }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 200_000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('fault' as const), fault, times: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'cut',
        'end',
        'silence',
        'expire',
        'nonsense',
        'compact',
        'bookmark',
        'error' as const,
      ),
    }),
  },
);

test('property: the cache equals the server after any mix of cuts, 410s, silences and bookmarks', {
  timeout: TIMEOUT_MS * 10,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.integer(), async (steps, seed) => {
      const { server, clock, informer, told, start, stop } = rig({ seed });
      const running = start();
      let value = 0;
      for (const each of steps) {
        switch (each.do) {
          case 'put':
            server.put(each.in, each.name, { value: ++value });
            break;
          case 'delete':
            server.delete(each.in, each.name);
            break;
          case 'wait':
            await clock.advance(each.ms);
            break;
          case 'fault': {
            let left = each.times;
            server.fault = () => (left-- > 0 ? each.fault : undefined);
            break;
          }
          case 'compact':
            server.compact();
            break;
          case 'bookmark':
            server.bookmark();
            break;
          default:
            for (const watch of server.watches) {
              if (each.do === 'cut') watch.cut();
              else if (each.do === 'end') watch.end();
              else if (each.do === 'silence') watch.fallSilent();
              else if (each.do === 'nonsense') watch.raw('{"type":"ADD\n');
              else
                watch.raw(
                  `${JSON.stringify({ type: 'ERROR', object: status(each.do === 'expire' ? 410 : 500) })}\n`,
                );
            }
        }
      }
      await clock.advance(900_000);
      const truth = server.list(ALL).map(versions).sort();
      expect(informer.list().map(versions).sort()).toEqual(truth);
      expect([...told.values()].map(versions).sort()).toEqual(truth);
      const indexed = ['even', 'odd'].flatMap((parity) => informer.byIndex('parity', parity));
      expect(indexed.map(versions).sort()).toEqual(truth);
      stop.abort();
      await running;
      expect(clock.timerCount).toBe(0);
    }),
    cases(300),
  );
});

function versions(object: KubeObject): string {
  return `${keyOf(object)} ${object.metadata.uid} ${object.metadata.resourceVersion}`;
}
