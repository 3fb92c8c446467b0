// How many replicas a target is set to. The truth is the target's spec in the API server; a cache follows it,
// late. So that nobody acts on what this process has changed itself, a write that was answered counts until
// the cache has it.
//
//   cache shows                                   current is               changed by others
//   what it showed before                         that, or what we wrote   no
//   what we wrote, with or without an answer      that                     no
//   something else, UNSEEN_MS after our write     that                     yes
//   something else, and our write was seen        that                     yes
//
// Invariant: a write without an answer changes nothing here until the cache shows what came of it.
import type { Clock } from '../kube/clock.ts';

/** A cache that has not seen our own write by then never will: somebody was quicker. */
const UNSEEN_MS = 10_000;

export class ReplicaCount {
  readonly #clock: Clock;
  #current: number;
  #cached: number;
  /** What was sent last, until it is answered or seen. */
  #sent: number | undefined;
  #written: { readonly replicas: number; readonly atMs: number; seen: boolean } | undefined;

  constructor(clock: Clock, cached: number) {
    this.#clock = clock;
    this.#cached = cached;
    this.#current = cached;
  }

  get current(): number {
    return this.#current;
  }

  /** Takes what the cache has. Returns whether somebody else has changed what we wrote. */
  see(cached: number): boolean {
    this.#cached = cached;
    this.#current = cached;
    if (cached === this.#sent) {
      this.#sent = undefined;
      this.#written = { replicas: cached, atMs: this.#clock.monotonicMs(), seen: true };
    }
    const written = this.#written;
    if (written === undefined) return false;
    if (written.replicas === cached) {
      written.seen = true;
      return false;
    }
    if (!written.seen && this.#clock.monotonicMs() - written.atMs < UNSEEN_MS) {
      this.#current = written.replicas;
      return false;
    }
    this.#written = undefined;
    return true;
  }

  /** Whether a target that is set to `present` is as it was seen: if not, it must be decided anew. */
  isKnown(present: number): boolean {
    return present === this.#cached || present === this.#current;
  }

  /** A write is under way. Its outcome is unknown until answered(), or until the cache shows it. */
  sending(replicas: number): void {
    this.#sent = replicas;
  }

  /** The API server has said that the target is set to this. */
  answered(replicas: number): void {
    this.#sent = undefined;
    this.#written = { replicas, atMs: this.#clock.monotonicMs(), seen: replicas === this.#cached };
    this.#current = replicas;
  }
}
