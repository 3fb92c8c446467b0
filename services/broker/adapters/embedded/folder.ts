// The data folder as a whole: it is made, recognised or refused, always under its lock.
//
//   format         {"format":1,"state":"ready","salt":"…"}: what the other files are, and what guards
//                  journal records
//   data.mdb       LMDB (with data.mdb-lock, which LMDB makes)
//   journal-0, -1  the journal's two files
//   lock/          who has the folder (folder-lock.ts)
//   reserve        space that is kept back, and reserve-start, some more (reserve.ts)
//
// The format file is written first with state "creating" and last with "ready": a start that was interrupted
// leaves nothing that anybody was told about, so the next one begins again; and a folder that was ready once
// and lacks a file is damaged.
import { randomBytes } from 'node:crypto';
import { access, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { refuseFolder } from './storage-errors.ts';

const FORMAT = 1;
const FORMAT_FILE = 'format';
const DATA_FILES = ['data.mdb', 'journal-0', 'journal-1'] as const;
/** LMDB's own lock file. Only one process comes this far, so what a killed one has left is of no use. */
const LMDB_LOCK_FILE = 'data.mdb-lock';

const formatFile = z.object({
  format: z.number().int(),
  state: z.enum(['creating', 'ready']),
  salt: z.string().regex(/^[0-9a-f]{32}$/),
});
type FormatFile = z.infer<typeof formatFile>;

export interface Folder {
  readonly salt: Buffer;
  /** Marks a new folder as complete; does nothing for one that is ready. */
  markReady(): Promise<void>;
}

/** FAILED_PRECONDITION with advice if the folder is damaged, foreign or of a newer format. */
export async function openFolder(dir: string): Promise<Folder> {
  await rm(join(dir, LMDB_LOCK_FILE), { force: true });
  const format = await readFormat(dir);
  if (format?.state === 'ready') {
    await refuseIncomplete(dir);
    return { salt: Buffer.from(format.salt, 'hex'), markReady: async () => {} };
  }
  if (!format) await refuseForeign(dir);
  for (const name of DATA_FILES) await rm(join(dir, name), { force: true });
  const fresh: FormatFile = { format: FORMAT, state: 'creating', salt: randomBytes(16).toString('hex') };
  await writeFormat(dir, fresh);
  return {
    salt: Buffer.from(fresh.salt, 'hex'),
    markReady: () => writeFormat(dir, { ...fresh, state: 'ready' }),
  };
}

async function readFormat(dir: string): Promise<FormatFile | undefined> {
  const path = join(dir, FORMAT_FILE);
  if (!(await exists(path))) return undefined;
  const restore = 'Restore the folder from a backup, or start with an empty one';
  let raw: unknown;
  try {
    raw = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw refuseFolder(dir, 'its format file can not be read', restore, error);
  }
  const { format } = (raw ?? {}) as { format?: unknown };
  if (typeof format === 'number' && format > FORMAT) {
    const what = `it has format ${format}, and this version of Fanfare knows formats up to ${FORMAT}`;
    throw refuseFolder(dir, what, 'Start the newer version that wrote it');
  }
  const parsed = formatFile.safeParse(raw);
  if (!parsed.success) throw refuseFolder(dir, 'its format file is damaged', restore, parsed.error);
  return parsed.data;
}

async function refuseIncomplete(dir: string): Promise<void> {
  for (const name of DATA_FILES) {
    if (await exists(join(dir, name))) continue;
    const advice = 'Restore the folder from a backup, or start with an empty one';
    throw refuseFolder(dir, `${name} is missing, so it is damaged`, advice);
  }
}

async function refuseForeign(dir: string): Promise<void> {
  for (const name of DATA_FILES) {
    if (!(await exists(join(dir, name)))) continue;
    const what = `there is ${name}, but no format file, so it is damaged or not Fanfare's`;
    throw refuseFolder(dir, what, 'Restore the format file, or choose another folder');
  }
}

/** Atomically: at any moment the old file or the new one is there, whole. */
async function writeFormat(dir: string, content: FormatFile): Promise<void> {
  const path = join(dir, FORMAT_FILE);
  const draft = await open(`${path}.new`, 'w', 0o600);
  try {
    await draft.writeFile(`${JSON.stringify(content)}\n`);
    await draft.sync();
  } finally {
    await draft.close();
  }
  await rename(`${path}.new`, path);
  const folder = await open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return false;
    throw error;
  }
}
