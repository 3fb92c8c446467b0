// The one layer under all four stores: commits that are durable when they resolve, and reads that see every
// commit that resolved. Owns the order of commits, the journal, the overlay and LMDB (tables). Why there is a
// journal: services/decisions/0001-journal-before-lmdb.md.
//
//   commit() ─▶ queue ─▶ pump: one batch at a time ─┬─ small ─▶ journal, overlay ── in 250 ms: merge ─▶ LMDB
//                                                   └─ large ─▶ LMDB, with all that waits in the overlay
//
// Invariants. Batches become durable in order, one at a time; a batch's sequence is one more than its
// predecessor's. A merge runs beside journal writes, but nothing else runs beside a direct write. A commit is
// planned against the state that all commits before it have made. After a write that may or may not have
// happened the store is stalled: it accepts nothing until LMDB, opened anew, shows what became of it, or an
// LMDB commit with at least that sequence makes it void.
//
// On a full disk only commits that need room are refused. The others go to the journal, which takes no more
// space, and from there to LMDB in the space that was kept for it (reserve.ts). If even that is too little,
// the deletes that the journal holds go to LMDB first, by themselves and under the sequence that LMDB has: a
// replay of the journal still ends in the same state, because each of them is the last op on its key there.
import { join } from 'node:path';
import { BrokerError } from '../../core/errors.ts';
import { type Batch, type Commit, CommitQueue } from './commit.ts';
import type { Disk } from './disk.ts';
import type { Journal } from './journal.ts';
import type { KeyRange } from './keys.ts';
import { Overlay } from './overlay.ts';
import type { Reserve } from './reserve.ts';
import { Stall, type Warn } from './stall.ts';
import { messageOf } from './storage-errors.ts';
import type { Entry, Op, Table, Tables } from './tables.ts';

export const TABLES_FILE = 'data.mdb';
/** How long after a failed journal write all commits go to LMDB directly. */
const JOURNAL_REST_MS = 30_000;

export interface KvOptions {
  readonly dir: string;
  readonly disk: Disk;
  readonly warn: Warn;
  readonly mergeIntervalMs: number;
  /** Batches larger than this go to LMDB directly. */
  readonly directBytes: number;
  readonly reserve: Reserve;
  /** Whether there is room for messages. */
  readonly roomy: boolean;
}

/** Counters since the store was opened. */
export interface StoreStats {
  commits: number;
  journalWrites: number;
  journalBytes: number;
  directWrites: number;
  directBytes: number;
  merges: number;
  stalls: number;
  /** Whether commits are refused at the moment. */
  stalled: boolean;
}

export class DurableKv {
  readonly #options: KvOptions;
  readonly #journal: Journal;
  /** Undefined while LMDB can't be opened after a failure. */
  #tables: Tables | undefined;
  /** LMDB must be opened anew before the next write. */
  #tablesFailed = false;
  readonly #overlay = new Overlay();
  readonly #mergedListeners: ((sequence: number) => void)[] = [];
  /** The sequence of the last batch that was begun. */
  #sequence: number;
  #mergedSequence: number;

  readonly #queue = new CommitQueue();
  #running: Promise<void> | undefined;
  #closed = false;

  #merging: Promise<void> | undefined;
  #mergeDue = false;
  #mergeTimer: NodeJS.Timeout | undefined;
  #journalRestsUntilMs = 0;
  /**
   * A record with this sequence may be in the journal though its write failed: no other follows before an
   * LMDB commit makes it void.
   */
  #voidSequence = 0;
  /** The reserve is given back, and since the last merge there may be room for it, or for more messages. */
  #reserveDue = false;

  readonly #stall: Stall;
  /** A direct write whose outcome LMDB could not tell yet. */
  #doubtful: { readonly batch: Batch; readonly sequence: number } | undefined;
  readonly #counters = {
    commits: 0,
    journalWrites: 0,
    journalBytes: 0,
    directWrites: 0,
    directBytes: 0,
    merges: 0,
  };

  constructor(options: KvOptions, tables: Tables, journal: Journal) {
    this.#options = options;
    this.#tables = tables;
    this.#journal = journal;
    this.#sequence = tables.sequence();
    this.#mergedSequence = this.#sequence;
    this.#stall = new Stall(options.dir, options.disk, options.warn, () => this.#wake());
    if (!options.roomy) this.#stall.beginFull();
  }

  get stats(): StoreStats {
    return { ...this.#counters, stalls: this.#stall.count, stalled: this.#stall.active };
  }

  /** The error that refused commits get at the moment; undefined while none is refused. */
  get refusal(): BrokerError | undefined {
    return this.#stall.error;
  }

  /**
   * `listener` is called after each LMDB commit: all ops up to that sequence are read from LMDB from now on.
   */
  onMerged(listener: (sequence: number) => void): void {
    this.#mergedListeners.push(listener);
  }

  /**
   * Plans, writes and applies one commit; resolves with the plan's result once durable. RESOURCE_EXHAUSTED:
   * the disk is full and the commit needs room there, or the queue is full; nothing was written. UNAVAILABLE:
   * the outcome is unknown. Whatever plan() throws is passed on.
   */
  commit<T>(commit: Commit<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new BrokerError('UNAVAILABLE', 'the store is closed'));
    const done = this.#queue.push(commit);
    this.#wake();
    return done;
  }

  get(table: Table, key: Buffer): Uint8Array | undefined {
    const op = this.#overlay.find(table, key);
    return op ? op.value : this.tables.get(table, key);
  }

  /** Everything in a range of a table, in no particular order. For small tables. */
  entries(table: Table, range: KeyRange): Entry[] {
    const found = new Map<string, Entry>();
    for (const entry of this.tables.entries(table, range)) found.set(entry.key.toString('latin1'), entry);
    for (const { key, value } of this.#overlay.ofTable(table)) {
      if (key.compare(range.start) < 0 || key.compare(range.end) >= 0) continue;
      if (value) found.set(key.toString('latin1'), { key, value: Buffer.from(value) });
      else found.delete(key.toString('latin1'));
    }
    return [...found.values()];
  }

  /** The keys in a range that the overlay gives a value: a merge may bring them to LMDB at any time. */
  pendingKeys(table: Table, { start, end }: KeyRange): Buffer[] {
    const found = new Map<string, Buffer>();
    for (const { key, value } of this.#overlay.ofTable(table)) {
      if (key.compare(start) < 0 || key.compare(end) >= 0) continue;
      if (value) found.set(key.toString('latin1'), key);
      else found.delete(key.toString('latin1'));
    }
    return [...found.values()];
  }

  /** Everything up to this sequence is in LMDB. */
  get mergedSequence(): number {
    return this.#mergedSequence;
  }

  /** What LMDB holds, without the overlay. Throws UNAVAILABLE while it can't be opened. */
  get tables(): Tables {
    if (this.#tables) return this.#tables;
    throw this.#stall.error ?? new BrokerError('UNAVAILABLE', 'the store is closed');
  }

  /** Throws UNAVAILABLE while it is not known whether the last write happened. */
  refuseWhileUnknown(): void {
    if (this.#stall.kind === 'failed') throw this.#stall.error;
  }

  /**
   * Resolves when everything committed before is in LMDB, or, on a full disk, durable. Errors as in commit().
   */
  async flush(): Promise<void> {
    await this.commit({ bytes: 0, plan: () => ({ ops: [], result: undefined }) });
    const target = this.#sequence;
    while (this.#mergedSequence < target) {
      if (this.#stall.kind === 'full') return;
      if (this.#stall.error) throw this.#stall.error;
      this.#mergeDue = true;
      this.#wake();
      await this.#running;
      await this.#merging;
    }
  }

  /** Lets commits under way finish, merges what waits, and closes LMDB and journal. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    while (this.#running || this.#merging) await (this.#running ?? this.#merging);
    clearTimeout(this.#mergeTimer);
    this.#stall.stopTimer();
    // What can't be merged now stays in the journal for the next start.
    if (this.#mergedSequence < this.#sequence) await this.#mergeAll();
    await this.#journal.close();
    await this.#tables?.close();
    this.#tables = undefined;
  }

  // Waits by setImmediate: what the callbacks of one phase of the event loop commit (one per partition) is
  // one batch.
  #wake(): void {
    this.#running ??= new Promise((resolve) => {
      setImmediate(async () => {
        await this.#pump();
        resolve();
      });
    });
  }

  async #pump(): Promise<void> {
    while (!this.#queue.isEmpty || this.#stall.retryDue || this.#canMerge) {
      if (this.#stall.retryDue) await this.#recover();
      if (this.#reserveDue) await this.#restoreReserve();
      if (this.#canMerge) this.#startMerge();
      const batch = this.#queue.takeBatch((commit) => this.#refuseWhileStalled(commit));
      if (batch.ops.length > 0) await this.#write(batch);
      else batch.resolve();
    }
    // This is in the same step as the loop's last look at the queue: whoever comes later wakes a new pump.
    this.#running = undefined;
  }

  get #canMerge(): boolean {
    return this.#mergeDue && !this.#merging && !this.#stall.active;
  }

  #refuseWhileStalled({ needsRoom, bytes }: Commit<unknown>): void {
    if (this.#stall.kind === 'full' && !needsRoom) return;
    if (this.#stall.error) throw this.#stall.error;
    if (needsRoom && !this.#options.reserve.spend(bytes)) throw this.#stall.beginFull();
  }

  async #write(batch: Batch): Promise<void> {
    if (await this.#journalTakes(batch)) return this.#writeJournal(batch);
    await this.#merging;
    // The merge that this batch waited for may have failed.
    if (this.#stalls(batch)) {
      batch.fail();
      return batch.reject(this.#stall.error!);
    }
    await this.#writeDirect(batch);
  }

  #stalls(batch: Batch): boolean {
    return this.#stall.active && (this.#stall.kind !== 'full' || batch.needsRoom);
  }

  async #journalTakes(batch: Batch): Promise<boolean> {
    if (batch.bytes > this.#options.directBytes || performance.now() < this.#journalRestsUntilMs)
      return false;
    if (this.#mergedSequence < this.#voidSequence) return false;
    // Messages leave some of the journal to the commits that must go on when LMDB can't take them.
    const needed = batch.needsRoom ? batch.bytes + this.#journal.keptBytes : batch.bytes;
    if (!this.#stall.active && !this.#journal.fits(needed)) {
      await this.#merging;
      if (!this.#stall.active) this.#startMerge();
    }
    return !this.#stalls(batch) && this.#journal.fits(needed);
  }

  async #writeJournal(batch: Batch): Promise<void> {
    const sequence = ++this.#sequence;
    try {
      this.#counters.journalBytes += await this.#journal.write(sequence, batch.ops, batch.bytes);
    } catch (error) {
      // The record may be there all the same. No other is written until LMDB has this sequence, which makes
      // it void.
      this.#journalRestsUntilMs = performance.now() + JOURNAL_REST_MS;
      this.#voidSequence = sequence;
      const told = await this.#stalled(error, batch.bytes);
      batch.fail();
      return batch.reject(told);
    }
    this.#counters.journalWrites++;
    for (const op of batch.ops) this.#overlay.add(op);
    this.#apply(batch, sequence);
    this.#stall.hasten();
    if (this.#journal.halfFull) this.#mergeDue = true;
    else this.#mergeTimer ??= setTimeout(() => this.#mergeNow(), this.#options.mergeIntervalMs).unref();
  }

  async #writeDirect(batch: Batch): Promise<void> {
    const sequence = ++this.#sequence;
    try {
      await this.tables.write(both(this.#overlay.freeze(), batch.ops), sequence);
    } catch (error) {
      return this.#directFailed(batch, sequence, error);
    }
    this.#counters.directWrites++;
    this.#counters.directBytes += batch.bytes;
    this.#everythingMerged(sequence);
    this.#apply(batch, sequence);
    if (this.#stall.kind === 'full') this.#stall.hasten();
    else this.#stall.end();
  }

  async #directFailed(batch: Batch, sequence: number, cause: unknown): Promise<void> {
    this.#overlay.thaw();
    this.#tablesFailed = true;
    this.#doubtful = { batch, sequence };
    let told = await this.#stalled(cause, batch.bytes);
    const happened = (await this.#reopenTables()) ? this.tables.sequence() >= sequence : true;
    if (happened) told = this.#stall.becomeFailed(cause);
    batch.reject(told);
  }

  #apply(batch: Batch, sequence: number): void {
    this.#counters.commits += batch.size;
    batch.apply(sequence);
    batch.resolve();
  }

  #mergeNow(): void {
    this.#mergeTimer = undefined;
    this.#mergeDue = true;
    if (!this.#closed) this.#wake();
  }

  /** Runs only between batches: what the active file holds is then exactly what the overlay holds. */
  #startMerge(): void {
    this.#mergeDue = false;
    if (this.#overlay.isEmpty) return;
    const sequence = this.#sequence;
    this.#journal.switchFile();
    this.#merging = this.#merge(sequence).finally(() => {
      this.#merging = undefined;
      if (this.#canMerge) this.#wake();
    });
  }

  async #merge(sequence: number): Promise<void> {
    try {
      await this.tables.write(this.#overlay.freeze(), sequence);
    } catch (error) {
      this.#overlay.thaw();
      this.#tablesFailed = true;
      await this.#stalled(error, 0);
      return;
    }
    this.#overlay.merged();
    this.#journal.release();
    this.#tellMerged(sequence);
  }

  #everythingMerged(sequence: number): void {
    this.#overlay.merged();
    this.#journal.reset();
    this.#tellMerged(sequence);
  }

  #tellMerged(sequence: number): void {
    this.#counters.merges++;
    this.#mergedSequence = sequence;
    this.#reserveDue = !this.#options.reserve.held;
    for (const listener of this.#mergedListeners) listener(sequence);
  }

  /** Begins a stall because a write failed. Resolves with the error for its callers. */
  async #stalled(cause: unknown, neededBytes: number): Promise<BrokerError> {
    const told = await this.#stall.begin(cause, neededBytes);
    if (this.#stall.kind === 'full') {
      await this.#options.reserve.giveBack().catch((error: unknown) => {
        this.#options.warn('the reserve can not be given back', { cause: messageOf(error) });
      });
    }
    return told;
  }

  /**
   * Tries once to write everything that waits, under a sequence that makes void what may have half happened.
   */
  async #recover(): Promise<void> {
    await this.#merging;
    const recovered =
      (await this.#mergeAll()) && (this.#stall.kind !== 'full' || (await this.#restoreReserve()));
    if (recovered) this.#stall.end();
    else this.#stall.retryLater();
  }

  async #restoreReserve(): Promise<boolean> {
    this.#reserveDue = false;
    try {
      return await this.#options.reserve.restore(await this.tables.freeBytes());
    } catch (error) {
      this.#options.warn('the space on the disk can not be told', { cause: messageOf(error) });
      return false;
    }
  }

  async #mergeAll(): Promise<boolean> {
    const ops = [...this.#overlay.freeze()];
    let done = await this.#tryTables(ops, this.#sequence);
    if (!done && this.#stall.kind === 'full') {
      const deletes = ops.filter(({ value }) => value === undefined);
      const freed = deletes.length > 0 && (await this.#tryTables(deletes, this.#mergedSequence));
      done = freed && (await this.#tryTables(ops, this.#sequence));
    }
    if (done) this.#everythingMerged(this.#sequence);
    else this.#overlay.thaw();
    return done;
  }

  /** A failure is not logged: its cause was when the stall began. */
  async #tryTables(ops: Iterable<Op>, sequence: number): Promise<boolean> {
    if (this.#tablesFailed && !(await this.#reopenTables())) return false;
    try {
      await this.tables.write(ops, sequence);
      return true;
    } catch {
      this.#tablesFailed = true;
      return false;
    }
  }

  /** Opens LMDB anew after a failure: it then tells whether the last direct write happened. */
  async #reopenTables(): Promise<boolean> {
    const { dir, disk, warn } = this.#options;
    const failed = this.#tables;
    this.#tables = undefined;
    try {
      await failed?.close();
      this.#tables = await disk.openTables(join(dir, TABLES_FILE));
    } catch (error) {
      warn('LMDB can not be opened again yet', { cause: messageOf(error) });
      return false;
    }
    this.#tablesFailed = false;
    this.#resolve(this.#tables.sequence());
    return true;
  }

  #resolve(sequence: number): void {
    if (!this.#doubtful) return;
    const { batch, sequence: own } = this.#doubtful;
    this.#doubtful = undefined;
    if (sequence < own) {
      // Its sequence is given again, for the journal must have no gap. No later one was given: nothing else
      // runs beside a direct write.
      this.#sequence = own - 1;
      batch.fail();
      return;
    }
    // The overlay was part of that write. The journal keeps its records until the next LMDB commit has
    // worked.
    this.#overlay.freeze();
    this.#overlay.merged();
    this.#tellMerged(own);
    batch.apply(own);
  }
}

function* both(first: Iterable<Op>, second: Iterable<Op>): Generator<Op> {
  yield* first;
  yield* second;
}
