// Registers the scenarios that a client's driver is able to play as tests.
import { afterAll, beforeAll, describe, test } from 'vitest';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import type { DriverCommand } from './drivers.ts';
import type { Feature } from './protocol.ts';
import type { Scenario } from './scenario.ts';
import { SCENARIOS } from './scenarios.ts';
import { Scene } from './scene.ts';

const TIMEOUT_MS = 60_000;

/** `commandOf` is called when the tests run, since it may have to build something. */
export function playScenarios(
  client: string,
  features: readonly Feature[],
  commandOf: () => DriverCommand | Promise<DriverCommand>,
  setUpTimeoutMs = TIMEOUT_MS,
): void {
  const able = SCENARIOS.filter(({ needs }) => needs.every((feature) => features.includes(feature)));

  describe(`${client}: ${able.length} of ${SCENARIOS.length} scenarios`, () => {
    let broker: BrokerProcess;
    let command: DriverCommand;

    beforeAll(async () => {
      command = await commandOf();
      broker = await startBroker();
    }, setUpTimeoutMs);

    afterAll(async () => {
      await broker?.[Symbol.asyncDispose]();
    });

    const play = async (_name: string, _rule: string, scenario: Scenario): Promise<void> => {
      await using scene = await Scene.begin(broker, command);
      await scenario.play(scene);
    };
    // Scenarios mostly wait, so they run side by side; those that compute would take time from the others and
    // run alone.
    test.concurrent.each(rowsOf(able.filter(({ isBusy }) => !isBusy)))('%s: %s', play, TIMEOUT_MS);
    const busy = rowsOf(able.filter(({ isBusy }) => isBusy));
    if (busy.length > 0) test.each(busy)('%s: %s', play, TIMEOUT_MS);
  });
}

function rowsOf(scenarios: readonly Scenario[]) {
  return scenarios.map((scenario) => [scenario.name, scenario.rule, scenario] as const);
}
