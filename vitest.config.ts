// One project for each tier of tests: `vitest run --project unit`.
import { defineConfig } from 'vitest/config';

const tiers = ['repository', 'unit', 'golden', 'conformance', 'sim', 'integration', 'client-conformance'];
/** A test that hangs fails all the same; one on a busy machine, or a slow disk, does not. Tests that need more say so. */
const testTimeout = 30_000;

export default defineConfig({
  // Two files at a time: half of the integration tier waits for leases, restarts and windows.
  test: {
    maxWorkers: 2,
    projects: tiers.map((name) => ({ test: { name, testTimeout, include: [`test/${name}/**/*.test.ts`] } })),
  },
});
