// Scale-down without redelivery, narrated: who is chosen, when replicas may fall, what when they do not. And
// what a status is written for.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { worthWriting } from '../../operator/core/plan-status.ts';
import {
  type DrainPod,
  LOWERING_MS,
  NO_SCALE_DOWN,
  RESTING_MS,
  type ScaleDownObserved,
  type ScaleDownState,
  stepScaleDown,
} from '../../operator/core/scale-down.ts';

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
const inputs = (changes: Partial<ScaleDownObserved> = {}): ScaleDownObserved => ({
  current: 4,
  desired: 2,
  pods: PODS,
  byOrdinal: false,
  outstanding: undefined,
  refusedMs: undefined,
  timeoutMs: 60_000,
  nowMs: 1_000,
  ...changes,
});
const VICTIMS = ['starting', 'youngest'];
const draining = (changes: object = {}): ScaleDownState => ({
  kind: 'draining',
  to: 2,
  victims: VICTIMS,
  sinceMs: 1_000,
  ...changes,
});
const lowering = (changes: object = {}): ScaleDownState => ({
  kind: 'lowering',
  from: 4,
  to: 2,
  victims: VICTIMS,
  sinceMs: 500,
  triedMs: 1_000,
  timedOut: false,
  ...changes,
});
const leaving: ScaleDownState = { kind: 'leaving', to: 2, victims: VICTIMS, sinceMs: 1_000 };
const told = (state: ScaleDownState, changes: Partial<ScaleDownObserved> = {}) =>
  stepScaleDown(state, inputs(changes));
const WAIT = { kind: 'wait' };
const RELEASE = { kind: 'release' };
const WRITE = { kind: 'write', to: 2 };

describe('from nothing', () => {
  test('the ones that Kubernetes would take first, then the youngest, are drained', () => {
    expect(told(NO_SCALE_DOWN)).toEqual({ state: draining(), step: WAIT });
  });
  test('as many as there should be: nothing', () => {
    expect(told(NO_SCALE_DOWN, { desired: 4 }).step).toEqual({ kind: 'none' });
    expect(told(NO_SCALE_DOWN, { desired: 5 }).step).toEqual({ kind: 'none' });
  });
  test('a StatefulSet loses its highest ordinals', () => {
    const pods = ['w-0', 'w-10', 'w-9', 'w-2'].map((name) => pod(name, { ready: name !== 'w-0' }));
    expect(told(NO_SCALE_DOWN, { pods, byOrdinal: true }).state).toMatchObject({ victims: ['w-10', 'w-9'] });
  });
  test('replicas without a pod go first', () => {
    expect(told(NO_SCALE_DOWN, { current: 5, desired: 3 }).state).toMatchObject({ victims: ['starting'] });
    expect(told(NO_SCALE_DOWN, { pods: [] })).toEqual({ state: NO_SCALE_DOWN, step: WRITE });
  });
  test('who is going anyhow is not chosen', () => {
    const pods = PODS.map((each) => (each.name === 'youngest' ? { ...each, ending: true } : each));
    expect(told(NO_SCALE_DOWN, { pods, current: 3 }).state).toMatchObject({ victims: ['starting'] });
    const ready = PODS.filter(({ name }) => name !== 'starting');
    const going = ready.map((each) => (each.name === 'youngest' ? { ...each, ending: true } : each));
    expect(told(NO_SCALE_DOWN, { pods: going, current: 2, desired: 1 }).state).toMatchObject({
      victims: ['young'],
    });
  });
});

describe('while they drain', () => {
  test('they hold messages, or nobody knows: wait', () => {
    expect(told(draining(), { outstanding: 3 }).step).toEqual(WAIT);
    expect(told(draining()).step).toEqual(WAIT);
  });
  test('they hold nothing: replicas are to fall', () => {
    expect(told(draining(), { outstanding: 0, nowMs: 4_000 })).toEqual({
      state: lowering({ sinceMs: 1_000, triedMs: 4_000 }),
      step: WRITE,
    });
  });
  test('it takes too long: replicas are to fall all the same', () => {
    const late = told(draining(), { outstanding: 3, nowMs: 61_000 });
    expect(late.step).toEqual(WRITE);
    expect(late.state).toMatchObject({ kind: 'lowering', timedOut: true });
    expect(told(draining(), { outstanding: 3, nowMs: 60_999 }).step).toEqual(WAIT);
  });
  test('the load is back: they get work again', () => {
    expect(told(draining(), { desired: 4 })).toEqual({ state: NO_SCALE_DOWN, step: RELEASE });
  });
  test('fewer still: more of them, those chosen stay chosen, and the clock runs on', () => {
    const { state, step } = told(draining(), { desired: 1, outstanding: 0 });
    expect(state).toMatchObject({ to: 1, sinceMs: 1_000, victims: [...VICTIMS, 'young'] });
    expect(step).toEqual(WAIT);
  });
});

describe('while replicas are to fall', () => {
  test('they have fallen: the pods leave, and it is told whether they had finished', () => {
    const fallen = { kind: 'fallen', from: 4, to: 2, timedOut: false };
    expect(told(lowering(), { current: 2 })).toEqual({ state: leaving, step: fallen });
    expect(told(lowering({ timedOut: true }), { current: 1 }).step).toEqual({ ...fallen, timedOut: true });
  });
  test('they have not: the write is made again, for some time', () => {
    const nowMs = 1_000 + LOWERING_MS;
    expect(told(lowering(), { nowMs: nowMs - 1 })).toEqual({ state: lowering(), step: WRITE });
    expect(told(lowering(), { current: 3, desired: 2 })).toEqual({ state: lowering(), step: WRITE });
    expect(told(lowering(), { nowMs })).toEqual({
      state: { kind: 'resting', sinceMs: nowMs },
      step: RELEASE,
    });
  });
  test('the write was refused: they get work again at once; an earlier refusal says nothing', () => {
    expect(told(lowering(), { refusedMs: 1_000 }).state.kind).toBe('resting');
    expect(told(lowering(), { refusedMs: 999 }).step).toEqual(WRITE);
  });
  test('another number is desired', () => {
    expect(told(lowering(), { desired: 4 })).toEqual({ state: NO_SCALE_DOWN, step: RELEASE });
    expect(told(lowering(), { desired: 1 })).toEqual({
      state: draining({ to: 1, sinceMs: 500, victims: [...VICTIMS, 'young'] }),
      step: WAIT,
    });
  });
});

test('after a scale-down that was given up the next one is not begun at once', () => {
  const resting: ScaleDownState = { kind: 'resting', sinceMs: 1_000 };
  expect(told(resting, { nowMs: 999 + RESTING_MS })).toEqual({ state: resting, step: { kind: 'none' } });
  expect(told(resting, { nowMs: 1_000 + RESTING_MS }).state).toEqual(NO_SCALE_DOWN);
});

describe('while they leave', () => {
  test('they are still there: no work for them, and nobody else is chosen', () => {
    expect(told(leaving, { current: 2, desired: 1 })).toEqual({ state: leaving, step: WAIT });
  });
  test('they are gone, or nobody takes them', () => {
    expect(told(leaving, { current: 2, pods: PODS.slice(0, 2) }).step).toEqual(RELEASE);
    expect(told(leaving, { current: 2, nowMs: 121_000 }).step).toEqual(RELEASE);
  });
  test('replicas are raised again: those that were not taken get work', () => {
    expect(told(leaving, { current: 4, desired: 4 })).toEqual({ state: NO_SCALE_DOWN, step: RELEASE });
    const pods = PODS.map((each) => (each.name === 'youngest' ? { ...each, ending: true } : each));
    expect(told(leaving, { current: 4, desired: 4, pods })).toEqual({
      state: { ...leaving, victims: ['youngest'] },
      step: WAIT,
    });
  });
});

test('whatever becomes of the writes: they follow an answer of nothing held, or the time; never below what is desired', () => {
  const story = fc.array(
    fc.record({
      desired: fc.nat(4),
      outstanding: fc.option(fc.nat(2), { nil: undefined }),
      afterMs: fc.nat(40_000),
      isWritten: fc.boolean(),
    }),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(story, (moments) => {
      let state: ScaleDownState = NO_SCALE_DOWN;
      let current = 4;
      let nowMs = 0;
      let since = 0;
      for (const { desired, outstanding, afterMs, isWritten } of moments) {
        nowMs += afterMs;
        const before: ScaleDownState = state;
        const next = stepScaleDown(state, inputs({ current, desired, outstanding, nowMs }));
        if (before.kind === 'none' && next.state.kind === 'draining') since = nowMs;
        if (next.step.kind === 'write') {
          const isAgain = before.kind === 'lowering' && before.to === desired;
          const isDrained = before.kind === 'draining' && (outstanding === 0 || nowMs - since >= 60_000);
          expect(isAgain || isDrained).toBe(true);
          expect(next.step.to).toBe(desired);
          expect(next.step.to).toBeLessThan(current);
          if (isWritten) current = next.step.to;
        } else if (desired > current) current = desired;
        state = next.state;
      }
    }),
  );
});

const STATUS = {
  conditions: [
    { type: 'Ready', status: 'True', reason: 'Reconciled', message: '' },
    { type: 'Scaling', status: 'True', reason: 'Reconciled', message: '4 replicas (3.2 needed)' },
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
    { conditions: [STATUS.conditions[0], { ...STATUS.conditions[1], message: '4 replicas (3.4 needed)' }] },
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
