// How a person calls the `fanfare` command, in texts that are printed to be typed. It is called by its path:
// a name alone may be somebody else's command, and `npx` would fetch a stranger's package of that name
// wherever ours is not installed.
import { join, relative, sep } from 'node:path';

const COMMAND = join(import.meta.dirname, '../../fanfare');

/**
 * `./fanfare` in the repository's folder, `/path/to/fanfare` elsewhere; quoted for POSIX shells if need be.
 */
export function fanfareCommand(folder: string = process.cwd()): string {
  const path = relative(folder, COMMAND);
  const typed = path.startsWith(`..${sep}`) ? COMMAND : `./${path}`;
  return /^[\w@%+=:,./-]+$/.test(typed) ? typed : `'${typed.replaceAll("'", `'\\''`)}'`;
}
