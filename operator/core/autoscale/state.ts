// What is remembered from one decision to the next, and how that begins.
//
// Invariant: it is JSON, and bounded, however long it has been kept.

import { type Change, type Extremes, withChange } from './behavior.ts';
import { type CapacityState, UNKNOWN_CAPACITY } from './capacity.ts';
import { type GuardState, UNGUARDED } from './guard.ts';
import type { AutoscaleInputs } from './inputs.ts';

export interface AutoscaleState {
  readonly startedMs: number;
  /** What the target was set to at the former decision: the difference is a change. */
  readonly seenReplicas: number;
  readonly targetRevision?: string | undefined;
  readonly capacity: CapacityState;
  readonly guard: GuardState;
  /** The highest proposals, for scaleDown.stabilizationWindowSeconds. */
  readonly highest: Extremes;
  /** The lowest proposals, for scaleUp.stabilizationWindowSeconds. */
  readonly lowest: Extremes;
  /** Changes of what the target is set to, whoever made them. */
  readonly changes: readonly Change[];
  readonly panicUntilMs: number;
  /** Since when there has been nothing to do and nothing arriving. */
  readonly idleSinceMs?: number | undefined;
  /** When the newest measurement that could be used arrived. */
  readonly freshMs?: number | undefined;
  readonly decidedMs: number;
  /** What the former decision says, and since when. */
  readonly desired: number;
  readonly sinceMs: number;
  readonly lastScaleMs?: number | undefined;
}

/**
 * The state for a subscription seen for the first time, or again after a restart: present replicas count as
 * proposed for one whole window, so that nothing is taken away before enough is known. `kept` is what a
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
