// As many consumers as a subscription may have, at the engine over the memory store.
import { expect, test } from 'vitest';
import { MAX_CONSUMERS_PER_SUBSCRIPTION } from '../../services/broker/limits.ts';
import { startEngine } from '../support/engine-rig.ts';

test('a subscription has so many consumers and no more', { timeout: 60_000 }, async () => {
  const { consume, broker } = await startEngine();
  for (let at = 0; at < MAX_CONSUMERS_PER_SUBSCRIPTION; at += 1) consume();
  expect(() => consume()).toThrow(
    expect.objectContaining({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringMatching(/ has 10000 consumers already, which is the limit: end some$/),
    }),
  );
  expect(broker.stats.consumers).toBe(MAX_CONSUMERS_PER_SUBSCRIPTION);
});
