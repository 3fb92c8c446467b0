// Writes statuses, and the events that go with a condition that turned.
//
// Invariant: a status that says nothing new is not written; one that says only new numbers waits for its
// turn, and all of those together are bounded: so a thousand busy subscriptions don't become a thousand
// requests a second.
import type { Condition } from '../api/v1alpha1/conditions.ts';
import {
  findCondition,
  isTransition,
  type NewCondition,
  setConditions,
  withoutCondition,
} from '../core/conditions.ts';
import { worthWriting } from '../core/plan-status.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Clock } from '../kube/clock.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { KubeObject, Resource } from '../kube/objects.ts';

export interface Statused extends KubeObject {
  readonly status?: { readonly conditions?: readonly Condition[] | undefined };
}

export interface StatusWriterOptions {
  readonly clock: Clock;
  readonly events: EventRecorder;
  /** From a write of one resource's status to the next that has only new numbers. */
  readonly numbersEveryMs?: number;
  /** Writes with only new numbers, per second, of all resources together. */
  readonly numbersPerSecond?: number;
}

const NUMBERS_EVERY_MS = 60_000;
const NUMBERS_PER_SECOND = 2;
const NUMBERS_BURST = 20;

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #writtenMs = new Map<string, number>();
  #tokens = NUMBERS_BURST;
  #filledMs: number;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#filledMs = options.clock.monotonicMs();
  }

  /** Whether numbers alone would be written now; to be asked before going to the trouble. */
  hasTurn(uid: string): boolean {
    const { clock, numbersEveryMs = NUMBERS_EVERY_MS } = this.#options;
    const lastMs = this.#writtenMs.get(uid) ?? Number.NEGATIVE_INFINITY;
    this.#fill();
    return this.#tokens >= 1 && clock.monotonicMs() - lastMs >= numbersEveryMs;
  }

  /** Returns the object as it is now. Throws Conflict: reconcile again. */
  async write<T extends Statused>(
    client: KubeClient,
    resource: Resource,
    object: T,
    status: NonNullable<T['status']>,
    signal: AbortSignal,
  ): Promise<T> {
    const worth = worthWriting(object.status, status);
    const uid = object.metadata.uid ?? '';
    if (worth === 'nothing') return object;
    if (worth === 'later') {
      if (!this.hasTurn(uid)) return object;
      this.#tokens -= 1;
    }
    const written = await client.applyStatus<T>(resource, object, status, signal);
    this.#writtenMs.set(uid, this.#options.clock.monotonicMs());
    this.#announce(object, written, status.conditions ?? []);
    return written;
  }

  forget(uid: string): void {
    this.#writtenMs.delete(uid);
  }

  #announce(before: Statused, after: KubeObject, conditions: readonly Condition[]): void {
    const said = new Set<string>();
    for (const now of conditions) {
      const then = findCondition(before.status?.conditions, now.type);
      // That a new resource is well goes without saying: an event has told that it was made.
      if (!isTransition(then, now) || (then === undefined && isGood(now))) continue;
      if (isGood(now) && (then === undefined || isGood(then))) continue;
      const text = `${now.reason}\n${now.message}`;
      if (said.has(text)) continue;
      said.add(text);
      this.#options.events.record(after, {
        type: isGood(now) ? 'Normal' : 'Warning',
        reason: now.reason,
        action: now.type === 'Ready' || now.type === 'Synced' ? 'Reconcile' : 'Scale',
        note: now.message || `${now.type} is ${now.status}`,
      });
    }
  }

  #fill(): void {
    const { clock, numbersPerSecond = NUMBERS_PER_SECOND } = this.#options;
    const nowMs = clock.monotonicMs();
    const more = ((nowMs - this.#filledMs) / 1000) * numbersPerSecond;
    this.#tokens = Math.min(NUMBERS_BURST, this.#tokens + more);
    this.#filledMs = nowMs;
  }
}

/**
 * Whether a condition is as it should be: Degraded when it is False, Paused and ScaledToZero always, all
 * others when they are True.
 */
function isGood({ type, status, reason }: Condition): boolean {
  if (type === 'Degraded') return status === 'False';
  if (type === 'Paused' || reason === 'ScaledToZero') return true;
  return status === 'True';
}

/** The resource's conditions with `changes` merged in, and Paused only while it is so. */
export function mergedConditions(
  { metadata, status }: Statused,
  changes: readonly NewCondition[],
  paused: boolean,
  nowMs: number,
): readonly Condition[] {
  const pause: NewCondition[] = paused
    ? [
        {
          type: 'Paused',
          status: 'True',
          reason: 'Paused',
          message: 'nothing is changed until it is resumed',
        },
      ]
    : [];
  const kept = paused ? status?.conditions : withoutCondition(status?.conditions, 'Paused');
  return setConditions(kept, [...changes, ...pause], metadata.generation ?? 0, nowMs);
}
