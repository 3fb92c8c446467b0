// Notices that somebody else keeps changing a target's replicas: a person who does it once is fine, a GitOps
// tool that does it every minute is not.
import type { Clock } from '../kube/clock.ts';

/** So many changes by others within WINDOW_MS are a contest. */
const CHANGES = 3;
const WINDOW_MS = 600_000;

export class Contention {
  readonly #clock: Clock;
  #changesMs: readonly number[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Somebody else has changed the replicas that we set. */
  note(): void {
    this.#changesMs = [...this.#recent(), this.#clock.monotonicMs()];
  }

  /** Who contends and what to do about it, for people. Undefined: nobody does. */
  problem(managers: readonly string[]): string | undefined {
    const changes = this.#recent().length;
    if (changes < CHANGES) return undefined;
    const who = managers.filter((name) => !name.startsWith('fanfare-operator')).join(', ') || 'somebody';
    return `${who} changed the target's replicas ${changes} times in the last 10 minutes: leave spec.replicas out of the manifest, or have the tool ignore it (Argo CD: ignoreDifferences with jsonPointers: [/spec/replicas])`;
  }

  #recent(): number[] {
    const nowMs = this.#clock.monotonicMs();
    return this.#changesMs.filter((atMs) => nowMs - atMs < WINDOW_MS);
  }
}
