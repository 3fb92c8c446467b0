// Finds out who holds the partitions that are sought: when asked to, and again and again while some are
// sought, in case the signal that one was released got lost. Many partitions are one question to the store.
import { BrokerError } from '../../core/errors.ts';
import type { Ownership } from '../../core/ownership.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Clock } from '../../ports/clock.ts';
import type { OwnershipState, OwnershipStore } from '../../ports/ownership-store.ts';

const POLL_MS = 200;
/** Of partitions, in one question. */
const MAX_DESCRIBED = 500;

interface Sought {
  readonly id: PartitionId;
  readonly ownership: Ownership;
}

export interface HolderWatchOptions<T extends Sought> {
  readonly store: OwnershipStore;
  readonly clock: Clock;
  /** Those that are sought, with nothing under way; none while nothing may be taken. */
  readonly seekers: () => readonly T[];
  readonly found: (tended: T, state: OwnershipState) => void;
  readonly failed: (error: BrokerError) => void;
}

export class HolderWatch<T extends Sought> {
  readonly #options: HolderWatchOptions<T>;
  #looking: Promise<void> | undefined;
  /** What to look at next. */
  #all = false;
  readonly #some = new Set<T>();
  #cancelPoll: () => void = () => {};
  #stopped = false;

  constructor(options: HolderWatchOptions<T>) {
    this.#options = options;
  }

  /** Looks at all that are sought; while it is looking, any number of calls are one more look. */
  lookAtAll(): void {
    this.#all = true;
    this.#begin();
  }

  /** Looks at one: something has happened to it. */
  lookAt(tended: T): void {
    this.#some.add(tended);
    this.#begin();
  }

  #begin(): void {
    if (this.#stopped || this.#looking !== undefined || (!this.#all && this.#some.size === 0)) return;
    const seekers = this.#options.seekers().filter((each) => this.#all || this.#some.has(each));
    if (this.#all) this.#cancelPoll();
    this.#all = false;
    this.#some.clear();
    if (seekers.length === 0) return;
    this.#looking = this.#ask(seekers).finally(() => {
      this.#looking = undefined;
      this.#begin();
      if (!this.#stopped && this.#looking === undefined && this.#options.seekers().length > 0) this.#poll();
    });
  }

  #poll(): void {
    this.#cancelPoll();
    this.#cancelPoll = this.#options.clock.setTimer(POLL_MS, () => this.lookAtAll());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelPoll();
    await this.#looking;
  }

  async #ask(seekers: readonly T[]): Promise<void> {
    const { store, found, failed } = this.#options;
    for (let from = 0; from < seekers.length; from += MAX_DESCRIBED) {
      const some = seekers.slice(from, from + MAX_DESCRIBED);
      const asked = some.map(({ ownership }) => ownership.state);
      try {
        const states = await store.describe(some.map(({ id }) => id));
        for (const [index, tended] of some.entries()) {
          if (tended.ownership.state === asked[index]) found(tended, states[index]!);
        }
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        failed(error);
        return;
      }
    }
  }
}
