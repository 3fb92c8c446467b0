// How far subscriptions had come in partitions that this broker has given up, in case the store goes back: it
// may lose the cursors that were committed last, and an outage that takes longer than a lease costs every
// owner its claim, too. The next owner, here or elsewhere, is to begin with what the store and this memory
// know together.
//
// Invariant: what is remembered never becomes wrong as long as the log is the same, for what was settled
// stays settled. So each cursor is kept with marks, chunks that its log had: up to the newest of them that is
// still there, the log is the same. Bounded in bytes for the whole broker, and in time; what is not
// remembered any more is delivered again.

import { type Cursor, cursorBelow, decodeCursor, joinCursors } from '../../core/cursor.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { SettledSubscription } from '../../core/settle-request.ts';
import type { ChunkInfo, LogStore } from '../../ports/log-store.ts';
import type { PartitionOwner } from './partition-owner.ts';
import { KEEP_MS } from './recent-chunks.ts';

export interface RememberedCursor {
  readonly id: PartitionId;
  readonly subscription: SettledSubscription;
  readonly record: Uint8Array;
  /** The partition was handed over in order: the next owner has read this cursor in the store. */
  readonly isHandedOver: boolean;
  /** See PartitionOwner.marks. The log is compared once for cursors that have the very same array. */
  readonly marks: readonly ChunkInfo[];
}

interface Entry {
  readonly cursor: RememberedCursor;
  readonly bytes: number;
  readonly untilMs: number;
}

interface Compared {
  readonly marks: readonly ChunkInfo[];
  readonly sameBelow: number;
}

const MAX_BYTES = 16 * 1024 * 1024;
/** What a cursor costs beside its record: keys, and what the entry holds. */
const ENTRY_BYTES = 300;

export class RememberedCursors {
  readonly #log: LogStore;
  readonly #maxBytes: number;
  /** Entries by partition and incarnation of the subscription; the oldest first. */
  readonly #entries = new Map<string, Entry>();
  /** The last comparison with the log, by the owner that has opened the partition since. */
  readonly #compared = new WeakMap<PartitionOwner, Compared>();
  #bytes = 0;

  constructor(log: LogStore, maxBytes = MAX_BYTES) {
    this.#log = log;
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  keep(cursor: RememberedCursor, nowMs: number): void {
    const key = keyOf(cursor.id, cursor.subscription.incarnation);
    this.#forget(key);
    const bytes = cursor.record.length + ENTRY_BYTES;
    this.#entries.set(key, { cursor, bytes, untilMs: nowMs + KEEP_MS });
    this.#bytes += bytes;
    for (const [oldest, { untilMs }] of this.#entries) {
      if (this.#bytes <= this.#maxBytes && untilMs > nowMs) break;
      this.#forget(oldest);
    }
  }

  /**
   * The cursor with which the owner begins: what the store has, joined with what is remembered as far as the
   * log is still the same.
   */
  async joined(owner: PartitionOwner, incarnation: number, stored: Cursor): Promise<Cursor> {
    const cursor = this.#entries.get(keyOf(owner.id, incarnation))?.cursor;
    if (cursor === undefined) return stored;
    const known = cursorBelow(decodeCursor(cursor.record), await this.#sameFor(owner, cursor.marks));
    return joinCursors(stored, known);
  }

  /** The cursors that are young enough to be of use. */
  *all(nowMs: number): Iterable<RememberedCursor> {
    for (const { cursor, untilMs } of [...this.#entries.values()]) if (untilMs > nowMs) yield cursor;
  }

  /** The offset below which the log is the one that had the cursor's marks; 0 if it has none of them. */
  async sameBelow({ id, marks }: Pick<RememberedCursor, 'id' | 'marks'>): Promise<number> {
    for (const mark of marks) {
      const [found] = await this.#log.describe(id, mark.firstOffset, 1);
      if (found !== undefined && isSame(found, mark)) return mark.firstOffset + mark.count;
    }
    return 0;
  }

  /** As sameBelow, but the store is asked once for cursors with the same marks. */
  async #sameFor(owner: PartitionOwner, marks: readonly ChunkInfo[]): Promise<number> {
    const asked = this.#compared.get(owner);
    if (asked?.marks === marks) return asked.sameBelow;
    const sameBelow = await this.sameBelow({ id: owner.id, marks });
    this.#compared.set(owner, { marks, sameBelow });
    return sameBelow;
  }

  #forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}

function isSame(a: ChunkInfo, b: ChunkInfo): boolean {
  return (
    a.firstOffset === b.firstOffset &&
    a.count === b.count &&
    a.publishTimeMs === b.publishTimeMs &&
    a.startByte === b.startByte &&
    a.byteLength === b.byteLength
  );
}

function keyOf(id: PartitionId, incarnation: number): string {
  return `${formatPartitionId(id)} ${incarnation}`;
}
