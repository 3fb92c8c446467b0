// Performs what core/ownership.ts says is to be done about partitions: asks the store and the host, and says
// how it ended.
//
// Invariant: for a partition one piece of work is under way at a time, and a few for all: a broker that
// starts must not flood the store. What follows from a piece of work for the same partition comes before what
// others wait for.
import { BrokerError } from '../../core/errors.ts';
import type { Failure, OwnershipWork, WorkResult } from '../../core/ownership.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Claim, OwnershipStore } from '../../ports/ownership-store.ts';
import type { HandedOver, PartitionHost } from '../partition-host.ts';

const MAX_UNDER_WAY = 32;
const NO_NOTE = new Uint8Array();

/** A partition with what its pieces of work leave for the next ones. */
export interface Worked {
  readonly id: PartitionId;
  readonly name: string;
  /** The claim that was acquired last. */
  claim: Claim | undefined;
  /** What the host left when it handed the partition over last. */
  left: HandedOver | undefined;
}

export interface WorkersOptions<T extends Worked> {
  readonly store: OwnershipStore;
  readonly host: PartitionHost;
  readonly selfId: string;
  /** Whether what is under way for it counts no more. */
  readonly isVoid: (partition: T) => boolean;
  readonly ended: (partition: T, result: WorkResult) => void;
}

export class OwnershipWorkers<T extends Worked> {
  readonly #options: WorkersOptions<T>;
  /**
   * The newest claim that this broker has had of a partition, by name: a store that went back is not to give
   * it again.
   */
  readonly #newest = new Map<string, { readonly id: PartitionId; readonly ownerEpoch: number }>();
  #waiting: { readonly partition: T; readonly work: OwnershipWork }[] = [];
  readonly #underWay = new Set<Promise<void>>();
  /** The one whose result is being told. */
  #telling: T | undefined;
  #stopped = false;

  constructor(options: WorkersOptions<T>) {
    this.#options = options;
  }

  /** Only when nothing is under way for the partition. `ended` is called later. */
  begin(partition: T, work: OwnershipWork): void {
    if (this.#telling === partition) this.#waiting.unshift({ partition, work });
    else this.#waiting.push({ partition, work });
    this.#pump();
  }

  /** Forgets claims of partitions that are gone. */
  forgetUnless(isKnown: (id: PartitionId) => boolean): void {
    for (const [name, { id }] of this.#newest) if (!isKnown(id)) this.#newest.delete(name);
  }

  /** Begins nothing more, and resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting = [];
    await Promise.all(this.#underWay);
  }

  #pump(): void {
    while (this.#underWay.size < MAX_UNDER_WAY && !this.#stopped) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const done = this.#run(next.partition, next.work).finally(() => {
        this.#underWay.delete(done);
        this.#pump();
      });
      this.#underWay.add(done);
    }
  }

  async #run(partition: T, work: OwnershipWork): Promise<void> {
    const { isVoid, ended } = this.#options;
    const result: WorkResult = isVoid(partition) ? { kind: 'skipped' } : await this.#perform(partition, work);
    this.#telling = partition;
    ended(partition, result);
    this.#telling = undefined;
  }

  #perform(partition: T, work: OwnershipWork): Promise<WorkResult> {
    switch (work.kind) {
      case 'acquire':
        return this.#acquire(partition, work.ifEpoch);
      case 'open':
        return this.#open(partition, work.again);
      case 'hand over':
        return this.#handOver(partition);
      case 'find claim':
        return this.#findClaim(partition);
      case 'release':
        return this.#release(partition, work);
    }
  }

  async #acquire(partition: T, ifEpoch: number): Promise<WorkResult> {
    const { id, name } = partition;
    const above = this.#newest.get(name)?.ownerEpoch;
    try {
      const how = { ifEpoch, ...(above !== undefined && { above }) };
      partition.claim = await this.#options.store.acquire(id, how);
    } catch (error) {
      return { kind: 'acquire failed', failure: failureOf(error) };
    }
    const { ownerEpoch } = partition.claim;
    this.#claimed(partition, ownerEpoch);
    return { kind: 'acquired', ownerEpoch };
  }

  async #open({ id, claim }: T, again: boolean): Promise<WorkResult> {
    try {
      if (again && (await this.#isTaken(id, claim!))) return { kind: 'taken' };
      await this.#options.host.own(id, claim!);
      return { kind: 'opened' };
    } catch (error) {
      return { kind: 'open failed', failure: failureOf(error) };
    }
  }

  async #handOver(partition: T): Promise<WorkResult> {
    try {
      partition.left = await this.#options.host.handOver(partition.id);
      return { kind: 'handed over', ownerEpoch: partition.left.ownerEpoch };
    } catch (error) {
      return { kind: 'hand-over failed', failure: failureOf(error) };
    }
  }

  /** The host may have taken a newer claim by itself, so the store is asked. */
  async #findClaim({ id }: T): Promise<WorkResult> {
    const { store, selfId } = this.#options;
    try {
      const [state] = await store.describe([id]);
      return { kind: 'claim found', ownerEpoch: state!.holder === selfId ? state!.ownerEpoch : undefined };
    } catch (error) {
      return { kind: 'claim not found out', failure: failureOf(error) };
    }
  }

  async #release(
    partition: T,
    { ownerEpoch, note }: OwnershipWork & { readonly kind: 'release' },
  ): Promise<WorkResult> {
    const { store, isVoid } = this.#options;
    const left = note === 'own' ? partition.left! : undefined;
    const former = note === 'former' ? partition.claim?.handOver : undefined;
    try {
      const epoch = (await left?.confirm?.()) ?? ownerEpoch;
      this.#claimed(partition, epoch);
      if (isVoid(partition)) return { kind: 'skipped' };
      await store.release(partition.id, epoch, left?.note ?? former ?? NO_NOTE);
      return { kind: 'released' };
    } catch (error) {
      return { kind: 'release failed', failure: failureOf(error) };
    }
  }

  async #isTaken(id: PartitionId, { ownerEpoch }: Claim): Promise<boolean> {
    const { store, selfId } = this.#options;
    const [state] = await store.describe([id]);
    return state!.ownerEpoch > ownerEpoch || (state!.ownerEpoch === ownerEpoch && state!.holder !== selfId);
  }

  #claimed({ id, name }: T, ownerEpoch: number): void {
    const before = this.#newest.get(name)?.ownerEpoch ?? 0;
    this.#newest.set(name, { id, ownerEpoch: Math.max(ownerEpoch, before) });
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof BrokerError) return { code: error.code, reason: error.message };
  throw error;
}
