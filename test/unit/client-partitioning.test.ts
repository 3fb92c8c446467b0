// The client's partition of a key is the broker's, and never changes.
import { expect, test } from 'vitest';
import { partitionOfKey as brokersPartition } from '../../services/broker/core/partition.ts';
import { hashOfKey } from '../../services/broker/core/publish-batch.ts';
import { partitionOfKey } from '../../services/client/partitioning.ts';

const KEYS = ['a', 'order-1', 'order-2', 'ключ', '🗝️', 'x'.repeat(1024), 'é'.repeat(512), '\0', ' '];

test('a key goes to the partition that the broker puts it into', () => {
  for (const key of [...KEYS, ...Array.from({ length: 500 }, (_, n) => `key-${n * 7919}`)]) {
    const bytes = Buffer.from(key);
    for (const partitions of [1, 2, 4, 7, 64, 1024]) {
      expect(partitionOfKey(key, partitions)).toBe(
        brokersPartition(hashOfKey(bytes, 0, bytes.length), partitions),
      );
    }
  }
});

test('and never to another: the rule is part of the protocol', () => {
  expect(KEYS.map((key) => partitionOfKey(key, 1024))).toMatchInlineSnapshot(`
    [
      106,
      584,
      479,
      618,
      481,
      505,
      22,
      21,
      244,
    ]
  `);
});
