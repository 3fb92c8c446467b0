// Mends package-lock.json after `npm install`; it is run by hand, when the repository test says so.
//
// Optional packages of other platforms that the registry did not have are put in, or `npm ci` refuses the
// lockfile. Entries made here have no integrity: npm checks the others'.
//
// Everything runs on the node of services/node, which is one of these packages. So no other may bring a
// command named `node`: npm 9 and 10 remove the commands of what is for another platform, and with them ours
// of the same name. And none may say which nodes it is for: npm would compare the machine's own, warn at
// length, and leave out optional packages, without which vitest does not start.
import { readFileSync, writeFileSync } from 'node:fs';

interface LockedPackage {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  bin?: Record<string, string>;
  engines?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const FILE = new URL('../../package-lock.json', import.meta.url);
const OWN_NODE = 'services/node';

export interface MissingPackage {
  readonly name: string;
  readonly version: string;
  readonly dev: boolean;
}

export function missingPackages(packages: Readonly<Record<string, LockedPackage>>): MissingPackage[] {
  const missing = new Map<string, MissingPackage>();
  for (const { optionalDependencies, dev } of Object.values(packages)) {
    for (const [name, version] of Object.entries(optionalDependencies ?? {})) {
      if (packages[`node_modules/${name}`] === undefined)
        missing.set(name, { name, version, dev: dev === true });
    }
  }
  return [...missing.values()];
}

/** Paths in the lockfile of the packages that would bring a command named `node` beside ours. */
export function otherNodes(packages: Readonly<Record<string, LockedPackage>>): string[] {
  return Object.keys(packages).filter((path) => path !== OWN_NODE && packages[path]?.bin?.node !== undefined);
}

/** Paths in the lockfile of the packages that would be measured against the machine's own node. */
export function withEngines(packages: Readonly<Record<string, LockedPackage>>): string[] {
  return Object.keys(packages).filter((path) => path !== '' && packages[path]?.engines !== undefined);
}

/** "@biomejs/cli-linux-x64-musl" is for os linux and cpu x64. */
export function platformOf(name: string): { os: string[]; cpu: string[] } {
  const os = /(android|darwin|linux|win32|freebsd|openbsd|openharmony|aix|sunos)/.exec(name)?.[1];
  const cpu = /(arm64|x64|armv7|arm|ia32|ppc64|s390x|riscv64|wasm32)/.exec(name)?.[1];
  if (os === undefined || cpu === undefined) throw new Error(`${name} does not say which platform it is for`);
  return { os: [os], cpu: [cpu === 'armv7' ? 'arm' : cpu] };
}

if (import.meta.main) {
  const lock = JSON.parse(readFileSync(FILE, 'utf8')) as { packages: Record<string, LockedPackage> };
  for (const { name, version, dev } of missingPackages(lock.packages)) {
    const exact = version.replace(/^[\^~]/, '');
    lock.packages[`node_modules/${name}`] = {
      version: exact,
      ...(dev && { dev }),
      optional: true,
      ...platformOf(name),
    };
    console.log(`added ${name}@${exact}`);
  }
  for (const path of otherNodes(lock.packages)) {
    delete lock.packages[path]!.bin;
    console.log(`took the command node from ${path}`);
  }
  for (const path of withEngines(lock.packages)) delete lock.packages[path]!.engines;
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
  lock.packages = Object.fromEntries(sorted);
  writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
}
