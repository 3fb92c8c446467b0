// The autoscaler: decide() says how many replicas a subscription's consumers should have. It is meant to be
// called with every measurement and at least every TICK_MS, with the `state` of the decision before.
//
//   load → what a replica can do → what the work needs → caps → tolerance and windows → step limits → bounds
//
// Pure: no clock, no chance, no I/O; state is JSON. Invariants (test/unit/autoscale-properties.test.ts):
// `recommended`, which is `desired` without dryRun, is within the bounds; unknown or stale load never lowers
// it (unless maxReplicas or the user's fallback says so) and never makes it zero; it becomes zero only after
// an idle cooldown; no down within the window after an up, save for the bounds and the caps.
import { forgetReplicas, learn, rateOf } from './autoscale-capacity.ts';
import { opinionsOf } from './autoscale-explain.ts';
import { watchScaleUp } from './autoscale-guard.ts';
import { decideWithoutLoad } from './autoscale-missing.ts';
import { type Need, needOf, workOf } from './autoscale-need.ts';
import { capped, settle, wholeReplicas } from './autoscale-settle.ts';
import { type ScaleSpec, TICK_MS } from './autoscale-spec.ts';

export { initialState } from './autoscale-state.ts';

import { finish, initialState, noteReplicas } from './autoscale-state.ts';
import type { AutoscaleInputs, AutoscaleState, Decision, ScaleReason } from './autoscale-types.ts';
import type { Load } from './rates.ts';
import { withMaximum, withMinimum } from './stabilize.ts';

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
  const drained = !active && idleMs >= spec.cooldownSeconds * 1000 && nowMs - load.receivedAtMs <= TICK_MS;
  const mayBeZero = spec.minReplicas === 0 && (drained || (current === 0 && !active));
  const cap = (replicas: number) => capped(spec, inputs, guard.holding?.ceiling, mayBeZero, replicas);

  const woken = active ? wholeReplicas(need.up) : 0;
  const wanted = current === 0 ? woken : wantsMore ? wholeReplicas(need.up) : current;
  const lowered = Math.min(current, wholeReplicas(need.down));
  const recommended = cap(wanted > current || current === 0 ? wanted : lowered).replicas;
  const { scaleUp, scaleDown } = spec.behavior;
  const point = { atMs: nowMs, replicas: recommended };
  // Where more replicas don't help, many arrivals are no reason to keep them.
  const panicUntilMs = guard.holding
    ? 0
    : panics(spec, before, inputs, load)
      ? nowMs + PANIC_MS
      : before.panicUntilMs;
  const state: AutoscaleState = {
    ...before,
    guard,
    highest: withMaximum(before.highest, point, scaleDown.stabilizationWindowSeconds * 1000),
    lowest: withMinimum(before.lowest, point, scaleUp.stabilizationWindowSeconds * 1000),
    panicUntilMs,
  };
  const settled = settle(spec, state, { current, recommended, mayBeZero, drained, cap, nowMs });
  const wantedCap = cap(wanted > current ? wanted : lowered).limit;
  const saturated = wantedCap === 'DownstreamSaturated' ? wantedCap : undefined;
  const limitedBy = saturated ?? settled.limit ?? (settled.replicas >= recommended ? wantedCap : undefined);
  const desired = settled.replicas;
  const upwards = wanted > current || current === 0;
  const reason = current > spec.maxReplicas ? 'Bounds' : reasonOf(current, desired, need, drained, upwards);
  return finish(spec, state, inputs, nowMs, {
    recommended: desired,
    need: mayBeZero ? 0 : cap(need.up).replicas,
    active,
    reason,
    limitedBy: !active && spec.minReplicas === 0 && !drained && current > 0 ? 'Cooldown' : limitedBy,
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
  desired: number,
  need: Need,
  drained: boolean,
  upwards: boolean,
): ScaleReason {
  if (desired === current) return 'Steady';
  if (desired > current) {
    if (current === 0) return 'Woken';
    return upwards ? need.reason : 'Bounds';
  }
  return drained ? 'Idle' : 'LessLoad';
}
