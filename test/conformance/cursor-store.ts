// The contract of ports/cursor-store.ts as tests for every adapter.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { CursorCommit } from '../../services/broker/ports/cursor-store.ts';
import type { OpenHarness, StoreHarness } from './harness.ts';

const P: PartitionId = { logEpoch: 7, partition: 3 };
const Q: PartitionId = { logEpoch: 7, partition: 4 };

export function cursorStoreConformance(name: string, open: OpenHarness): void {
  describe(`cursor store: ${name}`, () => {
    let h: StoreHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const cursors = () => h.stores.cursors;
    const loaded = async (subscription: number, partition: PartitionId) => {
      const record = await cursors().load(subscription, partition);
      return record && Buffer.from(record).toString();
    };

    test('a cursor never committed is undefined', async () => {
      expect(await cursors().load(1, P)).toBeUndefined();
    });

    test('loads what was committed last, before and after reopening', async () => {
      expect(await cursors().commit([commitOf(1, P, 'a'), commitOf(1, Q, 'b'), commitOf(2, P, 'c')])).toEqual(
        [],
      );
      await cursors().commit([commitOf(1, P, 'a2')]);
      const check = async () => {
        expect(await loaded(1, P)).toBe('a2');
        expect(await loaded(1, Q)).toBe('b');
        expect(await loaded(2, P)).toBe('c');
        expect(await loaded(2, Q)).toBeUndefined();
      };
      await check();
      await h.settle?.();
      await check();
      await h.reopen();
      await check();
    });

    test('a record of no bytes is a record', async () => {
      await cursors().commit([commitOf(1, P, '')]);
      await h.reopen();
      expect(await loaded(1, P)).toBe('');
    });

    test('later commits win, also when many are under way at once', async () => {
      await Promise.all(Array.from({ length: 50 }, (_, i) => cursors().commit([commitOf(1, P, `${i}`)])));
      expect(await loaded(1, P)).toBe('49');
      await h.reopen();
      expect(await loaded(1, P)).toBe('49');
    });

    test('writes those with a current ownerEpoch and returns the indexes of the others', async () => {
      const { ownerEpoch: old } = await h.stores.ownership.acquire(P);
      await cursors().commit([commitOf(1, P, 'before', old)]);
      const { ownerEpoch: current } = await h.stores.ownership.acquire(P);
      const stale = await cursors().commit([
        commitOf(1, P, 'stale', old),
        commitOf(1, Q, 'other partition', 0),
        commitOf(2, P, 'current', current),
        commitOf(3, P, 'stale', old),
      ]);
      expect(stale).toEqual([0, 3]);
      expect(await loaded(1, P)).toBe('before');
      expect(await loaded(1, Q)).toBe('other partition');
      expect(await loaded(2, P)).toBe('current');
      expect(await loaded(3, P)).toBeUndefined();
      await h.reopen();
      expect(await cursors().commit([commitOf(1, P, 'stale', old)])).toEqual([0]);
    });

    test('the record may be changed by its maker once commit has resolved', async () => {
      const record = Buffer.from('before');
      await cursors().commit([{ subscription: 1, partition: P, ownerEpoch: 0, record }]);
      record.fill('x');
      expect(await loaded(1, P)).toBe('before');
      await h.settle?.();
      expect(await loaded(1, P)).toBe('before');
    });

    test('drops all records of a subscription and no others', async () => {
      const partitions = Array.from({ length: 600 }, (_, partition) => ({ logEpoch: 7, partition }));
      await cursors().commit(partitions.map((partition) => commitOf(5, partition, 'x')));
      await cursors().commit([commitOf(4, P, 'kept'), commitOf(6, P, 'kept')]);
      await cursors().drop(5);
      await cursors().drop(5);
      const check = async () => {
        for (const partition of partitions) expect(await cursors().load(5, partition)).toBeUndefined();
        expect(await loaded(4, P)).toBe('kept');
        expect(await loaded(6, P)).toBe('kept');
      };
      await check();
      await h.reopen();
      await check();
    });
  });
}

function commitOf(subscription: number, partition: PartitionId, text: string, ownerEpoch = 0): CursorCommit {
  return { subscription, partition, ownerEpoch, record: Uint8Array.from(Buffer.from(text)) };
}
