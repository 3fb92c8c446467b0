// A disk that is really full: a tmpfs of 24 MiB, mounted for the test. Where mounting is not permitted the
// same steps run on a simulated one (faulty-disk.ts); the test's name says which it was.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nodeDisk } from '../../services/broker/adapters/embedded/disk.ts';
import { type EmbeddedStore, openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import { appendTo, chunksAfter, expectCode, readAll } from '../conformance/harness.ts';
import { createFaultyDisk, type FaultyDisk } from '../support/faulty-disk.ts';
import { createNotes, type Notes } from '../support/notes.ts';
import { mountSmallDisk } from '../support/small-disk.ts';

const P = { logEpoch: 1, partition: 0 };
const GOES_ON = 'the store accepts commits again';

const real = await mountSmallDisk(24);
afterAll(() => real?.unmount());

describe(`guarantee 6: the embedded store on a full disk (${real ? 'a real one' : 'simulated'})`, () => {
  let dir: string;
  let simulated: FaultyDisk | undefined;
  let store: EmbeddedStore;
  let notes: Notes;

  beforeEach(async () => {
    dir = real ? join(real.dir, 'data') : await mkdtemp(join(tmpdir(), 'fanfare-full-'));
    await open();
  });
  afterEach(async () => {
    await makeRoom();
    await store.close();
    await rm(dir, { recursive: true });
  });

  async function open(): Promise<void> {
    simulated = real ? undefined : createFaultyDisk();
    notes = createNotes();
    const disk = simulated ?? nodeDisk;
    store = await openEmbeddedStore({ dir, disk, journalBytes: 1 << 20, onWarning: notes.add });
  }
  async function fill(): Promise<void> {
    await real?.fill(300_000);
    if (simulated) simulated.tableWrites = 'full';
  }
  async function makeRoom(): Promise<void> {
    await real?.free();
    if (simulated) simulated.tableWrites = 'none';
  }
  /** Appends chunks until one is refused; resolves with those that were acknowledged. */
  async function appendUntilRefused(bytes: number): Promise<Chunk[]> {
    const written: Chunk[] = [];
    for (;;) {
      const bounds = await store.log.bounds(P);
      const chunks = chunksAfter(bounds, [bytes]);
      try {
        await store.log.append(P, 0, bounds.endOffset, chunks);
      } catch (error) {
        expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED', retriable: true });
        expect((error as Error).message).toContain('is full: free space there');
        expect(await store.log.bounds(P)).toEqual(bounds);
        return written;
      }
      written.push(...chunks);
    }
  }

  /** Appends as soon as the store says that it goes on. */
  async function appendOnceAccepted(sizes: readonly number[]): Promise<Chunk[]> {
    for (;;) {
      if (store.stats().stalled) await notes.next(GOES_ON);
      try {
        return await appendTo(store, P, 0, sizes);
      } catch (error) {
        expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
      }
    }
  }

  for (const [kind, bytes] of [
    ['large commits, straight to LMDB', 400_000],
    ['small commits, through the journal', 3_000],
  ] as const) {
    test(`${kind}: refused clearly, nothing acknowledged lost, goes on when there is space`, async () => {
      const written = await appendTo(store, P, 0, [bytes, bytes]);
      await fill();
      written.push(...(await appendUntilRefused(bytes)));
      expect(await readAll(store, P)).toEqual(written);
      await expectCode(appendTo(store, P, 0, [bytes]), 'RESOURCE_EXHAUSTED');
      expect(store.stats().stalled).toBe(true);

      await makeRoom();
      written.push(...(await appendOnceAccepted([bytes, 10])));
      expect(await readAll(store, P)).toEqual(written);
      await store.close();
      await open();
      expect(await readAll(store, P)).toEqual(written);
    });
  }

  /** Trims chunks until the store says that it goes on. */
  async function trimUntilAccepted(): Promise<void> {
    const goesOn = notes.next(GOES_ON).then(() => true);
    for (;;) {
      const { headOffset, endOffset } = await store.log.bounds(P);
      expect(headOffset).toBeLessThan(endOffset);
      await store.log.trim(P, 0, headOffset + Math.ceil((endOffset - headOffset) / 4), 256);
      if (await Promise.race([goesOn, new Promise((resolve) => setTimeout(resolve, 20, false))])) return;
    }
  }

  for (const [kind, bytes] of [
    ['large messages', 400_000],
    ['small messages', 3_000],
  ] as const) {
    test.runIf(real)(`full of its own ${kind}: trimming makes room, time and again`, async () => {
      const written: Chunk[] = [];
      for (let round = 0; round < 4; round++) {
        written.push(...(await appendUntilRefused(bytes)));
        await trimUntilAccepted();
        const { headOffset } = await store.log.bounds(P);
        written.splice(
          0,
          written.findIndex(({ firstOffset }) => firstOffset >= headOffset),
        );
        expect(await readAll(store, P)).toEqual(written);
      }
      await store.close();
      await open();
      expect(await readAll(store, P)).toEqual(written);
    });

    test.runIf(real)(
      `full of its own ${kind}, with no byte left: stops, starts, and a deleted topic makes room`,
      async () => {
        const written = await appendUntilRefused(bytes);
        await real!.fill(0);
        await store.close();
        await open();
        expect(await readAll(store, P)).toEqual(written);
        await expectCode(appendTo(store, P, 0, [bytes]), 'RESOURCE_EXHAUSTED');
        const record = Buffer.from('acknowledged');
        await store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: 0, record }]);
        const goesOn = notes.next(GOES_ON);
        await store.log.drop(P.logEpoch);
        await goesOn;
        const other = { logEpoch: 2, partition: 0 };
        const next = await appendTo(store, other, 0, [bytes]);
        await store.close();
        await open();
        expect(await readAll(store, other)).toEqual(next);
        expect(await store.cursors.load(1, P)).toEqual(record);
      },
    );
  }

  test('stopped while full: what was acknowledged is there at the next start', async () => {
    await fill();
    const written = await appendUntilRefused(3_000);
    expect(written.length).toBeGreaterThan(0);
    await store.close();
    await makeRoom();
    await open();
    expect(await readAll(store, P)).toEqual(written);
  });
});
