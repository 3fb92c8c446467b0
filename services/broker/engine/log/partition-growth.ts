// The eras of one partition at its owner: see core/growth.ts. Decides what may be published to it while its
// topic grows.
//
//   open ──the topic has grown──▶ closed ──▶ open, by the new count
//
// While it is closed what is under way is appended; the log's end is the new era's beginning, which is
// committed; then every partition from which keys come has to have begun that era as well. Publishes of this
// broker wait here meanwhile, for at most WAIT_MS; those of relays go back to them, and come again.
// Invariant: no message is appended by a count before the beginning of its era is durable, here and where its
// key came from.

import { sliceLength } from '../../core/chunk.ts';
import { BrokerError } from '../../core/errors.ts';
import { type Era, encodeEras, erasWithin, sourcesOf } from '../../core/growth.ts';
import { formatPartitionId, partitionOfKey } from '../../core/partition.ts';
import type { EngineContext } from '../context.ts';
import type { CursorCommitter, CursorHolder } from './cursor-committer.ts';
import type { EraIndex } from './era-index.ts';
import type { PartitionOwner } from './partition-owner.ts';
import type { PendingPublish } from './publish-group.ts';

const WAIT_MS = 10_000;
/** The pause between two looks at the partitions from which keys come. */
const FIRST_LOOK_MS = 10;
const MAX_LOOK_MS = 250;

const FORGOTTEN =
  'the store has forgotten that the topic had more partitions: order per key is not kept over that. Give it its partitions again';

const TOO_LATE = new BrokerError(
  'UNAVAILABLE',
  `the topic is growing, and not all brokers have followed for ${WAIT_MS / 1000} s: nothing was stored, try again`,
);

export interface PartitionGrowthOptions {
  readonly owner: PartitionOwner;
  /** The eras that are stored, or the first one if there are none. */
  readonly eras: readonly Era[];
  /** All counts that the topic has had. */
  readonly counts: readonly number[];
  readonly index: EraIndex;
  readonly committer: CursorCommitter;
  readonly context: EngineContext;
}

interface Held {
  readonly publish: PendingPublish;
  readonly expiresMs: number;
}

export class PartitionGrowth implements CursorHolder {
  readonly owner: PartitionOwner;
  readonly #index: EraIndex;
  readonly #committer: CursorCommitter;
  readonly #context: EngineContext;
  #counts: readonly number[];
  readonly #eras: Era[];
  /** How many of the eras are in the store, and how many were in the last snapshot. */
  #durable: number;
  #snapshot = 0;
  #isOpen = false;
  #working = false;
  #held: Held[] = [];
  #cancelExpiry: (() => void) | undefined;
  #cancelLook: (() => void) | undefined;
  #wake: () => void = () => undefined;

  constructor({ owner, eras, counts, index, committer, context }: PartitionGrowthOptions) {
    this.owner = owner;
    this.#index = index;
    this.#committer = committer;
    this.#context = context;
    this.#counts = counts;
    this.#eras = erasWithin(eras, owner.bounds.endOffset);
    const changed = this.#eras.findIndex(({ fromOffset }, at) => fromOffset !== eras[at]!.fromOffset);
    this.#durable = changed === -1 ? eras.length : changed;
    // The usual case: the topic has always had that many partitions.
    if (counts.length === 1 && eras.length === 1 && eras[0]!.partitions === counts[0]) this.#isOpen = true;
    else {
      this.#committer.rest([this]);
      void this.#work();
    }
  }

  /** All eras, in their order; not all of them need be durable. */
  get eras(): readonly Era[] {
    return this.#eras;
  }

  /** The eras that are durable. */
  get durableEras(): readonly Era[] {
    return this.#eras.slice(0, this.#durable);
  }

  get counts(): readonly number[] {
    return this.#counts;
  }

  /** The topic has grown. From now on nothing is taken by an older count. */
  grow(counts: readonly number[]): void {
    if (counts.length <= this.#counts.length) return;
    this.#counts = counts;
    this.#isOpen = false;
    this.#wake();
    void this.#work();
  }

  /** Whether the owner may append it now. If not, it is kept here or given back. */
  admits(publish: PendingPublish): boolean {
    const { partitions } = publish;
    if (partitions === undefined) {
      if (this.#isOpen && publish.behindRefused !== true && this.#isHere(publish)) return true;
      publish.misrouted();
      return false;
    }
    if (this.#isOpen && partitions === this.#count) return true;
    if (partitions < this.#counts.at(-1)!) publish.misrouted();
    else {
      this.#held.push({ publish, expiresMs: this.#context.clock.monotonicMs() + WAIT_MS });
      this.#watchExpiry();
    }
    return false;
  }

  /** The owner has closed. Returns what has waited. */
  close(): PendingPublish[] {
    this.#isOpen = false;
    this.#cancelExpiry?.();
    this.#cancelExpiry = undefined;
    this.#wake();
    return this.#held.splice(0).map(({ publish }) => publish);
  }

  /** The store has gone back, and may have forgotten eras. */
  restored(): void {
    if (this.#eras.length > 1) this.#committer.soon(this);
  }

  get subscription(): number {
    return this.owner.id.logEpoch;
  }

  get closed(): boolean {
    return this.owner.closed;
  }

  snapshot(): Uint8Array {
    this.#snapshot = this.#eras.length;
    return encodeEras(this.#eras);
  }

  committed(): void {
    if (this.closed) return;
    this.#durable = Math.max(this.#durable, this.#snapshot);
    this.#wake();
  }

  lost(): void {
    this.owner.lose();
  }

  get #count(): number {
    return this.#eras.at(-1)!.partitions;
  }

  /** Whether all of its messages belong here by the count of this owner, whatever its relay knows. */
  #isHere({ slice }: PendingPublish): boolean {
    const { batch, indexes } = slice;
    const count = this.#count;
    if (!batch.keyed || count === 1) return true;
    const { partition } = this.owner.id;
    const messages = sliceLength(slice);
    for (let i = 0; i < messages; i += 1) {
      const hash = batch.keyHashes[indexes === undefined ? i : indexes[i]!]!;
      if (hash !== 0 && partitionOfKey(hash, count) !== partition) return false;
    }
    return true;
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    const sinceMs = this.#context.clock.monotonicMs();
    for (let lookMs = FIRST_LOOK_MS; !this.closed; lookMs = Math.min(lookMs * 2, MAX_LOOK_MS)) {
      const newest = this.#counts.at(-1)!;
      if (this.#count > newest && this.#context.clock.monotonicMs() - sinceMs > WAIT_MS) this.#shrink(newest);
      if (this.#count < newest) {
        await this.owner.flushed();
        if (this.closed) break;
        this.#eras.push({ partitions: newest, fromOffset: this.owner.bounds.endOffset });
        for (const follower of this.owner.followers) follower.eraBegun();
        lookMs = FIRST_LOOK_MS;
      }
      if (this.#durable < this.#eras.length) this.#committer.now(this);
      else if (await this.#mayOpen()) break;
      await this.#lookAgain(lookMs);
    }
    this.#working = false;
    if (this.closed) return;
    this.#isOpen = true;
    const held = this.#held.splice(0);
    this.#watchExpiry();
    for (const { publish } of held) this.owner.publish(publish);
  }

  /**
   * Nobody knows any more that the topic had grown: the store lost that, and every broker that knew it has
   * died.
   */
  #shrink(partitions: number): void {
    const { logger } = this.#context;
    logger.error({ partition: formatPartitionId(this.owner.id), partitions }, FORGOTTEN);
    while (this.#eras.length > 1 && this.#count > partitions) this.#eras.pop();
    if (this.#count > partitions) this.#eras[0] = { partitions, fromOffset: 0 };
    this.#durable = 0;
  }

  /**
   * Whether all partitions from which keys come have begun the newest era. They are asked, so the topic may
   * have grown once more meanwhile.
   */
  async #mayOpen(): Promise<boolean> {
    const { partition } = this.owner.id;
    for (const source of sourcesOf(this.#counts, partition, this.#count))
      if ((await this.#index.beginOf(this.owner.id.logEpoch, source)) === undefined) return false;
    return this.#count === this.#counts.at(-1) && this.#durable === this.#eras.length;
  }

  #lookAgain(afterMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#cancelLook?.();
        this.#cancelLook = undefined;
        this.#wake = () => undefined;
        resolve();
      };
      this.#wake = wake;
      this.#cancelLook = this.#context.clock.setTimer(afterMs, wake);
    });
  }

  #watchExpiry(): void {
    const oldest = this.#held[0];
    if (oldest === undefined) {
      this.#cancelExpiry?.();
      this.#cancelExpiry = undefined;
    } else if (this.#cancelExpiry === undefined) {
      const { clock, stats } = this.#context;
      this.#cancelExpiry = clock.setTimer(Math.max(0, oldest.expiresMs - clock.monotonicMs()), () => {
        this.#cancelExpiry = undefined;
        const nowMs = clock.monotonicMs();
        while (this.#held.length > 0 && this.#held[0]!.expiresMs <= nowMs) {
          stats.refusedPublishes += 1;
          this.#held.shift()!.publish.failed(TOO_LATE);
        }
        this.#watchExpiry();
      });
    }
  }
}
