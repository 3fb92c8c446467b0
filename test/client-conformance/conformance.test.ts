// The TypeScript client, or those that FANFARE_CLIENT_DRIVERS names, are held to every scenario that their
// drivers can play.
import { expect, test } from 'vitest';
import { startDriver } from './driver.ts';
import { driversToTest } from './drivers.ts';
import { playScenarios } from './played.ts';
import { SCENARIOS } from './scenarios.ts';

for (const command of driversToTest()) {
  await using driver = await startDriver(command);
  const { client, features } = driver.hello!;
  playScenarios(client, features, () => command);
}

test('every scenario has a name of its own, and RULES.md has its rule', async () => {
  expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
  await expect(rulesAsMarkdown()).toMatchFileSnapshot('RULES.md');
});

function rulesAsMarkdown(): string {
  const rules = SCENARIOS.map(
    ({ name, rule, needs }) => `- **${name}** (${needs.join(', ') || 'basic'}): ${rule}`,
  );
  return [
    '# Rules for clients',
    '',
    'Written by `npx vitest run --project client-conformance -u`, from `scenarios/`. README.md says what the features in brackets are.',
    '',
    ...rules,
    '',
  ].join('\n');
}
