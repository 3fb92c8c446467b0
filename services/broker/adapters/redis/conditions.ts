// What is wrong with Redis at the moment. A condition is logged once when it begins and once when it is over,
// not with every command that fails.
import type { Clock } from '../../ports/clock.ts';

/** What is wrong and what to do about it: the log line that an operator reads. */
const ADVICE = {
  unreachable:
    'Redis cannot be reached: check that it runs and that the network and its TLS certificates are good; the broker reconnects by itself',
  slow: 'Redis does not answer in time: look for slow commands (SLOWLOG GET), swapping, a full disk or a saturated network',
  full: 'Redis is out of memory, so publishes are refused: raise maxmemory, shorten retention or delete topics; it goes on by itself',
  readonly:
    'this Redis is a replica now, so the broker looks for the new master: if none is found, check Sentinel or the address',
  loading: 'Redis is loading its data, or has lost its master: wait, or check replication (INFO replication)',
  down: 'part of the Redis Cluster is down: check CLUSTER INFO and bring the missing masters or their replicas back',
  replicas:
    'too few replicas of Redis follow: check INFO replication; publishes with the durability level `replicated` fail meanwhile',
  alone:
    'Redis refuses writes because too few replicas follow it (min-replicas-to-write): bring them back, see INFO replication',
  disk: 'Redis refuses writes because it cannot save to its disk: free space there, see its log (MISCONF)',
  denied:
    'Redis refuses our credentials or a command: check user, password and ACL (the user needs ~<prefix>:*, &<prefix>:*, +@all -@dangerous +info)',
  busy: 'a script of someone else blocks Redis: end it with SCRIPT KILL',
  eviction:
    'the maxmemory-policy of Redis is no longer noeviction, so Redis may delete messages: set it back at once (CONFIG SET maxmemory-policy noeviction)',
  fsync:
    'Redis no longer syncs to its disk as the durability level `fsync` needs: set appendonly yes (and appendfsync always before 7.2)',
  confused:
    'Redis answers in a way that we do not expect: does someone else write to the keys of this cluster?',
} as const;

export type Condition = keyof typeof ADVICE;

/**
 * A condition that is seen again within this time is the same one: of several nodes some answer while others
 * fail.
 */
const OVER_AFTER_MS = 2_000;

export type OnWarning = (message: string, fields: object) => void;

export class Conditions {
  readonly #clock: Clock;
  readonly #warn: OnWarning;
  readonly #store: string;
  readonly #seen = new Map<Condition, { firstMs: number; lastMs: number }>();

  constructor(clock: Clock, warn: OnWarning, store: string) {
    this.#clock = clock;
    this.#warn = warn;
    this.#store = store;
  }

  get current(): readonly Condition[] {
    return [...this.#seen.keys()];
  }

  /** What is wrong and what to do about it, for each current condition. */
  get advice(): readonly string[] {
    return this.current.map((condition) => ADVICE[condition]);
  }

  begins(condition: Condition, reason: string): void {
    const nowMs = this.#clock.monotonicMs();
    const seen = this.#seen.get(condition);
    if (seen) {
      seen.lastMs = nowMs;
      return;
    }
    this.#seen.set(condition, { firstMs: nowMs, lastMs: nowMs });
    this.#warn(ADVICE[condition], { store: this.#store, condition, reason });
  }

  /** Ends the condition at once, if there is one. */
  ends(condition: Condition): void {
    const seen = this.#seen.get(condition);
    if (!seen) return;
    this.#seen.delete(condition);
    const lastedMs = Math.round(this.#clock.monotonicMs() - seen.firstMs);
    this.#warn('Redis works again', { store: this.#store, condition, lastedMs });
  }

  /**
   * Redis has carried out a command; `grew` if it needed memory for it. Ends what has not been seen for a
   * while.
   */
  works(grew: boolean): void {
    if (this.#seen.size === 0) return;
    const nowMs = this.#clock.monotonicMs();
    for (const [condition, { lastMs }] of this.#seen) {
      if (LASTING.has(condition) || (condition === 'full' && !grew)) continue;
      if (nowMs - lastMs >= OVER_AFTER_MS) this.ends(condition);
    }
  }
}

/** Conditions that a working command does not end: only a look at their cause does, by ends(). */
const LASTING: ReadonlySet<Condition> = new Set(['eviction', 'fsync', 'replicas']);
