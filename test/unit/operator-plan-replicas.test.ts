// planReplicas() in tables: to how many, with or without handshake, and when not. And what scaling says of
// itself.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Consumers } from '../../operator/api/v1alpha1/consumers.ts';
import {
  desiredReplicas,
  planReplicas,
  type Refusal,
  type ReplicasObserved,
  type ReplicasPlan,
  replicasToWrite,
} from '../../operator/core/plan-replicas.ts';
import { type ScalingObserved, scalingConditions } from '../../operator/core/scaling-status.ts';

const CONSUMERS: Consumers = {
  scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'workers' },
  strategy: 'None',
  replicas: 2,
  minReplicas: 0,
  maxReplicas: 9,
  drainTimeSeconds: 60,
  targetUtilizationPercent: 80,
  activationRate: 0,
  cooldownSeconds: 300,
  alignToPartitions: false,
  dryRun: false,
  drain: { enabled: true, timeoutSeconds: 60 },
};
const REFUSAL: Refusal = { reason: 'ScaleTargetOwnedByHPA', message: 'an HPA scales it' };
type Settings = Partial<ReplicasObserved['consumers']>;
const observed = (changes: Partial<ReplicasObserved>, consumers: Settings = {}) => ({
  consumers: { ...CONSUMERS, ...consumers },
  decision: undefined,
  refusal: undefined,
  rolling: false,
  current: 4,
  subscription: 'there' as const,
  ...changes,
});
const KEEP: ReplicasPlan = { kind: 'keep' };
const lower = (to: number, handshake: boolean): ReplicasPlan => ({ kind: 'lower', to, handshake });

test.each<[what: string, changes: Partial<ReplicasObserved>, consumers: Settings, ReplicasPlan]>([
  ['as many as there are', { current: 2 }, {}, KEEP],
  ['more', { current: 1 }, {}, { kind: 'raise', to: 2 }],
  ['more, during a rollout', { current: 1, rolling: true }, {}, { kind: 'raise', to: 2 }],
  ['fewer', {}, {}, lower(2, true)],
  ['fewer, during a rollout', { rolling: true }, {}, KEEP],
  ['fewer, and the handshake is off', {}, { drain: { enabled: false, timeoutSeconds: 60 } }, lower(2, false)],
  ['fewer, and the broker is away', { subscription: 'away' }, {}, lower(2, true)],
  ['fewer, of a subscription that the broker has not', { subscription: 'absent' }, {}, lower(2, false)],
  ['fewer, of a target that is refused', { refusal: REFUSAL }, {}, KEEP],
  ['more, of a target that is refused', { current: 0, refusal: REFUSAL }, {}, KEEP],
  ['fewer, and nothing is to change', {}, { dryRun: true }, KEEP],
  ['more than may be', { current: 9 }, { replicas: 12 }, KEEP],
  ['a number that nobody has said', {}, { strategy: 'KEDA', replicas: undefined }, KEEP],
  ['what KEDA has said', {}, { strategy: 'KEDA', replicas: 3 }, lower(3, true)],
  ['what has not been decided yet', {}, { strategy: 'Internal' }, KEEP],
  ['what was decided', { decision: { desired: 5 } }, { strategy: 'Internal' }, { kind: 'raise', to: 5 }],
  ['what was decided, to zero', { decision: { desired: 0 } }, { strategy: 'Internal' }, lower(0, true)],
  ['a number of before, for strategy None', { decision: { desired: 5 } }, {}, lower(2, true)],
])('planned for %s', (_, changes, consumers, plan) => {
  expect(planReplicas(observed(changes, consumers))).toEqual(plan);
});

test('what is desired while nothing is to change is what there is', () => {
  expect(desiredReplicas({ ...CONSUMERS, dryRun: true }, undefined, 4)).toBe(4);
  expect(desiredReplicas(CONSUMERS, undefined, 4)).toBe(2);
});

test('with a handshake it is the scale-down that says when to write', () => {
  const write = { kind: 'write', to: 1 } as const;
  const wait = { kind: 'wait' } as const;
  expect(replicasToWrite(lower(1, true), wait)).toBeUndefined();
  expect(replicasToWrite(lower(1, true), write)).toBe(1);
  expect(replicasToWrite(lower(1, false), wait)).toBe(1);
  expect(replicasToWrite({ kind: 'raise', to: 6 }, wait)).toBe(6);
  expect(replicasToWrite(KEEP, wait)).toBeUndefined();
});

test('whatever is observed: no fall in a rollout or of a refused target, none past the handshake', () => {
  const any = fc.record({
    current: fc.nat(12),
    rolling: fc.boolean(),
    refusal: fc.constantFrom(undefined, REFUSAL),
    subscription: fc.constantFrom('there' as const, 'absent' as const, 'away' as const),
    decision: fc.option(fc.record({ desired: fc.nat(9) }), { nil: undefined }),
  });
  const consumers = fc.record({
    strategy: fc.constantFrom('Internal' as const, 'KEDA' as const, 'None' as const),
    replicas: fc.option(fc.nat(9), { nil: undefined }),
    dryRun: fc.boolean(),
    drain: fc.record({ enabled: fc.boolean(), timeoutSeconds: fc.constant(60) }),
  });
  fc.assert(
    fc.property(any, consumers, (changes, settings) => {
      const plan = planReplicas(observed(changes, settings));
      if (plan.kind === 'keep') return;
      expect(changes.refusal).toBeUndefined();
      expect(plan.kind).toBe(plan.to > changes.current ? 'raise' : 'lower');
      expect(plan.to).not.toBe(changes.current);
      if (plan.kind === 'raise') return;
      expect(changes.rolling).toBe(false);
      if (!plan.handshake) expect(!settings.drain.enabled || changes.subscription === 'absent').toBe(true);
    }),
  );
});

const degraded = (partitions: number | undefined, changes: Partial<ScalingObserved> = {}) =>
  scalingConditions({
    consumers: { ...CONSUMERS, maxReplicas: 300 },
    target: undefined,
    refusal: undefined,
    decision: undefined,
    openStreams: undefined,
    draining: undefined,
    drainTimedOut: undefined,
    contended: undefined,
    ordering: true,
    partitions,
    ...changes,
  }).find(({ type }) => type === 'Degraded');

test('too few partitions are said only of those that are known', () => {
  expect(degraded(1)).toMatchObject({ status: 'True', reason: 'TooFewPartitions' });
  expect(degraded(2)).toMatchObject({ status: 'False', reason: 'Reconciled' });
  expect(degraded(undefined)).toBeUndefined();
  expect(degraded(undefined, { ordering: false })).toMatchObject({ status: 'False' });
  expect(degraded(undefined, { contended: 'a tool' })).toMatchObject({ reason: 'ReplicasContended' });
});
