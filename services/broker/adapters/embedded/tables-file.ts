// A check of LMDB's file before LMDB maps it into memory: on a damaged file lmdb-js crashes the process
// instead of failing, and a page behind the file's end can't be read, only crashed on.
//
// It reads the two meta pages (struct MDB_meta of lmdb-js 3.5's LMDB, little-endian). In each, the magic
// number is at byte 24, the version at 28, the page size at 48, the number of the last used page at 144, the
// transaction at 152.
import { type FileHandle, open } from 'node:fs/promises';
import { BrokerError } from '../../core/errors.ts';

const MAGIC = 0xbeefc0de;
const VERSION = 2;
const META_BYTES = 160;
/**
 * How many pages a sound file may lack: LMDB does not write pages at the end that were taken and freed in one
 * transaction. The file is lengthened by them.
 */
const MAY_LACK_PAGES = 256;

/** FAILED_PRECONDITION if the file is there and is not LMDB's, or is cut short. */
export async function checkTablesFile(path: string): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'r+');
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error;
  }
  try {
    await checkOpened(path, file);
  } finally {
    await file.close();
  }
}

async function checkOpened(path: string, file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const first = await readMeta(path, file, 0);
  const second = await readMeta(path, file, first.pageSize);
  const newest = first.transaction > second.transaction ? first : second;
  const needed = (newest.lastPage + 1) * newest.pageSize;
  if (size >= needed) return;
  if (size < needed - MAY_LACK_PAGES * newest.pageSize) {
    throw new BrokerError('FAILED_PRECONDITION', `${path} is cut short: it has ${size} of ${needed} bytes`);
  }
  await file.truncate(needed);
}

async function readMeta(path: string, file: FileHandle, position: number) {
  const meta = Buffer.alloc(META_BYTES);
  const { bytesRead } = await file.read(meta, 0, META_BYTES, position);
  const version = meta.readUInt32LE(28) & 0xffff;
  if (bytesRead < META_BYTES || meta.readUInt32LE(24) !== MAGIC || version !== VERSION) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${path} is not an LMDB file, or its first pages are damaged`,
    );
  }
  return {
    pageSize: meta.readUInt32LE(48),
    lastPage: Number(meta.readBigUInt64LE(144)),
    transaction: Number(meta.readBigUInt64LE(152)),
  };
}
