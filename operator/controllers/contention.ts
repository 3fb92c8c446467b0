// Notices that somebody else keeps changing a target's replicas: a person who does it once is fine, a GitOps
// tool that does it every minute is not.
import type { Clock } from '../kube/clock.ts';

/** So many changes by others within WINDOW_MS are a contest. */
const CHANGES = 3;
const WINDOW_MS = 600_000;
/** A cache that has not seen our own write by then never will: somebody was quicker. */
const UNSEEN_MS = 10_000;

export class Contention {
  readonly #clock: Clock;
  #wrote: { readonly replicas: number; readonly atMs: number; seen: boolean } | undefined;
  #others: number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What we wrote last, as long as the cache may not have it yet. */
  get expected(): number | undefined {
    return this.#wrote?.seen === false ? this.#wrote.replicas : undefined;
  }

  wrote(replicas: number): void {
    this.#wrote = { replicas, atMs: this.#clock.monotonicMs(), seen: false };
  }

  /** `replicas` is what the cache has. Returns what the target has now, our own last write included. */
  see(replicas: number): number {
    const wrote = this.#wrote;
    if (wrote === undefined) return replicas;
    if (replicas === wrote.replicas) {
      wrote.seen = true;
      return replicas;
    }
    const nowMs = this.#clock.monotonicMs();
    if (!wrote.seen && nowMs - wrote.atMs < UNSEEN_MS) return wrote.replicas;
    this.#wrote = undefined;
    this.#others = [...this.#others.filter((atMs) => nowMs - atMs < WINDOW_MS), nowMs];
    return replicas;
  }

  /** Who contends and what to do about it, for people. Undefined: nobody does. */
  problem(managers: readonly string[]): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    const recent = this.#others.filter((atMs) => nowMs - atMs < WINDOW_MS);
    if (recent.length < CHANGES) return undefined;
    const who = managers.filter((name) => !name.startsWith('fanfare-operator')).join(', ') || 'somebody';
    return `${who} changed the target's replicas ${recent.length} times in the last 10 minutes: leave spec.replicas out of the manifest, or have the tool ignore it (Argo CD: ignoreDifferences with jsonPointers: [/spec/replicas])`;
  }
}
