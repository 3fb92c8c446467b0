// The contract of ports/ownership-store.ts as tests for every adapter; sharedOwnershipConformance is for
// those that members share. That stale claims are refused is in log-store.ts and cursor-store.ts, too.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OpenHarness, OpenSharedHarness, SharedHarness, StoreHarness } from './harness.ts';
import { appendTo, chunksAfter, expectCode, readAll } from './harness.ts';

const P = { logEpoch: 7, partition: 3 };
const Q = { logEpoch: 7, partition: 4 };
/** A plain Uint8Array, since some clients take only a Buffer for bytes. */
const NOTE = Uint8Array.of(0, 1, 255, 10, 13, 0);

export function ownershipStoreConformance(name: string, open: OpenHarness): void {
  describe(`ownership store: ${name}`, () => {
    let h: StoreHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const ownership = () => h.stores.ownership;
    const commit = (partition: typeof P, ownerEpoch: number) =>
      h.stores.cursors.commit([{ subscription: 1, partition, ownerEpoch, record: Buffer.from('x') }]);

    test('every epoch is greater than all before, after reopening too', async () => {
      const given: number[] = [];
      const acquire = async () => given.push((await ownership().acquire(P)).ownerEpoch);
      await acquire();
      await acquire();
      await h.reopen();
      await acquire();
      await h.settle?.();
      await h.reopen();
      await acquire();
      expect(given[0]).toBeGreaterThanOrEqual(1);
      expect([...new Set(given)].sort((a, b) => a - b)).toEqual(given);
    });

    test('acquired at once by several, each gets its own epoch', async () => {
      const given = await Promise.all(Array.from({ length: 10 }, () => ownership().acquire(P)));
      expect(new Set(given.map(({ ownerEpoch }) => ownerEpoch)).size).toBe(10);
    });

    test('partitions are acquired one by one', async () => {
      await ownership().acquire(P);
      await ownership().acquire(P);
      const { ownerEpoch } = await ownership().acquire(Q);
      expect(await commit(Q, ownerEpoch)).toEqual([]);
    });

    test('an epoch is above the one that the caller has seen', async () => {
      const { ownerEpoch: first } = await ownership().acquire(P);
      expect((await ownership().acquire(P, { above: first + 10 })).ownerEpoch).toBeGreaterThan(first + 10);
      const { ownerEpoch: last } = await ownership().acquire(P, { above: 1 });
      expect(last).toBeGreaterThan(first + 11);
      expect(await commit(P, last)).toEqual([]);
    });

    test('taken only while the newest claim is the one that the caller has seen', async () => {
      const first = await ownership().acquire(P, { ifEpoch: 0 });
      await ownership().release(P, first.ownerEpoch, NOTE);
      const second = await ownership().acquire(P, { ifEpoch: first.ownerEpoch });
      expect(Uint8Array.from(second.handOver!)).toEqual(NOTE);
      const before = await ownership().describe([P]);
      for (const ifEpoch of [0, first.ownerEpoch, second.ownerEpoch + 1])
        await expectCode(ownership().acquire(P, { ifEpoch }), 'ABORTED');
      expect(await ownership().describe([P])).toEqual(before);
      expect(await commit(P, second.ownerEpoch)).toEqual([]);
    });

    test('describes who holds what, in the order asked for', async () => {
      expect(await ownership().describe([])).toEqual([]);
      expect(await ownership().describe([P])).toEqual([{ ownerEpoch: 0, holder: '' }]);
      const { ownerEpoch } = await ownership().acquire(P);
      const [never, held, again] = await ownership().describe([Q, P, P]);
      expect(never).toEqual({ ownerEpoch: 0, holder: '' });
      expect(held).toMatchObject({ ownerEpoch });
      expect(held!.holder).not.toBe('');
      expect(again).toEqual(held);
      await ownership().release(P, ownerEpoch, NOTE);
      expect(await ownership().describe([P])).toEqual([{ ownerEpoch, holder: '' }]);
    });

    test('what a release leaves is given to the next owner, once', async () => {
      const first = await ownership().acquire(P);
      expect(first.handOver).toBeUndefined();
      await ownership().release(P, first.ownerEpoch, NOTE);
      const second = await ownership().acquire(P);
      expect(Uint8Array.from(second.handOver!)).toEqual(NOTE);
      expect(second.ownerEpoch).toBeGreaterThan(first.ownerEpoch);
      expect((await ownership().acquire(P)).handOver).toBeUndefined();
    });

    test('a note lasts over reopening, and may be empty or large', async () => {
      const large = Buffer.alloc(1 << 24, 'note');
      for (const note of [Buffer.alloc(0), large]) {
        const { ownerEpoch } = await ownership().acquire(P);
        await ownership().release(P, ownerEpoch, note);
        await h.reopen();
        const { handOver } = await ownership().acquire(P);
        expect(Buffer.from(handOver!).equals(note)).toBe(true);
      }
    });

    test('a stale claim cannot release', async () => {
      const { ownerEpoch: old } = await ownership().acquire(P);
      const { ownerEpoch } = await ownership().acquire(P);
      await expectCode(ownership().release(P, old, NOTE), 'ABORTED');
      await expectCode(ownership().release(Q, 1, NOTE), 'ABORTED');
      expect(await commit(P, ownerEpoch)).toEqual([]);
      await ownership().release(P, ownerEpoch, Buffer.from('current'));
      expect(await commit(P, ownerEpoch)).toEqual([0]);
      expect(Buffer.from((await ownership().acquire(P)).handOver!).toString()).toBe('current');
    });
  });
}

export function sharedOwnershipConformance(name: string, open: OpenSharedHarness): void {
  describe(`ownership store shared by members: ${name}`, () => {
    let h: SharedHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());

    test('holders are told apart by the member that opened the store', async () => {
      const a = await h.member('member-a');
      const b = await h.member('member-b');
      const { ownerEpoch: first } = await a.ownership.acquire(P);
      expect(await b.ownership.describe([P])).toEqual([{ ownerEpoch: first, holder: 'member-a' }]);
      const { ownerEpoch: second } = await b.ownership.acquire(P);
      expect(await a.ownership.describe([P])).toEqual([{ ownerEpoch: second, holder: 'member-b' }]);
    });

    test('the same number in the hands of another member is refused', async () => {
      const a = await h.member('member-a');
      const b = await h.member('member-b');
      const { ownerEpoch } = await a.ownership.acquire(P);
      const written = await appendTo(a, P, ownerEpoch, [10]);
      const next = chunksAfter(await b.log.bounds(P), [5]);
      await expectCode(b.log.append(P, ownerEpoch, 1, next), 'ABORTED');
      await expectCode(b.log.trim(P, ownerEpoch, 1, 1), 'ABORTED');
      await expectCode(b.log.confirm(P, ownerEpoch, 1, { level: 'stored', minReplicas: 0 }), 'ABORTED');
      await expectCode(b.ownership.release(P, ownerEpoch, NOTE), 'ABORTED');
      const record = Buffer.from('x');
      expect(await b.cursors.commit([{ subscription: 1, partition: P, ownerEpoch, record }])).toEqual([0]);
      expect(await readAll(a, P)).toEqual(written);
      expect(await a.ownership.describe([P])).toEqual([{ ownerEpoch, holder: 'member-a' }]);
    });

    test('a hand-over: the next owner gets the note and goes on where the log ends', async () => {
      const a = await h.member('member-a');
      const b = await h.member('member-b');
      const before = await a.ownership.acquire(P);
      const written = await appendTo(a, P, before.ownerEpoch, [10, 20]);
      await a.ownership.release(P, before.ownerEpoch, NOTE);
      const after = await b.ownership.acquire(P);
      expect(Uint8Array.from(after.handOver!)).toEqual(NOTE);
      written.push(...(await appendTo(b, P, after.ownerEpoch, [30])));
      const late = chunksAfter(await a.log.bounds(P), [5]);
      await expectCode(a.log.append(P, before.ownerEpoch, 3, late), 'ABORTED');
      expect(await readAll(a, P)).toEqual(written);
    });

    test('members that write side by side do not disturb each other', async () => {
      const a = await h.member('member-a');
      const b = await h.member('member-b');
      const { ownerEpoch: p } = await a.ownership.acquire(P);
      const { ownerEpoch: q } = await b.ownership.acquire(Q);
      await Promise.all(
        Array.from({ length: 20 }).reduce<Promise<unknown>[]>(
          ([atA, atB]) => [
            atA!.then(() => appendTo(a, P, p, [10])),
            atB!.then(() => appendTo(b, Q, q, [20])),
          ],
          [Promise.resolve(), Promise.resolve()],
        ),
      );
      expect((await b.log.bounds(P)).endByte).toBe(200);
      expect((await a.log.bounds(Q)).endByte).toBe(400);
    });
  });
}
