// What comes from elsewhere: each package of the lockfile is pinned by its content, for every platform, names
// no registry, has a licence that is allowed, and is in the list of them and in the SBOM.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { missingPackages, withoutIntegrity } from '../support/complete-lockfile.ts';
import { licencesText, refusedLicences } from '../support/licences.ts';

const root = join(import.meta.dirname, '../..');
const text = readFileSync(join(root, 'package-lock.json'), 'utf8');
const { packages } = JSON.parse(text);

describe('the lockfile', () => {
  test('names no registry', () => {
    expect(text.match(/"resolved": "http[^"]*"/g)).toBeNull();
    expect(text).not.toMatch(/https?:\/\/[^"]*(registry|\.tgz)/);
  });

  test('has every platform, so that `npm ci` accepts it', () => {
    expect(missingPackages(packages)).toEqual([]);
    const { optionalDependencies } = packages['node_modules/@biomejs/biome'];
    const none = { 'node_modules/@biomejs/biome': packages['node_modules/@biomejs/biome'] };
    expect(missingPackages(none)).toEqual(Object.keys(optionalDependencies));
  });

  test('says what is in each package, also in those of other platforms', () => {
    expect(Object.keys(packages).length).toBeGreaterThan(200);
    expect(withoutIntegrity(packages)).toEqual([]);
    const [path] = Object.keys(packages).filter((each) => each.includes('darwin'));
    const { integrity, ...unpinned } = packages[path!];
    expect(integrity).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
    expect(withoutIntegrity({ ...packages, [path!]: unpinned })).toEqual([path]);
  });
});

describe('licences', () => {
  test('all are allowed', () => {
    expect(refusedLicences(packages)).toEqual([]);
  });

  test.each([
    ['GPL-3.0-only', true, true],
    ['AGPL-3.0-or-later', true, true],
    ['MIT AND GPL-3.0-only', true, true],
    ['UNLICENSED', true, true],
    [undefined, true, true],
    ['MPL-2.0', true, false],
    ['(MIT OR GPL-3.0-only)', false, false],
    ['(Apache-2.0 AND BSD-3-Clause)', false, false],
  ])('%s: refused %j, for a tool %j', (license, refused, refusedForTool) => {
    const found = (dev: boolean) =>
      refusedLicences({ 'node_modules/x': { ...(license !== undefined && { license }), dev } });
    expect(found(false)).toEqual(refused ? [`x: ${license ?? 'not said'}`] : []);
    expect(found(true)).toEqual(refusedForTool ? [`x: ${license ?? 'not said'}`] : []);
  });

  test('LICENCES.md is current', () => {
    const page = readFileSync(join(root, 'LICENCES.md'), 'utf8');
    expect(page, 'run: npx node test/support/licences.ts').toBe(licencesText(packages));
  });
});

test('`npm run sbom` lists all of it, with hashes and licences, and says what are tools', () => {
  const sbom = JSON.parse(execFileSync('npm', ['run', '--silent', 'sbom'], { cwd: root, encoding: 'utf8' }));
  const components: Component[] = sbom.components;
  const listed = new Map(components.map((component) => [component['bom-ref'], component]));
  const wrong: string[] = [];
  for (const [path, { version, dev, link }] of Object.entries<Locked>(packages)) {
    if (!path.includes('node_modules/') || link) continue;
    const name = `${path.slice(path.lastIndexOf('node_modules/') + 13)}@${version}`;
    const { hashes, licenses, properties = [] } = listed.get(name) ?? {};
    const isTool = properties.some((each) => each.name === 'cdx:npm:package:development');
    if (!hashes || !licenses || isTool !== (dev === true)) wrong.push(name);
  }
  expect(wrong).toEqual([]);
  expect(JSON.stringify(sbom)).not.toContain('registry');
}, 60_000);

interface Component {
  readonly 'bom-ref': string;
  readonly hashes?: readonly unknown[];
  readonly licenses?: readonly unknown[];
  readonly properties?: readonly { readonly name: string }[];
}

interface Locked {
  readonly version: string;
  readonly dev?: boolean;
  readonly link?: boolean;
}
