// Commits: what a store wants to change, the bounded queue in which that waits for the disk, and the batches
// in which it is written. Pure bookkeeping. Commits are planned and written in the order in which they came.
import { BrokerError } from '../../core/errors.ts';
import { opBytes } from './journal-record.ts';
import type { Op } from './tables.ts';

/** About as much as one LMDB transaction takes, so that nobody waits for long behind another's bytes. */
const MAX_BATCH_BYTES = 8 << 20;
/** The most that may wait to be written. More is refused: the disk is slower than the publishers. */
const MAX_QUEUED_BYTES = 256 << 20;

export interface Planned<T> {
  readonly ops: readonly Op[];
  readonly result: T;
}

/**
 * What a store wants to change. Once plan() has returned, either applied() or failed() is called, unless its
 * whole batch has nothing to write.
 */
export interface Commit<T> {
  /** About how many bytes the ops will take; for admission and batching. */
  readonly bytes: number;
  /**
   * The commit makes the store larger for good: it is refused while the disk is full. All others then work in
   * the space that is kept for them.
   */
  readonly needsRoom?: boolean;
  /**
   * Called when every earlier commit is planned, written or failed. Throws a BrokerError to refuse; nothing
   * is written then.
   */
  plan(): Planned<T>;
  /** The ops are durable; from now on reads see them. */
  applied?(sequence: number): void;
  /** The ops were not written. */
  failed?(): void;
}

/** Commits that are planned and not written yet. They are written together, all or none. */
export class Batch {
  readonly ops: Op[] = [];
  bytes = 0;
  readonly #members: { readonly queued: Queued; readonly result: unknown }[] = [];

  add(queued: Queued): void {
    const { ops, result } = queued.commit.plan();
    for (const op of ops) {
      this.ops.push(op);
      this.bytes += opBytes(op);
    }
    this.#members.push({ queued, result });
  }

  get size(): number {
    return this.#members.length;
  }

  get needsRoom(): boolean {
    return this.#members.some(({ queued }) => queued.commit.needsRoom === true);
  }

  apply(sequence: number): void {
    for (const { queued } of this.#members) queued.commit.applied?.(sequence);
  }

  fail(): void {
    for (const { queued } of this.#members) queued.commit.failed?.();
  }

  resolve(): void {
    for (const { queued, result } of this.#members) queued.resolve(result);
  }

  reject(error: BrokerError): void {
    for (const { queued } of this.#members) queued.reject(error);
  }
}

interface Queued {
  readonly commit: Commit<unknown>;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export class CommitQueue {
  readonly #queued: Queued[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#queued.length === 0;
  }

  /** Resolves or rejects with the commit's batch. RESOURCE_EXHAUSTED if too much waits already. */
  push<T>(commit: Commit<T>): Promise<T> {
    if (this.#bytes + commit.bytes > MAX_QUEUED_BYTES) {
      const message = `more than ${MAX_QUEUED_BYTES >> 20} MiB wait for the disk: publish slower`;
      return Promise.reject(new BrokerError('RESOURCE_EXHAUSTED', message));
    }
    return new Promise<T>((resolve, reject) => {
      this.#bytes += commit.bytes;
      this.#queued.push({ commit, resolve: resolve as (result: unknown) => void, reject });
    });
  }

  /** Plans the oldest commits, up to a batch. `admit` throws to refuse one. */
  takeBatch(admit: (commit: Commit<unknown>) => void): Batch {
    const batch = new Batch();
    let taken = 0;
    for (const queued of this.#queued) {
      if (taken > 0 && batch.bytes + queued.commit.bytes > MAX_BATCH_BYTES) break;
      taken++;
      this.#bytes -= queued.commit.bytes;
      try {
        admit(queued.commit);
        batch.add(queued);
      } catch (error) {
        queued.reject(error);
      }
    }
    this.#queued.splice(0, taken);
    return batch;
  }
}
