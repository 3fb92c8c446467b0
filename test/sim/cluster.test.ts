// The simulation of whole clusters in CI: each seed is another cluster, with other faults, and none breaks a
// promise.
//
//   SEED=n     only that one, with the end of its trace if it fails
//   TRACE=1    prints the whole trace; with SEED
//   SEEDS=n    how many instead of the usual number
import { describe, expect, test } from 'vitest';
import { runClusterSeed } from './cluster/run.ts';

/** About a minute on one core. */
const USUAL_SEEDS = 400;
const GROUP = 200;
const TRACE_LINES = 80;
const HOUR_MS = 3_600_000;

const only = process.env.SEED;
const count = Number(process.env.SEEDS ?? USUAL_SEEDS);

/** Throws with what is needed to understand the failure and to run it again. */
async function expectKept(seed: number): Promise<void> {
  const outcome = await runClusterSeed(seed, { traced: process.env.TRACE !== undefined });
  if (process.env.TRACE !== undefined) console.log(outcome.trace.join('\n'));
  if (outcome.failure === undefined) return;
  const { trace } = await runClusterSeed(seed, { traced: true });
  const why = outcome.failure instanceof Error ? outcome.failure.message : String(outcome.failure);
  const end = trace.slice(-TRACE_LINES).join('\n');
  throw new Error(
    `seed ${seed}: ${why}\n${end}\n\nAgain: SEED=${seed} npx vitest run test/sim/cluster.test.ts`,
    {
      cause: outcome.failure,
    },
  );
}

if (only !== undefined) {
  test(`seed ${only} keeps every promise`, { timeout: HOUR_MS }, () => expectKept(Number(only)));
} else {
  describe('the cluster keeps every promise', () => {
    const groups = Array.from({ length: Math.ceil(count / GROUP) }, (_, i) => i * GROUP + 1);
    test.each(groups)('seeds from %i on', { timeout: HOUR_MS }, async (first) => {
      for (let seed = first; seed < first + GROUP && seed <= count; seed += 1) await expectKept(seed);
    });
  });

  describe('a seed decides everything', () => {
    test('the same one gives the same trace, line by line', { timeout: HOUR_MS }, async () => {
      for (let seed = 1; seed <= 15; seed += 1) {
        const first = await runClusterSeed(seed, { traced: true });
        const second = await runClusterSeed(seed, { traced: true });
        expect(second.trace).toEqual(first.trace);
        expect(second.hash).toBe(first.hash);
        expect(first.trace.length).toBeGreaterThan(20);
      }
    });

    test('tracing changes nothing', { timeout: HOUR_MS }, async () => {
      for (let seed = 16; seed <= 25; seed += 1) {
        const { trace: _, hash: _hash, ...traced } = await runClusterSeed(seed, { traced: true });
        const { trace: _none, hash: _zero, ...untraced } = await runClusterSeed(seed);
        expect(untraced).toEqual(traced);
      }
    });

    test('another one gives another trace', { timeout: HOUR_MS }, async () => {
      const hashes = new Set<number>();
      for (let seed = 1; seed <= 15; seed += 1)
        hashes.add((await runClusterSeed(seed, { traced: true })).hash);
      expect(hashes.size).toBe(15);
    });
  });
}
