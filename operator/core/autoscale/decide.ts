// The autoscaler: decide() says how many replicas a subscription's consumers should have. It is meant to be
// called with every measurement and at least every TICK_MS, with the `state` of the decision before.
//
//   load → what a replica can do → need → caps → proposed → windows, tolerance, steps, bounds → recommended
//        → dryRun → desired
//
// Pure: no clock, no chance, no I/O; state is JSON. Invariants (test/unit/autoscale-properties.test.ts):
// `recommended` is within the bounds; unknown or stale load never lowers it (unless maxReplicas or the user's
// fallback says so) and never makes it zero; it becomes zero only after an idle cooldown; no down within the
// window after an up, save for the bounds and the caps.

import { withMaximum, withMinimum } from './behavior.ts';
import { forgetReplicas, learn, rateOf } from './capacity.ts';
import { capped } from './caps.ts';
import type { Decision, ScaleReason } from './decision.ts';
import { opinionsOf } from './explain.ts';
import { finish } from './finish.ts';
import { watchScaleUp } from './guard.ts';
import type { AutoscaleInputs } from './inputs.ts';
import { decideWithoutLoad } from './missing.ts';
import { type Need, needOf, workOf } from './need.ts';
import type { Load } from './rates.ts';
import { type ScaleSpec, TICK_MS } from './spec.ts';
import { stabilized, wholeReplicas } from './stabilize.ts';
import { type AutoscaleState, initialState, noteReplicas } from './state.ts';

/** A measurement that is older says nothing: three ticks. */
export const STALE_MS = 45_000;
const UP_TOLERANCE = 1.1;
/** Knative's factor: twice of what there is, seen in the fast rate alone. */
const PANIC_FACTOR = 2;
const PANIC_MS = 60_000;

/** `state` is the former decision's; undefined at first. `nowMs` never goes back. */
export function decide(
  spec: ScaleSpec,
  state: AutoscaleState | undefined,
  inputs: AutoscaleInputs,
  nowMs: number,
): Decision {
  const seen = noteReplicas(state ?? initialState(inputs.currentReplicas, nowMs), inputs);
  const { load } = inputs;
  // A rate takes two measurements, waking from zero only one.
  const enough = load?.arrivalFast !== undefined || (inputs.currentReplicas === 0 && load !== undefined);
  if (load === undefined || !enough || nowMs - load.receivedAtMs > STALE_MS) {
    return decideWithoutLoad(spec, seen, inputs, nowMs);
  }
  const learned = absorb(spec, seen, inputs, load, nowMs);
  return conclude(spec, learned, inputs, load, nowMs);
}

function absorb(
  spec: ScaleSpec,
  state: AutoscaleState,
  inputs: AutoscaleInputs,
  load: Load,
  nowMs: number,
): AutoscaleState {
  const isIdle =
    load.messages === 0 && load.outstanding === 0 && (load.arrivalNow ?? 0) <= spec.activationRate;
  const idleSinceMs = isIdle ? (state.idleSinceMs ?? nowMs) : undefined;
  const isNew = load.receivedAtMs > (state.freshMs ?? Number.NEGATIVE_INFINITY);
  if (!isNew) return { ...state, idleSinceMs };
  const sameConsumers = inputs.targetRevision === state.targetRevision;
  const known = sameConsumers ? state.capacity : forgetReplicas(state.capacity);
  const capacity = learn(spec, known, inputs, load, nowMs);
  return {
    ...state,
    targetRevision: inputs.targetRevision,
    capacity,
    idleSinceMs,
    freshMs: load.receivedAtMs,
  };
}

function conclude(
  spec: ScaleSpec,
  before: AutoscaleState,
  inputs: AutoscaleInputs,
  load: Load,
  nowMs: number,
): Decision {
  const current = inputs.currentReplicas;
  const work = workOf(load, before.capacity);
  const need = needOf(spec, before, inputs, load, work, nowMs);
  const wantsMore = need.up > current * UP_TOLERANCE;
  const guard = watchScaleUp(before.guard, before.capacity, load, wantsMore, nowMs);
  const idleSinceMs = before.idleSinceMs;
  const active = idleSinceMs === undefined;
  // The last replica goes only on what is known now, not on what was a while ago.
  const idleMs = active ? 0 : nowMs - Math.max(idleSinceMs, before.startedMs);
  const cooledDown = !active && idleMs >= spec.cooldownSeconds * 1000 && nowMs - load.receivedAtMs <= TICK_MS;
  const mayBeZero = spec.minReplicas === 0 && (cooledDown || (current === 0 && !active));
  const cap = (replicas: number) => capped(spec, inputs, guard.holding?.ceiling, mayBeZero, replicas);

  const woken = active ? wholeReplicas(need.up) : 0;
  const raised = current === 0 ? woken : wantsMore ? wholeReplicas(need.up) : current;
  const lowered = Math.min(current, wholeReplicas(need.down));
  const upwards = raised > current || current === 0;
  const { replicas: proposed, limit: capLimit } = cap(upwards ? raised : lowered);
  const { scaleUp, scaleDown } = spec.behavior;
  const proposal = { atMs: nowMs, replicas: proposed };
  // Where more replicas don't help, many arrivals are no reason to keep them.
  const panicUntilMs = guard.holding
    ? 0
    : panics(spec, before, inputs, load)
      ? nowMs + PANIC_MS
      : before.panicUntilMs;
  const state: AutoscaleState = {
    ...before,
    guard,
    highest: withMaximum(before.highest, proposal, scaleDown.stabilizationWindowSeconds * 1000),
    lowest: withMinimum(before.lowest, proposal, scaleUp.stabilizationWindowSeconds * 1000),
    panicUntilMs,
  };
  const { replicas: recommended, limit } = stabilized(spec, state, {
    current,
    proposed,
    mayBeZero,
    cooledDown,
    cap,
    nowMs,
  });
  const saturated = capLimit === 'DownstreamSaturated' ? capLimit : undefined;
  const limitedBy = saturated ?? limit ?? (recommended >= proposed ? capLimit : undefined);
  const reason =
    current > spec.maxReplicas ? 'Bounds' : reasonOf(current, recommended, need, cooledDown, upwards);
  return finish(spec, state, inputs, nowMs, {
    recommended,
    need: mayBeZero ? 0 : cap(need.up).replicas,
    active,
    reason,
    limitedBy: !active && spec.minReplicas === 0 && !cooledDown && current > 0 ? 'Cooldown' : limitedBy,
    opinions: opinionsOf({ spec, state, inputs, load, work, need, nowMs }),
  });
}

function panics(spec: ScaleSpec, { capacity }: AutoscaleState, inputs: AutoscaleInputs, load: Load): boolean {
  const rate = rateOf(spec, capacity);
  if (rate === undefined || inputs.readyReplicas === 0) return false;
  const { rateUp } = workOf({ ...load, arrivalSlow: 0 }, capacity);
  return (rateUp * 100) / spec.targetUtilizationPercent / rate >= PANIC_FACTOR * inputs.readyReplicas;
}

function reasonOf(
  current: number,
  recommended: number,
  need: Need,
  cooledDown: boolean,
  upwards: boolean,
): ScaleReason {
  if (recommended === current) return 'Steady';
  if (recommended > current) {
    if (current === 0) return 'Woken';
    return upwards ? need.reason : 'Bounds';
  }
  return cooledDown ? 'Idle' : 'LessLoad';
}
