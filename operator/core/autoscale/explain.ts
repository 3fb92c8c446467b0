// Says in words what decide() saw and did: each rule's opinion, and the Scaling condition. Decides nothing.
import { rateOf } from './capacity.ts';
import { usefulParallelism } from './caps.ts';
import type { Decision, Opinion, ScalingCondition } from './decision.ts';
import type { AutoscaleInputs } from './inputs.ts';
import type { Need, Work } from './need.ts';
import type { Load } from './rates.ts';
import type { ScaleSpec } from './spec.ts';
import type { AutoscaleState } from './state.ts';

export interface Seen {
  readonly spec: ScaleSpec;
  readonly state: AutoscaleState;
  readonly inputs: AutoscaleInputs;
  readonly load: Load;
  readonly work: Work;
  readonly need: Need;
  readonly nowMs: number;
}

export function opinionsOf(seen: Seen): Opinion[] {
  return [
    ...drainOpinions(seen),
    depthOpinion(seen),
    ageOpinion(seen),
    ...capOpinions(seen),
    ...windowOpinions(seen),
    idleOpinion(seen),
  ];
}

function drainOpinions({ spec, state, inputs, work, need, nowMs }: Seen): Opinion[] {
  const rate = rateOf(spec, state.capacity);
  if (rate === undefined || need.drainUp === undefined || need.drainDown === undefined) {
    const says =
      'not known yet what a replica can do: it is measured as soon as replicas are busy, or set expectedProcessingMillis';
    const probe: Opinion[] =
      need.down < inputs.currentReplicas && need.depth === undefined
        ? [
            {
              rule: 'probe',
              replicas: ceil(need.down),
              says: `not busy for ${seconds(nowMs - (state.capacity.unsaturatedSinceMs ?? nowMs))}: fewer, to find out`,
            },
          ]
        : [];
    return [{ rule: 'drain-up', says }, { rule: 'drain-down', says }, ...probe];
  }
  const each =
    state.capacity.perReplicaRate === undefined ? `${n(rate)}/s expected` : `${n(rate)}/s measured`;
  const utilization = `at ${spec.targetUtilizationPercent} % utilization`;
  return [
    {
      rule: 'drain-up',
      replicas: ceil(need.drainUp),
      says: `${n(work.rateUp)}/s arriving ${utilization} and ${n(work.backlog)} messages to drain in ${spec.drainTimeSeconds} s, by replicas of ${each}: ${need.drainUp.toFixed(2)}`,
    },
    {
      rule: 'drain-down',
      replicas: ceil(need.drainDown),
      says: `${n(work.rateDown)}/s arriving over 2 min ${utilization}: ${need.drainDown.toFixed(2)}`,
    },
  ];
}

function depthOpinion({ spec, work, need }: Seen): Opinion {
  if (need.depth === undefined) {
    const says =
      spec.targetBacklogPerReplica === undefined ? 'targetBacklogPerReplica is not set' : 'mode is Drain';
    return { rule: 'depth', says };
  }
  return {
    rule: 'depth',
    replicas: ceil(need.depth),
    says: `${n(work.backlog)} messages at ${spec.targetBacklogPerReplica} a replica: ${need.depth.toFixed(2)}`,
  };
}

function ageOpinion({ spec, state, load, need }: Seen): Opinion {
  const limit = spec.maxOldestAgeSeconds;
  if (limit === undefined) return { rule: 'oldest-age', says: 'maxOldestAgeSeconds is not set' };
  const age = load.oldestUnackedAgeMs === undefined ? 'no backlog' : seconds(load.oldestUnackedAgeMs);
  if (need.age === undefined) {
    const idle = state.capacity.saturated ? '' : ', replicas are not busy';
    return { rule: 'oldest-age', says: `oldest: ${age}, limit: ${limit} s${idle}` };
  }
  return { rule: 'oldest-age', replicas: need.age, says: `oldest: ${age}, over the limit of ${limit} s` };
}

function capOpinions({ spec, state, inputs, nowMs }: Seen): Opinion[] {
  const result: Opinion[] = [];
  const useful = usefulParallelism(inputs);
  if (Number.isFinite(useful)) {
    const keys = inputs.activeKeys === undefined ? '' : `, ${inputs.activeKeys} ordering keys with work`;
    result.push({
      rule: 'useful-parallelism',
      replicas: useful,
      says: `ordered, ${inputs.partitions ?? 'unknown'} partitions${keys}: more would have nothing to do`,
    });
  }
  if (spec.alignToPartitions && inputs.partitions === undefined) {
    const says = 'alignToPartitions has no effect: it is not known how many partitions there are';
    result.push({ rule: 'align-to-partitions', says });
  }
  const { holding } = state.guard;
  if (holding !== undefined) {
    result.push({
      rule: 'downstream',
      replicas: holding.ceiling,
      says: `more replicas settled no more than ${n(holding.ackRate)}/s: held for another ${seconds(holding.untilMs - nowMs)}`,
    });
  }
  const { blockedMessages } = state.capacity;
  if (blockedMessages > 0) {
    result.push({
      rule: 'blocked-messages',
      says: `${n(blockedMessages)} messages wait although replicas are not busy: parked, behind a poison message, of a busy ordering key or since the topic has grown; they don't count`,
    });
  }
  return result;
}

function windowOpinions({ spec, state, nowMs }: Seen): Opinion[] {
  const result: Opinion[] = [];
  const highest = state.highest[0];
  if (highest !== undefined && state.highest.length > 1) {
    result.push({
      rule: 'stabilization',
      replicas: highest.replicas,
      says: `proposed ${seconds(nowMs - highest.atMs)} ago, window ${spec.behavior.scaleDown.stabilizationWindowSeconds} s`,
    });
  }
  if (nowMs < state.panicUntilMs) {
    result.push({
      rule: 'panic',
      replicas: state.seenReplicas,
      says: `the load has at least doubled: nothing is taken away for ${seconds(state.panicUntilMs - nowMs)}`,
    });
  }
  return result;
}

function idleOpinion({ spec, state, nowMs }: Seen): Opinion {
  if (state.idleSinceMs === undefined) return { rule: 'idle', says: 'there is work' };
  const idle = `nothing to do for ${seconds(nowMs - state.idleSinceMs)}`;
  if (spec.minReplicas > 0) return { rule: 'idle', says: `${idle}; minReplicas is ${spec.minReplicas}` };
  return { rule: 'idle', replicas: 0, says: `${idle}, cooldown ${spec.cooldownSeconds} s` };
}

/**
 * True: working as it should. False: maxReplicas or the guard keeps it from what the load asks for. Unknown:
 * the load isn't known.
 */
export function conditionOf(
  spec: ScaleSpec,
  decision: Omit<Decision, 'condition'>,
  inputs: AutoscaleInputs,
): ScalingCondition {
  const { limitedBy, opinions, need } = decision;
  const unknown = opinions.find(({ rule }) => rule === 'metrics');
  if (unknown !== undefined) {
    const done =
      decision.recommended === inputs.currentReplicas
        ? 'replicas are left as they are'
        : 'the fallback applies';
    return {
      type: 'Scaling',
      status: 'Unknown',
      reason: 'MetricsUnavailable',
      message: `${unknown.says}: ${done}`,
    };
  }
  const asked = need === undefined ? '' : ` (${n(need)} needed)`;
  const text = `${decision.desired} replicas${asked}: ${decision.reason}`;
  if (limitedBy === 'DownstreamSaturated') {
    const says = opinions.find(({ rule }) => rule === 'downstream')?.says ?? '';
    return { type: 'Scaling', status: 'False', reason: 'DownstreamSaturated', message: `${text}; ${says}` };
  }
  if (limitedBy === 'MaxReplicas') {
    return {
      type: 'Scaling',
      status: 'False',
      reason: 'AtMaxReplicas',
      message: `${text}; the load asks for more than maxReplicas ${spec.maxReplicas}`,
    };
  }
  const message = limitedBy ? `${text}, limited by ${limitedBy}` : text;
  return { type: 'Scaling', status: 'True', reason: conditionReason(decision), message };
}

function conditionReason({
  limitedBy,
  reason,
  desired,
}: Omit<Decision, 'condition'>): ScalingCondition['reason'] {
  if (reason === 'DryRun') return 'DryRun';
  if (desired === 0) return 'ScaledToZero';
  return limitedBy === 'Cooldown' || limitedBy === 'Stabilization' ? 'CoolingDown' : 'Reconciled';
}

function ceil(fraction: number): number {
  return Math.max(0, Math.ceil(fraction - 1e-6));
}

function n(value: number): string {
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toString() : value.toFixed(1);
}

function seconds(ms: number): string {
  return `${Math.round(Math.max(0, ms) / 1000)} s`;
}
