// The embedded store on a disk that fails in every way a write can: what callers are told, what is there
// afterwards, and that it goes on by itself. The disk is a faulty one around real files;
// store-full-disk.test.ts has a real full disk.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type EmbeddedStore,
  type EmbeddedStoreOptions,
  openEmbeddedStore,
} from '../../services/broker/adapters/embedded/store.ts';
import { appendTo, chunksAfter, expectCode, readAll } from '../conformance/harness.ts';
import { createFaultyDisk, type FaultyDisk, type WriteFault } from '../support/faulty-disk.ts';
import { createNotes, type Notes } from '../support/notes.ts';

const P = { logEpoch: 1, partition: 0 };
const Q = { logEpoch: 1, partition: 1 };
const GOES_ON = 'the store accepts commits again';

describe('the embedded store on a failing disk', () => {
  let dir: string;
  let disk: FaultyDisk;
  let notes: Notes;
  let store: EmbeddedStore;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'fanfare-faults-'));
  });
  afterEach(async () => {
    await store.close();
    await rm(dir, { recursive: true });
  });

  async function open(options: Partial<EmbeddedStoreOptions> = {}): Promise<void> {
    disk = createFaultyDisk();
    notes = createNotes();
    const quiet = { journalBytes: 1 << 16, mergeIntervalMs: 2 ** 30 };
    store = await openEmbeddedStore({ ...quiet, ...options, dir, disk, onWarning: notes.add });
  }

  /** Opens the folder anew as after kill -9: the old store writes nothing more, not even when it closes. */
  async function crashAndReopen(): Promise<void> {
    disk.tableWrites = 'fails';
    disk.journalWrites = 'fails';
    await store.close();
    await open();
  }

  const told: Record<Exclude<WriteFault, 'none'>, 'UNAVAILABLE' | 'RESOURCE_EXHAUSTED'> = {
    fails: 'UNAVAILABLE',
    'fails after': 'UNAVAILABLE',
    torn: 'UNAVAILABLE',
    full: 'RESOURCE_EXHAUSTED',
  };

  for (const fault of ['fails', 'fails after', 'torn', 'full'] as const) {
    test(`a journal write ${fault}: the append fails, everything before stays, and it goes on`, async () => {
      await open();
      const written = await appendTo(store, P, 0, [100, 200]);
      disk.journalWrites = fault;
      const lost = chunksAfter(await store.log.bounds(P), [300]);
      await expectCode(store.log.append(P, 0, 2, lost), told[fault]);
      // A write that needs no room goes past the journal meanwhile.
      if (fault === 'full') await store.ownership.acquire(Q);
      else await expectCode(store.ownership.acquire(Q), told[fault]);
      disk.journalWrites = 'none';
      await notes.next(GOES_ON);
      expect(await readAll(store, P)).toEqual(written);
      const next = await appendTo(store, P, 0, [50]);
      await crashAndReopen();
      expect(await readAll(store, P)).toEqual([...written, ...next]);
    });
  }

  test('a crash right after a journal write of unknown outcome: it is there as a whole or not at all', async () => {
    for (const fault of ['fails after', 'torn'] as const) {
      await open();
      const before = await readAll(store, P);
      disk.journalWrites = fault;
      disk.tableWrites = 'fails';
      const unknown = chunksAfter(await store.log.bounds(P), [300]);
      await expectCode(store.log.append(P, 0, before.length, unknown), 'UNAVAILABLE');
      await expectCode(store.log.bounds(P), 'UNAVAILABLE');
      await crashAndReopen();
      const after = await readAll(store, P);
      expect(after).toEqual(fault === 'torn' ? before : [...before, ...unknown]);
      await store.close();
    }
  });

  for (const fault of ['fails', 'fails after', 'full'] as const) {
    test(`a direct write ${fault}: bounds() tells the outcome once it is known, and it goes on`, async () => {
      await open({ directBytes: 0 });
      const written = await appendTo(store, P, 0, [100]);
      disk.tableWrites = fault;
      const next = chunksAfter(await store.log.bounds(P), [300]);
      await expectCode(store.log.append(P, 0, 1, next), told[fault]);
      if (fault !== 'full') await expectCode(store.log.bounds(P), 'UNAVAILABLE');
      disk.tableWrites = 'none';
      await notes.next(GOES_ON);
      const expected = fault === 'fails after' ? [...written, ...next] : written;
      expect(await readAll(store, P)).toEqual(expected);
      expected.push(...(await appendTo(store, P, 0, [20])));
      await crashAndReopen();
      expect(await readAll(store, P)).toEqual(expected);
    });
  }

  test('a direct write that did happen takes what waited in the journal with it, in order', async () => {
    await open({ directBytes: 1_000 });
    const cursor = (text: string) => [
      { subscription: 1, partition: P, ownerEpoch: 0, record: Buffer.from(text) },
    ];
    await store.cursors.commit(cursor('old'));
    disk.tableWrites = 'fails after';
    await expectCode(store.cursors.commit(cursor('n'.repeat(2_000))), 'UNAVAILABLE');
    disk.tableWrites = 'none';
    await notes.next(GOES_ON);
    expect((await store.cursors.load(1, P))?.length).toBe(2_000);
    await crashAndReopen();
    expect((await store.cursors.load(1, P))?.length).toBe(2_000);
  });

  for (const fault of ['fails', 'fails after', 'full'] as const) {
    test(`a merge ${fault}: nothing acknowledged is lost, commits are refused until it works`, async () => {
      await open();
      const written = await appendTo(store, P, 0, [100, 200, 300]);
      disk.tableWrites = fault;
      const dropped = store.cursors.drop(9);
      if (fault === 'full') await dropped;
      else await expect(dropped).rejects.toMatchObject({ name: 'BrokerError' });
      expect(store.stats().stalled).toBe(true);
      await expectCode(appendTo(store, Q, 0, [1]), told[fault]);
      expect(await store.log.read(P, 0, 10_000)).toEqual(written);
      disk.tableWrites = 'none';
      await notes.next(GOES_ON);
      written.push(...(await appendTo(store, P, 0, [400])));
      expect(await readAll(store, P)).toEqual(written);
      await crashAndReopen();
      expect(await readAll(store, P)).toEqual(written);
    });
  }

  test('a crash while the merge keeps failing: the journal has it all', async () => {
    await open();
    const written = await appendTo(store, P, 0, [100, 200, 300]);
    disk.tableWrites = 'fails';
    await expectCode(store.cursors.drop(9), 'UNAVAILABLE');
    await crashAndReopen();
    expect(await readAll(store, P)).toEqual(written);
    await notes.next('replayed the journal of a broker that did not stop in order');
  });

  test('writes to the other journal file while a merge takes its time', async () => {
    await open();
    const written = await appendTo(store, P, 0, [100]);
    const merge = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    disk.beforeWrite = async (to) => {
      if (to !== 'tables') return;
      begun.resolve();
      await merge.promise;
    };
    const dropped = store.cursors.drop(9);
    await begun.promise;
    written.push(...(await appendTo(store, P, 0, [200])), ...(await appendTo(store, P, 0, [300])));
    expect(await readAll(store, P)).toEqual(written);
    merge.resolve();
    await dropped;
    expect(await readAll(store, P)).toEqual(written);
    await crashAndReopen();
    expect(await readAll(store, P)).toEqual(written);
  });

  test('a large commit waits for the merge under way: LMDB has one writer', async () => {
    await open({ directBytes: 1_000 });
    const written = await appendTo(store, P, 0, [100]);
    const merge = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    let tableWrites = 0;
    disk.beforeWrite = async (to) => {
      if (to !== 'tables') return;
      tableWrites++;
      begun.resolve();
      await merge.promise;
    };
    const dropped = store.cursors.drop(9);
    await begun.promise;
    written.push(...(await appendTo(store, P, 0, [200])));
    const large = appendTo(store, P, 0, [5_000]);
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
    expect(tableWrites).toBe(1);
    merge.resolve();
    await dropped;
    written.push(...(await large));
    expect(await readAll(store, P)).toEqual(written);
    await crashAndReopen();
    expect(await readAll(store, P)).toEqual(written);
  });

  test('LMDB can not be opened again for a while: reads wait as errors, then everything is there', async () => {
    await open({ directBytes: 0 });
    const written = await appendTo(store, P, 0, [100]);
    disk.tableWrites = 'fails after';
    disk.opening = 'fails';
    const next = chunksAfter({ endOffset: 1, endByte: 100 }, [300]);
    await expectCode(store.log.append(P, 0, 1, next), 'UNAVAILABLE');
    await expectCode(store.log.read(P, 0, 1_000), 'UNAVAILABLE');
    await expectCode(store.log.bounds(P), 'UNAVAILABLE');
    disk.opening = 'none';
    disk.tableWrites = 'none';
    await notes.next(GOES_ON);
    expect(await readAll(store, P)).toEqual([...written, ...next]);
  });

  test('trimming is let through while the disk is full, and ends the stall', async () => {
    await open({ directBytes: 0 });
    await appendTo(store, P, 0, [100, 200, 300]);
    disk.tableWrites = 'full';
    await expectCode(appendTo(store, P, 0, [100]), 'RESOURCE_EXHAUSTED');
    disk.tableWrites = 'none';
    expect(await store.log.trim(P, 0, 2, 10)).toMatchObject({ headOffset: 2 });
    await notes.next(GOES_ON);
    await appendTo(store, P, 0, [100]);
  });

  test('everything that needs no room goes on while the disk is full, and is there after a crash', async () => {
    await open();
    const written = await appendTo(store, P, 0, [100, 200, 300]);
    const revision = await store.definitions.put('topic', 'old', 'first', 0);
    await store.cursors.drop(9);
    disk.tableWrites = 'full';
    written.push(...(await appendTo(store, P, 0, [400])));
    await store.cursors.drop(9);
    await expectCode(appendTo(store, P, 0, [1]), 'RESOURCE_EXHAUSTED');
    await expectCode(store.definitions.put('topic', 'new', 'first', 0), 'RESOURCE_EXHAUSTED');
    await expectCode(store.definitions.nextIncarnation(), 'RESOURCE_EXHAUSTED');

    const record = Buffer.from('far');
    await store.cursors.commit([{ subscription: 1, partition: P, ownerEpoch: 0, record }]);
    expect(await store.log.trim(P, 0, 2, 10)).toMatchObject({ headOffset: 2 });
    const { ownerEpoch } = await store.ownership.acquire(Q);
    expect(await store.definitions.put('topic', 'old', 'second', revision)).toBe(2);
    await store.log.drop(77);
    const check = async () => {
      expect(await readAll(store, P)).toEqual(written.slice(2));
      expect(await store.cursors.load(1, P)).toEqual(record);
      expect(await store.ownership.describe([Q])).toMatchObject([{ ownerEpoch }]);
      expect((await store.definitions.get('topic', 'old'))?.body).toBe('second');
    };
    await check();
    expect(store.stats().stalled).toBe(true);
    await crashAndReopen();
    await check();
    await appendTo(store, P, 0, [500]);
  });

  test('a topic is dropped while the disk is full, its messages in the journal with it', async () => {
    await open();
    await appendTo(store, P, 0, [100, 200]);
    await store.cursors.drop(9);
    await appendTo(store, P, 0, [300]);
    disk.tableWrites = 'full';
    await store.log.drop(P.logEpoch);
    expect(await readAll(store, P)).toEqual([]);
    await crashAndReopen();
    expect(await readAll(store, P)).toEqual([]);
    expect(await store.log.bounds(P)).toEqual({ headOffset: 0, endOffset: 0, headByte: 0, endByte: 0 });
  });

  test('deletes go to LMDB first where the rest does not fit, and a crash in between changes nothing', async () => {
    await open();
    await appendTo(store, P, 0, [100, 200]);
    await store.cursors.drop(9);
    const written = await appendTo(store, P, 0, [300]);
    await store.log.trim(P, 0, 1, 10);
    disk.tableWrites = 'puts are full';
    await store.cursors.drop(9);
    await notes.next('the disk is full: no messages are accepted for now');
    await disk.nextTableWrite();
    await crashAndReopen();
    expect(await readAll(store, P)).toMatchObject([{ firstOffset: 1 }, written[0]!]);
    disk.tableWrites = 'none';
  });
});
