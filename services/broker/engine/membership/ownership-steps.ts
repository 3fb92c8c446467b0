// What can be done to one partition: take it, open it, hand it over, tell the store. Run by ownership-keeper's queue, one at a
// time for a partition. Each step leaves the partition in a state from which the keeper can go on, whatever fails.
import { BrokerError, type ErrorCode } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Claim, OwnershipStore } from '../../ports/ownership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import type { HandedOver, PartitionHost } from '../partition-host.ts';
import type { Free, LetGo, OwnershipCounts, Tended } from './ownership-state.ts';

export const NO_NOTE = new Uint8Array();

export interface OwnershipStepsOptions {
  readonly store: OwnershipStore;
  readonly signals: Signals;
  readonly host: PartitionHost;
  readonly clock: Clock;
  readonly selfId: string;
  /** How long a release of unknown outcome is tried again; after that it is taken by force. */
  readonly handOverMs: number;
  readonly counts: OwnershipCounts;
  readonly warn: (fields: object, message: string) => void;
}

export class OwnershipSteps {
  readonly #options: OwnershipStepsOptions;
  /** The newest claim that this broker has had of a partition, by name: a store that went back is not to give it again. */
  readonly #newest = new Map<string, { readonly id: PartitionId; readonly ownerEpoch: number }>();

  constructor(options: OwnershipStepsOptions) {
    this.#options = options;
  }

  /** Forgets claims of partitions that are gone. */
  forgetUnless(isKnown: (id: PartitionId) => boolean): void {
    for (const [name, { id }] of this.#newest) if (!isKnown(id)) this.#newest.delete(name);
  }

  /** free → claimed → owned, or seeking: someone was quicker. `wanted` is asked between claimed and owned. */
  async acquire(tended: Tended, { forced, ownerEpoch }: Free, wanted: () => boolean): Promise<void> {
    const { store, counts } = this.#options;
    const { life } = tended;
    let claim: Claim;
    try {
      const above = this.#newest.get(tended.name)?.ownerEpoch;
      claim = await store.acquire(tended.id, { ifEpoch: ownerEpoch, ...(above !== undefined && { above }) });
      this.#claimed(tended, claim.ownerEpoch);
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'ABORTED') this.#failed(tended, life, error, 'acquired');
      // FAILED_PRECONDITION: the topic was dropped; the assignment will say so, too.
      if (tended.life === life && (code === 'ABORTED' || code === 'FAILED_PRECONDITION')) this.#seek(tended);
      return;
    }
    // The lease was lost meanwhile: who knows what came after this claim.
    if (tended.life !== life) return;
    counts.acquisitions += 1;
    if (forced) counts.forcedAcquisitions += 1;
    tended.state = { kind: 'claimed', claim };
    if (wanted()) await this.own(tended, claim);
  }

  /** claimed → owned. After a failure it stays claimed: another claim would come without the former owner's note. */
  async own(tended: Tended, claim: Claim): Promise<void> {
    const { host } = this.#options;
    const { life } = tended;
    try {
      // It may have been taken by force since it was tried last.
      if (tended.failures > 0 && (await this.#isTaken(tended, claim))) {
        if (tended.life === life) this.#seek(tended);
        return;
      }
      await host.own(tended.id, claim);
    } catch (error) {
      this.#failed(tended, life, error, 'opened');
      if (tended.life === life && codeOf(error) === 'ABORTED') this.#seek(tended);
      return;
    }
    if (tended.life !== life) {
      host.abandon(tended.id, 'the claim was lost while the partition was being opened');
      return;
    }
    tended.failures = 0;
    tended.state = { kind: 'owned' };
  }

  /** owned → letGo → seeking. */
  async handOver(tended: Tended): Promise<void> {
    const { host } = this.#options;
    const { life } = tended;
    let left: HandedOver | undefined;
    try {
      left = await host.handOver(tended.id);
    } catch (error) {
      const reason = reasonOf(error);
      if (tended.life !== life) return;
      left = await this.#giveUp(tended, reason);
    }
    if (left !== undefined && tended.life === life) await this.release(tended, this.letGo(tended, left));
  }

  /** The host has stopped writing. */
  letGo(tended: Tended, { ownerEpoch, note, confirm }: HandedOver): LetGo {
    const sinceMs = this.#options.clock.monotonicMs();
    const state = { kind: 'letGo', ownerEpoch, note, confirm, sinceMs } as const;
    tended.state = state;
    return state;
  }

  /** letGo → seeking: what is next is the assignment's business. */
  async release(tended: Tended, { ownerEpoch, note, confirm, sinceMs }: LetGo): Promise<void> {
    const { store, signals, clock, handOverMs, counts } = this.#options;
    const { life } = tended;
    try {
      const confirmedEpoch = await confirm?.();
      this.#claimed(tended, confirmedEpoch ?? ownerEpoch);
      if (tended.life !== life) return;
      await store.release(tended.id, confirmedEpoch ?? ownerEpoch, note);
      counts.handOvers += 1;
    } catch (error) {
      const code = codeOf(error);
      const inTime = clock.monotonicMs() - sinceMs < handOverMs;
      if (inTime && (code === 'UNAVAILABLE' || code === 'RESOURCE_EXHAUSTED')) {
        this.#failed(tended, life, error, 'released');
        return;
      }
      // ABORTED: an earlier try has succeeded, or someone has taken it. Else it is taken by force before long.
    }
    signals.send('released', tended.name);
    if (tended.life !== life) return;
    tended.failures = 0;
    this.#seek(tended);
  }

  /**
   * A partition that can't be handed over in order is abandoned. Released without a note it need not be taken by force; the host
   * may have taken a newer claim by itself, so the store is asked which one.
   */
  async #giveUp(tended: Tended, reason: string): Promise<HandedOver | undefined> {
    const { host, store, counts, selfId, warn } = this.#options;
    const { life } = tended;
    warn({ partition: tended.name, reason }, 'a partition was not handed over in order');
    counts.abandons += 1;
    host.abandon(tended.id, 'it could not be handed over in order');
    this.#seek(tended);
    try {
      const [state] = await store.describe([tended.id]);
      return state?.holder === selfId ? { ownerEpoch: state.ownerEpoch, note: NO_NOTE } : undefined;
    } catch (error) {
      this.#failed(tended, life, error, 'looked at');
      return undefined;
    }
  }

  async #isTaken({ id }: Tended, { ownerEpoch }: Claim): Promise<boolean> {
    const { store, selfId } = this.#options;
    const [state] = await store.describe([id]);
    return state!.ownerEpoch > ownerEpoch || (state!.ownerEpoch === ownerEpoch && state!.holder !== selfId);
  }

  #claimed({ id, name }: Tended, ownerEpoch: number): void {
    this.#newest.set(name, {
      id,
      ownerEpoch: Math.max(ownerEpoch, this.#newest.get(name)?.ownerEpoch ?? 0),
    });
  }

  #seek(tended: Tended): void {
    tended.state = { kind: 'seeking', sinceMs: this.#options.clock.monotonicMs() };
  }

  #failed(tended: Tended, life: number, error: unknown, what: string): void {
    const reason = reasonOf(error);
    if (tended.life !== life) return;
    tended.failures += 1;
    this.#options.warn({ partition: tended.name, reason }, `a partition could not be ${what}: trying again`);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof BrokerError) return error.message;
  throw error;
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof BrokerError) return error.code;
  throw error;
}
