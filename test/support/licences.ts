// Licences of the packages in package-lock.json, and which are allowed. Run, it writes LICENCES.md.
import { readFileSync, writeFileSync } from 'node:fs';

interface LockedPackage {
  readonly license?: string;
  readonly dev?: boolean;
  readonly link?: boolean;
}

export type Packages = Readonly<Record<string, LockedPackage>>;

/** Of what a broker, the operator or the command line runs on: they ask for a notice, and nothing else. */
const ALLOWED: ReadonlySet<string> = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Unlicense',
]);
/** Of tools besides: nothing of them is given to anybody. MPL-2.0 asks for the source of changed files. */
const ALLOWED_FOR_TOOLS: ReadonlySet<string> = new Set([...ALLOWED, 'MPL-2.0']);

/** "name: licence" of each package whose licence is not allowed, or not said. */
export function refusedLicences(packages: Packages): string[] {
  return installed(packages)
    .filter(([, { license, dev }]) => !isAllowed(license ?? '', dev ? ALLOWED_FOR_TOOLS : ALLOWED))
    .map(([name, { license }]) => `${name}: ${license ?? 'not said'}`);
}

/** LICENCES.md: what an image has, by licence, and how many tools there are besides. */
export function licencesText(packages: Packages): string {
  const all = installed(packages);
  const byLicence = Map.groupBy(
    all.filter(([, { dev }]) => !dev),
    ([, { license = 'not said' }]) => license,
  );
  const tools = Map.groupBy(
    all.filter(([, { dev }]) => dev),
    ([, { license = 'not said' }]) => license,
  );
  const sections = sorted(byLicence).map(
    ([licence, found]) => `## ${licence}\n\n${found.map(([name]) => `- ${name}`).join('\n')}\n`,
  );
  const counts = sorted(tools).map(([licence, found]) => `- ${licence}: ${found.length}`);
  return [
    '# Licences',
    '',
    'Of the packages that brokers, operator and command line run on. This page is written by',
    '`npx node test/support/licences.ts`; `npm run --silent sbom` prints all packages with versions and hashes',
    '(CycloneDX; tools are marked as `development`).',
    '',
    ...sections,
    '## Tools of development, which no image has',
    '',
    ...counts,
    '',
  ].join('\n');
}

/** An SPDX expression of AND and OR, of which AND binds more. */
function isAllowed(expression: string, allowed: ReadonlySet<string>): boolean {
  return expression
    .replaceAll(/[()]/g, '')
    .split(' OR ')
    .some((choice) => choice.split(' AND ').every((licence) => allowed.has(licence)));
}

/** Names of packages and what is known of them, once each, in order. */
function installed(packages: Packages): [string, LockedPackage][] {
  const found = Object.entries(packages)
    .filter(([path, { link }]) => path.includes('node_modules/') && !link)
    .map(([path, known]) => [path.slice(path.lastIndexOf('node_modules/') + 13), known] as const);
  // A package that is there twice is a tool only if both are.
  const byName = new Map<string, LockedPackage>();
  for (const [name, known] of found) if (!byName.has(name) || !known.dev) byName.set(name, known);
  return sorted(byName);
}

function sorted<Value>(map: ReadonlyMap<string, Value>): [string, Value][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}

if (import.meta.main) {
  const at = (path: string) => new URL(`../../${path}`, import.meta.url);
  const { packages } = JSON.parse(readFileSync(at('package-lock.json'), 'utf8')) as { packages: Packages };
  writeFileSync(at('LICENCES.md'), licencesText(packages));
}
