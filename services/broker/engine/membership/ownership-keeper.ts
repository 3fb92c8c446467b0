// Drives what this broker owns towards what the assignment says: takes partitions from members that have gone
// or have let go, hands over those that are another's now. core/ownership.ts decides what is to be done about
// each; the host does the work on a partition, and closes by itself those of topics that have gone.
//
//   membership (assignment, lease) ────────┐                       ┌─▶ ownership-work ─▶ store, host ─┐
//   signal `released`, host: stale, topics ┼▶ core/ownership.step ─┴─▶ holder-watch ───▶ store ───────┤
//                                          └◀──────────────── how it ended, who holds it ◀────────────┘
//
// Level-triggered: after every event the difference is looked at anew. Invariant: only #step changes what is
// known of a partition.
import { partitionsOf, targetOf } from '../../core/assignment.ts';
import {
  newOwnership,
  type Ownership,
  type OwnershipCount,
  type OwnershipEffect,
  type OwnershipEvent,
  type OwnershipFacts,
  stepOwnership,
} from '../../core/ownership.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Clock } from '../../ports/clock.ts';
import type { OwnershipState, OwnershipStore } from '../../ports/ownership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import type { EngineLogger } from '../context.ts';
import type { PartitionHost } from '../partition-host.ts';
import { HolderWatch } from './holder-watch.ts';
import type { MembershipKeeper } from './membership-keeper.ts';
import { OwnershipWorkers, type Worked } from './ownership-work.ts';

export const DEFAULT_HAND_OVER_MS = 5_000;
/** Many partitions fail together when the store does: one line in the log for all of them. */
const WARNING_INTERVAL_MS = 1_000;
/** The part of the time to hand everything over that is kept for what no other member was assigned. */
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

/** What the keeper has done since it started. */
export interface OwnershipCounts extends Record<OwnershipCount, number> {
  acquisitions: number;
  /** The acquisitions from a member that is alive and did not hand over in time. */
  forcedAcquisitions: number;
  handOvers: number;
  /**
   * Owned partitions that were dropped at once: the lease was lost, or they could not be handed over in
   * order.
   */
  abandons: number;
  /** Writes that were refused because somebody else had taken the partition. */
  staleClaims: number;
}

/** A partition that is assigned here or not let go yet. */
interface Tended extends Worked {
  ownership: Ownership;
  cancelRest: () => void;
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
  readonly #workers: OwnershipWorkers<Tended>;
  readonly #watch: HolderWatch<Tended>;
  #unlisten: (() => void)[] = [];
  #nextWarningMs = Number.NEGATIVE_INFINITY;
  /** All partitions are let go, whoever they are assigned to. */
  #leaving = false;
  #stopped = false;
  /** Called whenever a partition is not tended any more. */
  #onFewer: () => void = () => {};

  constructor(options: OwnershipOptions) {
    const { membership, handOverMs = DEFAULT_HAND_OVER_MS } = options;
    this.#options = options;
    this.#handOverMs = handOverMs;
    this.#workers = new OwnershipWorkers({
      ...options,
      selfId: membership.self.id,
      isVoid: ({ ownership }) => ownership.work === 'void',
      ended: (tended, result) => this.#step(tended, result),
    });
    this.#watch = new HolderWatch({
      ...options,
      seekers: () => this.#seekers(),
      found: (tended, holder) => this.#held(tended, holder),
      failed: (error) => this.#warn('the owners of partitions can not be read: trying again', error.message),
    });
  }

  /** Partitions that are owned this moment. */
  get owned(): number {
    let count = 0;
    for (const { ownership } of this.#tended.values()) if (ownership.state.kind === 'owned') count += 1;
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
   * Gives everything away in order: asks membership to drain, waits for others to be assigned the partitions
   * while there are any, then lets go of the rest with a note for whoever comes. Resolves after timeoutMs at
   * the latest; stop() abandons what is left then.
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

  /** Abandons what is still owned and waits for what is under way. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    for (const tended of [...this.#tended.values()]) {
      this.#step(tended, { kind: 'fenced', reason: 'the broker is stopping' });
      this.#forget(tended);
    }
    await Promise.all([this.#workers.stop(), this.#watch.stop()]);
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

  /** Whether there is somebody to whom the coordinator can move what is here. */
  #othersCanTake(): boolean {
    const { membership } = this.#options;
    const members = membership.view?.members ?? [];
    return membership.holds && members.some(({ id, draining }) => id !== membership.self.id && !draining);
  }

  #isMine(id: PartitionId): boolean {
    const { membership } = this.#options;
    if (this.#leaving || membership.draining) return false;
    return targetOf(membership.known.assignment, id)?.name === membership.self.name;
  }

  /**
   * Whether what is owned is to be handed over: to another member that lives, or to nobody when all leave.
   */
  #shouldGo(id: PartitionId): boolean {
    const { known, view, self } = this.#options.membership;
    const target = targetOf(known.assignment, id);
    if (this.#leaving) return true;
    if (target === undefined || target.name === self.name) return false;
    return view?.members.some(({ name }) => name === target.name) === true;
  }

  #facts(tended: Tended): OwnershipFacts {
    const { clock, membership } = this.#options;
    // What is not tended any more has only its last piece of work to end.
    const isTended = this.#tended.get(tended.name) === tended;
    return {
      nowMs: clock.monotonicMs(),
      mayAct: isTended && !this.#stopped && membership.inForce,
      mine: isTended && this.#isMine(tended.id),
      go: isTended && this.#shouldGo(tended.id),
      handOverMs: this.#handOverMs,
    };
  }

  #reconcile(): void {
    const { membership, clock } = this.#options;
    if (this.#stopped || !membership.inForce) return;
    for (const id of partitionsOf(membership.known.assignment, membership.self.name)) {
      const name = formatPartitionId(id);
      if (this.#tended.has(name) || !this.#isMine(id)) continue;
      const ownership = newOwnership(clock.monotonicMs());
      this.#tended.set(name, {
        id,
        name,
        ownership,
        claim: undefined,
        left: undefined,
        cancelRest: () => {},
      });
    }
    for (const tended of [...this.#tended.values()]) this.#step(tended, { kind: 'look' });
    this.#watch.lookAtAll();
  }

  // --- What is done about it ---

  #step(tended: Tended, event: OwnershipEvent): void {
    const { after, effects } = stepOwnership(tended.ownership, event, this.#facts(tended));
    tended.ownership = after;
    for (const effect of effects) this.#perform(tended, effect);
  }

  #perform(tended: Tended, effect: OwnershipEffect): void {
    const { host, signals, clock } = this.#options;
    switch (effect.kind) {
      case 'abandon':
        host.abandon(tended.id, effect.reason);
        break;
      case 'watch holder':
        this.#watch.lookAt(tended);
        break;
      case 'rest':
        // Who stops has no time to rest.
        if (this.#stopped) break;
        tended.cancelRest = clock.setTimer(effect.delayMs, () => this.#step(tended, { kind: 'rested' }));
        break;
      case 'announce':
        signals.send('released', tended.name);
        break;
      case 'forget':
        this.#forget(tended);
        break;
      case 'count':
        this.counts[effect.what] += 1;
        break;
      case 'warn':
        this.#warn(effect.message, effect.reason, tended.name);
        break;
      default:
        this.#workers.begin(tended, effect);
    }
  }

  #forget(tended: Tended): void {
    tended.cancelRest();
    if (this.#tended.get(tended.name) === tended) this.#tended.delete(tended.name);
    this.#onFewer();
  }

  #fenced(reason: string): void {
    for (const tended of [...this.#tended.values()]) {
      this.#step(tended, { kind: 'fenced', reason });
      if (this.#options.membership.draining) this.#forget(tended);
    }
  }

  /** The host has closed what belongs to topics that have gone, and has come to know others. */
  #topicsChanged(): void {
    const { host } = this.#options;
    if (this.#stopped) return;
    for (const tended of [...this.#tended.values()]) {
      const { kind } = tended.ownership.state;
      if (host.knows(tended.id) || kind === 'seeking' || kind === 'letGo') continue;
      this.#step(tended, { kind: 'closed' });
    }
    this.#workers.forgetUnless((id) => host.knows(id));
    this.#watch.lookAtAll();
  }

  #stale(id: PartitionId): void {
    const name = formatPartitionId(id);
    this.counts.staleClaims += 1;
    this.#options.logger.warn(
      { partition: name },
      'another broker has taken the partition: a write of this one was refused',
    );
    const tended = this.#tended.get(name);
    if (tended !== undefined) this.#step(tended, { kind: 'closed' });
  }

  // --- What others hold ---

  #seekers(): Tended[] {
    if (this.#stopped || !this.#options.membership.inForce) return [];
    return [...this.#tended.values()].filter(
      ({ ownership }) => ownership.state.kind === 'seeking' && ownership.work === 'none',
    );
  }

  #held(tended: Tended, { holder, ownerEpoch }: OwnershipState): void {
    const { membership, host } = this.#options;
    // Assigned here, and not heard of yet, or deleted a moment ago.
    if (!host.knows(tended.id)) return;
    const isOther = holder !== membership.self.id;
    const lives = isOther && membership.view?.members.some(({ id }) => id === holder) === true;
    this.#step(tended, { kind: 'held', ownerEpoch, by: lives ? holder : undefined });
  }

  #warn(message: string, reason: string, partition?: string): void {
    const { clock, logger } = this.#options;
    if (clock.monotonicMs() < this.#nextWarningMs) return;
    this.#nextWarningMs = clock.monotonicMs() + WARNING_INTERVAL_MS;
    logger.warn({ ...(partition !== undefined && { partition }), reason }, message);
  }
}
