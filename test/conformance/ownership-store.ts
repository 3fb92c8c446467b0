// The contract of ports/ownership-store.ts as tests. Every adapter runs them. That stale epochs are refused is in
// log-store.ts and cursor-store.ts.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OpenHarness, StoreHarness } from './harness.ts';

const P = { logEpoch: 7, partition: 3 };

export function ownershipStoreConformance(name: string, open: OpenHarness): void {
  describe(`ownership store: ${name}`, () => {
    let h: StoreHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());

    test('every epoch is greater than all before, after reopening too', async () => {
      const given: number[] = [];
      const acquire = async () => given.push(await h.stores.ownership.acquire(P));
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
      const given = await Promise.all(Array.from({ length: 10 }, () => h.stores.ownership.acquire(P)));
      expect(new Set(given).size).toBe(10);
    });

    test('partitions are acquired one by one', async () => {
      await h.stores.ownership.acquire(P);
      await h.stores.ownership.acquire(P);
      const other = { ...P, partition: 4 };
      const epoch = await h.stores.ownership.acquire(other);
      expect(
        await h.stores.cursors.commit([
          { subscription: 1, partition: other, ownerEpoch: epoch, record: Buffer.from('x') },
        ]),
      ).toEqual([]);
    });
  });
}
