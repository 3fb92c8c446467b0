// What comes out of a decision, and how it is explained: plain data, for status and for people.
import type { Reason } from '../../api/v1alpha1/reasons.ts';
import type { AutoscaleState } from './state.ts';

/** Why a decision is what it is: the rule that had the last word. */
export type ScaleReason =
  | 'Steady'
  | 'Backlog'
  | 'Depth'
  | 'OldestAge'
  | 'LessLoad'
  | 'Idle'
  | 'Woken'
  | 'Bounds'
  | 'MetricsUnavailable'
  | 'Fallback'
  | 'DryRun';

/** What kept a decision from being what the load asks for. */
export type ScaleLimit =
  | 'MinReplicas'
  | 'MaxReplicas'
  | 'UsefulParallelism'
  | 'Budget'
  | 'DownstreamSaturated'
  | 'Stabilization'
  | 'Panic'
  | 'ScaleUpPolicy'
  | 'ScaleDownPolicy'
  | 'Cooldown'
  | 'StaleMetrics';

/** One rule's own view. */
export interface Opinion {
  readonly rule:
    | 'drain-up'
    | 'drain-down'
    | 'depth'
    | 'oldest-age'
    | 'probe'
    | 'useful-parallelism'
    | 'align-to-partitions'
    | 'downstream'
    | 'blocked-messages'
    | 'panic'
    | 'stabilization'
    | 'idle'
    | 'metrics';
  /** Undefined: the rule wants no number, for the reason given. */
  readonly replicas?: number | undefined;
  readonly says: string;
}

/**
 * The condition for the resource's status. Its reasons are of the operator's closed list
 * (api/v1alpha1/reasons.ts).
 */
export interface ScalingCondition {
  readonly type: 'Scaling';
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: Extract<
    Reason,
    | 'Reconciled'
    | 'ScaledToZero'
    | 'DryRun'
    | 'CoolingDown'
    | 'AtMaxReplicas'
    | 'DownstreamSaturated'
    | 'MetricsUnavailable'
  >;
  readonly message: string;
}

export interface Decision {
  /** What the load asks for within all caps, before tolerance, windows and steps. Undefined: not known. */
  readonly need: number | undefined;
  /** How many replicas there should be, by all rules. */
  readonly recommended: number;
  /** What the target is to be set to: as many as recommended or, with dryRun, as many as there are. */
  readonly desired: number;
  /** False: idle, may be scaled to zero. */
  readonly active: boolean;
  readonly state: AutoscaleState;
  readonly reason: ScaleReason;
  readonly limitedBy: ScaleLimit | undefined;
  readonly opinions: readonly Opinion[];
  readonly condition: ScalingCondition;
  /** Since when `desired` has been what it is. */
  readonly sinceMs: number;
}
