// One project for each tier of tests: `vitest run --project unit`.
import { defineConfig } from 'vitest/config';

const tiers = ['repository', 'unit', 'golden', 'conformance', 'sim', 'integration'];

export default defineConfig({
  test: { projects: tiers.map((name) => ({ test: { name, include: [`test/${name}/**/*.test.ts`] } })) },
});
