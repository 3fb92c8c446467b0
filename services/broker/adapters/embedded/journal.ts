// The write-ahead journal: two preallocated files used in turn, so that one is written while what is in the
// other is merged into LMDB. One write is under way at a time.
//
// Invariant: at most two files are in use, and a file is overwritten only after an LMDB commit that holds
// everything in it. So the records newer than LMDB's sequence are always whole, contiguous and unique, but
// for the last one, which a crash may have torn and which nobody was told about.
import { join } from 'node:path';
import { assert, BrokerError } from '../../core/errors.ts';
import type { Disk, JournalFile } from './disk.ts';
import { encodeRecord, type JournalRecord, recordBytes, scanRecords } from './journal-record.ts';
import type { Op } from './tables.ts';

const FILE_NAMES = ['journal-0', 'journal-1'] as const;

export async function openJournal(
  disk: Disk,
  dir: string,
  sizeBytes: number,
  salt: Buffer,
): Promise<Journal> {
  const first = await disk.openJournalFile(join(dir, FILE_NAMES[0]), sizeBytes);
  try {
    return new Journal([first, await disk.openJournalFile(join(dir, FILE_NAMES[1]), sizeBytes)], salt);
  } catch (error) {
    await first.close();
    throw error;
  }
}

export class Journal {
  readonly #files: readonly [JournalFile, JournalFile];
  readonly #salt: Buffer;
  #active: 0 | 1 = 0;
  /** Where the next record goes in the active file. */
  #position = 0;
  /** The other file holds records that LMDB does not have yet. */
  #otherInUse = false;
  #scratch = Buffer.alloc(0);

  constructor(files: readonly [JournalFile, JournalFile], salt: Buffer) {
    this.#files = files;
    this.#salt = salt;
  }

  /**
   * The records newer than `mergedSequence`, oldest first, each once. Throws FAILED_PRECONDITION if one is
   * missing between others: then something is damaged that callers were told is durable.
   */
  async recover(mergedSequence: number): Promise<JournalRecord[]> {
    const found: JournalRecord[] = [];
    for (const file of this.#files) {
      for (const record of scanRecords(await file.readAll(), this.#salt)) {
        if (record.sequence > mergedSequence) found.push(record);
      }
    }
    found.sort((a, b) => a.sequence - b.sequence);
    for (const [index, record] of found.entries()) {
      const expected = mergedSequence + 1 + index;
      if (record.sequence === expected) continue;
      throw new BrokerError(
        'FAILED_PRECONDITION',
        `journal record ${expected} is damaged or missing, though record ${record.sequence} is there`,
      );
    }
    return found;
  }

  /** Whether a record of that much payload fits behind those in the active file. */
  fits(payloadBytes: number): boolean {
    return this.#position + recordBytes(payloadBytes) <= this.#files[this.#active].sizeBytes;
  }

  /** How much of a file messages leave to everything else. */
  get keptBytes(): number {
    return this.#files[this.#active].sizeBytes >> 3;
  }

  /** At least half of the active file is used: time to merge. */
  get halfFull(): boolean {
    return this.#position * 2 >= this.#files[this.#active].sizeBytes;
  }

  /** Resolves when the record is on the disk, with its size in bytes. */
  async write(sequence: number, ops: readonly Op[], payloadBytes: number): Promise<number> {
    const size = recordBytes(payloadBytes);
    if (this.#scratch.length < size) this.#scratch = Buffer.allocUnsafeSlow(Math.max(size, 1 << 16));
    const record = encodeRecord(this.#scratch, this.#salt, sequence, ops);
    await this.#files[this.#active].write(record, this.#position);
    this.#position += size;
    return size;
  }

  /** A merge of everything in the active file begins: from now on records go to the other one. */
  switchFile(): void {
    assert(!this.#otherInUse, 'both journal files are in use');
    this.#active = this.#active === 0 ? 1 : 0;
    this.#position = 0;
    this.#otherInUse = true;
  }

  /** The merge that switchFile() began is in LMDB. */
  release(): void {
    this.#otherInUse = false;
  }

  /** Everything in both files is in LMDB. */
  reset(): void {
    this.#position = 0;
    this.#otherInUse = false;
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }
}
