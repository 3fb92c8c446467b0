// Requests: what is tried again, what is given up, what is told.
import { expect, test } from 'vitest';
import { jsonLines } from '../../operator/kube/frames.ts';
import { createKubeHttp, type KubeRequest, type Verb } from '../../operator/kube/http.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import type { TransportRequest } from '../../operator/kube/transport.ts';
import { FakeKubeServer, type Fault } from '../support/fake-kube-server.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const PODS = '/api/v1/namespaces/a/pods';

function rig(mayWrite = true) {
  const server = new FakeKubeServer();
  const clock = new VirtualClock();
  const metrics = new Metrics();
  let refreshed = 0;
  const transport = {
    ...server.transport,
    refresh: () => {
      refreshed += 1;
    },
  };
  const http = createKubeHttp({ transport, clock, random: () => 0.5, metrics, mayWrite: () => mayWrite });
  /** What became of a request, with all the time that it wants. */
  const outcome = async (request: Partial<KubeRequest> & { verb: Verb }): Promise<string> => {
    const answer = http.json({ resource: 'pods', path: `${PODS}/one`, ...request }).then(
      () => 'done',
      (error) => String(error.reason ?? error),
    );
    await clock.advance(600_000);
    expect(clock.timerCount).toBe(0);
    return answer;
  };
  return { server, clock, metrics, http, outcome, refreshed: () => refreshed };
}

const FAULTS: Record<string, Fault> = {
  cut: { kind: 'cut' },
  silence: { kind: 'hang' },
  '500': { kind: 'status', status: 500 },
  '503 with Retry-After': { kind: 'status', status: 503, retryAfter: '1' },
  '429': { kind: 'status', status: 429 },
  '401': { kind: 'status', status: 401 },
  '403': { kind: 'status', status: 403 },
  '409': { kind: 'status', status: 409 },
};

/** How often a request is tried that meets the fault once, by kind of request. */
test.each([
  ['cut', 2, 1, 2],
  ['silence', 2, 1, 2],
  ['500', 2, 1, 2],
  ['503 with Retry-After', 2, 2, 2],
  ['429', 2, 2, 2],
  ['401', 2, 2, 2],
  ['403', 1, 1, 1],
  ['409', 1, 1, 1],
])(
  '%s: reads are tried %i times, writes %i, idempotent writes %i',
  async (name, reads, writes, idempotent) => {
    const tries = async (request: Partial<KubeRequest> & { verb: Verb }): Promise<number> => {
      const { server, outcome } = rig();
      server.put(PODS, 'one');
      let left = 1;
      server.fault = () => (left-- > 0 ? FAULTS[name] : undefined);
      const ended = await outcome(request);
      expect(ended === 'done').toBe(server.requests.length === 2);
      return server.requests.length;
    };
    expect(await tries({ verb: 'get' })).toBe(reads);
    expect(await tries({ verb: 'update', body: {} })).toBe(writes);
    expect(await tries({ verb: 'patch', body: {}, idempotent: true })).toBe(idempotent);
  },
);

test('a server that stays away is given up after five tries, one that refuses us after two', async () => {
  const { server, outcome, refreshed, metrics } = rig();
  server.fault = () => ({ kind: 'cut' });
  expect(await outcome({ verb: 'get' })).toBe('Unreachable');
  expect(server.requests.length).toBe(5);
  server.fault = () => ({ kind: 'status', status: 401 });
  expect(await outcome({ verb: 'get' })).toBe('Unauthorized');
  expect([server.requests.length, refreshed()]).toEqual([7, 1]);
  expect(metrics.apiCalls()).toEqual([{ verb: 'get', resource: 'pods', calls: 7 }]);
  expect(metrics.render()).toContain('{verb="get",resource="pods",code="none"} 5');
});

test('a Retry-After of hours is not waited for', async () => {
  const { server, clock, outcome } = rig();
  server.fault = () => ({ kind: 'status', status: 429, retryAfter: '86400' });
  const before = clock.monotonicMs();
  expect(await outcome({ verb: 'get' })).toBe('TooManyRequests');
  expect(server.requests.length).toBe(2);
  expect(clock.monotonicMs() - before).toBeLessThanOrEqual(600_000);
});

test('an answer takes no longer than its time-out', async () => {
  const { server, clock, http } = rig();
  server.fault = () => ({ kind: 'hang' });
  const answer = http.json({ verb: 'get', resource: 'pods', path: PODS, timeoutMs: 3_000, maxTries: 1 });
  const caught = answer.catch((error) => error);
  await clock.advance(3_000);
  expect(await caught).toMatchObject({ reason: 'Timeout', status: 0, transient: true });
});

test('the caller can end it at any time', async () => {
  const { server, clock, http } = rig();
  server.fault = () => ({ kind: 'status', status: 429, retryAfter: '5' });
  const stop = new AbortController();
  const waiting = http
    .json({ verb: 'get', resource: 'pods', path: PODS, signal: stop.signal })
    .catch((e) => e);
  await clock.advance(1_000);
  stop.abort();
  expect(await waiting).toMatchObject({ reason: 'TooManyRequests' });
  await expect(http.json({ verb: 'get', resource: 'pods', path: PODS, signal: stop.signal })).rejects.toBe(
    stop.signal.reason,
  );
  expect(clock.timerCount).toBe(0);
});

test('who does not lead does not write, except leases and events', async () => {
  const { server, outcome } = rig(false);
  server.put(PODS, 'one');
  for (const verb of ['create', 'update', 'patch', 'delete'] as const) {
    expect(await outcome({ verb, body: {}, idempotent: true })).toBe('NotLeader');
  }
  expect(server.requests).toEqual([]);
  expect(await outcome({ verb: 'get' })).toBe('done');
  expect(await outcome({ verb: 'patch', body: {}, unguarded: true })).toBe('done');
});

test('what is sent', async () => {
  const { server, clock, metrics } = rig();
  const sent: TransportRequest[] = [];
  const transport = {
    ...server.transport,
    send: (request: TransportRequest) => {
      sent.push(request);
      return server.transport.send(request);
    },
  };
  const http = createKubeHttp({ transport, clock, random: () => 0, metrics, userAgent: 'test/1' });
  await http.json({
    verb: 'create',
    resource: 'pods',
    path: PODS,
    query: { fieldManager: 'a/b', force: undefined },
    body: { metadata: { name: 'ü' } },
  });
  expect(sent[0]).toMatchObject({
    method: 'POST',
    path: `${PODS}?fieldManager=a%2Fb`,
    headers: { accept: 'application/json', 'content-type': 'application/json', 'user-agent': 'test/1' },
    body: '{"metadata":{"name":"ü"}}',
    streaming: false,
  });
});

test('lines are put together again wherever they were cut, and are bounded', async () => {
  const text = '{"type":"A","object":{"n":"ü"}}\n\n{"type":"B","object":1}\n{"type":"C","obj';
  for (let size = 1; size < 12; size += 1) {
    const bytes = Buffer.from(text);
    const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
      bytes.subarray(n * size, (n + 1) * size),
    );
    const seen: unknown[] = [];
    for await (const frame of jsonLines(stream(parts), 1_000, 'test')) seen.push(frame);
    expect(seen).toEqual([
      { type: 'A', object: { n: 'ü' } },
      { type: 'B', object: 1 },
    ]);
  }
  const endless = jsonLines(stream(Array.from({ length: 20 }, () => Buffer.alloc(100, 'x'))), 1_000, 'test');
  await expect(endless.next()).rejects.toMatchObject({ reason: 'BadAnswer' });
  await expect(jsonLines(stream([Buffer.from('{"kind":"Status"}\n')]), 99, 'test').next()).rejects.toThrow(
    'without type and object',
  );
});

async function* stream(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}
