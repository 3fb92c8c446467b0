// Retention and a store that goes back.
import { expect, test } from 'vitest';
import { startEngine } from '../support/engine-rig.ts';

const LOG = { logEpoch: 1, partition: 0 };

test('what was deleted, and is there again after a failover, is deleted again', async () => {
  const rig = await startEngine({ retentionMs: 60_000, limits: { recentBytes: 1 << 20 } });
  void rig.publish('a', 'b');
  await rig.clock.advance(100);
  const goBack = rig.memory.checkpoint();
  await rig.clock.advance(75_000);
  expect((await rig.stores.log.bounds(LOG)).headOffset).toBe(2);
  goBack();
  expect((await rig.stores.log.bounds(LOG)).headOffset).toBe(0);
  await rig.clock.advance(10_000);
  expect((await rig.stores.log.bounds(LOG)).headOffset).toBe(2);
});
