// How a decision begins and ends: what is remembered from the one before, and what is written down for the
// next.
import { UNKNOWN_CAPACITY } from './autoscale-capacity.ts';
import { conditionOf } from './autoscale-explain.ts';
import { UNGUARDED } from './autoscale-guard.ts';
import type { ScaleSpec } from './autoscale-spec.ts';
import type { AutoscaleInputs, AutoscaleState, Decision } from './autoscale-types.ts';
import { withChange } from './stabilize.ts';

/**
 * The state for a subscription seen for the first time, or again after a restart: present replicas count as
 * recommended for one whole window, so that nothing is taken away before enough is known. `kept` is what a
 * former decision's state had learned.
 */
export function initialState(
  currentReplicas: number,
  nowMs: number,
  kept: Partial<Pick<AutoscaleState, 'capacity' | 'guard' | 'targetRevision'>> = {},
): AutoscaleState {
  return {
    startedMs: nowMs,
    seenReplicas: currentReplicas,
    targetRevision: kept.targetRevision,
    capacity: kept.capacity ?? UNKNOWN_CAPACITY,
    guard: kept.guard ?? UNGUARDED,
    highest: [{ atMs: nowMs, replicas: currentReplicas }],
    lowest: [],
    changes: [],
    panicUntilMs: 0,
    decidedMs: nowMs,
    desired: currentReplicas,
    sinceMs: nowMs,
  };
}

/**
 * A change of replicas counts for the step limits whoever made it, so a change that could not be written
 * doesn't.
 */
export function noteReplicas(state: AutoscaleState, inputs: AutoscaleInputs): AutoscaleState {
  const delta = inputs.currentReplicas - state.seenReplicas;
  if (delta === 0) return state;
  return {
    ...state,
    seenReplicas: inputs.currentReplicas,
    // The change was made after the last decision; the HPA too counts from when it changed them.
    changes: withChange(state.changes, { atMs: state.decidedMs, delta }),
    lastScaleMs: state.decidedMs,
    capacity: { ...state.capacity, startingSinceMs: delta > 0 ? state.decidedMs : undefined },
  };
}

/** The part that all decisions share: dryRun, since when, the condition. */
export function finish(
  spec: ScaleSpec,
  state: AutoscaleState,
  inputs: AutoscaleInputs,
  nowMs: number,
  made: Pick<Decision, 'recommended' | 'need' | 'active' | 'reason' | 'limitedBy' | 'opinions'>,
): Decision {
  const desired = spec.dryRun ? inputs.currentReplicas : made.recommended;
  const sinceMs = desired === state.desired ? state.sinceMs : nowMs;
  const next = { ...state, decidedMs: nowMs, desired, sinceMs };
  const dry = spec.dryRun && made.recommended !== desired;
  const decision = {
    ...made,
    desired,
    state: next,
    sinceMs,
    reason: dry ? ('DryRun' as const) : made.reason,
  };
  return { ...decision, conditions: [conditionOf(spec, decision, inputs)] };
}
