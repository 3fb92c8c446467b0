// Events that don't storm, counters, and small helpers for objects.
import { expect, test } from 'vitest';
import { createEventRecorder } from '../../operator/kube/events.ts';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { type KubeObject, microTime, parseKey, refKey, sameJson } from '../../operator/kube/objects.ts';
import { FakeKubeServer } from '../support/fake-kube-server.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const EVENTS = '/apis/events.k8s.io/v1/namespaces/a/events';

function rig() {
  const server = new FakeKubeServer();
  const clock = new VirtualClock();
  const metrics = new Metrics();
  const random = seededRandom(1);
  const http = createKubeHttp({ transport: server.transport, clock, random, metrics });
  return { server, common: { http, clock, random, metrics, logger: silent }, clock, metrics, http };
}

function eventRig() {
  const parts = rig();
  const recorder = createEventRecorder({
    ...parts.common,
    controller: 'fanfare.dev/operator',
    instance: 'pod-1',
  });
  const stop = new AbortController();
  return { ...parts, recorder, stop, running: recorder.run(stop.signal) };
}

const topic = (name = 'orders'): KubeObject => ({
  apiVersion: 'fanfare.dev/v1alpha1',
  kind: 'Topic',
  metadata: { name, namespace: 'a', uid: `uid-${name}` },
});
const away = {
  type: 'Warning',
  reason: 'BrokerUnreachable',
  action: 'Reconcile',
  note: 'no answer',
} as const;

test('one that repeats is one Event that counts, written once a minute at most', async () => {
  const { server, clock, recorder, stop, running } = eventRig();
  for (let second = 0; second < 300; second += 1) {
    recorder.record(topic(), away);
    await clock.advance(1_000);
  }
  await recorder.flushed();
  expect(server.list(EVENTS).length).toBe(1);
  expect(server.list(EVENTS)[0]).toMatchObject({
    reason: 'BrokerUnreachable',
    regarding: { kind: 'Topic', name: 'orders', namespace: 'a', uid: 'uid-orders' },
    reportingController: 'fanfare.dev/operator',
    reportingInstance: 'pod-1',
    series: { count: 241 },
  });
  expect(server.requests.length).toBe(5);
  stop.abort();
  await running;
});

test('what comes back after a while is a new Event', async () => {
  const { server, clock, recorder, stop, running } = eventRig();
  recorder.record(topic(), away);
  await clock.advance(6 * 60_000 + 1);
  recorder.record(topic(), away);
  await clock.settle();
  expect(server.list(EVENTS).length).toBe(2);
  stop.abort();
  await running;
});

test('different ones about one object are limited; those about others are not', async () => {
  const { server, clock, recorder, metrics, stop, running } = eventRig();
  for (let n = 0; n < 100; n += 1) recorder.record(topic(), { ...away, note: `try ${n}` });
  recorder.record(topic('invoices'), away);
  await clock.settle();
  expect(server.list(EVENTS).length).toBe(26);
  expect(metrics.render()).toContain('fanfare_operator_events_total{outcome="suppressed"} 75');
  await clock.advance(10 * 60_000);
  for (let n = 0; n < 10; n += 1) recorder.record(topic(), { ...away, note: `again ${n}` });
  await clock.settle();
  expect(server.list(EVENTS).length).toBe(28);
  stop.abort();
  await running;
});

test('a namespace that refuses events holds nobody up; an Event that was forgotten is made anew', async () => {
  const { server, clock, recorder, metrics, stop, running } = eventRig();
  server.fault = () => ({ kind: 'status', status: 403 });
  recorder.record(topic('x'), away);
  await clock.settle();
  server.fault = () => undefined;
  recorder.record(topic(), { ...away, note: 'ü'.repeat(2_000) });
  await clock.settle();
  const [event] = server.list(EVENTS) as (KubeObject & { note: string })[];
  expect(Buffer.byteLength(event!.note)).toBeLessThanOrEqual(1_024);
  server.delete(EVENTS, event!.metadata.name);
  for (let n = 0; n < 3; n += 1) {
    await clock.advance(61_000);
    recorder.record(topic(), { ...away, note: 'ü'.repeat(2_000) });
    await clock.settle();
  }
  expect(server.list(EVENTS).length).toBe(1);
  expect(metrics.render()).toContain('{outcome="failed"} 2');
  stop.abort();
  await running;
});

test('counters and gauges in the text that Prometheus reads', () => {
  const metrics = new Metrics();
  const counter = metrics.counter('c_total', 'Things.', ['kind']);
  counter.add(['a "quoted" \\ one']);
  counter.add(['a "quoted" \\ one'], 2);
  metrics.gauge('g', 'Now.', [], () => [{ labels: [], value: 1.5 }]);
  expect(metrics.render()).toContain(
    [
      '# HELP c_total Things.',
      '# TYPE c_total counter',
      'c_total{kind="a \\"quoted\\" \\\\ one"} 3',
      '# HELP g Now.',
      '# TYPE g gauge',
      'g 1.5',
      '',
    ].join('\n'),
  );
  for (let n = 0; n < 2_000; n += 1) counter.add([`name-${n}`]);
  expect(counter.total()).toBe(2_003);
  expect(metrics.render().split('\n').length).toBeLessThan(600);
});

test('keys, times and equality', () => {
  expect(parseKey(refKey({ namespace: 'a', name: 'b' }))).toEqual({ namespace: 'a', name: 'b' });
  expect(parseKey(refKey({ name: 'b' }))).toEqual({ name: 'b' });
  expect(microTime(1_700_000_000_123)).toBe('2023-11-14T22:13:20.123000Z');
  expect(sameJson({ a: [1, { b: 2 }], c: undefined }, { a: [1, { b: 2 }] })).toBe(true);
  expect(sameJson({ a: [1, 2] }, { a: [1, 2, 3] })).toBe(false);
  expect(sameJson([1], { 0: 1 })).toBe(false);
  expect(sameJson({ a: null }, {})).toBe(false);
});
