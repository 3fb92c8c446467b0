// Runs one check on a copy of the tree and judges how it ended: a bug counts as noticed only where a test
// says that something is not as it should be. What breaks at once (a syntax or type error, a file that can't
// be imported, a worker that dies) says nothing of the tests.
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Check } from './bug.ts';
import { ROOT } from './tree.ts';

export interface Verdict {
  readonly kind: 'passed' | 'noticed' | 'broken';
  /** What the test that failed says, or why there is no verdict. */
  readonly said: string;
  readonly seconds: number;
}

/** The part of vitest's JSON report that is read here. */
interface Report {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

const TIME_LIMIT_MS = 90_000;

const BROKEN =
  /^(Syntax|Reference|Type|Range)Error\b|Cannot read properties|is not (a function|defined|iterable)|Hook timed out/;

const SIMULATIONS = {
  broker: { test: 'test/sim/lone.test.ts', named: 'a lone broker keeps every promise' },
  cluster: { test: 'test/sim/cluster.test.ts', named: 'the cluster keeps every promise' },
} as const;

export function fileOf(check: Check): string {
  return 'simulation' in check ? SIMULATIONS[check.simulation].test : check.test;
}

/** A part of the names of the tests; undefined: all of the file. */
function testsOf(check: Check): string | undefined {
  return 'simulation' in check ? SIMULATIONS[check.simulation].named : check.named;
}

export function nameOf(check: Check): string {
  if ('simulation' in check) return `${check.seeds} seeds of the ${check.simulation} simulation`;
  return check.named === undefined ? check.test : `${check.test}: ${check.named}`;
}

/** Runs all the checks, which are of one file, at once. */
export async function runChecks(root: string, checks: readonly Check[]): Promise<Verdict> {
  const startMs = performance.now();
  const test = fileOf(checks[0]!);
  const names = checks.map(testsOf);
  const seeds = checks.map((check) => ('simulation' in check ? check.seeds : 0));
  const file = join(root, 'planted-report.json');
  rmSync(file, { force: true });
  const output = await run(
    root,
    [
      ...['run', '--config', 'test/planted/vitest.config.ts', '--bail', '1', '--no-color'],
      ...['--reporter', 'json', '--outputFile', file, test],
      ...(names.includes(undefined)
        ? []
        : ['--testNamePattern', names.map((name) => escaped(name!)).join('|')]),
    ],
    seeds.some((each) => each > 0) ? { SEEDS: String(Math.max(...seeds)) } : {},
  );
  return { ...judge(output, readReport(file)), seconds: (performance.now() - startMs) / 1000 };
}

function judge(output: string | undefined, report: Report | undefined): Omit<Verdict, 'seconds'> {
  if (output === undefined) return { kind: 'broken', said: `no end within ${TIME_LIMIT_MS / 1000} s` };
  if (report === undefined) return { kind: 'broken', said: shown(output.slice(-2_000)) };
  const failures = report.testResults.flatMap(({ assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ failureMessages }) => failureMessages?.[0] ?? 'no message'),
  );
  const judged = failures.find((message) => !BROKEN.test(message));
  if (judged !== undefined) return { kind: 'noticed', said: shown(judged) };
  const [failure] = failures;
  if (failure !== undefined) return { kind: 'broken', said: shown(failure) };
  const [unimported] = report.testResults.filter(({ message }) => message !== '');
  if (unimported !== undefined) return { kind: 'broken', said: shown(unimported.message) };
  if (/Unhandled (Errors|Rejection)/.test(output)) return { kind: 'broken', said: shown(output) };
  if (report.numPassedTests === 0) return { kind: 'broken', said: 'no test has this name' };
  return { kind: 'passed', said: '' };
}

/** Resolves to what vitest has printed; undefined: it did not end in time. */
function run(
  root: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<string | undefined> {
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs');
  const child = spawn(process.execPath, [vitest, ...args], {
    cwd: root,
    env: { ...process.env, SEED: undefined, TRACE: undefined, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let output = '';
  let isLate = false;
  child.stdout.on('data', (data: Buffer) => {
    output += data;
  });
  child.stderr.on('data', (data: Buffer) => {
    output += data;
  });
  const timer = setTimeout(() => {
    isLate = true;
    // With all that the tests have started: the child leads a process group.
    process.kill(-child.pid!, 'SIGKILL');
  }, TIME_LIMIT_MS);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      resolve(isLate ? undefined : output);
    });
  });
}

function readReport(file: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Report;
  } catch {
    return undefined;
  }
}

function escaped(name: string): string {
  return name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

function shown(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\s+/g, ' ').trim().slice(0, 300);
}
