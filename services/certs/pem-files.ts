// Certificates and keys as PEM files. A file is either the old one or the new one, never half of it; keys are
// readable by their owner only.
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** A certificate (or a chain, leaf first) and its private key, PEM. */
export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

/**
 * Writes both files and makes their folders. The key is first: a crash in between leaves a
 * pair that doesn't match.
 */
export async function writePair(certPath: string, keyPath: string, pair: CertificatePair): Promise<void> {
  await replaceFile(keyPath, pair.key, 0o600);
  await replaceFile(certPath, pair.cert, 0o644);
}

/** The text of a PEM file; undefined if there is none. Other errors (no permission) are thrown. */
export async function readPem(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes a file beside its place and renames it there. */
export async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, text, { mode });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
