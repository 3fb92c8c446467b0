// One project for each tier of tests: `vitest run --project unit`.
import { defineConfig } from 'vitest/config';

const tiers = ['repository', 'unit', 'golden', 'conformance', 'sim', 'integration', 'client-conformance'];

export default defineConfig({
  // Two files at a time: half of the integration tier waits for leases, restarts and windows.
  test: {
    maxWorkers: 2,
    projects: tiers.map((name) => ({ test: { name, include: [`test/${name}/**/*.test.ts`] } })),
  },
});
