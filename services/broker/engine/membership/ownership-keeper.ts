// Drives what this broker owns towards what the assignment says: takes partitions from members that have gone or have let go,
// hands over those that are another's now. The host (engine/partitions) does the work on a partition, and closes by itself those
// of topics that have gone. Level-triggered: after every event and every step the difference is looked at anew.
//
//   membership (assignment, lease) ────────┐              ┌─▶ step-queue ─▶ ownership-steps ─▶ store, host
//   signal `released`, host: stale, topics ┴▶ this keeper ┴─▶ holder-watch ─▶ store
import { partitionsOf, targetOf } from '../../core/assignment.ts';
import { assertNever } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Clock } from '../../ports/clock.ts';
import type { OwnershipState, OwnershipStore } from '../../ports/ownership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import type { EngineLogger } from '../context.ts';
import type { PartitionHost } from '../partition-host.ts';
import { HolderWatch } from './holder-watch.ts';
import type { MembershipKeeper } from './membership-keeper.ts';
import { newTended, type OwnershipCounts, type Tended } from './ownership-state.ts';
import { NO_NOTE, OwnershipSteps } from './ownership-steps.ts';
import { StepQueue } from './step-queue.ts';

export const DEFAULT_HAND_OVER_MS = 5_000;
/** Many partitions fail together when the store does: one line in the log for all of them. */
const WARNING_INTERVAL_MS = 1_000;
/** Of the time to hand over at the end: for what no other member was assigned. */
const REST_PART = 0.25;

export interface OwnershipOptions {
  readonly store: OwnershipStore;
  readonly signals: Signals;
  readonly host: PartitionHost;
  readonly membership: MembershipKeeper;
  readonly clock: Clock;
  readonly logger: EngineLogger;
  /** How long a living member may take to hand a partition over before it is taken from it. */
  readonly handOverMs?: number;
}

export class OwnershipKeeper {
  readonly counts: OwnershipCounts = {
    acquisitions: 0,
    forcedAcquisitions: 0,
    handOvers: 0,
    abandons: 0,
    staleClaims: 0,
  };
  readonly #options: OwnershipOptions;
  readonly #handOverMs: number;
  readonly #tended = new Map<string, Tended>();
  readonly #steps: OwnershipSteps;
  readonly #queue: StepQueue;
  readonly #watch: HolderWatch;
  #unlisten: (() => void)[] = [];
  #nextWarningMs = Number.NEGATIVE_INFINITY;
  /** All partitions are let go, whoever they are assigned to. */
  #leaving = false;
  #stopped = false;
  /** Called whenever a partition is not tended any more. */
  #onFewer: () => void = () => {};

  constructor(options: OwnershipOptions) {
    const { clock, membership, handOverMs = DEFAULT_HAND_OVER_MS } = options;
    this.#options = options;
    this.#handOverMs = handOverMs;
    this.#steps = new OwnershipSteps({
      ...options,
      selfId: membership.self.id,
      handOverMs,
      counts: this.counts,
      warn: (fields, message) => this.#warn(fields, message),
    });
    this.#queue = new StepQueue(clock, (tended) => {
      this.#next(tended);
      if (tended.state.kind === 'seeking') this.#watch.lookAt(tended);
    });
    this.#watch = new HolderWatch({
      ...options,
      seekers: () => this.#seekers(),
      found: (tended, holder) => this.#judge(tended, holder),
      failed: (error) =>
        this.#warn({ reason: error.message }, 'the owners of partitions can not be read: trying again'),
    });
  }

  /** Partitions that are owned this moment. */
  get owned(): number {
    let count = 0;
    for (const { state } of this.#tended.values()) if (state.kind === 'owned') count += 1;
    return count;
  }

  /** Begins to take what is assigned here. Membership may have started already or start later. Once. */
  start(): void {
    const { membership, signals, host } = this.#options;
    host.onStale((id) => this.#stale(id));
    host.onTopics(() => this.#topicsChanged());
    this.#unlisten = [
      membership.listen({
        changed: () => this.#reconcile(),
        fenced: (reason) => this.#fenced(reason),
        regained: () => this.#reconcile(),
      }),
      signals.listen(
        (kind, detail) => {
          const released = kind === 'released' ? this.#tended.get(detail) : undefined;
          if (released !== undefined) this.#watch.lookAt(released);
        },
        () => this.#watch.lookAtAll(),
      ),
    ];
    this.#reconcile();
  }

  /**
   * Gives everything away in order: asks membership to drain, waits for others to be assigned the partitions while there are
   * any, then lets go of the rest with a note for whoever comes. Resolves after timeoutMs at the latest; stop() abandons what is
   * left then.
   */
  async handOverAll(timeoutMs: number): Promise<void> {
    const { clock, membership, logger } = this.#options;
    const unlisten = membership.listen({ changed: () => this.#onFewer(), fenced: () => this.#onFewer() });
    void membership.drain();
    this.#reconcile();
    const assigned = (): boolean => this.#tended.size === 0 || !this.#othersCanTake();
    await this.#until(assigned, timeoutMs * (1 - REST_PART));
    unlisten();
    this.#leaving = true;
    this.#reconcile();
    const startMs = clock.monotonicMs();
    await this.#until(() => this.#tended.size === 0, timeoutMs * REST_PART);
    if (this.#tended.size === 0) return;
    const some = [...this.#tended.keys()].slice(0, 20);
    const fields = { partitions: some, count: this.#tended.size, waitedMs: clock.monotonicMs() - startMs };
    logger.warn(fields, 'partitions could not be handed over in time: they are abandoned');
  }

  /** Abandons what is still owned and waits for the steps under way. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    for (const tended of [...this.#tended.values()]) {
      this.#void(tended, 'the broker is stopping');
      this.#forget(tended);
    }
    await Promise.all([this.#queue.stop(), this.#watch.stop()]);
  }

  async #until(condition: () => boolean, limitMs: number): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => {
      const cancelTimer = this.#options.clock.setTimer(limitMs, resolve);
      this.#onFewer = () => {
        if (!condition()) return;
        cancelTimer();
        resolve();
      };
    });
    this.#onFewer = () => {};
  }

  // --- What should be ---

  /** Whether there is someone to whom the coordinator can move what is here. */
  #othersCanTake(): boolean {
    const { membership } = this.#options;
    const members = membership.view?.members ?? [];
    return membership.holds && members.some(({ id, draining }) => id !== membership.self.id && !draining);
  }

  /** Whether it is to be taken and kept. */
  #isMine(id: PartitionId): boolean {
    const { membership } = this.#options;
    if (this.#leaving || membership.draining) return false;
    return targetOf(membership.known.assignment, id)?.name === membership.self.name;
  }

  /** Whether what is owned is to be handed over: to another member that lives, or to nobody when all leave. */
  #shouldGo(id: PartitionId): boolean {
    const { known, view, self } = this.#options.membership;
    const target = targetOf(known.assignment, id);
    if (this.#leaving) return true;
    if (target === undefined || target.name === self.name) return false;
    return view?.members.some(({ name }) => name === target.name) === true;
  }

  #reconcile(): void {
    const { membership } = this.#options;
    if (this.#stopped || !membership.inForce) return;
    for (const id of partitionsOf(membership.known.assignment, membership.self.name)) {
      if (this.#isMine(id)) this.#tend(id);
    }
    for (const tended of [...this.#tended.values()]) this.#next(tended);
    this.#watch.lookAtAll();
  }

  #tend(id: PartitionId): void {
    if (this.#tended.has(formatPartitionId(id))) return;
    const tended = newTended(id, this.#options.clock.monotonicMs());
    this.#tended.set(tended.name, tended);
  }

  /** Begins the next step of a partition, if there is one to take now. */
  #next(tended: Tended): void {
    const { membership, host } = this.#options;
    if (tended.busy || this.#stopped || !membership.inForce || this.#tended.get(tended.name) !== tended)
      return;
    const { id, state } = tended;
    const mine = this.#isMine(id);
    switch (state.kind) {
      case 'seeking':
        if (!mine) this.#forget(tended);
        break;
      case 'free':
        if (!mine) this.#forget(tended);
        else this.#queue.enqueue(tended, () => this.#steps.acquire(tended, state, () => this.#isMine(id)));
        break;
      case 'claimed':
        if (mine) this.#queue.enqueue(tended, () => this.#steps.own(tended, state.claim));
        else {
          // An own that failed half-way may have left something open.
          host.abandon(id, 'it was moved before it was open');
          const { ownerEpoch, handOver: note = NO_NOTE } = state.claim;
          this.#steps.letGo(tended, { ownerEpoch, note });
          this.#next(tended);
        }
        break;
      case 'owned':
        // Not assigned to anybody: the coordinator has not heard of the topic, or the store has forgotten what it assigned.
        if (this.#shouldGo(id)) this.#queue.enqueue(tended, () => this.#steps.handOver(tended));
        break;
      case 'letGo':
        this.#queue.enqueue(tended, () => this.#steps.release(tended, state));
        break;
      default:
        assertNever(state);
    }
  }

  #forget(tended: Tended): void {
    tended.cancelRetry();
    this.#tended.delete(tended.name);
    this.#onFewer();
  }

  /** Whatever it was counts no more. */
  #void(tended: Tended, reason: string): void {
    const { kind } = tended.state;
    if (kind === 'owned') this.counts.abandons += 1;
    if (kind !== 'seeking' && kind !== 'free') this.#options.host.abandon(tended.id, reason);
    this.#seekAgain(tended);
  }

  #seekAgain(tended: Tended): void {
    tended.life += 1;
    tended.state = { kind: 'seeking', sinceMs: this.#options.clock.monotonicMs() };
  }

  #fenced(reason: string): void {
    for (const tended of [...this.#tended.values()]) {
      this.#void(tended, reason);
      if (this.#options.membership.draining) this.#forget(tended);
    }
  }

  /** The host has closed what belongs to topics that have gone, and has come to know others. */
  #topicsChanged(): void {
    const { host } = this.#options;
    if (this.#stopped) return;
    for (const tended of [...this.#tended.values()]) {
      const { kind } = tended.state;
      if (host.knows(tended.id) || kind === 'seeking' || kind === 'letGo') continue;
      this.#seekAgain(tended);
      this.#next(tended);
    }
    this.#steps.forgetUnless((id) => host.knows(id));
    this.#watch.lookAtAll();
  }

  #stale(id: PartitionId): void {
    const tended = this.#tended.get(formatPartitionId(id));
    this.counts.staleClaims += 1;
    this.#options.logger.warn(
      { partition: formatPartitionId(id) },
      'another broker has taken the partition: a write of this one was refused',
    );
    if (tended === undefined) return;
    this.#seekAgain(tended);
    this.#next(tended);
    this.#watch.lookAt(tended);
  }

  // --- What others hold ---

  #seekers(): Tended[] {
    if (this.#stopped || !this.#options.membership.inForce) return [];
    return [...this.#tended.values()].filter(({ state, busy }) => state.kind === 'seeking' && !busy);
  }

  #judge(tended: Tended, { holder, ownerEpoch }: OwnershipState): void {
    const { membership, clock, host } = this.#options;
    const { state, busy, name } = tended;
    if (busy || state.kind !== 'seeking') return;
    // Assigned here, and not heard of yet, or deleted a moment ago.
    if (!host.knows(tended.id)) return;
    const lives = membership.view?.members.some(({ id }) => id === holder) === true;
    const waited = clock.monotonicMs() - state.sinceMs;
    if (lives && holder !== membership.self.id) {
      if (waited < this.#handOverMs) return;
      this.#options.logger.warn({ partition: name, holder }, 'not handed over in time: taking it by force');
      tended.state = { kind: 'free', forced: true, ownerEpoch };
    } else tended.state = { kind: 'free', forced: false, ownerEpoch };
    this.#next(tended);
  }

  #warn(fields: object, message: string): void {
    const { clock, logger } = this.#options;
    if (clock.monotonicMs() < this.#nextWarningMs) return;
    this.#nextWarningMs = clock.monotonicMs() + WARNING_INTERVAL_MS;
    logger.warn(fields, message);
  }
}
