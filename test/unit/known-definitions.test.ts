// The highest incarnation that a broker has heard of: numbers below it are not given again.
import { expect, test } from 'vitest';
import { liveState, tombstoneOf } from '../../services/broker/core/definition-merge.ts';
import type { TopicDefinition } from '../../services/broker/core/definitions.ts';
import { KnownDefinitions } from '../../services/broker/engine/definitions/known-definitions.ts';

function topic(id: string, logEpoch: number) {
  const definition: TopicDefinition = {
    name: `projects/p/topics/${id}`,
    ...{ partitions: 1, retentionMs: 1, retentionBytesPerPartition: 0, durability: 'stored', minReplicas: 0 },
    ...{ labels: {}, logEpoch, createTimeMs: 0, revision: 1 },
  };
  return { kind: 'topic' as const, definition };
}

test('it stays the highest when others come later, and when it is deleted', () => {
  const known = new KnownDefinitions();
  known.set(liveState(topic('new', 9)));
  known.set(liveState(topic('old', 4)));
  expect(known.highestIncarnation).toBe(9);
  known.set(tombstoneOf(topic('new', 9)));
  known.delete('topic', 'projects/p/topics/new');
  expect(known.highestIncarnation).toBe(9);
});
