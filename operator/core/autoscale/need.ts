// How many replicas the work asks for, rule by rule, before tolerance, windows and caps.
//
// Invariant: each need rises, or stays, with the backlog; `up` also with the arrival rate, unless
// drainTimeSeconds is less than about 2 PIPELINE_SECONDS.
import { type CapacityState, rateOf, startupMsOf } from './capacity.ts';
import type { ScaleReason } from './decision.ts';
import type { AutoscaleInputs } from './inputs.ts';
import type { Load } from './rates.ts';
import type { ScaleSpec } from './spec.ts';
import type { AutoscaleState } from './state.ts';

/** What arrives in this time is always under way: it is no backlog to be worked off. */
const PIPELINE_SECONDS = 5;
/** Arrivals beyond what is settled while messages are blocked are taken to be blocked too. */
const SERVABLE_MARGIN = 1.15;
/** Time constant of Load.arrivalFast. */
const FAST_SECONDS = 15;
const PROBE_DOWN = 0.75;
const PROBE_AFTER_MS = 120_000;

/** What there is to do for replicas, in messages and messages per second. */
export interface Work {
  readonly backlog: number;
  /** How much of the backlog consumers hold: more replicas would not get it. */
  readonly held: number;
  readonly rateUp: number;
  readonly rateDown: number;
}

export function workOf(load: Load, capacity: CapacityState): Work {
  const fast = load.arrivalFast ?? 0;
  const slow = load.arrivalSlow ?? fast;
  // Blocked messages keep coming: with replicas to spare, what can be served is what is served.
  const servable =
    capacity.blockedMessages > 0 && load.ackRate !== undefined
      ? load.ackRate * SERVABLE_MARGIN
      : Number.POSITIVE_INFINITY;
  return {
    backlog: Math.max(0, load.messages - capacity.blockedMessages),
    held: load.outstanding,
    rateUp: Math.min(servable, Math.max(surely(fast), slow)),
    rateDown: Math.min(servable, slow),
  };
}

/**
 * The fast rate less its own standard deviation, for messages that come at random: where they are few, it is
 * mostly chance.
 */
function surely(fastRate: number): number {
  return Math.max(0, fastRate - Math.sqrt(fastRate / (2 * FAST_SECONDS)));
}

export interface DrainNeed {
  /** Both are fractions of replicas. */
  readonly up: number;
  readonly down: number;
}

/**
 * The replicas that keep up at the target utilization and, besides, work off the backlog in half the drain
 * time.
 */
export function drainNeed(
  spec: ScaleSpec,
  work: Work,
  perReplicaRate: number,
  readyReplicas: number,
  startupMs: number,
): DrainNeed {
  const utilization = spec.targetUtilizationPercent / 100;
  const drainSeconds = Math.max(1, spec.drainTimeSeconds / 2);
  const free = Math.max(work.held, work.rateUp * PIPELINE_SECONDS);
  const short = Math.max(0, work.rateUp - perReplicaRate * readyReplicas);
  // What piles up until new replicas are ready has to be worked off as well.
  const excess = Math.max(0, work.backlog + (short * startupMs) / 1000 - free);
  return {
    up: (work.rateUp / utilization + excess / drainSeconds) / perReplicaRate,
    down: (work.rateDown / utilization + Math.max(0, work.backlog - free) / drainSeconds) / perReplicaRate,
  };
}

export function depthNeed(spec: ScaleSpec, work: Work): number | undefined {
  if (spec.targetBacklogPerReplica === undefined) return undefined;
  return work.backlog / Math.max(1, spec.targetBacklogPerReplica);
}

/** A quarter more than are ready, while the oldest message is too old and more replicas would help. */
export function oldestAgeNeed(
  spec: ScaleSpec,
  load: Load,
  capacity: CapacityState,
  readyReplicas: number,
): number | undefined {
  const limit = spec.maxOldestAgeSeconds;
  if (limit === undefined || load.oldestUnackedAgeMs === undefined) return undefined;
  if (load.oldestUnackedAgeMs <= limit * 1000 || !capacity.saturated) return undefined;
  return readyReplicas + Math.max(1, Math.ceil(readyReplicas / 4));
}

export interface Need {
  /** Fractions of replicas, before any cap. Undefined: it is not known what a replica can do. */
  readonly drainUp: number | undefined;
  readonly drainDown: number | undefined;
  readonly depth: number | undefined;
  readonly age: number | undefined;
  readonly up: number;
  readonly down: number;
  readonly reason: ScaleReason;
}

/** What each rule asks for, and what follows from it by the mode. */
export function needOf(
  spec: ScaleSpec,
  state: AutoscaleState,
  inputs: AutoscaleInputs,
  load: Load,
  work: Work,
  nowMs: number,
): Need {
  const { capacity } = state;
  const rate = rateOf(spec, capacity);
  const drain =
    rate === undefined
      ? undefined
      : drainNeed(spec, work, rate, inputs.readyReplicas, startupMsOf(capacity, nowMs));
  const depth = spec.mode === 'Drain' ? undefined : depthNeed(spec, work);
  const age = oldestAgeNeed(spec, load, capacity, inputs.readyReplicas);
  const byDrain = spec.mode === 'Depth' && depth !== undefined ? undefined : drain;
  let up = Math.max(byDrain?.up ?? 0, depth ?? 0);
  let down = Math.max(byDrain?.down ?? 0, depth ?? 0);
  if (byDrain === undefined && depth === undefined) {
    up = inputs.currentReplicas;
    down = inputs.currentReplicas * (mayProbeDown(state, work, nowMs) ? PROBE_DOWN : 1);
  }
  const reason = (depth ?? 0) > (byDrain?.up ?? 0) ? 'Depth' : 'Backlog';
  return {
    drainUp: drain?.up,
    drainDown: drain?.down,
    depth,
    age,
    up: Math.max(up, age ?? 0),
    down: Math.max(down, age ?? 0),
    reason: age !== undefined && age > up ? 'OldestAge' : reason,
  };
}

/** Whether to try with fewer, until they are busy: with too many replicas nothing is ever learned. */
function mayProbeDown({ capacity }: AutoscaleState, work: Work, nowMs: number): boolean {
  const since = capacity.unsaturatedSinceMs;
  return (
    since !== undefined &&
    nowMs - since >= PROBE_AFTER_MS &&
    work.backlog <= Math.max(work.held, work.rateUp * PIPELINE_SECONDS)
  );
}
