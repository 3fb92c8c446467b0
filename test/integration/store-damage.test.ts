// Stored chunks that are not as they were written: by a disk that has flipped a bit, on a real broker; and
// chunks of a version that had no checksums yet.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import { chunkInfo, readLogEntry } from '../../services/broker/adapters/redis/chunk-entry.ts';
import { cutChunk } from '../../services/broker/core/chunk.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import { startBroker } from '../support/broker.ts';
import { runCli } from '../support/cli.ts';
import { damageTables } from '../support/damage-tables.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';

const P = { logEpoch: 1, partition: 0 };

/** A chunk of two real frames. */
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

test('on a real broker: the process lives, other partitions go on, and "fanfare doctor" finds it and gets past it', {
  timeout: 60_000,
}, async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'fanfare-damage-'));
  try {
    let broker = await startBroker({ dataDir });
    await using first = broker.connect();
    await first.admin.createTopic('orders', { partitions: 2 });
    await first.admin.createSubscription('audit', { topic: 'orders', ordering: true });
    const publisher = first.publisher('orders');
    const ids: string[] = [];
    for (let n = 0; n < 40; n++) {
      const { messageId } = await publisher.publish({ data: `${n}`, orderingKey: `key ${n % 8}` });
      ids.push(messageId);
    }
    await first.close();
    await broker.stop();

    const [, logEpoch, partition, offset] = /^(\d+)\.(\d+)-(\d+)$/.exec(ids[10]!)!.map(Number);
    const damaged = { logEpoch: logEpoch!, partition: partition! };
    await damageTables(dataDir, damaged, offset!, 'flip');
    broker = await startBroker({ dataDir });
    await using client = broker.connect();
    const received: string[] = [];
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    const others = ids.filter((id) => !id.startsWith(`${damaged.logEpoch}.${damaged.partition}-`));
    const consuming = (async () => {
      for await (const message of client.subscribe('audit')) {
        received.push(message.messageId);
        message.ack();
        if (received.length === ids.length - 1) resolve();
      }
    })();
    const line = await broker.logged((each) => each.msg.startsWith('stored messages are damaged'));
    expect(line).toMatchObject({ firstOffset: offset, messages: 1 });
    const { ca, cert, key } = broker.tls;
    const env = {
      FANFARE_ADDRESS: broker.address,
      FANFARE_TLS_CA: ca,
      FANFARE_TLS_CERT: cert,
      FANFARE_TLS_KEY: key,
    };
    const cli = (args: string[]) => runCli(args, { cwd: dataDir, env });
    const found = await cli(['doctor']);
    expect(found.code).toBe(1);
    const place = `orders/${damaged.partition}@${offset}`;
    expect(found.stdout.toString()).toContain(`${place}         1  stops delivery`);
    expect(found.stdout.toString()).toContain(`fanfare doctor --skip ${place}`);
    expect((await cli(['doctor', '--skip', `orders/${damaged.partition}@${offset! + 1}`])).code).toBe(1);

    expect((await cli(['doctor', '--skip', place])).stdout.toString()).toContain('gave up 1 messages');
    await complete;
    expect(received.slice().sort()).toEqual(ids.filter((_, n) => n !== 10).sort());
    expect(others.every((id) => received.includes(id))).toBe(true);
    const after = await cli(['doctor', '-o', 'json']);
    expect(after.code).toBe(0);
    expect(JSON.parse(after.stdout.toString())).toMatchObject({
      partitions: 2,
      damages: [{ firstOffset: offset, skipped: true }],
    });
    await client.close();
    await consuming;
    expect(await broker.stop()).toEqual({ code: 0, signal: null });
  } finally {
    await rm(dataDir, { recursive: true });
  }
});
