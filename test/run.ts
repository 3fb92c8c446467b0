// `npm test`: the static checks, then every tier of tests, then one line that counts them. Exits with 1 if
// anything failed. `npm test -- unit golden` runs only those tiers, without the checks.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** The part of vitest's JSON report that is read here. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTotalTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/**
 * Characters kept of a failure's text: enough to know what it was when only the end of a long output is kept.
 */
const FAILURE_CHARS = 1500;

const CHECKS: readonly { name: string; command: readonly string[] }[] = [
  { name: 'lint and format', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: 'types', command: ['tsc'] },
  { name: 'proto style', command: ['buf', 'lint'] },
  { name: 'proto compatibility', command: ['buf', 'breaking', '--against', 'proto/released.binpb'] },
];

const tiers = process.argv.slice(2);
let passed = 0;
let failed = 0;

for (const { name, command } of tiers.length > 0 ? [] : CHECKS) {
  const startMs = performance.now();
  const ok = run(command) === 0;
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`);
  if (ok) passed += 1;
  else failed += 1;
}

const folder = mkdtempSync(join(tmpdir(), 'fanfare-test-'));
const file = join(folder, 'report.json');
const code = run([
  'vitest',
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile=${file}`,
  ...tiers.flatMap((tier) => ['--project', tier]),
]);
const report = read(file);
rmSync(folder, { recursive: true });
if (report === undefined) failed += 1;
else {
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  // A skipped test counts as failed; a file that could not be loaded has no tests to count, and counts as
  // one.
  failed += report.numPendingTests;
  failed += report.testResults.filter(
    (each) => each.status === 'failed' && each.assertionResults.length === 0,
  ).length;
  for (const line of failures(report)) console.log(line);
}
// Anything else that vitest complains of, such as an unhandled rejection, counts as one failure.
if (code !== 0 && failed === 0) failed = 1;

console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function run([command, ...args]: readonly string[]): number {
  const { status, error } = spawnSync(command!, args, { stdio: 'inherit' });
  if (error) console.error(`${command} cannot be run: ${error.message}. Use \`npm test\`, after \`npm ci\`.`);
  return status ?? 1;
}

/** Names each failure once more, briefly: vitest's own account may be thousands of lines up. */
function failures(report: Report): string[] {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(process.cwd(), name);
    if (assertionResults.length === 0) return status === 'failed' ? [failure(file, message)] : [];
    return assertionResults
      .filter((each) => each.status !== 'passed')
      .map((each) => failure(`${file}: ${each.fullName}`, each.failureMessages?.join('\n') || each.status));
  });
}

function failure(what: string, why: string): string {
  return `FAILED ${what}\n${stripVTControlCharacters(why).slice(0, FAILURE_CHARS).replaceAll(/^/gm, '  | ')}`;
}

function read(path: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Report;
  } catch (error) {
    console.error(`vitest left no report: ${error}`);
    return undefined;
  }
}
