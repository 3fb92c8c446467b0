// The context of a folder: .fanfare/context.json, which a broker there has left. Invariant: what it says
// counts only after whyUntrusted() has had nothing to say.
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { contextPath } from '../certs/context-file.ts';

const DATA_FOLDER = '.fanfare';
const OTHERS_BITS = 0o077;

/** The path of the nearest one, in this folder or one above. Undefined: there is none. */
export async function folderContext(folder: string): Promise<string | undefined> {
  for (let at = folder; ; at = dirname(at)) {
    const path = contextPath(join(at, DATA_FOLDER));
    if ((await stat(path).catch(() => undefined))?.isFile()) return path;
    if (at === dirname(at)) return undefined;
  }
}

/**
 * Why the file may be somebody else's word; undefined: only this user can have written it, and on this
 * machine. Brokers write it with mode 0600, which neither git nor an unpacked archive restores.
 */
export async function whyUntrusted(path: string): Promise<string | undefined> {
  const { uid, mode } = await stat(path);
  const self = process.getuid?.();
  // Windows has neither owners nor modes of this kind.
  if (self === undefined) return undefined;
  if (uid !== self) return `it belongs to another user (${uid})`;
  if ((mode & OTHERS_BITS) === 0) return undefined;
  return `others have access to it, as to one that came with a copy of somebody's folder: if it is yours, "chmod 600" it`;
}
