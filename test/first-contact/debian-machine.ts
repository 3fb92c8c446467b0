// A bare Debian: the root file system that debootstrap makes, with Debian's own nodejs and npm and nothing
// else, entered as a user without rights. It is made once and kept in the cache; newcomers' homes come and
// go.
//
// Mounts are in a namespace of their own and go with the process.
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { installPackages, run, succeeds } from '../support/foreign-toolchains.ts';
import { cached } from '../support/tool-cache.ts';
import { environment, type Machine, makeHome } from './machine.ts';

const PACKAGES = ['nodejs', 'npm'];
const PATH = '/usr/local/bin:/usr/bin:/bin';
const USER = 1_000;
/** $1 is the root, $2 the user, the rest the command to run. */
const ENTER = `mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
  root=$1 user=$2 && shift 2 && exec /usr/sbin/chroot --userspec="$user" "$root" "$@"`;

export async function debianMachine(name: string, suite: string): Promise<Machine> {
  if (process.getuid?.() !== 0 || !(await succeeds('unshare', ['--mount', 'true']))) {
    throw new Error(
      'a bare Debian needs root that may mount (debootstrap, unshare, chroot): run this as such',
    );
  }
  const root = await cached(`debian-${suite}-${process.arch}-${PACKAGES.join('-')}`, (partial) =>
    makeRoot(suite, partial),
  );
  const home = await makeHome(join(root, 'home'));
  await run('chown', ['-R', `${USER}:${USER}`, home.path]);
  const inside = home.path.slice(root.length);
  const env = await environment(inside, PATH);
  await useNetworkOf(root);
  if (env.NODE_EXTRA_CA_CERTS !== undefined) {
    await copyFile(env.NODE_EXTRA_CA_CERTS, join(home.path, '.ca.crt'));
    env.NODE_EXTRA_CA_CERTS = join(inside, '.ca.crt');
  }
  return {
    name,
    shell: {
      argv: (line) => entering(root, `${USER}:${USER}`, ['/bin/sh', '-c', `cd ~/fanfare && ${line}`]),
      cwd: home.clone,
      env: { ...env, SHELL: '/bin/sh' },
    },
    hasRedis: false,
    takesDefaultPort: true,
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

async function makeRoot(suite: string, path: string): Promise<void> {
  if (!(await succeeds('debootstrap', ['--version']))) await installPackages(['debootstrap']);
  console.log(`making a bare Debian ${suite}, once: 2 minutes or more ...`);
  const mirror = await mirrorOfThisMachine();
  await run('debootstrap', ['--variant=minbase', suite, path, ...(mirror ? [mirror] : [])]);
  await useNetworkOf(path);
  // debootstrap's --include fails here: it configures npm before what npm depends on.
  const install = `apt-get update -q && apt-get install -q -y --no-install-recommends ${PACKAGES.join(' ')} && apt-get clean`;
  const [command, ...args] = entering(path, '0:0', ['/bin/sh', '-c', install]);
  await run(command!, args, { env: { DEBIAN_FRONTEND: 'noninteractive' } });
}

/** Where this machine's apt gets Debian from; undefined: debootstrap's own default. */
async function mirrorOfThisMachine(): Promise<string | undefined> {
  const format = ['--format', '$(REPO_URI)', 'ORIGIN: Debian', 'LABEL: Debian'];
  const [first] = (await run('apt-get', ['indextargets', ...format])).split('\n');
  return first === '' ? undefined : first;
}

async function useNetworkOf(root: string): Promise<void> {
  for (const file of ['resolv.conf', 'hosts']) await copyFile(`/etc/${file}`, join(root, 'etc', file));
}

function entering(root: string, user: string, argv: readonly string[]): string[] {
  return [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    '/bin/sh',
    '-c',
    ENTER,
    'sh',
    root,
    user,
    ...argv,
  ];
}
