// The HPA's `behavior`, as data and pure functions: stabilization windows and step limits, by the algorithm
// in the Kubernetes documentation ("Horizontal Pod Autoscaling", stabilization window and scaling policies).
// What goes into a window, which Kubernetes calls a recommendation, is a proposal here.
//
// Invariant: what is remembered is bounded: of proposals only those that can still be the extreme of a
// window, of changes only those within the longest policy period.
import type { ScalePolicy, ScaleRules } from './spec.ts';

export interface Proposal {
  readonly atMs: number;
  readonly replicas: number;
}

export interface Change {
  readonly atMs: number;
  readonly delta: number;
}

/** Oldest first; strictly falling (for a maximum) or rising (for a minimum). */
export type Extremes = readonly Proposal[];

/**
 * Adds one and forgets what can't be the maximum any more, or is older than the window. The first is then the
 * maximum.
 */
export function withMaximum(old: Extremes, next: Proposal, windowMs: number): Extremes {
  return [
    ...old.filter(({ atMs, replicas }) => atMs > next.atMs - windowMs && replicas > next.replicas),
    next,
  ];
}

export function withMinimum(old: Extremes, next: Proposal, windowMs: number): Extremes {
  return [
    ...old.filter(({ atMs, replicas }) => atMs > next.atMs - windowMs && replicas < next.replicas),
    next,
  ];
}

const LONGEST_PERIOD_MS = 1_800_000;
/** Changes that are remembered, at most: more than one every 3 s for ever need not be kept exactly. */
const MAX_CHANGES = 600;

export function withChange(old: readonly Change[], next: Change): readonly Change[] {
  return [...old.filter(({ atMs }) => atMs > next.atMs - LONGEST_PERIOD_MS), next].slice(-MAX_CHANGES);
}

/** How far up one may go now; `current` if nowhere. */
export function scaleUpLimit(
  current: number,
  rules: ScaleRules,
  changes: readonly Change[],
  nowMs: number,
): number {
  return limit(current, rules, (policy) => {
    const start = startOfPeriod(current, policy, changes, nowMs);
    return Math.max(
      current,
      policy.type === 'Pods' ? start + policy.value : Math.ceil(start * (1 + policy.value / 100)),
    );
  });
}

/** How far down one may go now; `current` if nowhere. */
export function scaleDownLimit(
  current: number,
  rules: ScaleRules,
  changes: readonly Change[],
  nowMs: number,
): number {
  return limit(current, rules, (policy) => {
    const start = startOfPeriod(current, policy, changes, nowMs);
    const lowest =
      policy.type === 'Pods' ? start - policy.value : Math.trunc(start * (1 - policy.value / 100));
    return Math.min(current, Math.max(0, lowest));
  });
}

function limit(current: number, rules: ScaleRules, allows: (policy: ScalePolicy) => number): number {
  if (rules.selectPolicy === 'Disabled' || rules.policies.length === 0) return current;
  const limits = rules.policies.map(allows).sort((a, b) => Math.abs(a - current) - Math.abs(b - current));
  return rules.selectPolicy === 'Min' ? limits[0]! : limits.at(-1)!;
}

/**
 * The replicas at the start of the period, as the HPA counts: what was added since is taken off again, what
 * was removed is put back.
 */
function startOfPeriod(
  current: number,
  policy: ScalePolicy,
  changes: readonly Change[],
  nowMs: number,
): number {
  let start = current;
  for (const { atMs, delta } of changes) {
    if (atMs > nowMs - policy.periodSeconds * 1000) start -= delta;
  }
  return Math.max(0, start);
}
