// How much messages may take of a disk that was full, while the space that was kept back is given back.
import { expect, test } from 'vitest';
import type { Disk } from '../../services/broker/adapters/embedded/disk.ts';
import { Reserve } from '../../services/broker/adapters/embedded/reserve.ts';

const MIB = 1 << 20;

test('messages take no more than was worked out, so that trims and cursors have the rest', async () => {
  const disk: Pick<Disk, 'freeBytes' | 'sizeOf' | 'remove' | 'fill'> = {
    freeBytes: async () => 30 * MIB,
    sizeOf: async () => 0,
    remove: async () => undefined,
    fill: () => Promise.reject(new Error('somebody else was quicker')),
  };
  const reserve = new Reserve(disk as Disk, 'dir', 10 * MIB);
  await reserve.giveBack();
  expect(reserve.spend(1)).toBe(false);
  expect(await reserve.restore(0)).toBe(true);
  let spent = 0;
  while (spent < 100 * MIB && reserve.spend(MIB)) spent += MIB;
  // Half of what is free above the reserve: LMDB may write twice as much.
  expect(spent).toBeGreaterThan(0);
  expect(spent).toBeLessThanOrEqual(10 * MIB);
  expect(reserve.spend(MIB)).toBe(false);
});
