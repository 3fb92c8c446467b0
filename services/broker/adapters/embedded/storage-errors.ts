// How the failures of disks and of LMDB become BrokerErrors.
//
// One question decides the code of a failed write: is the disk full (RESOURCE_EXHAUSTED: nothing was
// written), or is it something else (UNAVAILABLE: whether it was written is not known)?
import { BrokerError } from '../../core/errors.ts';

/**
 * Below this many free bytes a failed write is taken for a full disk: LMDB reports a short write as plain
 * EIO.
 */
export const FULL_BELOW_BYTES = 1 << 20;

const FULL_CODES: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 28, 122, -30792]);

/** Whether the error itself says that there is no space. */
export function isFullCode(error: unknown): boolean {
  return FULL_CODES.has((error as { code?: unknown }).code);
}

/** Whether the failure of a write of `neededBytes` means that the disk is full. */
export function isFull(error: unknown, freeBytes: number, neededBytes: number): boolean {
  if (isFullCode(error)) return true;
  return freeBytes < neededBytes + FULL_BELOW_BYTES;
}

export function fullError(dir: string, cause: unknown): BrokerError {
  return new BrokerError(
    'RESOURCE_EXHAUSTED',
    `the disk of ${dir} is full: free space there, shorten retention or delete topics; the broker goes on by itself`,
    { cause },
  );
}

export function failedError(dir: string, cause: unknown): BrokerError {
  return new BrokerError(
    'UNAVAILABLE',
    `the disk of ${dir} fails (${messageOf(cause)}); the broker retries by itself`,
    { cause },
  );
}

/** The folder can't be opened as it is. `advice` says what a person can do. */
export function refuseFolder(dir: string, what: string, advice: string, cause?: unknown): BrokerError {
  return new BrokerError('FAILED_PRECONDITION', `data folder ${dir}: ${what}. ${advice}`, { cause });
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
