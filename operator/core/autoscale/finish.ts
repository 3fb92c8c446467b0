// How a decision ends, whichever way it was made: what dryRun makes of it, and what is written down for the
// next one.
import type { Decision } from './decision.ts';
import { conditionOf } from './explain.ts';
import type { AutoscaleInputs } from './inputs.ts';
import type { ScaleSpec } from './spec.ts';
import type { AutoscaleState } from './state.ts';

/** Makes a decision of what was concluded: dryRun, since when, the condition. */
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
  return { ...decision, condition: conditionOf(spec, decision, inputs) };
}
