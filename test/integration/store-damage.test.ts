// Stored chunks that are not as they were written: by a disk that has flipped a bit, on a real broker; and chunks of a version
// that had no checksums yet.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import { chunkInfo, readLogEntry } from '../../services/broker/adapters/redis/chunk-entry.ts';
import { cutChunk } from '../../services/broker/core/chunk.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import { damageTables } from '../support/damage-tables.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';

const P = { logEpoch: 1, partition: 0 };

/** Chunks of two real frames each. */
function framesFrom(firstOffset: number, startByte: number): Chunk {
  const bodies = [1, 2].map((n) => ({
    data: Buffer.from(`message ${firstOffset + n}`),
    attributes: { n: `${n}` },
    orderingKey: 'key',
  }));
  const batch = parsePublish(requestBytes('projects/p/topics/top', bodies), LIMITS);
  const cut = cutChunk([{ batch, indexes: undefined }], P, firstOffset, 1_700_000_000_000, Buffer.alloc);
  return { firstOffset, count: 2, publishTimeMs: 1_700_000_000_000, startByte, bytes: cut.bytes as Buffer };
}

function threeChunks(): Chunk[] {
  const chunks: Chunk[] = [];
  for (let i = 0; i < 3; i++) {
    const before = chunks.at(-1);
    chunks.push(framesFrom(2 * i, before === undefined ? 0 : before.startByte + before.bytes.length));
  }
  return chunks;
}

test('chunks of a version without checksums are read as they are, and refused if they are no frames', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-damage-'));
  try {
    const chunks = threeChunks();
    const store = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
    await store.log.append(P, 0, 0, chunks);
    await store.close();
    for (const offset of [0, 2]) await damageTables(dir, P, offset, 'age');
    const old = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
    expect(await old.log.read(P, 0, 1e6)).toEqual(chunks);
    expect(await old.log.describe(P, 0, 10)).toHaveLength(3);
    const more = framesFrom(6, chunks[2]!.startByte + chunks[2]!.bytes.length);
    await old.log.append(P, 0, 6, [more]);
    expect(await old.log.trim(P, 0, 2, 10)).toMatchObject({ headOffset: 2 });
    await old.close();
    await damageTables(dir, P, 2, 'scramble');
    const damaged = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
    await expect(damaged.log.read(P, 2, 1e6)).rejects.toMatchObject({
      range: { firstOffset: 2, endOffset: 4 },
    });
    expect(await damaged.log.read(P, 4, 1e6)).toEqual([chunks[2], more]);
    await damaged.close();
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('a description that is damaged hides its chunk, and no other', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-damage-'));
  try {
    const chunks = threeChunks();
    const store = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
    await store.log.append(P, 0, 0, chunks);
    await store.close();
    await damageTables(dir, P, 2, 'describe');
    const damaged = await openEmbeddedStore({ dir, journalBytes: 1 << 20 });
    expect(await damaged.log.read(P, 0, 1e6)).toEqual([chunks[0]]);
    await expect(damaged.log.read(P, 2, 1e6)).rejects.toMatchObject({
      range: { firstOffset: 2, endOffset: 4 },
    });
    expect(await damaged.log.read(P, 4, 1e6)).toEqual([chunks[2]]);
    expect((await damaged.log.describe(P, 0, 10)).map(({ firstOffset }) => firstOffset)).toEqual([0, 4]);
    expect(await damaged.log.trim(P, 0, 4, 10)).toMatchObject({ headOffset: 4 });
    await damaged.close();
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('entries of Redis: with a checksum, without one, and with a wrong one', () => {
  const [chunk] = threeChunks();
  const entry = (info: string, frames = chunk!.bytes) => [
    Buffer.from('2-0'),
    [...['i', info, 'f'].map((text) => Buffer.from(text)), frames],
  ];
  const info = chunkInfo(chunk!);
  const withoutSum = info.split(' ').slice(0, 4).join(' ');
  expect(readLogEntry(entry(info) as never)).toEqual(chunk);
  expect(readLogEntry(entry(withoutSum) as never)).toEqual(chunk);
  const flipped = Buffer.from(chunk!.bytes);
  flipped[20]! ^= 4;
  expect(readLogEntry(entry(info, flipped) as never)).toBeUndefined();
  expect(readLogEntry(entry(withoutSum, Buffer.alloc(flipped.length, 7)) as never)).toBeUndefined();
  expect(readLogEntry(entry(info.replace(/^2 /, '1 ')) as never)).toBeUndefined();
  expect(readLogEntry(entry('no numbers') as never)).toBeUndefined();
});
