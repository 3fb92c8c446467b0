// What one replica can do, learned from the outside: the broker says how many messages are outstanding and
// settled, not how busy a pod is.
//
// Replicas are *saturated* while messages wait although consumers could be sent them, and consumers hold
// about as many as they ever do. Only then is what they settle what they can do. While they are not saturated
// and messages wait all the same, those messages can't be delivered, whatever the number of replicas: parked,
// behind a poison message, of a hot ordering key.
//
// Invariant: perReplicaRate is only ever moved by a saturated measurement, by a rate that was exceeded, or,
// slowly, back towards the best that was measured.

import { type Extremes, withMinimum } from './behavior.ts';
import type { AutoscaleInputs } from './inputs.ts';
import type { Load } from './rates.ts';
import type { ScaleSpec } from './spec.ts';

export interface CapacityState {
  /** Messages per second. Undefined: not known yet. */
  readonly perReplicaRate?: number | undefined;
  /** The best rate that was measured; it fades while saturated replicas do less. */
  readonly bestRate?: number | undefined;
  /** How many outstanding messages a consumer holds while it is never short of work. */
  readonly heldPerConsumer?: number | undefined;
  /** How long it takes from a change of replicas until all are ready. */
  readonly startupMs: number;
  /** When replicas were raised, while not all of them are ready. */
  readonly startingSinceMs?: number | undefined;
  /** How long a consumer has a message, as last seen. */
  readonly heldMs: number;
  readonly stretch?: Stretch | undefined;
  /** The fewest ready replicas, over a time in which ackRate follows them. */
  readonly readyLowest: Extremes;
  readonly saturated: boolean;
  readonly unsaturatedSinceMs?: number | undefined;
  /** The fewest messages that waited while replicas were not saturated, over STUCK_WINDOW_MS. */
  readonly waitingLowest: Extremes;
  readonly blockedMessages: number;
  readonly learnedMs: number;
}

/** ackRate averages over 15 s, and has followed the replicas after this time. */
const READY_WINDOW_MS = 25_000;
const STUCK_WINDOW_MS = 30_000;
/** A sample is the mean of a stretch of at least this length and so many messages. */
const SAMPLE_MS = 5_000;
const SAMPLE_MESSAGES = 5;
const SAMPLE_TURNOVER = 50;
/** A sample of replicas that have time to spare can only show that they can do more than was thought. */
const IDLE_SAMPLE_MS = 15_000;
const IDLE_SAMPLE_MESSAGES = 100;
/** A sample of 15 s weighs 0.3, one of few messages less. */
const RATE_MS = 42_000;
const TRUSTED_MESSAGES = 20;
const LONGEST_HELD_MS = 600_000;
const BEST_FADES_MS = 300_000;
const RECOVERY_AFTER_MS = 120_000;
const RECOVERY_MS = 600_000;
const HELD_FADES_MS = 1_800_000;
const SATURATED_FILL = 0.7;
/** Settling this much of what they can do means busy too: clients may hold less than they used to. */
const SATURATED_WORK = 0.9;
const DEFAULT_STARTUP_MS = 30_000;
/** A pod that waited an hour for a node says nothing of the next one. */
const LONGEST_STARTUP_MS = 300_000;

export const UNKNOWN_CAPACITY: CapacityState = {
  startupMs: DEFAULT_STARTUP_MS,
  heldMs: 0,
  readyLowest: [],
  saturated: false,
  waitingLowest: [],
  blockedMessages: 0,
  learnedMs: 0,
};

/** What is worth keeping over a restart of the operator: status.autoscaling.learned. */
export interface Learned {
  readonly ratePerReplica?: number | undefined;
  readonly bestRatePerReplica?: number | undefined;
  readonly outstandingPerConsumer?: number | undefined;
  readonly startupSeconds?: number | undefined;
}

export function learnedFrom(capacity: CapacityState): Learned {
  return {
    ratePerReplica: capacity.perReplicaRate,
    bestRatePerReplica: capacity.bestRate,
    outstandingPerConsumer: capacity.heldPerConsumer,
    startupSeconds: capacity.startupMs / 1000,
  };
}

export function capacityFrom(learned: Learned): CapacityState {
  const startupMs = (learned.startupSeconds ?? DEFAULT_STARTUP_MS / 1000) * 1000;
  return {
    ...UNKNOWN_CAPACITY,
    perReplicaRate: learned.ratePerReplica,
    bestRate: learned.bestRatePerReplica ?? learned.ratePerReplica,
    heldPerConsumer: learned.outstandingPerConsumer,
    startupMs: Math.min(LONGEST_STARTUP_MS, Math.max(0, startupMs)),
  };
}

/** Messages per second and replica, or what the user expects while nothing was measured. */
export function rateOf(spec: ScaleSpec, capacity: CapacityState): number | undefined {
  if (capacity.perReplicaRate !== undefined) return capacity.perReplicaRate;
  if (spec.expectedProcessingMillis === undefined) return undefined;
  return ((spec.concurrency ?? 1) * 1000) / Math.max(1, spec.expectedProcessingMillis);
}

/** How long a start takes: as observed, or longer while the present one takes longer. */
export function startupMsOf(capacity: CapacityState, nowMs: number): number {
  const since = capacity.startingSinceMs;
  return Math.min(LONGEST_STARTUP_MS, Math.max(capacity.startupMs, since === undefined ? 0 : nowMs - since));
}

/** The fewest replicas that were ready at once lately: what the present ackRate comes from. */
export function settledReady(capacity: CapacityState): number {
  return capacity.readyLowest[0]?.replicas ?? 0;
}

/**
 * What still counts for a new version of the consumers: the rate, which is corrected soon; not what the old
 * ones held, nor their best.
 */
export function forgetReplicas(old: CapacityState): CapacityState {
  return { ...old, heldPerConsumer: undefined, bestRate: old.perReplicaRate, waitingLowest: [] };
}

/** `load` must be newer than the one of the call before. */
export function learn(
  spec: ScaleSpec,
  old: CapacityState,
  inputs: AutoscaleInputs,
  load: Load,
  nowMs: number,
): CapacityState {
  const elapsedMs = old.learnedMs === 0 ? 0 : Math.max(0, nowMs - old.learnedMs);
  const ready = { atMs: nowMs, replicas: inputs.readyReplicas };
  const readyWindowMs = Math.max(READY_WINDOW_MS, 1.5 * old.heldMs);
  const readyLowest = withMinimum(old.readyLowest, ready, readyWindowMs);
  const held = heldBy(spec, old, load, old.saturated ? elapsedMs : 0);
  const consumers = Math.max(1, load.consumers);
  const waiting = load.messages - load.outstanding;
  const filled =
    inputs.busyConsumers === undefined
      ? held !== undefined && load.outstanding >= SATURATED_FILL * held * consumers
      : inputs.busyConsumers >= SATURATED_FILL * consumers;
  const able = (old.perReplicaRate ?? Number.POSITIVE_INFINITY) * inputs.readyReplicas;
  const working = (load.ackRate ?? 0) >= SATURATED_WORK * able;
  const served = inputs.readyReplicas > 0 && load.consumers > 0;
  const saturated = served && waiting > 0 && (filled || working);
  const unsaturatedSinceMs = saturated ? undefined : (old.unsaturatedSinceMs ?? nowMs);
  const waitingLowest =
    saturated || !served
      ? []
      : withMinimum(old.waitingLowest, { atMs: nowMs, replicas: waiting }, STUCK_WINDOW_MS);
  const stuck =
    waitingLowest.length > 0 && nowMs - (unsaturatedSinceMs ?? nowMs) >= STUCK_WINDOW_MS
      ? waitingLowest[0]!.replicas
      : 0;

  return {
    ...measured(old, load, inputs.readyReplicas, saturated, nowMs),
    heldPerConsumer: held,
    ...started(old, inputs, nowMs),
    readyLowest,
    saturated,
    unsaturatedSinceMs,
    waitingLowest,
    blockedMessages: Math.min(load.messages, Math.max(stuck, inputs.blockedMessages ?? 0)),
    learnedMs: nowMs,
  };
}

/** A time in which neither the number of ready replicas changed nor whether they are saturated. */
export interface Stretch {
  readonly sinceMs: number;
  readonly ready: number;
  readonly saturated: boolean;
  /** A sample is measured from here on: what was begun before the stretch has been settled. */
  readonly fromMs: number;
  readonly settledTotal: number;
}

function measured(
  old: CapacityState,
  load: Load,
  ready: number,
  saturated: boolean,
  nowMs: number,
): Pick<CapacityState, 'perReplicaRate' | 'bestRate' | 'heldMs' | 'stretch'> {
  const { perReplicaRate: rate, bestRate: best, heldMs } = old;
  const same = old.stretch?.ready === ready && old.stretch.saturated === saturated;
  const begun = { sinceMs: nowMs, ready, saturated, fromMs: nowMs, settledTotal: load.settledTotal };
  if (!same || old.stretch === undefined) return { ...unmeasured(old), stretch: begun };
  const { sinceMs, fromMs, settledTotal } = old.stretch;
  // At first the replicas still settle at the pace of before.
  if (rate !== undefined && nowMs - sinceMs < heldMs) {
    return { ...unmeasured(old), stretch: { ...begun, sinceMs } };
  }
  const elapsedMs = nowMs - fromMs;
  const settled = load.settledTotal - settledTotal;
  // All that was begun at once should have been settled, or the sample may be of a time before the first of
  // it was.
  const turnover = Math.min(SAMPLE_TURNOVER, Math.max(SAMPLE_MESSAGES, load.outstanding));
  const [leastMs, leastSettled] = saturated ? [SAMPLE_MS, turnover] : [IDLE_SAMPLE_MS, IDLE_SAMPLE_MESSAGES];
  if (elapsedMs < leastMs || settled < leastSettled) return { ...unmeasured(old), stretch: old.stretch };

  const stretch = { ...begun, sinceMs };
  const sample = (settled * 1000) / elapsedMs / Math.max(1, ready);
  const held = Math.min(LONGEST_HELD_MS, (load.outstanding * elapsedMs) / settled);
  if (!saturated) {
    const recovering = best !== undefined && nowMs - sinceMs > RECOVERY_AFTER_MS;
    const next =
      recovering && rate !== undefined ? rate + share(elapsedMs, RECOVERY_MS) * (best - rate) : rate;
    if (rate === undefined || sample <= rate)
      return { perReplicaRate: next, bestRate: best, heldMs, stretch };
    return { perReplicaRate: sample, bestRate: Math.max(sample, best ?? 0), heldMs, stretch };
  }
  const trust = Math.min(share(elapsedMs, RATE_MS), settled / (settled + TRUSTED_MESSAGES));
  const moved = rate === undefined ? sample : rate + trust * (sample - rate);
  const bestNow = best ?? moved;
  const faded = bestNow + share(elapsedMs, BEST_FADES_MS) * (moved - bestNow);
  return { perReplicaRate: moved, bestRate: Math.max(moved, faded), heldMs: held, stretch };
}

function unmeasured({ perReplicaRate, bestRate, heldMs }: CapacityState) {
  return { perReplicaRate, bestRate, heldMs };
}

/**
 * The largest number that was seen for each consumer; it fades only while consumers are busy: idle ones hold
 * less.
 */
function heldBy(spec: ScaleSpec, old: CapacityState, load: Load, elapsedMs: number): number | undefined {
  const floor = spec.concurrency ?? 1;
  if (load.consumers === 0) return old.heldPerConsumer;
  const now = Math.max(floor, load.outstanding / load.consumers);
  const before = old.heldPerConsumer ?? now;
  return Math.max(now, before + share(elapsedMs, HELD_FADES_MS) * (now - before));
}

function started(
  old: CapacityState,
  inputs: AutoscaleInputs,
  nowMs: number,
): Pick<CapacityState, 'startupMs' | 'startingSinceMs'> {
  const starting = inputs.readyReplicas < inputs.currentReplicas;
  if (starting) {
    return { startupMs: old.startupMs, startingSinceMs: old.startingSinceMs };
  }
  if (old.startingSinceMs === undefined) return { startupMs: old.startupMs };
  const sample = Math.min(LONGEST_STARTUP_MS, nowMs - old.startingSinceMs);
  return { startupMs: (old.startupMs + sample) / 2 };
}

function share(elapsedMs: number, timeConstantMs: number): number {
  return 1 - Math.exp(-elapsedMs / timeConstantMs);
}
