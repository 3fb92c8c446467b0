// Keys that want reconciling. The queue holds keys and never objects or events, so whatever happened
// meanwhile, a worker looks at the present; and it holds a key once, so its length is bounded by the number
// of objects.
//
//   a key is   and then                           → becomes
//   unknown    add                                waiting
//   unknown    addAfter, addFailed                delayed
//   delayed    its time comes, add                waiting
//   waiting    add (a higher priority counts)     waiting
//   waiting    take, by a free worker             running; a delay is forgotten
//   running    add                                running and dirty
//   running    done                               unknown, or waiting if dirty, or delayed
//
// Invariants: a key runs at most once at a time; an add is followed by a take that begins after it.
import type { Clock, Random } from './clock.ts';

/** Deletions before news, news before what only comes round again. */
export type Priority = 'high' | 'normal' | 'low';

export interface WorkQueueOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** First wait after a failure; doubles with each one in a row. */
  readonly firstBackoffMs?: number;
  /** A key that fails for long is tried at least as often as a healthy one comes round. */
  readonly mostBackoffMs?: number;
  /** Failures of all keys together are retried at this rate, after a burst. */
  readonly retriesPerSecond?: number;
  readonly retryBurst?: number;
}

interface Delay {
  readonly priority: Priority;
  readonly dueMs: number;
  readonly cancel: () => void;
}

const PRIORITIES: readonly Priority[] = ['high', 'normal', 'low'];
const RANK: Readonly<Record<Priority, number>> = { high: 0, normal: 1, low: 2 };

export class WorkQueue {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #firstBackoffMs: number;
  readonly #mostBackoffMs: number;
  readonly #bucket: TokenBucket;
  /** Insertion order is queue order. A key is in one of the three at most; #priority says in which. */
  readonly #lines: Readonly<Record<Priority, Set<string>>> = {
    high: new Set(),
    normal: new Set(),
    low: new Set(),
  };
  readonly #priority = new Map<string, Priority>();
  readonly #running = new Set<string>();
  readonly #dirty = new Map<string, Priority>();
  readonly #delayed = new Map<string, Delay>();
  readonly #failures = new Map<string, number>();
  readonly #takers: ((key: string | undefined) => void)[] = [];
  #closed = false;

  constructor(options: WorkQueueOptions) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#firstBackoffMs = options.firstBackoffMs ?? 5;
    this.#mostBackoffMs = options.mostBackoffMs ?? 300_000;
    this.#bucket = new TokenBucket(options.clock, options.retriesPerSecond ?? 10, options.retryBurst ?? 100);
  }

  /** Keys that a worker could take now. */
  get waiting(): number {
    return this.#priority.size;
  }

  get running(): number {
    return this.#running.size;
  }

  get delayed(): number {
    return this.#delayed.size;
  }

  /** Gives the key out as soon as a worker is free. */
  add(key: string, priority: Priority = 'normal'): void {
    if (this.#closed) return;
    if (this.#running.has(key)) {
      this.#dirty.set(key, higher(priority, this.#dirty.get(key)));
      return;
    }
    const present = this.#priority.get(key);
    if (present !== undefined) {
      if (RANK[priority] >= RANK[present]) return;
      this.#lines[present].delete(key);
    }
    this.#lines[priority].add(key);
    this.#priority.set(key, priority);
    this.#serve();
  }

  /**
   * Adds the key after delayMs, or sooner if something else does. Of two delays the one that is due first
   * stays.
   */
  addAfter(key: string, delayMs: number, priority: Priority = 'normal'): void {
    if (this.#closed) return;
    if (delayMs <= 0) {
      this.add(key, priority);
      return;
    }
    const dueMs = this.#clock.monotonicMs() + delayMs;
    const present = this.#delayed.get(key);
    if (present !== undefined) {
      if (present.dueMs <= dueMs) return;
      present.cancel();
    }
    const cancel = this.#clock.setTimer(delayMs, () => {
      this.#delayed.delete(key);
      this.add(key, priority);
    });
    this.#delayed.set(key, { priority, dueMs, cancel });
  }

  /**
   * Adds the key again after a backoff that doubles with each failure in a row. Returns the wait, in
   * milliseconds.
   */
  addFailed(key: string, priority: Priority = 'normal'): number {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const backoffMs = Math.min(this.#mostBackoffMs, this.#firstBackoffMs * 2 ** Math.min(failures, 40));
    const waitMs = Math.max(backoffMs * (1 + this.#random() / 10), this.#bucket.take());
    this.addAfter(key, waitMs, priority);
    return waitMs;
  }

  /** The key went well: its next failure is a first one. */
  forget(key: string): void {
    this.#failures.delete(key);
  }

  failuresOf(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  /** The next key, as soon as there is one; the caller owes a done(). Undefined when the queue was closed. */
  take(): Promise<string | undefined> {
    return new Promise((resolve) => {
      if (this.#closed) return resolve(undefined);
      this.#takers.push(resolve);
      this.#serve();
    });
  }

  done(key: string): void {
    this.#running.delete(key);
    const priority = this.#dirty.get(key);
    if (priority === undefined) return;
    this.#dirty.delete(key);
    this.add(key, priority);
  }

  /** Takes nothing more and gives nothing more out. What is running goes on. */
  close(): void {
    this.#closed = true;
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    for (const line of Object.values(this.#lines)) line.clear();
    this.#priority.clear();
    for (const resolve of this.#takers.splice(0)) resolve(undefined);
  }

  #serve(): void {
    while (this.#takers.length > 0 && this.#priority.size > 0) {
      const line = PRIORITIES.map((priority) => this.#lines[priority]).find(({ size }) => size > 0)!;
      const key = line.values().next().value!;
      line.delete(key);
      this.#priority.delete(key);
      this.#running.add(key);
      // The run that begins now sees everything that the delay was to see, and says itself when to come
      // again.
      this.#delayed.get(key)?.cancel();
      this.#delayed.delete(key);
      this.#takers.shift()!(key);
    }
  }
}

function higher(a: Priority, b: Priority | undefined): Priority {
  return b === undefined || RANK[a] < RANK[b] ? a : b;
}

/** How long to wait for a turn, when turns are given at a rate after a burst. */
class TokenBucket {
  readonly #clock: Clock;
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  constructor(clock: Clock, perSecond: number, burst: number) {
    this.#clock = clock;
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#atMs = clock.monotonicMs();
  }

  /** Takes a turn, be it in the future; returns the milliseconds until then. */
  take(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#atMs) * this.#perMs) - 1;
    this.#atMs = nowMs;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }
}
