// Space kept back for the day on which the disk is full: files that do nothing but take it. The larger one is
// given back when a write fails for lack of space, so that what frees space (trims, deletions, shorter
// retention), cursors and a stop have room to work; it is taken again once the disk has room for it.
//
//   held ──a write finds the disk full──▶ given back ──the disk has room──▶ held
//
// The smaller one is for a start alone, which needs a few small files, whoever else has filled the disk
// meanwhile.
//
// LMDB's file never shrinks: what trims free stays in it, as pages for later writes. So while the larger file
// is given back, the disk's free bytes and LMDB's free pages together are the reserve, and messages may take
// only what is above it.
import { join } from 'node:path';
import type { Disk } from './disk.ts';
import { FULL_BELOW_BYTES } from './storage-errors.ts';

const RESERVE_FILE = 'reserve';
const START_FILE = 'reserve-start';
const START_BYTES = 512 << 10;
/** A start with less free space than this could crash: LMDB maps one of its small files into memory. */
const MIN_START_BYTES = 128 << 10;
/**
 * Messages are accepted again once there is room for this much of them (or for half the reserve, if that is
 * less): not for a few, to be refused again at once.
 */
const MIN_ALLOWANCE_BYTES = 4 << 20;
/** Bytes that LMDB may write per byte of a message: pages may be half full, and others change with them. */
const WRITTEN_PER_BYTE = 2;

export class Reserve {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #bytes: number;
  #held = false;
  /** Bytes that messages may take while the reserve is not held. */
  #allowanceBytes = 0;

  constructor(disk: Disk, dir: string, bytes: number) {
    this.#disk = disk;
    this.#dir = dir;
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Looks what an earlier run has left and frees the little space that a start needs. False: there is too
   * little.
   */
  async prepareStart(): Promise<boolean> {
    this.#held = (await this.#disk.sizeOf(this.#path(RESERVE_FILE))) >= this.#bytes;
    if ((await this.#free()) < FULL_BELOW_BYTES) await this.giveBack();
    if ((await this.#free()) < MIN_START_BYTES) await this.#disk.remove(this.#path(START_FILE));
    return (await this.#free()) >= MIN_START_BYTES;
  }

  /** Whether the larger file is there: then every write may be tried, for there is something to give back. */
  get held(): boolean {
    return this.#held;
  }

  /**
   * Counts bytes of messages against the room for them. False: there is too little, and nothing was counted.
   */
  spend(bytes: number): boolean {
    if (this.#held) return true;
    if (bytes > this.#allowanceBytes) return false;
    this.#allowanceBytes -= bytes;
    return true;
  }

  /** Removes the larger file. Rejects as the disk does. */
  async giveBack(): Promise<void> {
    this.#held = false;
    this.#allowanceBytes = 0;
    await this.#disk.remove(this.#path(RESERVE_FILE));
  }

  /**
   * Takes the files that the disk has room for; without room for the larger one, works out how much messages
   * may take. False: too little to be worth while.
   */
  async restore(freeInTables: number): Promise<boolean> {
    if (this.#held) return true;
    await this.#take(START_FILE, START_BYTES, FULL_BELOW_BYTES);
    this.#held = await this.#take(RESERVE_FILE, this.#bytes, 2 * FULL_BELOW_BYTES);
    if (this.#held) return true;
    const room = (await this.#free()) + freeInTables - this.#bytes - FULL_BELOW_BYTES;
    this.#allowanceBytes = Math.max(0, Math.floor(room / WRITTEN_PER_BYTE));
    return this.#allowanceBytes >= Math.min(MIN_ALLOWANCE_BYTES, this.#bytes / 2);
  }

  async #take(name: string, bytes: number, leaveBytes: number): Promise<boolean> {
    const path = this.#path(name);
    if ((await this.#disk.sizeOf(path)) >= bytes) return true;
    if ((await this.#free()) < bytes + leaveBytes) return false;
    try {
      await this.#disk.fill(path, bytes);
      return true;
    } catch {
      // Somebody else was quicker with the space.
      await this.#disk.remove(path);
      return false;
    }
  }

  #free(): Promise<number> {
    return this.#disk.freeBytes(this.#dir);
  }

  #path(name: string): string {
    return join(this.#dir, name);
  }
}
