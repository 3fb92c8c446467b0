// To how many replicas a target is to be set, and whether by a handshake with the pods that will go: the
// policy, apart from the calls that carry it out. Pure.
//
//   strategy      desired comes from
//   Internal      decide(), which knows of dryRun
//   KEDA, None    spec.consumers.replicas, at most maxReplicas; with dryRun, what there is
//
// Invariants: a target that was refused is left alone; replicas do not fall while a new version is rolled
// out; they fall without a handshake only where that is switched off, or where the broker has no subscription
// to ask about.
import type { Consumers } from '../api/v1alpha1/consumers.ts';
import type { Reason } from '../api/v1alpha1/reasons.ts';
import type { Decision } from './autoscale/decision.ts';
import type { ScaleDownStep } from './scale-down.ts';

/** What is scaled, as it is now. */
export interface Target {
  /** What its spec asks for. */
  readonly replicas: number;
  readonly statusReplicas: number;
  readonly readyReplicas: number;
  readonly selector: string;
  readonly revision: string | undefined;
  /** A new version is being rolled out: which pods go is not ours to say. */
  readonly rolling: boolean;
  /** Who has written spec.replicas, as far as that is recorded. */
  readonly managers: readonly string[];
}

/** Why we must not, or can't, scale a target. */
export interface Refusal {
  readonly reason: Extract<
    Reason,
    'ScaleTargetNotFound' | 'ScaleTargetOwnedByHPA' | 'ScaleTargetOwnedBySubscription' | 'PermissionDenied'
  >;
  readonly message: string;
}

export interface ReplicasObserved {
  readonly consumers: Pick<Consumers, 'strategy' | 'maxReplicas' | 'dryRun' | 'drain'> & {
    readonly replicas?: number | undefined;
  };
  readonly decision: Pick<Decision, 'desired'> | undefined;
  readonly refusal: Refusal | undefined;
  readonly rolling: boolean;
  /** How many replicas the target is set to. */
  readonly current: number;
  /** What the broker has: the subscription, nothing, or nobody knows since it is away. */
  readonly subscription: 'there' | 'absent' | 'away';
}

export type ReplicasPlan =
  | { readonly kind: 'keep' }
  | { readonly kind: 'raise'; readonly to: number }
  /** `handshake`: by the state machine of scale-down.ts; else at once. */
  | { readonly kind: 'lower'; readonly to: number; readonly handshake: boolean };

const KEEP: ReplicasPlan = { kind: 'keep' };

export function planReplicas(observed: ReplicasObserved): ReplicasPlan {
  const { consumers, decision, refusal, rolling, current, subscription } = observed;
  if (refusal !== undefined) return KEEP;
  const desired = desiredReplicas(consumers, decision, current);
  if (desired === undefined || desired === current) return KEEP;
  if (desired > current) return { kind: 'raise', to: desired };
  // Which pods go while a new version is rolled out is not ours to say: later.
  if (rolling) return KEEP;
  // A broker that is away can't be asked, and what its consumers hold is not lost: the wait has an end.
  return { kind: 'lower', to: desired, handshake: consumers.drain.enabled && subscription !== 'absent' };
}

/** How many the target is to be set to. Undefined: nobody here says. */
export function desiredReplicas(
  { strategy, replicas, maxReplicas, dryRun }: Omit<ReplicasObserved['consumers'], 'drain'>,
  decision: Pick<Decision, 'desired'> | undefined,
  current: number,
): number | undefined {
  if (strategy === 'Internal') return decision?.desired;
  if (replicas === undefined) return undefined;
  return dryRun ? current : Math.min(replicas, maxReplicas);
}

/** What is to be written now, with the step that the scale-down takes under the plan. */
export function replicasToWrite(plan: ReplicasPlan, step: ScaleDownStep): number | undefined {
  if (plan.kind === 'raise' || (plan.kind === 'lower' && !plan.handshake)) return plan.to;
  return step.kind === 'write' ? step.to : undefined;
}
