// For one check on a copy of the tree: whichever tier the test is of, and nobody waits long for what stalls.
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: { include: ['test/**/*.test.ts'], testTimeout: 10_000, maxWorkers: 1 },
});
