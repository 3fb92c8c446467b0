// What is decided when the backlog is unknown or too old: nothing changes but for the bounds, until a
// fallback that the user has set says otherwise.
//
// Invariant: never down to zero; not below what there is unless maxReplicas or the fallback's behavior says
// so.

import { scaleDownLimit, scaleUpLimit, withMaximum } from './behavior.ts';
import type { Decision, ScaleLimit } from './decision.ts';
import { finish } from './finish.ts';
import type { AutoscaleInputs } from './inputs.ts';
import { type Fallback, type ScaleSpec, TICK_MS } from './spec.ts';
import type { AutoscaleState } from './state.ts';

export function decideWithoutLoad(
  spec: ScaleSpec,
  before: AutoscaleState,
  inputs: AutoscaleInputs,
  nowMs: number,
): Decision {
  const current = inputs.currentReplicas;
  const lastMs = before.freshMs ?? before.startedMs;
  const missingMs = Math.max(0, nowMs - lastMs);
  const fallback =
    spec.fallback !== undefined && missingMs >= spec.fallback.failureThreshold * TICK_MS
      ? fallbackReplicas(spec.fallback, current)
      : undefined;
  const bounded = Math.min(spec.maxReplicas, Math.max(spec.minReplicas, fallback ?? current));
  const recommended = fallback === undefined ? bounded : stepwise(spec, before, current, bounded, nowMs);
  // While nothing is known, what there is counts as needed.
  const windowMs = spec.behavior.scaleDown.stabilizationWindowSeconds * 1000;
  const state: AutoscaleState = {
    ...before,
    highest: withMaximum(before.highest, { atMs: nowMs, replicas: Math.max(current, recommended) }, windowMs),
    idleSinceMs: undefined,
  };
  const seconds = Math.round(missingMs / 1000);
  const known =
    before.freshMs === undefined
      ? `no usable measurement of the backlog yet, for ${seconds} s`
      : `the last measurement of the backlog is ${seconds} s old`;
  const limitedBy: ScaleLimit | undefined = recommended === current ? 'StaleMetrics' : undefined;
  return finish(spec, state, inputs, nowMs, {
    recommended,
    need: undefined,
    active: current > 0,
    reason: fallback === undefined ? 'MetricsUnavailable' : 'Fallback',
    limitedBy,
    opinions: [{ rule: 'metrics', replicas: fallback, says: known }],
  });
}

function fallbackReplicas({ behavior, replicas }: Fallback, current: number): number {
  const set = Math.max(1, replicas);
  switch (behavior) {
    case 'static':
      return set;
    case 'currentReplicas':
      return Math.max(1, current);
    case 'currentReplicasIfHigher':
      return Math.max(set, current);
    case 'currentReplicasIfLower':
      return Math.max(1, Math.min(set, current));
  }
}

function stepwise(
  spec: ScaleSpec,
  { changes }: AutoscaleState,
  current: number,
  bounded: number,
  nowMs: number,
): number {
  const { scaleUp, scaleDown } = spec.behavior;
  if (bounded > current) {
    return Math.min(bounded, Math.max(spec.minReplicas, scaleUpLimit(current, scaleUp, changes, nowMs)));
  }
  return Math.min(spec.maxReplicas, Math.max(bounded, scaleDownLimit(current, scaleDown, changes, nowMs)));
}
