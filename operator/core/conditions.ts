// Conditions in a resource's status, set and looked up. Pure.
//
// Invariant: a type occurs once; lastTransitionTime moves only with status; the order is that of
// CONDITION_TYPES, so that the same conditions are the same JSON and nothing is written without a change.
import {
  CONDITION_TYPES,
  type Condition,
  type ConditionType,
  MAX_CONDITION_MESSAGE,
} from '../api/v1alpha1/conditions.ts';
import type { Reason } from '../api/v1alpha1/reasons.ts';

export interface NewCondition {
  readonly type: ConditionType;
  readonly status: Condition['status'];
  readonly reason: Reason;
  /** Cut off after 32,768 characters. */
  readonly message: string;
}

/** `old` with `changes` merged in by type; types that no change names stay as they are. */
export function setConditions(
  old: readonly Condition[] | undefined,
  changes: readonly NewCondition[],
  generation: number,
  nowMs: number,
): readonly Condition[] {
  const byType = new Map((old ?? []).map((condition) => [condition.type, condition]));
  for (const { type, status, reason, message } of changes) {
    const before = byType.get(type);
    byType.set(type, {
      type,
      status,
      observedGeneration: generation,
      lastTransitionTime: before?.status === status ? before.lastTransitionTime : kubeTime(nowMs),
      reason,
      message: shortened(message),
    });
  }
  return [...byType.values()].sort((a, b) => order(a.type) - order(b.type));
}

/** Takes a condition out that is only there while it holds, such as Paused. */
export function withoutCondition(
  conditions: readonly Condition[] | undefined,
  type: ConditionType,
): readonly Condition[] {
  return (conditions ?? []).filter((condition) => condition.type !== type);
}

export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: ConditionType,
): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

export function isTrue(conditions: readonly Condition[] | undefined, type: ConditionType): boolean {
  return findCondition(conditions, type)?.status === 'True';
}

/** Whether an event is due, since a person would see a difference. A new message alone is none. */
export function isTransition(before: Condition | undefined, after: Condition): boolean {
  return before?.status !== after.status || before.reason !== after.reason;
}

/** metav1.Time: whole seconds. */
export function kubeTime(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
}

/** The message within its maximum, cut where no character is split. */
function shortened(message: string): string {
  if (message.length <= MAX_CONDITION_MESSAGE) return message;
  return `${message.slice(0, MAX_CONDITION_MESSAGE - 1).toWellFormed()}…`;
}

/** The place of a type. One that only a newer operator knows stays, at the end. */
function order(type: ConditionType): number {
  const index = CONDITION_TYPES.indexOf(type);
  return index < 0 ? CONDITION_TYPES.length : index;
}
