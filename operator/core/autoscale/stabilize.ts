// From what is proposed to what is recommended: windows, tolerance, step limits, bounds.
//
// Invariant: the result is within [minReplicas, maxReplicas], and does not fall to 0 unless that was allowed.
import { scaleDownLimit, scaleUpLimit } from './behavior.ts';
import type { Capped } from './caps.ts';
import type { ScaleSpec } from './spec.ts';
import type { AutoscaleState } from './state.ts';

/** Replicas are lowered only if they are clearly too many. */
const DOWN_TOLERANCE = 0.8;
/** Keeps sums of fractions that make a whole number from being rounded up. */
const EPSILON = 1e-6;

export function wholeReplicas(fraction: number): number {
  return Math.ceil(fraction - EPSILON);
}

export interface StabilizeInputs {
  readonly current: number;
  readonly proposed: number;
  readonly mayBeZero: boolean;
  /** Idle for the whole cooldown. */
  readonly cooledDown: boolean;
  readonly cap: (replicas: number) => Capped;
  readonly nowMs: number;
}

/** How many are recommended, and what keeps that from being what was proposed. */
export function stabilized(
  spec: ScaleSpec,
  state: AutoscaleState,
  { current, proposed, mayBeZero, cooledDown, cap, nowMs }: StabilizeInputs,
): Capped {
  const { scaleUp, scaleDown } = spec.behavior;
  const floor = mayBeZero ? 0 : Math.max(1, spec.minReplicas);
  // The bounds are the user's word: they apply at once, whatever windows and steps say.
  if (current > spec.maxReplicas) return { replicas: spec.maxReplicas, limit: 'MaxReplicas' };
  const start = Math.max(current, spec.minReplicas);
  if (proposed > start) {
    const stable = Math.max(start, state.lowest[0]!.replicas);
    const replicas = Math.min(stable, Math.max(floor, scaleUpLimit(start, scaleUp, state.changes, nowMs)));
    if (replicas < stable) return { replicas, limit: 'ScaleUpPolicy' };
    return stable < proposed ? { replicas, limit: 'Stabilization' } : { replicas };
  }
  if (start > current) return { replicas: start };
  // For an idle subscription the cooldown is the window.
  const stable = cooledDown && mayBeZero ? 0 : Math.min(start, cap(state.highest[0]!.replicas).replicas);
  if (stable >= start || (stable > 0 && stable > start * DOWN_TOLERANCE + EPSILON)) {
    const held = proposed < start * DOWN_TOLERANCE && stable > proposed;
    return held ? { replicas: start, limit: 'Stabilization' } : { replicas: start };
  }
  if (nowMs < state.panicUntilMs) return { replicas: start, limit: 'Panic' };
  const lowest = Math.max(floor, scaleDownLimit(start, scaleDown, state.changes, nowMs));
  if (lowest > stable) return { replicas: Math.min(start, lowest), limit: 'ScaleDownPolicy' };
  return stable > proposed ? { replicas: stable, limit: 'Stabilization' } : { replicas: stable };
}
