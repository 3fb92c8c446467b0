// What the embedded store asks of the disk, apart from the folder's lock and format file, as one narrow
// interface, so that tests can make each call fail. `nodeDisk` is the real one.
import { randomFillSync } from 'node:crypto';
import { close, constants, open, read, write } from 'node:fs';
import { open as openHandle, rm, stat, statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import { openTables, type Tables } from './tables.ts';

export interface Disk {
  openJournalFile(path: string, sizeBytes: number): Promise<JournalFile>;
  openTables(path: string): Promise<Tables>;
  /** Bytes that can still be written to the file system of a folder. */
  freeBytes(dir: string): Promise<number>;
  /**
   * Makes or replaces a file whose bytes take space on the disk, however the file system tries to save it.
   */
  fill(path: string, bytes: number): Promise<void>;
  /** 0 for a file that is not there. */
  sizeOf(path: string): Promise<number>;
  /** Idempotent. */
  remove(path: string): Promise<void>;
}

export interface JournalFile {
  readonly sizeBytes: number;
  /** Reads the whole file. */
  readAll(): Promise<Buffer>;
  /** Resolves when the bytes are on the disk. On rejection any part of them may be. */
  write(bytes: Buffer, position: number): Promise<void>;
  close(): Promise<void>;
}

const openFile = promisify(open);
const closeFile = promisify(close);

export const nodeDisk: Disk = {
  openJournalFile,
  openTables,
  freeBytes,
  fill,
  sizeOf,
  remove: (path) => rm(path, { force: true }),
};

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return 0;
    throw error;
  }
}

/** Writes random bytes: zeros may be stored as a hole, or compressed. */
async function fill(path: string, bytes: number): Promise<void> {
  const step = Buffer.allocUnsafe(1 << 20);
  const file = await openHandle(path, 'w', 0o600);
  try {
    for (let left = bytes; left > 0; left -= step.length) {
      randomFillSync(step);
      await file.write(step, 0, Math.min(left, step.length));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Opens or makes a journal file. A new one is filled with zeros once: from then on a write changes neither
 * the file's size nor its blocks, so O_DSYNC has only the data to wait for.
 */
async function openJournalFile(path: string, sizeBytes: number): Promise<JournalFile> {
  const fd = await openFile(path, constants.O_RDWR | constants.O_CREAT | constants.O_DSYNC, 0o600);
  try {
    const present = (await stat(path)).size;
    if (present < sizeBytes) await writeAll(fd, Buffer.alloc(sizeBytes - present), present);
    const size = Math.max(present, sizeBytes);
    return {
      sizeBytes: size,
      readAll: () => readAll(fd, size),
      write: (bytes, position) => writeAll(fd, bytes, position),
      close: () => closeFile(fd),
    };
  } catch (error) {
    await closeFile(fd);
    throw error;
  }
}

// The callback forms of fs cost less per call than promisified ones, and a write here is what a small publish
// waits for.
function writeAll(fd: number, bytes: Buffer, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const next = (): void => {
      write(fd, bytes, done, bytes.length - done, position + done, (error, written) => {
        if (error) return reject(error);
        done += written;
        if (done === bytes.length) return resolve();
        next();
      });
    };
    next();
  });
}

function readAll(fd: number, size: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.alloc(size);
    let done = 0;
    const next = (): void => {
      read(fd, bytes, done, size - done, done, (error, count) => {
        if (error) return reject(error);
        done += count;
        if (done === size || count === 0) return resolve(bytes);
        next();
      });
    };
    next();
  });
}
