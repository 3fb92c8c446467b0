// What goes into a scaling decision and what comes out of it. Everything is plain data: the state can be
// written down as JSON and read back, the decision can be printed.
import type { Reason } from '../api/v1alpha1/reasons.ts';
import type { CapacityState } from './autoscale-capacity.ts';
import type { GuardState } from './autoscale-guard.ts';
import type { Load } from './rates.ts';
import type { Change, Extremes } from './stabilize.ts';

export interface AutoscaleInputs {
  /** What the target's /scale says is wanted now. */
  readonly currentReplicas: number;
  /** How many of them are ready. */
  readonly readyReplicas: number;
  /** Undefined: nothing was ever heard. Unknown is not zero. */
  readonly load?: Load | undefined;
  readonly partitions: number;
  /** Messages of one ordering key go to one consumer at a time. */
  readonly ordered: boolean;
  /** Ordering keys with work, where the broker says so. */
  readonly activeKeys?: number | undefined;
  /**
   * How many of `load.messages` no number of consumers would speed up, where the broker says so; else it is
   * inferred.
   */
  readonly blockedMessages?: number | undefined;
  /**
   * Consumers that have no credit left, where the broker says so; else it is inferred from what they hold.
   */
  readonly busyConsumers?: number | undefined;
  /**
   * The revision of the target's pod template. With another one, what consumers hold at once is learned anew.
   */
  readonly targetRevision?: string | undefined;
  /** What the namespace's budget leaves for this target. */
  readonly budgetReplicas?: number | undefined;
}

export interface AutoscaleState {
  readonly startedMs: number;
  readonly seenReplicas: number;
  readonly targetRevision?: string | undefined;
  readonly capacity: CapacityState;
  readonly guard: GuardState;
  /** The highest recommendations, for scaleDown.stabilizationWindowSeconds. */
  readonly highest: Extremes;
  /** The lowest recommendations, for scaleUp.stabilizationWindowSeconds. */
  readonly lowest: Extremes;
  /** Changes of the target's wanted replicas, whoever made them. */
  readonly changes: readonly Change[];
  readonly panicUntilMs: number;
  /** Since when there has been nothing to do and nothing arriving. */
  readonly idleSinceMs?: number | undefined;
  /** When the newest measurement that could be used arrived. */
  readonly freshMs?: number | undefined;
  readonly decidedMs: number;
  /** What the present decision says, and since when. */
  readonly desired: number;
  readonly sinceMs: number;
  readonly lastScaleMs?: number | undefined;
}

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

/** What kept a decision from being what the rules wanted. */
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
  /** What the target should have now. */
  readonly desired: number;
  /** What it should have without dryRun. */
  readonly recommended: number;
  /** What the load asks for within all caps, before tolerance, windows and steps. Undefined: not known. */
  readonly need: number | undefined;
  /** False: idle, may be scaled to zero. */
  readonly active: boolean;
  readonly state: AutoscaleState;
  readonly reason: ScaleReason;
  readonly limitedBy: ScaleLimit | undefined;
  readonly opinions: readonly Opinion[];
  readonly conditions: readonly ScalingCondition[];
  /** Since when `desired` has been what it is. */
  readonly sinceMs: number;
}
