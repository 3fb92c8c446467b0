// A newcomer's machine: some node and npm, and a clone of this repository in a home folder that has nothing
// else. Only what is needed to reach the registry comes with it: npm's settings, proxies and certificates of
// this machine.
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../support/foreign-toolchains.ts';
import type { Shell } from './terminal.ts';

export interface Machine extends AsyncDisposable {
  readonly name: string;
  /** Runs lines in the clone. */
  readonly shell: Shell;
  /** Whether `redis-server` is there. */
  readonly hasRedis: boolean;
  /** Its broker takes the default port, so only one such machine may run at a time. */
  readonly takesDefaultPort: boolean;
}

export interface Home extends AsyncDisposable {
  readonly path: string;
  readonly clone: string;
}

const REPOSITORY = join(import.meta.dirname, '../..');

/** A home folder below `parent`, with a clone of what is committed here. */
export async function makeHome(parent: string): Promise<Home> {
  await mkdir(parent, { recursive: true });
  const path = await mkdtemp(join(parent, 'newcomer-'));
  const clone = join(path, 'fanfare');
  // Hard links would share our own objects, whose owner may be changed.
  await run('git', ['clone', '--quiet', '--no-hardlinks', REPOSITORY, clone]);
  const settings = (await npmSetting('userconfig')) ?? '';
  await copyFile(settings, join(path, '.npmrc')).catch((error: NodeJS.ErrnoException) => {
    // A machine need not have npm settings.
    if (error.code !== 'ENOENT') throw error;
  });
  return { path, clone, [Symbol.asyncDispose]: () => rm(path, { recursive: true, maxRetries: 50 }) };
}

/** The whole environment of the newcomer: nothing of ours but the way to the registry. */
export async function environment(home: string, path: string): Promise<NodeJS.ProcessEnv> {
  const network = /^((https?|no)_proxy|node_extra_ca_certs)$/i;
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => network.test(name))),
    npm_config_registry: await npmSetting('registry'),
    HOME: home,
    PATH: path,
    LANG: 'C.UTF-8',
    TERM: 'xterm',
  };
}

/** A setting of this machine's npm. */
export async function npmSetting(name: string): Promise<string | undefined> {
  const value = (await run('npm', ['config', 'get', name])).trim();
  return value === '' || value === 'null' || value === 'undefined' ? undefined : value;
}
