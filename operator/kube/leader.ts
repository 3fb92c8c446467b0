// Leader election by a Lease: at most one process of the operator works at a time, and another takes over
// when it is gone. Standbys watch the lease and ask for it only when it is free, so they cost the API server
// next to nothing and a released lease is taken at once.
//
//   state     event                                        next
//   standby   the lease is free, and our write of it won   leading
//   leading   a renewal is confirmed                       leading, for renewDeadlineMs from when it was sent
//   leading   no confirmed renewal for renewDeadlineMs,    lost: the work is aborted, the process should end
//             or the lease names another holder
//   leading   the work ended                               released
//
// A Lease does not fence: between our deadline and the next leader's start lie 5 s by the clocks of two
// machines, and a process that was stopped in between notices only when it runs on. Hence `held()`, asked
// before every write. `term` numbers the reigns in logs; nothing refuses a write by it.
import { type Clock, linkedAbort, type Random, sleep } from './clock.ts';
import { isConflict, isNotFound, KubeError } from './errors.ts';
import type { KubeHttp } from './http.ts';
import { createInformer } from './informer.ts';
import {
  firstTransitions,
  freeInMs,
  type Lease,
  type Observation,
  observe,
  released,
  renewed,
  taken,
} from './lease.ts';
import { type LeaseAccess, leaseAccess } from './lease-access.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { LEASES } from './objects.ts';

export interface LeaderOptions {
  /** Any will do: the elector's own writes are unguarded. */
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly namespace: string;
  readonly name: string;
  /** Unique for each process, not just for each pod: the pod's name and something random. */
  readonly identity: string;
  readonly times?: Partial<LeaderTimes>;
}

export interface LeaderTimes {
  /** After this long without a change a standby takes the lease. */
  readonly leaseMs: number;
  /**
   * After this long without a confirmed renewal the leader stops. Less than leaseMs: the difference is the
   * margin.
   */
  readonly renewDeadlineMs: number;
  /** From one renewal to the next. */
  readonly renewMs: number;
  /** From a failed try to the next, up to 1.2 times as long. */
  readonly retryMs: number;
}

/** One reign. */
export interface Leadership {
  /** Greater than that of every leader before. */
  readonly term: number;
  /** Aborts when the lease is lost. */
  readonly signal: AbortSignal;
  /** Whether the lease is ours right now, by our own clock. */
  held(): boolean;
}

export type Ending = 'stopped' | 'lost';

const TIMES: LeaderTimes = { leaseMs: 15_000, renewDeadlineMs: 10_000, renewMs: 5_000, retryMs: 2_000 };
/** From having seen that the lease is still ours, though changed, to writing it. */
const AGAIN_MS = 50;
/** client-go's factor. */
const JITTER = 1.2;

export class LeaderElector {
  readonly #options: LeaderOptions;
  readonly #times: LeaderTimes;
  readonly #lease: LeaseAccess;
  #observed: Observation | undefined;
  #wake: () => void = () => undefined;
  /** While leading: until when the last confirmed renewal carries us, by the monotonic clock. */
  #heldUntilMs = 0;
  #leading = false;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
    this.#lease = leaseAccess(options.http, { namespace: options.namespace, name: options.name });
    if (this.#times.renewDeadlineMs >= this.#times.leaseMs) {
      throw new RangeError('renewDeadlineMs must be less than leaseMs');
    }
    options.metrics.gauge('fanfare_operator_leader', '1 while this process leads.', [], () => [
      { labels: [], value: this.held() ? 1 : 0 },
    ]);
  }

  /** Whether this process leads at this moment. */
  held(): boolean {
    return this.#leading && this.#options.clock.monotonicMs() < this.#heldUntilMs;
  }

  /** Who holds the lease, as last seen; '' if nobody does. */
  get holder(): string {
    return this.#observed?.lease.spec?.holderIdentity ?? '';
  }

  /**
   * Waits for the lease, runs `lead` while renewing it, releases it when `lead` ends. `stop` ends the
   * waiting; once leading it is for `lead` to end itself, and the lease is kept until it has. Throws what
   * `lead` throws.
   */
  async run(stop: AbortSignal, lead: (leadership: Leadership) => Promise<void>): Promise<Ending> {
    const { logger, identity } = this.#options;
    const lease = await this.#acquire(stop);
    if (lease === undefined) return 'stopped';
    const term = lease.spec!.leaseTransitions!;
    logger.info({ identity, term }, 'this process leads');
    using work = linkedAbort(undefined);
    using renewals = linkedAbort(undefined);
    const renewing = this.#renew(lease, renewals.signal).then((ending) => {
      if (ending === 'lost') work.abort(new KubeError(0, 'NotLeader', 'the lease was lost'));
      return ending;
    });
    try {
      await lead({ term, signal: work.signal, held: () => this.held() });
    } finally {
      renewals.abort(undefined);
      const ending = await renewing;
      // Set before the release is sent: there may be a successor before we hear of it.
      this.#leading = false;
      if (ending !== 'lost') await this.#release();
    }
    return await renewing;
  }

  /** The lease as we wrote it, or undefined if stopped before. */
  async #acquire(stop: AbortSignal): Promise<Lease | undefined> {
    const { clock, logger, identity } = this.#options;
    using watch = linkedAbort(stop);
    const watching = this.#watch(watch.signal);
    try {
      while (!stop.aborted) {
        try {
          const lease = await this.#try(stop);
          if (lease !== undefined) return lease;
          await this.#untilFree(stop);
        } catch (error) {
          if (stop.aborted) break;
          if (!(error instanceof KubeError)) throw error;
          // Another standby was quicker: nothing to tell anybody.
          if (!isConflict(error)) {
            logger.warn({ identity, reason: error.message }, 'cannot ask for the lease');
          }
          await sleep(clock, this.#retryMs(), stop);
        }
      }
      return undefined;
    } finally {
      watch.abort(undefined);
      await watching;
    }
  }

  /** One look, and one write if it is free. Undefined: somebody else holds it. */
  async #try(signal: AbortSignal): Promise<Lease | undefined> {
    const { clock, identity } = this.#options;
    const sentMs = clock.monotonicMs();
    const lease = await this.#lease.get(signal);
    let written: Lease;
    if (lease === undefined) {
      const from = { spec: { leaseTransitions: firstTransitions(clock.nowMs()) } } as Lease;
      written = await this.#lease.create(taken(from, identity, this.#times.leaseMs, clock.nowMs()), signal);
    } else {
      this.#see(lease);
      if (freeInMs(this.#observed!, clock.monotonicMs()) > 0) return undefined;
      written = await this.#lease.put(
        lease,
        taken(lease, identity, this.#times.leaseMs, clock.nowMs()),
        signal,
      );
    }
    this.#see(written);
    this.#leading = true;
    this.#heldUntilMs = sentMs + this.#times.renewDeadlineMs;
    return written;
  }

  /** Waits until the lease we know has run out or was released; changes that the watch sees count. */
  async #untilFree(stop: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    for (;;) {
      const leftMs = freeInMs(this.#observed!, clock.monotonicMs());
      if (leftMs === 0 || stop.aborted) break;
      using wait = linkedAbort(stop);
      this.#wake = () => wait.abort(undefined);
      await sleep(clock, leftMs, wait.signal);
    }
    // Many standbys should not all come at once.
    await sleep(clock, (random() * this.#times.retryMs) / 10, stop);
  }

  /** Renews until aborted ('stopped') or until it can't ('lost'). */
  async #renew(first: Lease, signal: AbortSignal): Promise<Ending> {
    const { clock, logger, identity } = this.#options;
    let lease = first;
    let waitMs = this.#times.renewMs;
    for (;;) {
      const leftMs = this.#heldUntilMs - clock.monotonicMs();
      if (leftMs <= 0) {
        logger.error({ identity }, 'the lease could not be renewed in time: this process leads no longer');
        return 'lost';
      }
      if (!(await sleep(clock, Math.min(waitMs, leftMs), signal))) return 'stopped';
      if (!this.held()) continue;
      const sentMs = clock.monotonicMs();
      try {
        lease = await this.#lease.put(
          lease,
          renewed(lease, clock.nowMs()),
          signal,
          this.#heldUntilMs - sentMs,
        );
        this.#see(lease);
        this.#heldUntilMs = sentMs + this.#times.renewDeadlineMs;
        waitMs = this.#times.renewMs;
      } catch (error) {
        if (signal.aborted) return 'stopped';
        if (!(error instanceof KubeError)) throw error;
        logger.warn({ identity, reason: error.message }, 'cannot renew the lease');
        waitMs = this.#retryMs();
        if (!isConflict(error) && !isNotFound(error)) continue;
        const present = await this.#lookAgain(signal);
        if (present === 'lost') return 'lost';
        if (present === undefined) continue;
        lease = present;
        waitMs = AGAIN_MS;
      }
    }
  }

  /**
   * The lease is not as we wrote it. If it is still ours (an earlier write did arrive, or somebody put a
   * label on it), we go on. Undefined: no answer.
   */
  async #lookAgain(signal: AbortSignal): Promise<Lease | 'lost' | undefined> {
    const { logger, identity } = this.#options;
    try {
      const lease = await this.#lease.get(signal);
      if (lease !== undefined) this.#see(lease);
      if (lease?.spec?.holderIdentity === identity) return lease;
      logger.error({ identity, holder: lease?.spec?.holderIdentity }, 'the lease was taken away');
      this.#leading = false;
      return 'lost';
    } catch (error) {
      if (!(error instanceof KubeError) && !signal.aborted) throw error;
      return undefined;
    }
  }

  /**
   * Releases the lease, so that the next leader need not wait. Best effort: if it fails, the lease runs out
   * by itself.
   */
  async #release(): Promise<void> {
    const { clock, logger, identity } = this.#options;
    const { lease } = this.#observed!;
    try {
      await this.#lease.put(lease, released(lease, clock.nowMs()), undefined);
      logger.info({ identity }, 'the lease is released');
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      logger.warn({ identity, reason: error.message }, 'the lease could not be released; it will run out');
    }
  }

  #see(lease: Lease): void {
    this.#observed = observe(this.#observed, lease, this.#options.clock.monotonicMs());
    this.#wake();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { namespace, name } = this.#options;
    const informer = createInformer<Lease>({
      ...this.#options,
      resource: LEASES,
      namespaces: [namespace],
      fieldSelector: `metadata.name=${name}`,
    });
    informer.onChange(({ type, object }) => {
      if (type !== 'deleted') this.#see(object);
    });
    await informer.run(signal);
  }

  #retryMs(): number {
    return this.#times.retryMs * (1 + this.#options.random() * (JITTER - 1));
  }
}
