// What is said about scaling: the conditions Scaling, ConsumersAvailable and Degraded, and
// status.autoscaling. Pure.
//
// Invariant: what is not known accuses nobody and clears nobody: such a condition stays as it is.
import type { AutoscalingStatus } from '../api/v1alpha1/autoscaling-status.ts';
import type { Consumers } from '../api/v1alpha1/consumers.ts';
import { learnedFrom } from './autoscale/capacity.ts';
import { SLOTS_PER_PARTITION } from './autoscale/caps.ts';
import type { Decision } from './autoscale/decision.ts';
import type { AutoscaleInputs } from './autoscale/inputs.ts';
import { kubeTime, type NewCondition } from './conditions.ts';
import type { Refusal, Target } from './plan-replicas.ts';

export interface ScalingObserved {
  readonly consumers: Consumers;
  readonly target: Target | undefined;
  readonly refusal: Refusal | undefined;
  readonly decision: Decision | undefined;
  /** Streams, as the broker counts them. */
  readonly openStreams: number | undefined;
  readonly draining: { readonly replicas: number; readonly outstanding: number | undefined } | undefined;
  /** Says that a scale-down did not wait any longer, for some time after it. */
  readonly drainTimedOut: string | undefined;
  readonly contended: string | undefined;
  readonly ordering: boolean;
  /** Of the topic. Undefined: not known. */
  readonly partitions: number | undefined;
}

/** Types that are not named stay as they are. */
export function scalingConditions(observed: ScalingObserved): NewCondition[] {
  const degraded = degradedCondition(observed);
  const others = [scalingCondition(observed), availableCondition(observed)];
  return degraded === undefined ? others : [...others, degraded];
}

function scalingCondition({ consumers, target, refusal, decision, draining }: ScalingObserved): NewCondition {
  const type = 'Scaling';
  if (refusal !== undefined) {
    return { type, status: 'False', reason: refusal.reason, message: refusal.message };
  }
  if (draining !== undefined) {
    const held = draining.outstanding === undefined ? '' : `, which hold ${draining.outstanding} messages`;
    const message = `waiting for ${draining.replicas} pods to finish${held}`;
    return { type, status: 'True', reason: 'Draining', message };
  }
  if (consumers.strategy !== 'Internal') {
    const message = `strategy is ${consumers.strategy}: spec.consumers.replicas is ${consumers.replicas ?? 'not set'}`;
    return { type, status: 'True', reason: 'ScaledExternally', message };
  }
  const own = decision?.condition;
  if (own === undefined || target === undefined) {
    return {
      type,
      status: 'Unknown',
      reason: 'MetricsUnavailable',
      message: 'nothing has been measured yet',
    };
  }
  return own;
}

function availableCondition({ target, openStreams }: ScalingObserved): NewCondition {
  const type = 'ConsumersAvailable';
  if (target === undefined) {
    const some = (openStreams ?? 0) > 0;
    return some
      ? { type, status: 'True', reason: 'ConsumersReady', message: '' }
      : {
          type,
          status: 'False',
          reason: 'NoConsumers',
          message: 'the scale target was not found, and nobody reads',
        };
  }
  if (target.readyReplicas > 0) return { type, status: 'True', reason: 'ConsumersReady', message: '' };
  if (target.replicas === 0) {
    return { type, status: 'False', reason: 'ScaledToZero', message: 'the target has no replicas' };
  }
  return { type, status: 'False', reason: 'NoConsumers', message: 'no pod of the target is ready' };
}

/** Undefined: it is not known. */
function degradedCondition(observed: ScalingObserved): NewCondition | undefined {
  const { contended, drainTimedOut, consumers, ordering, partitions } = observed;
  const type = 'Degraded';
  if (contended !== undefined)
    return { type, status: 'True', reason: 'ReplicasContended', message: contended };
  if (drainTimedOut !== undefined)
    return { type, status: 'True', reason: 'DrainTimedOut', message: drainTimedOut };
  if (ordering && partitions === undefined) return undefined;
  const useful = (partitions ?? 0) * SLOTS_PER_PARTITION;
  if (ordering && consumers.maxReplicas > useful) {
    const message = `ordering is on and the topic has ${partitions} partitions: more than ${useful} replicas would have nothing to do`;
    return { type, status: 'True', reason: 'TooFewPartitions', message };
  }
  return { type, status: 'False', reason: 'Reconciled', message: '' };
}

/** `toWallMs` turns times of the clock that decisions go by into those that people see. */
export function autoscalingStatus(
  observed: ScalingObserved,
  inputs: AutoscaleInputs,
  measureTimeMs: number | undefined,
  nowMs: number,
  toWallMs: (ms: number) => number,
): AutoscalingStatus | undefined {
  const { decision, draining } = observed;
  if (decision === undefined) return undefined;
  const { load } = inputs;
  const { state } = decision;
  const learned = learnedFrom(state.capacity);
  return {
    desired: decision.desired,
    recommended: decision.recommended,
    current: inputs.currentReplicas,
    need: rounded(decision.need),
    active: decision.active,
    reason: decision.reason,
    limitedBy: decision.limitedBy,
    message: decision.condition.message,
    since: kubeTime(toWallMs(decision.sinceMs)),
    lastScaleTime: state.lastScaleMs === undefined ? undefined : kubeTime(toWallMs(state.lastScaleMs)),
    draining: draining?.replicas,
    inputs: {
      backlog: load?.messages,
      outstanding: load?.outstanding,
      blocked: Math.round(state.capacity.blockedMessages),
      oldestUnackedAgeSeconds: rounded(load?.oldestUnackedAgeMs, 1000),
      arrivalRate: rounded(load?.arrivalFast),
      slowArrivalRate: rounded(load?.arrivalSlow),
      ackRate: rounded(load?.ackRate),
      consumers: load?.consumers,
      replicas: inputs.currentReplicas,
      readyReplicas: inputs.readyReplicas,
      partitions: inputs.partitions,
      measureTime:
        load === undefined || measureTimeMs === undefined
          ? undefined
          : kubeTime(measureTimeMs === 0 ? nowMs : measureTimeMs),
    },
    opinions: decision.opinions.map(({ rule, replicas, says }) => ({
      rule,
      replicas: replicas === undefined ? undefined : Math.max(0, Math.ceil(replicas)),
      says: says.slice(0, 1_024),
    })),
    learned: {
      ratePerReplica: rounded(learned.ratePerReplica),
      bestRatePerReplica: rounded(learned.bestRatePerReplica),
      outstandingPerConsumer: rounded(learned.outstandingPerConsumer),
      startupSeconds: rounded(learned.startupSeconds),
    },
  };
}

/** Two decimals: a difference that nobody would miss is no reason to write. */
function rounded(value: number | undefined, divisor = 1): number | undefined {
  return value === undefined ? undefined : Math.round((value / divisor) * 100) / 100;
}
