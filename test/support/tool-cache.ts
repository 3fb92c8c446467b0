// What tests need and take minutes to make, kept between runs in
// ${XDG_CACHE_HOME:-~/.cache}/fanfare-test-tools. A file or folder there has its name only when it is
// complete, and one process makes it while others that want it wait.
import { access, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export const toolCacheDir = join(
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  'fanfare-test-tools',
);

const LOCK_POLL_MS = 1_000;

/** The path in the cache. If nothing is there, `make` is called with a path to make it at. */
export async function cached(name: string, make: (partial: string) => Promise<void>): Promise<string> {
  const path = join(toolCacheDir, name);
  if (await exists(path)) return path;
  await mkdir(toolCacheDir, { recursive: true });
  const unlock = await lock(`${path}.lock`);
  const partial = `${path}.partial-${process.pid}`;
  try {
    if (await exists(path)) return path;
    await make(partial);
    await rename(partial, path);
    return path;
  } finally {
    await rm(partial, { recursive: true, force: true });
    await unlock();
  }
}

/** Takes a lock file, which has its holder's pid; that of a process that is gone is taken over. */
async function lock(path: string): Promise<() => Promise<void>> {
  for (let waited = false; ; waited = true) {
    try {
      await writeFile(path, String(process.pid), { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = await holderOf(path);
    if (holder === undefined) {
      await rm(path, { force: true });
      continue;
    }
    // Goes past the test runner's capture, which shows output only in the end.
    if (!waited)
      process.stderr.write(`waiting for process ${holder}, which is making ${basename(path, '.lock')}\n`);
    await delay(LOCK_POLL_MS);
  }
}

async function holderOf(path: string): Promise<number | undefined> {
  try {
    const pid = Number(await readFile(path, 'utf8'));
    // The file is empty for the moment between its creation and its content.
    if (pid > 0) process.kill(pid, 0);
    return pid;
  } catch {
    // There is no such file, or no such process: nobody holds it.
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    // It is not there: the answer is no.
    return false;
  }
}
