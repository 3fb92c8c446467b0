// What a user says about scaling: the `consumers` block of a Subscription, with its defaults. Names and
// meanings of `behavior` are the HPA's.
//
// Invariant: a ScaleSpec is complete (every default filled in) and consistent (0 <= minReplicas <=
// maxReplicas, 1 <= maxReplicas).

export type ScaleMode = 'Drain' | 'Depth' | 'Max';

export interface ScalePolicy {
  readonly type: 'Pods' | 'Percent';
  readonly value: number;
  readonly periodSeconds: number;
}

export interface ScaleRules {
  readonly stabilizationWindowSeconds: number;
  readonly policies: readonly ScalePolicy[];
  /** Max: the policy that allows the largest change; Min: the smallest; Disabled: never in this direction. */
  readonly selectPolicy: 'Max' | 'Min' | 'Disabled';
}

/** What to do when the backlog has been unknown for failureThreshold ticks of TICK_MS. */
export interface Fallback {
  readonly failureThreshold: number;
  readonly replicas: number;
  readonly behavior: 'static' | 'currentReplicas' | 'currentReplicasIfHigher' | 'currentReplicasIfLower';
}

export interface ScaleSpec {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  readonly mode: ScaleMode;
  /** A backlog is to be gone after this time, pods' starts included. */
  readonly drainTimeSeconds: number;
  readonly targetBacklogPerReplica?: number | undefined;
  /** Nothing should wait longer: beyond it replicas are added whatever the other rules say. */
  readonly maxOldestAgeSeconds?: number | undefined;
  readonly targetUtilizationPercent: number;
  /** The time that one message takes. What a replica can do is measured; this is for the time before. */
  readonly expectedProcessingMillis?: number | undefined;
  /** Messages that a replica processes at once. */
  readonly concurrency?: number | undefined;
  /** How long nothing must be there or arrive before the last replica goes. */
  readonly cooldownSeconds: number;
  /** Messages per second up to which a subscription without backlog counts as idle. */
  readonly activationRate: number;
  readonly behavior: { readonly scaleUp: ScaleRules; readonly scaleDown: ScaleRules };
  readonly fallback?: Fallback | undefined;
  /** Only replica counts that share the partitions evenly. */
  readonly alignToPartitions: boolean;
  /** Decide and explain, but change nothing. */
  readonly dryRun: boolean;
}

/** A ScaleSpec as a resource has it: only what differs from the defaults. */
export type ScaleSettings = Partial<Omit<ScaleSpec, 'behavior' | 'fallback'>> & {
  readonly behavior?:
    | { readonly scaleUp?: Partial<ScaleRules>; readonly scaleDown?: Partial<ScaleRules> }
    | undefined;
  readonly fallback?: Partial<Fallback> | undefined;
};

/** The longest time from one decision to the next, as it is meant; the unit of fallback.failureThreshold. */
export const TICK_MS = 15_000;

const SCALE_UP: ScaleRules = {
  stabilizationWindowSeconds: 0,
  policies: [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ],
  selectPolicy: 'Max',
};

const SCALE_DOWN: ScaleRules = {
  stabilizationWindowSeconds: 180,
  policies: [{ type: 'Percent', value: 50, periodSeconds: 60 }],
  selectPolicy: 'Max',
};

/**
 * Fills in the defaults. What the CRD's schema has not checked is made consistent: a minimum above the
 * maximum is the maximum.
 */
export function scaleSpec(settings: ScaleSettings): ScaleSpec {
  const { behavior, fallback, ...rest } = settings;
  const maxReplicas = Math.max(1, rest.maxReplicas ?? 10);
  const byDepth = rest.targetBacklogPerReplica !== undefined;
  return {
    drainTimeSeconds: 60,
    targetUtilizationPercent: 80,
    cooldownSeconds: 300,
    activationRate: 0,
    alignToPartitions: false,
    dryRun: false,
    ...rest,
    mode: rest.mode ?? (byDepth ? 'Max' : 'Drain'),
    maxReplicas,
    minReplicas: Math.min(maxReplicas, Math.max(0, rest.minReplicas ?? 1)),
    behavior: {
      scaleUp: { ...SCALE_UP, ...behavior?.scaleUp },
      scaleDown: { ...SCALE_DOWN, ...behavior?.scaleDown },
    },
    fallback: fallback && {
      failureThreshold: 3,
      replicas: Math.max(1, rest.minReplicas ?? 1),
      behavior: 'currentReplicasIfHigher',
      ...fallback,
    },
  };
}
