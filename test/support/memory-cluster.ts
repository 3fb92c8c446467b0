// A cluster's surroundings on virtual time: one shared store, and for each member a clock of its own and a
// connection to the store that can be slow, cut or lossy. For tests of the keepers and for the simulation of
// clusters.
//
// A member that is paused (SIGSTOP) runs nothing: its timers and the store's answers wait. One whose machine
// is suspended also has a monotonic clock that stands still meanwhile. A crashed one never runs again.

import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Clock, Random } from '../../services/broker/ports/clock.ts';
import type { Signals } from '../../services/broker/ports/signals.ts';
import { type Carry, through } from './carried-store.ts';
import { type ClusterStores, createSharedMemory, type SharedMemory } from './memory-store.ts';
import type { VirtualClock } from './virtual-clock.ts';

const SHORTEST_TIMER_MS = 1;

/** The clock of one process: it may drift against the others, stop and die. */
export class MemberClock implements Clock {
  readonly #base: Clock;
  /** 1.01: it runs 1 % fast. */
  readonly #rate: number;
  #state: 'running' | 'paused' | 'dead' = 'running';
  /** Since when the machine is suspended; below, for how long it was before. */
  #suspendedSinceMs: number | undefined;
  #suspendedMs = 0;
  #held: { readonly fn: () => void; readonly afterMs: number }[] = [];

  constructor(base: Clock, rate = 1) {
    this.#base = base;
    this.#rate = rate;
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  nowMs(): number {
    return this.#base.nowMs();
  }

  monotonicMs(): number {
    const nowMs = this.#suspendedSinceMs ?? this.#base.monotonicMs();
    return (nowMs - this.#suspendedMs) * this.#rate;
  }

  setTimer(delayMs: number, fn: () => void): () => void {
    let cancelled = false;
    // The shortest timer is that of setTimeout: a rest shorter than a double can add to the time would be due
    // in this instant for ever.
    const baseMs = delayMs > 0 ? Math.max(SHORTEST_TIMER_MS, delayMs / this.#rate) : 0;
    const cancel = this.#base.setTimer(baseMs, () => this.#run(() => cancelled || fn()));
    return () => {
      cancelled = true;
      cancel();
    };
  }

  defer(fn: () => void): void {
    this.#base.defer(() => this.#run(fn));
  }

  pause(suspended = false): void {
    if (this.#state !== 'running') return;
    this.#state = 'paused';
    if (suspended) this.#suspendedSinceMs = this.#base.monotonicMs();
  }

  /** What became due meanwhile happens now, in its order. */
  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    if (this.#suspendedSinceMs !== undefined)
      this.#suspendedMs += this.#base.monotonicMs() - this.#suspendedSinceMs;
    this.#suspendedSinceMs = undefined;
    for (const { fn, afterMs } of this.#held.splice(0)) this.#base.setTimer(afterMs, () => this.#run(fn));
  }

  kill(): void {
    this.#state = 'dead';
    this.#held = [];
  }

  #run(fn: () => void): void {
    if (this.#state === 'running') fn();
    else if (this.#state === 'paused') {
      // By a clock that stands still it becomes due only so much later.
      const sinceMs = this.#suspendedSinceMs;
      this.#held.push({ fn, afterMs: sinceMs === undefined ? 0 : this.#base.monotonicMs() - sinceMs });
    }
  }
}

/** Faults that may be changed at any time. */
export interface ConnectionFaults {
  /** Neither requests nor signals pass. */
  cut: boolean;
  /** The probability that a request takes effect and its answer is lost, 0 to 1. */
  loseAnswers: number;
  /** The probability that a request never arrives. */
  loseRequests: number;
  loseSignals: number;
  /** One way; called for each request and each answer. */
  latencyMs: () => number;
}

export interface MemberConnection {
  readonly clock: MemberClock;
  readonly stores: ClusterStores;
  readonly faults: ConnectionFaults;
}

/** How long a member waits for an answer before the outcome is unknown. */
const TIMEOUT_MS = 1_000;

export class MemoryCluster {
  readonly memory: SharedMemory;
  readonly #clock: VirtualClock;
  readonly #random: Random;

  constructor(clock: VirtualClock, random: Random, memory = createSharedMemory({ clock })) {
    this.#clock = clock;
    this.#random = random;
    this.memory = memory;
  }

  /** Connects a new process with that id. */
  connect(memberId: string, rate = 1): MemberConnection {
    const clock = new MemberClock(this.#clock, rate);
    const faults: ConnectionFaults = {
      cut: false,
      loseAnswers: 0,
      loseRequests: 0,
      loseSignals: 0,
      latencyMs: () => 0.2,
    };
    const inner = this.memory.open(memberId);
    const carry = this.#carrier(clock, faults);
    const stores = {
      log: through(inner.log, carry),
      cursors: through(inner.cursors, carry),
      definitions: through(inner.definitions, carry),
      ownership: through(inner.ownership, carry),
      membership: through(inner.membership, carry),
      signals: this.#signals(inner.signals, clock, faults),
    };
    return { clock, stores, faults };
  }

  /** Carries calls as one TCP connection does: what was sent first arrives first, in both directions. */
  #carrier(clock: MemberClock, faults: ConnectionFaults): Carry {
    let lastThereMs = 0;
    let lastBackMs = 0;
    return <T>(call: () => Promise<T>) =>
      new Promise<T>((resolve, reject) => {
        const failed = faults.cut || this.#random() < faults.loseRequests;
        const answerLost = this.#random() < faults.loseAnswers;
        const cancel = clock.setTimer(TIMEOUT_MS, () =>
          reject(new BrokerError('UNAVAILABLE', 'fault: the store does not answer')),
        );
        if (failed) return;
        const nowMs = this.#clock.monotonicMs();
        lastThereMs = Math.max(lastThereMs, nowMs + faults.latencyMs());
        const answer = (give: () => void): void => {
          if (answerLost || faults.cut) return;
          const answeredMs = this.#clock.monotonicMs();
          lastBackMs = Math.max(lastBackMs, answeredMs + faults.latencyMs());
          this.#clock.setTimer(lastBackMs - answeredMs, () =>
            clock.setTimer(0, () => {
              cancel();
              give();
            }),
          );
        };
        this.#clock.setTimer(lastThereMs - nowMs, () =>
          call().then(
            (value) => answer(() => resolve(value)),
            (error) => answer(() => reject(error)),
          ),
        );
      });
  }

  #signals(inner: Signals, clock: MemberClock, faults: ConnectionFaults): Signals {
    const lost = (): boolean => faults.cut || this.#random() < faults.loseSignals;
    return {
      send: (kind, detail) => {
        if (!lost()) this.#clock.setTimer(faults.latencyMs(), () => inner.send(kind, detail));
      },
      listen: (heard, missed) =>
        inner.listen((kind, detail) => {
          if (!lost()) clock.setTimer(faults.latencyMs(), () => heard(kind, detail));
        }, missed),
    };
  }
}
