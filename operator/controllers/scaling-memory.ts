// What is remembered of each scaled Subscription from one reconcile to the next, and who listens to its
// decisions. Nothing of it outlives the process but what status.autoscaling has.
//
// Invariant: what is remembered is of the Subscription with that uid, not of one that had its name before.
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Heard } from '../broker/backlog-watch.ts';
import type { Decision } from '../core/autoscale/decision.ts';
import type { Refusal } from '../core/plan-replicas.ts';
import type { Clock } from '../kube/clock.ts';
import { Contention } from './contention.ts';
import { ReplicaCount } from './replica-count.ts';
import type { ScaleDown } from './scale-down.ts';

export interface Remembered {
  readonly uid: string;
  readonly down: ScaleDown;
  readonly count: ReplicaCount;
  readonly contention: Contention;
  decision: Decision | undefined;
  decidedMs: number;
  /** The topic's partitions, as last seen. Undefined: they were never known. */
  partitions: number | undefined;
  /** Why the broker does not say how many partitions there are, as last logged. */
  partitionsProblem: string | undefined;
  /** The API server's refusal of the last write, until one is made or none is needed. */
  refused: { readonly refusal: Refusal; readonly atMs: number } | undefined;
  /** What status says for a while of a scale-down that did not wait any longer. */
  drainTimedOut: { readonly message: string; readonly untilMs: number } | undefined;
}

/** From one decision to the next, at least, while backlogs are pushed every second. */
const DECIDE_MS = 5_000;

export class ScalingMemory {
  readonly #clock: Clock;
  readonly #newScaleDown: () => ScaleDown;
  readonly #remembered = new Map<string, Remembered>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(clock: Clock, newScaleDown: () => ScaleDown) {
    this.#clock = clock;
    this.#newScaleDown = newScaleDown;
  }

  /** `replicas`: what the target is set to, if this is the first look at it. */
  of(key: string, { metadata, status }: Subscription, replicas: number): Remembered {
    const known = this.#remembered.get(key);
    if (known?.uid === metadata.uid) return known;
    const made: Remembered = {
      uid: metadata.uid,
      down: this.#newScaleDown(),
      count: new ReplicaCount(this.#clock, replicas),
      contention: new Contention(this.#clock),
      decision: undefined,
      decidedMs: Number.NEGATIVE_INFINITY,
      partitions: status?.autoscaling?.inputs?.partitions,
      partitionsProblem: undefined,
      refused: undefined,
      drainTimedOut: undefined,
    };
    this.#remembered.set(key, made);
    return made;
  }

  forget(key: string): void {
    this.#remembered.delete(key);
  }

  decided(key: string, memory: Remembered, decision: Decision): void {
    memory.decision = decision;
    memory.decidedMs = this.#clock.monotonicMs();
    for (const listener of this.#listeners.get(key) ?? []) listener();
  }

  /** The newest decision about a Subscription. Undefined: there was none yet. */
  decisionOf(key: string): Decision | undefined {
    return this.#remembered.get(key)?.decision;
  }

  /** Calls the listener after every decision; returns a function that ends it. */
  onDecision(key: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(key) ?? new Set();
    this.#listeners.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(key);
    };
  }

  /**
   * Whether a backlog that was pushed is reason for a look: at once when there is work and nobody to do it.
   */
  isDue(key: string, { rates }: Heard): boolean {
    const memory = this.#remembered.get(key);
    if (memory === undefined) return true;
    if (memory.count.current === 0 && rates.load.messages > 0) return true;
    return this.#clock.monotonicMs() - memory.decidedMs >= DECIDE_MS;
  }
}
