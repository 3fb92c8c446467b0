// From what the load asks for to what is done now: caps, then windows, tolerance, step limits and bounds.
//
// Invariant: the result is within [minReplicas, maxReplicas], and does not fall to 0 unless that was allowed.
import { alignedToPartitions, usefulParallelism } from './autoscale-need.ts';
import type { ScaleSpec } from './autoscale-spec.ts';
import type { AutoscaleInputs, AutoscaleState, ScaleLimit } from './autoscale-types.ts';
import { scaleDownLimit, scaleUpLimit } from './stabilize.ts';

/** Replicas are lowered only if they are clearly too many. */
const DOWN_TOLERANCE = 0.8;
/** Keeps sums of fractions that make a whole number from being rounded up. */
const EPSILON = 1e-6;

export function wholeReplicas(fraction: number): number {
  return Math.ceil(fraction - EPSILON);
}

export interface Proposal {
  readonly current: number;
  readonly recommended: number;
  readonly mayBeZero: boolean;
  readonly drained: boolean;
  readonly cap: (replicas: number) => Capped;
  readonly nowMs: number;
}

/** What is done now of what is recommended: windows, tolerance, steps, bounds. */
export function settle(
  spec: ScaleSpec,
  state: AutoscaleState,
  { current, recommended, mayBeZero, drained, cap, nowMs }: Proposal,
): { replicas: number; limit?: ScaleLimit } {
  const { scaleUp, scaleDown } = spec.behavior;
  const floor = mayBeZero ? 0 : Math.max(1, spec.minReplicas);
  // The bounds are the user's word: they apply at once, whatever windows and steps say.
  if (current > spec.maxReplicas) return { replicas: spec.maxReplicas, limit: 'MaxReplicas' };
  const start = Math.max(current, spec.minReplicas);
  if (recommended > start) {
    const stable = Math.max(start, state.lowest[0]!.replicas);
    const replicas = Math.min(stable, Math.max(floor, scaleUpLimit(start, scaleUp, state.changes, nowMs)));
    if (replicas < stable) return { replicas, limit: 'ScaleUpPolicy' };
    return stable < recommended ? { replicas, limit: 'Stabilization' } : { replicas };
  }
  if (start > current) return { replicas: start };
  // For an idle subscription the cooldown is the window.
  const stable = drained && mayBeZero ? 0 : Math.min(start, cap(state.highest[0]!.replicas).replicas);
  if (stable >= start || (stable > 0 && stable > start * DOWN_TOLERANCE + EPSILON)) {
    const held = recommended < start * DOWN_TOLERANCE && stable > recommended;
    return held ? { replicas: start, limit: 'Stabilization' } : { replicas: start };
  }
  if (nowMs < state.panicUntilMs) return { replicas: start, limit: 'Panic' };
  const lowest = Math.max(floor, scaleDownLimit(start, scaleDown, state.changes, nowMs));
  if (lowest > stable) return { replicas: Math.min(start, lowest), limit: 'ScaleDownPolicy' };
  return stable > recommended ? { replicas: stable, limit: 'Stabilization' } : { replicas: stable };
}

export interface Capped {
  readonly replicas: number;
  readonly limit?: ScaleLimit;
}

/** `wanted` within everything that bounds a recommendation, and which of that bound it. */
export function capped(
  spec: ScaleSpec,
  inputs: AutoscaleInputs,
  ceiling: number | undefined,
  mayBeZero: boolean,
  wanted: number,
): Capped {
  const caps: readonly [ScaleLimit, number][] = [
    ['UsefulParallelism', usefulParallelism(inputs)],
    ['DownstreamSaturated', ceiling ?? Number.POSITIVE_INFINITY],
    ['Budget', inputs.budgetReplicas ?? Number.POSITIVE_INFINITY],
    ['MaxReplicas', spec.maxReplicas],
  ];
  let result: Capped = { replicas: wanted };
  if (spec.alignToPartitions) result = { replicas: alignedToPartitions(wanted, inputs.partitions) };
  for (const [limit, most] of caps) if (result.replicas > most) result = { replicas: most, limit };
  const least = mayBeZero ? 0 : Math.max(1, spec.minReplicas);
  return result.replicas < least ? { replicas: least, limit: 'MinReplicas' } : result;
}
