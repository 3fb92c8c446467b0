// Named contexts of this user, and which one is selected: {config folder}/fanfare/contexts/{name}.json and
// {config folder}/fanfare/selected.
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Context, readContext, writeContext } from '../certs/context-file.ts';
import { readPem as readIfThere, replaceFile } from '../certs/pem-files.ts';
import { CliError, EXIT } from './failure.ts';

export function contextsFolder(configBase: string): string {
  return join(configBase, 'fanfare');
}

export async function readNamedContext(folder: string, name: string): Promise<Context> {
  const context = await readContext(pathOf(folder, name));
  if (context !== undefined) return context;
  const names = await listContexts(folder);
  const known = names.length === 0 ? 'there is none yet' : `there are: ${names.join(', ')}`;
  throw new CliError(`no context "${name}": ${known}; add one with "context add"`, EXIT.notFound);
}

export async function writeNamedContext(folder: string, name: string, context: Context): Promise<void> {
  await writeContext(pathOf(folder, name), context);
}

export async function removeContext(folder: string, name: string): Promise<void> {
  await readNamedContext(folder, name);
  await rm(pathOf(folder, name));
  if ((await selectedContext(folder)) === name) await rm(join(folder, 'selected'));
}

/** The names, sorted. */
export async function listContexts(folder: string): Promise<string[]> {
  let files: string[];
  try {
    files = await readdir(join(folder, 'contexts'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return files
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -5))
    .sort();
}

export async function selectedContext(folder: string): Promise<string | undefined> {
  return (await readIfThere(join(folder, 'selected')))?.trim() || undefined;
}

export async function selectContext(folder: string, name: string): Promise<void> {
  await readNamedContext(folder, name);
  await replaceFile(join(folder, 'selected'), `${name}\n`, 0o600);
}

function pathOf(folder: string, name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) {
    throw new CliError(`"${name}" can't name a context: 1 to 63 letters, digits and ._-`, EXIT.usage);
  }
  return join(folder, 'contexts', `${name}.json`);
}
