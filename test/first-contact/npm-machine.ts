// This machine with another node and npm, both from the registry, before its own in PATH.
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { run } from '../support/foreign-toolchains.ts';
import { redisServerPath } from '../support/redis.ts';
import { cached } from '../support/tool-cache.ts';
import { environment, type Machine, makeHome, npmSetting } from './machine.ts';

export interface NodeAndNpm {
  readonly node: string;
  readonly npm: string;
}

const SYSTEM_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export async function npmMachine(name: string, versions: NodeAndNpm): Promise<Machine> {
  const tools = await install(versions);
  const home = await makeHome(tmpdir());
  const path = [join(tools, 'node_modules/.bin'), ...SYSTEM_PATH, dirname(redisServerPath())];
  const env = {
    ...(await environment(home.path, path.join(delimiter))),
    // The cache is shared with this machine's npm, so that the registry is asked less often.
    npm_config_cache: await npmSetting('cache'),
    // A free port, since more than one such machine may run at a time.
    FANFARE_LISTEN: '127.0.0.1:0',
  };
  return {
    name,
    shell: { argv: (line) => ['/bin/sh', '-c', line], cwd: home.clone, env },
    hasRedis: true,
    takesDefaultPort: false,
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

function install({ node, npm }: NodeAndNpm): Promise<string> {
  return cached(`node-${node}-npm-${npm}`, async (partial) => {
    const packages = [`node-${process.platform}-${process.arch}@${node}`, `npm@${npm}`];
    await run('npm', [
      'install',
      '--silent',
      '--no-save',
      '--ignore-scripts',
      '--prefix',
      partial,
      ...packages,
    ]);
  });
}
