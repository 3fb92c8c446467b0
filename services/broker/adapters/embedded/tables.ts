// LMDB, behind the few calls that the store needs. The only file that imports lmdb.
//
// write() is all or nothing and resolves when LMDB's commit is flushed. After a write has failed the tables
// must be closed and opened again before the next one: LMDB may have declared its environment broken, and
// lmdb-js then blocks for ever on the next transaction.
import { chmod, stat } from 'node:fs/promises';
import { open } from 'lmdb';
import { type KeyRange, readU64, SEQUENCE_KEY, writeU64 } from './keys.ts';
import { checkTablesFile } from './tables-file.ts';

export const LOG = 0;
export const CURSORS = 1;
export const DEFINITIONS = 2;
export const META = 3;
export type Table = typeof LOG | typeof CURSORS | typeof DEFINITIONS | typeof META;
const TABLE_NAMES = ['log', 'cursors', 'definitions', 'meta'] as const;

/** A put, or, without a value, a delete. Whoever made it does not touch the bytes again. */
export interface Op {
  readonly table: Table;
  readonly key: Buffer;
  readonly value: Uint8Array | undefined;
  /** The CRC-32 of the value, where it is known already. */
  readonly valueSum?: number;
}

export interface Entry {
  readonly key: Buffer;
  readonly value: Buffer;
}

export interface Tables {
  /** The sequence that the last successful write carried; 0 if there was none. */
  sequence(): number;
  write(ops: Iterable<Op>, sequence: number): Promise<void>;
  get(table: Table, key: Buffer): Buffer | undefined;
  /** In key order. Keys and values are copies. */
  entries(table: Table, range: KeyRange): Iterable<Entry>;
  /** In key order. The values are not touched. */
  keys(table: Table, range: KeyRange, limit: number): Iterable<Buffer>;
  lastKey(table: Table, range: KeyRange): Buffer | undefined;
  /** About how many bytes of the file later writes can use again. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}

/** The two meta pages, which say where the newest state is. */
const FIRST_PAGES = 2;

interface TreeStats {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

interface RootStats extends TreeStats {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  readonly free: TreeStats;
}

const BINARY = { encoding: 'binary', keyEncoding: 'binary' } as const;
/** Address space, not memory: growing the map later stops all readers for a moment. */
const MAP_BYTES = 1 << 30;

/** Makes the file if it is not there. FAILED_PRECONDITION if it is no LMDB file, or cut short. */
export async function openTables(path: string): Promise<Tables> {
  await checkTablesFile(path);
  const root = open({
    path,
    noSubdir: true,
    ...BINARY,
    maxDbs: 8,
    mapSize: MAP_BYTES,
    // Overlapping syncs report the failure of a sync to nobody; one write at a time gains nothing from them.
    overlappingSync: false,
    // Each write is one explicit batch. Event-turn batches leave a rejection unhandled when a commit fails.
    eventTurnBatching: false,
  });
  try {
    // lmdb-js makes them for everybody to read. The folder is its owner's only, but a copy of it may not be.
    for (const file of [path, `${path}-lock`]) await chmod(file, 0o600);
    const tables = TABLE_NAMES.map((name) => root.openDB<Buffer, Buffer>(name, BINARY));
    const at = (table: Table) => tables[table]!;

    return {
      sequence: () => sequenceFrom(at(META).get(SEQUENCE_KEY)),

      async write(ops, sequence) {
        const value = Buffer.allocUnsafe(8);
        writeU64(value, sequence, 0);
        try {
          await root.batch(() => {
            for (const op of ops) {
              if (op.value) at(op.table).put(op.key, op.value as Buffer);
              else at(op.table).remove(op.key);
            }
            at(META).put(SEQUENCE_KEY, value);
          });
        } catch (error) {
          throw await commitError(error);
        }
        root.resetReadTxn();
      },

      get: (table, key) => at(table).get(key),
      entries: (table, range) => at(table).getRange({ ...range, snapshot: false }),
      keys: (table, range, limit) => at(table).getKeys({ ...range, limit, snapshot: false }),

      lastKey(table, range) {
        for (const key of at(table).getKeys({
          start: range.end,
          end: range.start,
          reverse: true,
          limit: 1,
        })) {
          return key;
        }
        return undefined;
      },

      async freeBytes() {
        const { pageSize, lastPageNumber, free, ...main } = root.getStats() as RootStats;
        let used = FIRST_PAGES + pagesOf(main) + pagesOf(free);
        for (const table of tables) used += pagesOf(table.getStats() as TreeStats);
        const { size } = await stat(path);
        return Math.max(size, (lastPageNumber + 1) * pageSize) - used * pageSize;
      },

      close: () => root.close(),
    };
  } catch (error) {
    await root.close();
    throw error;
  }
}

function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: TreeStats): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

function sequenceFrom(value: Buffer | undefined): number {
  return value ? readU64(value, 0) : 0;
}

/** lmdb-js rejects with a general error whose `commitError` rejects with the cause. */
async function commitError(error: unknown): Promise<unknown> {
  const { commitError: cause } = error as { commitError?: Promise<unknown> };
  try {
    await cause;
    return error;
  } catch (reason) {
    return reason;
  }
}
