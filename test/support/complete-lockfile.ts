// Mends package-lock.json after `npm install`; it is run by hand, when the repository test says so.
//
// Nothing is put in by hand: a package without `integrity` is whatever the registry gives out under its name,
// also if nobody has published it yet. Where npm leaves one out or has no integrity for it, the registry does
// not have that version: delete its entry, run `npm install --package-lock-only`, or take another version.
//
// Everything runs on the node of services/node, which is one of these packages. So no other may bring a
// command named `node`: npm 9 and 10 remove the commands of what is for another platform, and with them ours
// of the same name. And none may say which nodes it is for: npm would compare the machine's own, warn at
// length, and leave out optional packages, without which vitest does not start.
import { readFileSync, writeFileSync } from 'node:fs';

interface LockedPackage {
  integrity?: string;
  /** A workspace's place in node_modules. */
  link?: boolean;
  bin?: Record<string, string>;
  engines?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const FILE = new URL('../../package-lock.json', import.meta.url);
const OWN_NODE = 'services/node';

/** Optional packages, of whatever platform, that the lockfile lacks: `npm ci` refuses it without them. */
export function missingPackages(packages: Readonly<Record<string, LockedPackage>>): string[] {
  const names = Object.values(packages).flatMap(({ optionalDependencies }) =>
    Object.keys(optionalDependencies ?? {}),
  );
  return [...new Set(names)].filter((name) => packages[`node_modules/${name}`] === undefined);
}

/** Paths in the lockfile of the packages whose content nothing pins. */
export function withoutIntegrity(packages: Readonly<Record<string, LockedPackage>>): string[] {
  return Object.keys(packages).filter(
    (path) => path.includes('node_modules/') && !packages[path]?.link && !packages[path]?.integrity,
  );
}

/** Paths in the lockfile of the packages that would bring a command named `node` beside ours. */
export function otherNodes(packages: Readonly<Record<string, LockedPackage>>): string[] {
  return Object.keys(packages).filter((path) => path !== OWN_NODE && packages[path]?.bin?.node !== undefined);
}

/** Paths in the lockfile of the packages that would be measured against the machine's own node. */
export function withEngines(packages: Readonly<Record<string, LockedPackage>>): string[] {
  return Object.keys(packages).filter((path) => path !== '' && packages[path]?.engines !== undefined);
}

if (import.meta.main) {
  const lock = JSON.parse(readFileSync(FILE, 'utf8')) as { packages: Record<string, LockedPackage> };
  for (const path of otherNodes(lock.packages)) {
    delete lock.packages[path]!.bin;
    console.log(`took the command node from ${path}`);
  }
  for (const path of withEngines(lock.packages)) delete lock.packages[path]!.engines;
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
  lock.packages = Object.fromEntries(sorted);
  writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
  const unpinned = [...missingPackages(lock.packages), ...withoutIntegrity(lock.packages)];
  if (unpinned.length > 0) throw new Error(`missing, or without integrity: ${unpinned.join(', ')}`);
}
