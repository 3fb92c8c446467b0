// A log that is appended to and trimmed for long stays small on the disk: LMDB's freed pages are used again.
// And opening, reading and appending do not depend on how much there is.
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type EmbeddedStore, openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import { appendTo } from '../conformance/harness.ts';

const P = { logEpoch: 1, partition: 0 };
let dir: string;
let store: EmbeddedStore;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-retention-'));
  store = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
});
afterEach(async () => {
  await store.close();
  await rm(dir, { recursive: true });
});

test('a rolling log of 8 MiB takes little more, however much went through', { timeout: 60_000 }, async () => {
  const kept = 8 << 20;
  const chunkBytes = 64 << 10;
  let largest = 0;
  for (let through = 0; through < 10 * kept; through += 8 * chunkBytes) {
    await appendTo(
      store,
      P,
      0,
      Array.from({ length: 8 }, () => chunkBytes),
    );
    const { endOffset } = await store.log.bounds(P);
    await store.log.trim(P, 0, endOffset - kept / chunkBytes, 16);
    largest = (await stat(join(dir, 'data.mdb'))).size;
  }
  const { headByte, endByte } = await store.log.bounds(P);
  expect(endByte - headByte).toBe(kept);
  expect(largest).toBeLessThan(3 * kept);
});

test('small commits between two merges reach LMDB as few: cursors coalesce', async () => {
  for (let i = 0; i < 200; i++) {
    await store.cursors.commit([
      { subscription: 1, partition: P, ownerEpoch: 0, record: Buffer.from(`${i}`) },
    ]);
  }
  await store.cursors.drop(2);
  const { journalWrites, directWrites, merges } = store.stats();
  expect(journalWrites).toBe(200);
  expect(directWrites).toBe(0);
  expect(merges).toBeLessThan(20);
});

test('what is committed in one turn of the event loop is one write', async () => {
  const partitions = Array.from({ length: 8 }, (_, partition) => ({ logEpoch: 1, partition }));
  await Promise.all(partitions.map((id) => store.log.bounds(id)));
  const before = store.stats().journalWrites;
  const frames = { firstOffset: 0, count: 1, publishTimeMs: 1, startByte: 0, bytes: Buffer.alloc(100) };
  await Promise.all(partitions.map((id) => store.log.append(id, 0, 0, [frames])));
  expect(store.stats().journalWrites).toBe(before + 1);
});
