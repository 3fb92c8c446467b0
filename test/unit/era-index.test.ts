// Where eras begin, as it is found in the store.
import { expect, test } from 'vitest';
import { encodeEras } from '../../services/broker/core/growth.ts';
import { EraIndex } from '../../services/broker/engine/log/era-index.ts';
import { createMemoryStore } from '../support/memory-store.ts';

test('nothing is kept of what was found: a failover may have moved it', async () => {
  const { cursors } = createMemoryStore();
  const partition = { logEpoch: 1, partition: 0 };
  const begins = (fromOffset: number) =>
    cursors.commit([
      { partition, ownerEpoch: 0, subscription: 1, record: encodeEras([{ partitions: 2, fromOffset }]) },
    ]);
  const topics = new Map([[1, { definition: { name: 'top' }, partitions: { owner: () => undefined } }]]);
  const logger = { info: () => {}, warn: () => {}, error: () => {} };
  const index = new EraIndex({ cursors, topics, logger });
  const source = { partition: 0, partitions: 2 };
  await begins(12);
  expect(await index.beginOf(1, source)).toBe(12);
  await begins(10);
  expect(await index.beginOf(1, source)).toBe(10);
});
