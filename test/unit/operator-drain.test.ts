// Scale-down without redelivery, narrated: who is chosen, when replicas may fall. And what a status is
// written for.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DrainInputs,
  type DrainPod,
  type DrainState,
  NO_DRAIN,
  stepDrain,
} from '../../operator/core/plan-drain.ts';
import { worthWriting } from '../../operator/core/plan-status.ts';

const pod = (name: string, changes: Partial<DrainPod> = {}): DrainPod => ({
  name,
  ips: [`10.0.0.${name.length}`],
  ready: true,
  createdMs: 0,
  ending: false,
  ...changes,
});
const PODS = [
  pod('old'),
  pod('young', { createdMs: 5 }),
  pod('youngest', { createdMs: 9 }),
  pod('starting', { ready: false }),
];
const inputs = (changes: Partial<DrainInputs> = {}): DrainInputs => ({
  current: 4,
  desired: 2,
  pods: PODS,
  byOrdinal: false,
  outstanding: undefined,
  timeoutMs: 60_000,
  nowMs: 1_000,
  ...changes,
});
const draining = (changes: object = {}): DrainState => ({
  kind: 'draining',
  to: 2,
  victims: ['starting', 'youngest'],
  sinceMs: 1_000,
  ...changes,
});
const leaving: DrainState = { kind: 'leaving', victims: ['starting', 'youngest'], sinceMs: 1_000 };
const told = (state: DrainState, changes: Partial<DrainInputs> = {}) => stepDrain(state, inputs(changes));

describe('from nothing', () => {
  test('the ones that Kubernetes would take first, then the youngest, are drained', () => {
    expect(told(NO_DRAIN)).toEqual({ state: draining(), step: { kind: 'wait' } });
  });
  test('as many as there should be: nothing', () => {
    expect(told(NO_DRAIN, { desired: 4 }).step).toEqual({ kind: 'none' });
    expect(told(NO_DRAIN, { desired: 5 }).step).toEqual({ kind: 'none' });
  });
  test('a StatefulSet loses its highest ordinals', () => {
    const pods = ['w-0', 'w-10', 'w-9', 'w-2'].map((name) => pod(name, { ready: name !== 'w-0' }));
    expect(told(NO_DRAIN, { pods, byOrdinal: true }).state).toMatchObject({ victims: ['w-10', 'w-9'] });
  });
  test('replicas without a pod go first', () => {
    expect(told(NO_DRAIN, { current: 5, desired: 3 }).state).toMatchObject({ victims: ['starting'] });
    expect(told(NO_DRAIN, { pods: [] })).toEqual({
      state: NO_DRAIN,
      step: { kind: 'scale', to: 2, timedOut: false },
    });
  });
  test('who is going anyhow is not chosen', () => {
    const pods = PODS.map((each) => (each.name === 'youngest' ? { ...each, ending: true } : each));
    expect(told(NO_DRAIN, { pods, current: 3 }).state).toMatchObject({ victims: ['starting'] });
    const ready = PODS.filter(({ name }) => name !== 'starting');
    const going = ready.map((each) => (each.name === 'youngest' ? { ...each, ending: true } : each));
    expect(told(NO_DRAIN, { pods: going, current: 2, desired: 1 }).state).toMatchObject({
      victims: ['young'],
    });
  });
});

describe('while they drain', () => {
  test('they hold messages, or nobody knows: wait', () => {
    expect(told(draining(), { outstanding: 3 }).step).toEqual({ kind: 'wait' });
    expect(told(draining()).step).toEqual({ kind: 'wait' });
  });
  test('they hold nothing: replicas fall, and they leave', () => {
    expect(told(draining(), { outstanding: 0 })).toEqual({
      state: leaving,
      step: { kind: 'scale', to: 2, timedOut: false },
    });
  });
  test('it takes too long: replicas fall all the same, and it is said', () => {
    expect(told(draining(), { outstanding: 3, nowMs: 61_000 }).step).toEqual({
      kind: 'scale',
      to: 2,
      timedOut: true,
    });
    expect(told(draining(), { outstanding: 3, nowMs: 60_999 }).step).toEqual({ kind: 'wait' });
  });
  test('the load is back: they get work again', () => {
    expect(told(draining(), { desired: 4 })).toEqual({ state: NO_DRAIN, step: { kind: 'release' } });
  });
  test('fewer still: more of them, those chosen stay chosen, and the clock runs on', () => {
    const { state, step } = told(draining(), { desired: 1, outstanding: 0 });
    expect(state).toMatchObject({ to: 1, sinceMs: 1_000, victims: ['starting', 'youngest', 'young'] });
    expect(step).toEqual({ kind: 'wait' });
  });
});

describe('while they leave', () => {
  test('they are still there: no work for them, and nobody else is chosen', () => {
    expect(told(leaving, { current: 2, desired: 1 })).toEqual({ state: leaving, step: { kind: 'wait' } });
  });
  test('they are gone, or nobody takes them', () => {
    expect(told(leaving, { current: 2, pods: PODS.slice(0, 2) }).step).toEqual({ kind: 'release' });
    expect(told(leaving, { current: 2, nowMs: 121_000 }).step).toEqual({ kind: 'release' });
  });
});

test('replicas fall only after an answer of nothing held, or the time; never below what is desired', () => {
  const story = fc.array(
    fc.record({
      desired: fc.nat(4),
      outstanding: fc.option(fc.nat(2), { nil: undefined }),
      afterMs: fc.nat(40_000),
    }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(story, (moments) => {
      let state: DrainState = NO_DRAIN;
      let current = 4;
      let nowMs = 0;
      let since = 0;
      for (const { desired, outstanding, afterMs } of moments) {
        nowMs += afterMs;
        const before: DrainState = state;
        const next = stepDrain(state, inputs({ current, desired, outstanding, nowMs }));
        if (before.kind === 'none' && next.state.kind === 'draining') since = nowMs;
        if (next.step.kind === 'scale') {
          expect(before.kind === 'draining' && (outstanding === 0 || nowMs - since >= 60_000)).toBe(true);
          expect(next.step.to).toBe(desired);
          expect(next.step.to).toBeLessThan(current);
          current = next.step.to;
        } else if (desired > current) current = desired;
        state = next.state;
      }
    }),
  );
});

const STATUS = {
  conditions: [
    { type: 'Ready', status: 'True', reason: 'Reconciled', message: '' },
    { type: 'Scaling', status: 'True', reason: 'Reconciled', message: '4 replicas (3.2 wanted)' },
  ],
  backlog: 1_000,
  arrivalRate: 50,
  measureTime: '2026-01-01T00:00:00Z',
  oldestUnackedTime: '2026-01-01T00:00:00Z',
  replicas: 4,
  autoscaling: {
    desired: 4,
    reason: 'Steady',
    need: 3,
    inputs: { backlog: 1_000 },
    opinions: [{ rule: 'idle', says: '3 s' }],
  },
};

test('a backlog of nothing is written once it is known', () => {
  expect(worthWriting({ replicas: 1 }, { replicas: 1, backlog: 0 })).toBe('later');
});

test.each<[what: string, after: object, worth: string]>([
  ['the same', {}, 'nothing'],
  ['undefined is absent', { topic: undefined }, 'nothing'],
  ['another time of measurement', { measureTime: '2026-01-01T00:01:00Z' }, 'nothing'],
  ['a little more backlog', { backlog: 1_050 }, 'nothing'],
  ['much more backlog', { backlog: 2_000 }, 'later'],
  ['a backlog that is not known any more', { backlog: undefined }, 'now'],
  ['another rate', { arrivalRate: 90 }, 'later'],
  ['much older', { oldestUnackedTime: '2026-01-01T00:01:00Z' }, 'later'],
  ['no backlog any more', { backlog: 0 }, 'now'],
  ['other replicas', { replicas: 5 }, 'now'],
  ['another reason', { autoscaling: { ...STATUS.autoscaling, reason: 'Backlog' } }, 'now'],
  ['other opinions', { autoscaling: { ...STATUS.autoscaling, opinions: [] } }, 'nothing'],
  [
    'other words of Scaling',
    { conditions: [STATUS.conditions[0], { ...STATUS.conditions[1], message: '4 replicas (3.4 wanted)' }] },
    'nothing',
  ],
  [
    'other words of Ready',
    { conditions: [{ ...STATUS.conditions[0], message: 'why' }, STATUS.conditions[1]] },
    'now',
  ],
])('a status is written for %s: %s', (_, after, worth) => {
  expect(worthWriting(STATUS, { ...STATUS, ...after })).toBe(worth);
});
