// The tests of a simulation in CI: so many seeds, each one a different world, none with a broken promise.
//
//   SEED=n     only that one, with the end of its trace if it fails
//   TRACE=1    prints the whole trace; with SEED
//   SEEDS=n    how many instead of the usual number
import { describe, expect, test } from 'vitest';
import { runClusterSeed } from './cluster/run.ts';

const GROUP = 200;
const TRACE_LINES = 80;
const timeout = 3_600_000;

export interface SeedOptions {
  /** The test file, for the line that says how to run a seed again. */
  readonly file: string;
  readonly alone: boolean;
  /** How many make about a minute on one core. */
  readonly usual: number;
  /** How many are run twice, to see that a seed decides everything. */
  readonly twice: number;
}

export function testSeeds(name: string, { file, alone, usual, twice }: SeedOptions): void {
  const count = Number(process.env.SEEDS ?? usual);

  /** Throws with what is needed to understand the failure and to run it again. */
  async function expectKept(seed: number): Promise<void> {
    const outcome = await runClusterSeed(seed, { alone, traced: process.env.TRACE !== undefined });
    if (process.env.TRACE !== undefined) console.log(outcome.trace.join('\n'));
    if (outcome.failure === undefined) return;
    const { trace } = await runClusterSeed(seed, { alone, traced: true });
    const why = outcome.failure instanceof Error ? outcome.failure.message : String(outcome.failure);
    const end = trace.slice(-TRACE_LINES).join('\n');
    throw new Error(`seed ${seed}: ${why}\n${end}\n\nAgain: SEED=${seed} npx vitest run ${file}`, {
      cause: outcome.failure,
    });
  }

  if (process.env.SEED !== undefined) {
    const only = Number(process.env.SEED);
    test(`${name}: seed ${only} keeps every promise`, { timeout }, () => expectKept(only));
    return;
  }

  describe(`${name} keeps every promise`, () => {
    const groups = Array.from({ length: Math.ceil(count / GROUP) }, (_, i) => i * GROUP + 1);
    test.each(groups)('seeds from %i on', { timeout }, async (first) => {
      for (let seed = first; seed < first + GROUP && seed <= count; seed += 1) await expectKept(seed);
    });
  });

  describe('a seed decides everything', () => {
    test('the same one gives the same trace, line by line', { timeout }, async () => {
      for (let seed = 1; seed <= twice; seed += 1) {
        const first = await runClusterSeed(seed, { alone, traced: true });
        const second = await runClusterSeed(seed, { alone, traced: true });
        expect(second.trace).toEqual(first.trace);
        expect(second.hash).toBe(first.hash);
        expect(first.trace.length).toBeGreaterThan(20);
      }
    });

    test('tracing changes nothing', { timeout }, async () => {
      for (let seed = twice + 1; seed <= twice + 10; seed += 1) {
        const { trace: _, hash: _hash, ...traced } = await runClusterSeed(seed, { alone, traced: true });
        const { trace: _none, hash: _zero, ...untraced } = await runClusterSeed(seed, { alone });
        expect(untraced).toEqual(traced);
      }
    });

    test('another one gives another trace', { timeout }, async () => {
      const hashes = new Set<number>();
      for (let seed = 1; seed <= twice; seed += 1)
        hashes.add((await runClusterSeed(seed, { alone, traced: true })).hash);
      expect(hashes.size).toBe(twice);
    });
  });
}
