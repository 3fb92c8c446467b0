// Which partition a key goes to. Both steps can never change: the messages of a key in a store lie where they
// sent them.
import { expect, test } from 'vitest';
import { formatPartitionId, partitionOfKey } from '../../services/broker/core/partition.ts';
import { hashOfKey } from '../../services/broker/core/publish-batch.ts';

const encoder = new TextEncoder();

function hash(key: string): number {
  const bytes = encoder.encode(`<${key}>`);
  return hashOfKey(bytes, 1, bytes.length - 1);
}

test.each([
  ['', 0xab3e7c0b],
  ['a', 0x1a80b1b3],
  ['b', 0x82c46232],
  ['orders', 0x7b54f948],
  ['customer-0', 0xebba8349],
  ['customer-1', 0xe89706e8],
  ['misc', 0x11c898de],
  ['Grüße', 0x0e7c01fa],
  ['0', 0x64f08f61],
  ['k'.repeat(1_024), 0xeec9ecfc],
])('the hash of key %j is %i for ever', (key, expected) => {
  expect(hash(key)).toBe(expected);
});

test.each([
  ['orders', 1, 0],
  ['orders', 4, 1],
  ['orders', 8, 3],
  ['customer-0', 8, 7],
  ['customer-1', 8, 7],
  ['misc', 3, 0],
  ['misc', 1024, 71],
  ['Grüße', 16, 0],
])('key %j of %i partitions goes to %i for ever', (key, partitions, expected) => {
  expect(partitionOfKey(hash(key), partitions)).toBe(expected);
});

test('the smallest and the largest hash stay within the topic', () => {
  for (const partitions of [1, 2, 3, 7, 8, 1_000, 1_024]) {
    expect(partitionOfKey(1, partitions)).toBe(0);
    expect(partitionOfKey(0xffff_ffff, partitions)).toBe(partitions - 1);
  }
});

const KEYS: Record<string, readonly string[]> = {
  'numbered customers': Array.from({ length: 20_000 }, (_, i) => `customer-${i}`),
  'bare numbers': Array.from({ length: 20_000 }, (_, i) => String(i)),
  'padded numbers': Array.from({ length: 20_000 }, (_, i) => String(i).padStart(12, '0')),
  paths: Array.from({ length: 20_000 }, (_, i) => `/eu/${i % 17}/device/${(i * 7919) % 100_003}`),
  'uuids that count': Array.from(
    { length: 20_000 },
    (_, i) => `${i.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`,
  ),
};

test.each(Object.keys(KEYS))('%s are spread evenly', (name) => {
  const keys = KEYS[name]!;
  for (const partitions of [2, 3, 8, 16, 100]) {
    const counts = new Array<number>(partitions).fill(0);
    for (const key of keys) counts[partitionOfKey(hash(key), partitions)]! += 1;
    const mean = keys.length / partitions;
    const chiSquare = counts.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0);
    // For a fair throw the statistic has this mean and deviation: five deviations are once in a million.
    const freedom = partitions - 1;
    expect(chiSquare, `${partitions} partitions`).toBeLessThan(freedom + 5 * Math.sqrt(2 * freedom));
  }
});

test('a partition id reads as in ack ids', () => {
  expect(formatPartitionId({ logEpoch: 5, partition: 3 })).toBe('5.3');
});
