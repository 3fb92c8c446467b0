// The embedded store's disk with faults that a test switches on and off. The files behind it are real ones.
import { type Disk, type JournalFile, nodeDisk } from '../../services/broker/adapters/embedded/disk.ts';
import type { Tables } from '../../services/broker/adapters/embedded/tables.ts';

/**
 * What becomes of a write: 'fails' before anything was written; 'fails after': it was written and is reported
 * as failed; 'torn': half of it was written; 'full': there is no space.
 */
export type WriteFault = 'none' | 'fails' | 'fails after' | 'torn' | 'full';

export interface FaultyDisk extends Disk {
  journalWrites: WriteFault;
  /**
   * The fault of LMDB's commits. 'torn' is the same as 'fails': they are all or nothing. 'puts are full':
   * only deletes find space.
   */
  tableWrites: WriteFault | 'puts are full';
  /** Resolves with the next commit of LMDB's that works. */
  nextTableWrite(): Promise<void>;
  /** 'fails': LMDB can't be opened again after a failure. */
  opening: 'none' | 'fails';
  /** Called before each write, with what it goes to: a test may hold one up here. */
  beforeWrite: (to: 'journal' | 'tables') => Promise<void>;
}

export function createFaultyDisk(): FaultyDisk {
  const written: (() => void)[] = [];
  const disk: FaultyDisk = {
    journalWrites: 'none',
    tableWrites: 'none',
    opening: 'none',
    nextTableWrite: () => new Promise((resolve) => written.push(resolve)),
    beforeWrite: async () => {},
    openJournalFile: async (path, size) => faultyFile(disk, await nodeDisk.openJournalFile(path, size)),
    async openTables(path) {
      if (disk.opening === 'fails') throw ioError();
      return faultyTables(disk, await nodeDisk.openTables(path), () => {
        for (const resolve of written.splice(0)) resolve();
      });
    },
    freeBytes: async (dir) => {
      const full = disk.journalWrites === 'full' || disk.tableWrites.endsWith('full');
      return full ? 0 : nodeDisk.freeBytes(dir);
    },
    fill: nodeDisk.fill,
    sizeOf: nodeDisk.sizeOf,
    remove: nodeDisk.remove,
  };
  return disk;
}

function faultyFile(disk: FaultyDisk, file: JournalFile): JournalFile {
  return {
    ...file,
    async write(bytes, position) {
      await disk.beforeWrite('journal');
      const fault = disk.journalWrites;
      if (fault === 'fails') throw ioError();
      if (fault === 'full') throw fullError();
      if (fault === 'torn') await file.write(bytes.subarray(0, bytes.length >> 1), position);
      else await file.write(bytes, position);
      if (fault !== 'none') throw ioError();
    },
  };
}

function faultyTables(disk: FaultyDisk, tables: Tables, onWritten: () => void): Tables {
  return {
    ...tables,
    async write(ops, sequence) {
      await disk.beforeWrite('tables');
      const fault = disk.tableWrites;
      if (fault === 'fails' || fault === 'torn') throw ioError();
      // LMDB reports a short write as EIO, and only the free space tells why.
      if (fault === 'full') throw ioError();
      const all = [...ops];
      if (fault === 'puts are full' && all.some(({ value }) => value)) throw ioError();
      await tables.write(all, sequence);
      onWritten();
      if (fault === 'fails after') throw ioError();
    },
  };
}

function ioError(): Error {
  return Object.assign(new Error('Input/output error'), { code: 'EIO' });
}

function fullError(): Error {
  return Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
}
