// The embedded store: all four store ports on one folder, durable, for one node.
//
//   log-store  cursor-store  definition-store  ownership-store
//        └──────────┴────────┬──────┴───────────────┘
//                       durable-kv ──▶ journal (two files)
//                            └───────▶ tables (LMDB)
//
// Opening: lock the folder, check its format, open LMDB, replay what the journal has and LMDB lacks. On a
// full disk it does so in the space of the reserve.
import { chmod, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { BrokerError } from '../../core/errors.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { DefinitionStore } from '../../ports/definition-store.ts';
import type { LogStore } from '../../ports/log-store.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import { EmbeddedCursorStore } from './cursor-store.ts';
import { EmbeddedDefinitionStore } from './definition-store.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { DurableKv, type StoreStats, TABLES_FILE } from './durable-kv.ts';
import { openFolder } from './folder.ts';
import { lockFolder } from './folder-lock.ts';
import { type Journal, openJournal } from './journal.ts';
import { type JournalRecord, opBytes } from './journal-record.ts';
import { EmbeddedLogStore } from './log-store.ts';
import { Overlay } from './overlay.ts';
import { EmbeddedOwnershipStore } from './ownership-store.ts';
import { PartitionTable } from './partition-table.ts';
import { Reserve } from './reserve.ts';
import { FULL_BELOW_BYTES, isFull, isFullCode, messageOf, refuseFolder } from './storage-errors.ts';
import type { Op, Tables } from './tables.ts';

/** One broker owns everything here, so any name does. */
const DEFAULT_MEMBER = 'this-broker';
const DEFAULT_MERGE_INTERVAL_MS = 250;
/**
 * Below this a journal write now and a share of a merge later cost less CPU than an LMDB commit (decision
 * 0001).
 */
const DEFAULT_DIRECT_BYTES = 256 << 10;
/** The size of each of the two files. In normal running a merge takes about half of one to LMDB at most. */
const DEFAULT_JOURNAL_BYTES = 8 << 20;

const NO_RESERVE =
  'has no room for the reserve, so it is nearly full: free space there, shorten retention or delete topics';

export interface EmbeddedStoreOptions {
  /** Made if it is not there; its mode becomes 0700. */
  readonly dir: string;
  /** For the log: the store stalls or goes on, the reserve is short, or recovery found something. */
  readonly onWarning?: (message: string, fields: object) => void;
  /** The longest that a small commit waits in the journal before it goes to LMDB. */
  readonly mergeIntervalMs?: number;
  /** A batch of commits that is larger than this goes to LMDB at once. */
  readonly directBytes?: number;
  /** The size of each journal file when it is made. */
  readonly journalBytes?: number;
  /**
   * The space kept back for the day on which the disk is full. What the journal holds then has to fit into
   * it. Default: journalBytes.
   */
  readonly reserveBytes?: number;
  /** The name under which the store notes who holds a partition. */
  readonly memberId?: string;
  /** For tests: a disk that fails. */
  readonly disk?: Disk;
}

export interface EmbeddedStore {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly definitions: DefinitionStore;
  readonly ownership: OwnershipStore;
  /** What a resolved append has reached: it is on the disk. */
  readonly durability: 'fsync';
  stats(): StoreStats;
  /** What is wrong with the store and what to do about it; empty while it works. */
  conditions(): readonly string[];
  close(): Promise<void>;
}

/**
 * FAILED_PRECONDITION: the folder is in use (naming the process), damaged, or of a newer format; the message
 * says what to do. RESOURCE_EXHAUSTED: too little space to start.
 */
export async function openEmbeddedStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const dir = resolve(options.dir);
  const disk = options.disk ?? nodeDisk;
  const { journalBytes = DEFAULT_JOURNAL_BYTES, reserveBytes = journalBytes } = options;
  const reserve = new Reserve(disk, dir, reserveBytes);
  const lock = await openFull(dir, disk, reserve, async () => {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await chmod(dir, 0o700);
    return lockFolder(dir);
  });
  try {
    const kv = await openKv(dir, disk, reserve, { ...options, journalBytes });
    const partitions = new PartitionTable(kv);
    return {
      log: new EmbeddedLogStore(kv, partitions),
      cursors: new EmbeddedCursorStore(kv, partitions),
      definitions: new EmbeddedDefinitionStore(kv),
      ownership: new EmbeddedOwnershipStore(kv, partitions, options.memberId ?? DEFAULT_MEMBER),
      durability: 'fsync',
      stats: () => kv.stats,
      conditions() {
        const shortage = reserve.held ? [] : [`the disk of ${dir} ${NO_RESERVE}`];
        return kv.refusal === undefined ? shortage : [kv.refusal.message];
      },
      async close() {
        await kv.close();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Opens; if the disk is full, once more with the reserve given back. */
async function openFull<T>(dir: string, disk: Disk, reserve: Reserve, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (!isFullCode(error)) throw error;
  }
  try {
    await reserve.prepareStart();
    return await open();
  } catch (error) {
    throw await openingError(dir, disk, error);
  }
}

async function openKv(
  dir: string,
  disk: Disk,
  reserve: Reserve,
  options: EmbeddedStoreOptions & { readonly journalBytes: number },
): Promise<DurableKv> {
  const warn = options.onWarning ?? (() => {});
  let tables: Tables | undefined;
  let journal: Journal | undefined;
  try {
    if (!(await reserve.prepareStart())) throw tooFull(dir);
    const folder = await openFolder(dir);
    const path = join(dir, TABLES_FILE);
    tables = await disk.openTables(path);
    journal = await openJournal(disk, dir, options.journalBytes, folder.salt);
    const found = await journal.recover(tables.sequence());
    const ops = lastOps(found);
    let bytes = 0;
    for (const op of ops) bytes += opBytes(op);
    if ((await disk.freeBytes(dir)) < bytes + FULL_BELOW_BYTES) await reserve.giveBack();
    const fresh = tables;
    tables = undefined;
    tables = await replay(disk, path, fresh, ops, found.at(-1)?.sequence ?? fresh.sequence());
    if (found.length > 0)
      warn('replayed the journal of a broker that did not stop in order', { commits: found.length });
    await folder.markReady();
    const roomy = await reserve.restore(await tables.freeBytes());
    if (!reserve.held) warn(`the disk ${NO_RESERVE}`, { dir, reserveBytes: reserve.bytes });
    const { mergeIntervalMs = DEFAULT_MERGE_INTERVAL_MS, directBytes = DEFAULT_DIRECT_BYTES } = options;
    return new DurableKv({ dir, disk, warn, mergeIntervalMs, directBytes, reserve, roomy }, tables, journal);
  } catch (error) {
    await journal?.close();
    await tables?.close();
    throw await openingError(dir, disk, error);
  }
}

/** The last op on each key that only the journal has. */
function lastOps(records: readonly JournalRecord[]): readonly Op[] {
  const last = new Overlay();
  for (const op of records.flatMap(({ ops }) => ops)) last.add(op);
  return [...last.freeze()];
}

/**
 * Writes to LMDB what only the journal has. It writes even if that is nothing: what the last process saw in
 * LMDB may not have been flushed, and the journal is overwritten from now on. If the write fails, which may
 * be for lack of room, deletes go first (see durable-kv.ts).
 */
async function replay(
  disk: Disk,
  path: string,
  tables: Tables,
  ops: readonly Op[],
  sequence: number,
): Promise<Tables> {
  const merged = tables.sequence();
  const deletes = ops.filter(({ value }) => value === undefined);
  try {
    await tables.write(ops, sequence);
    return tables;
  } catch (error) {
    await tables.close();
    if (deletes.length === 0) throw error;
  }
  const again = await disk.openTables(path);
  try {
    await again.write(deletes, merged);
    await again.write(ops, sequence);
    return again;
  } catch (error) {
    await again.close();
    throw error;
  }
}

async function openingError(dir: string, disk: Disk, error: unknown): Promise<unknown> {
  const backup = 'Restore it from a backup, or start with an empty folder';
  if (error instanceof BrokerError) {
    if (error.code === 'RESOURCE_EXHAUSTED') return error;
    return error.message.startsWith('data folder') ? error : refuseFolder(dir, error.message, backup, error);
  }
  const free = await disk.freeBytes(dir).catch(() => Number.POSITIVE_INFINITY);
  if (isFull(error, free, 0)) return tooFull(dir, error);
  return refuseFolder(dir, `it can not be opened (${messageOf(error)})`, backup, error);
}

function tooFull(dir: string, cause?: unknown): BrokerError {
  const message = `data folder ${dir}: the disk is too full to start; free space there and start again`;
  return new BrokerError('RESOURCE_EXHAUSTED', message, { cause });
}
