// What a broker remembers of cursors is bounded, and is believed only as far as the log is the one that it
// was remembered of.
import { expect, test } from 'vitest';
import { encodeCursor } from '../../services/broker/core/cursor.ts';
import type { PartitionOwner } from '../../services/broker/engine/log/partition-owner.ts';
import { RememberedCursors } from '../../services/broker/engine/log/remembered-cursors.ts';
import type { ChunkInfo } from '../../services/broker/ports/log-store.ts';
import { createMemoryStore } from '../support/memory-store.ts';

const ID = { logEpoch: 3, partition: 1 };
const OWNER = { id: ID } as PartitionOwner;
const NOTHING = { floor: 0, settled: [], attempts: [] };

function chunk(firstOffset: number, count: number, publishTimeMs: number) {
  const bytes = Buffer.alloc(count * 10);
  return { firstOffset, count, publishTimeMs, startByte: firstOffset * 10, bytes };
}

async function logOf(...chunks: ReturnType<typeof chunk>[]) {
  const { log } = createMemoryStore();
  await log.append(ID, 0, 0, chunks, { level: 'stored', minReplicas: 0 });
  return log;
}

function infoOf({ bytes, ...rest }: ReturnType<typeof chunk>): ChunkInfo {
  return { ...rest, byteLength: bytes.length };
}

const FIRST = chunk(0, 10, 100);
const SECOND = chunk(10, 10, 200);

function remembered(incarnation = 7) {
  return {
    id: ID,
    subscription: { name: 'projects/p/subscriptions/s', incarnation },
    record: encodeCursor({ ...NOTHING, floor: 15 }),
    isHandedOver: false,
    marks: [infoOf(SECOND), infoOf(FIRST)],
  };
}

test.each([
  ['the same log', [FIRST, SECOND], 15],
  ['the same, and longer', [FIRST, SECOND, chunk(20, 1, 300)], 15],
  ['its end was lost', [FIRST], 10],
  ['it went on with something else', [FIRST, chunk(10, 10, 201)], 10],
  ['another one', [chunk(0, 10, 99), chunk(10, 10, 201)], 0],
])('%s', async (_name, chunks, floor) => {
  const cursors = new RememberedCursors(await logOf(...chunks));
  cursors.keep(remembered(), 0);
  expect(await cursors.joined(OWNER, 7, NOTHING)).toEqual({ ...NOTHING, floor });
  expect(await cursors.joined(OWNER, 8, NOTHING)).toEqual(NOTHING);
});

test('the oldest are forgotten beyond the bound, and all after five minutes', async () => {
  const cursors = new RememberedCursors(await logOf(FIRST, SECOND), 1_000);
  for (let incarnation = 1; incarnation <= 100; incarnation += 1) cursors.keep(remembered(incarnation), 0);
  expect(cursors.bytes).toBeLessThanOrEqual(1_000);
  expect([...cursors.all(0)].map(({ subscription }) => subscription.incarnation)).toEqual([98, 99, 100]);
  expect([...cursors.all(300_001)]).toEqual([]);
  cursors.keep(remembered(200), 300_001);
  expect([...cursors.all(300_001)]).toHaveLength(1);
  expect(cursors.bytes).toBeLessThan(400);
});

test('16 MiB are remembered', async () => {
  const cursors = new RememberedCursors(await logOf(FIRST, SECOND));
  const record = new Uint8Array(100_000);
  for (let incarnation = 1; incarnation <= 200; incarnation += 1)
    cursors.keep({ ...remembered(incarnation), record }, 0);
  expect(cursors.bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
  expect(cursors.bytes).toBeGreaterThan(16 * 1024 * 1024 - 101_000);
  expect([...cursors.all(0)].at(-1)?.subscription.incarnation).toBe(200);
});
