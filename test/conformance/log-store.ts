// The contract of ports/log-store.ts as tests for every adapter.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { withFaults } from '../support/faulty-store.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import {
  appendTo,
  chunksAfter,
  EMPTY,
  expectCode,
  type OpenHarness,
  readAll,
  type StoreHarness,
} from './harness.ts';

const P: PartitionId = { logEpoch: 7, partition: 3 };
const STORED = { level: 'stored', minReplicas: 0 } as const;
const ZERO = { headOffset: 0, endOffset: 0, headByte: 0, endByte: 0 };

export function logStoreConformance(name: string, open: OpenHarness): void {
  describe(`log store: ${name}`, () => {
    let h: StoreHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const log = () => h.stores.log;

    test('a partition never written is empty', async () => {
      expect(await log().bounds(P)).toEqual(ZERO);
      expect(await log().read(P, 0, 1_000)).toEqual([]);
      expect(await log().describe(P, 5, 10)).toEqual([]);
      expect(await log().trim(P, 0, 10, 10)).toEqual(ZERO);
    });

    test('reads back what was appended, byte for byte, before and after reopening', async () => {
      const written = await appendTo(h.stores, P, 0, [10, 5_000, 1, 300_000, 16], 3);
      const bounds = { headOffset: 0, endOffset: 15, headByte: 0, endByte: 305_027 };
      expect(await log().bounds(P)).toEqual(bounds);
      expect(await readAll(h.stores, P)).toEqual(written);
      await h.reopen();
      expect(await log().bounds(P)).toEqual(bounds);
      expect(await readAll(h.stores, P)).toEqual(written);
      const more = await appendTo(h.stores, P, 0, [20]);
      expect(await readAll(h.stores, P)).toEqual([...written, ...more]);
    });

    test('bytes that were read stay as they are', async () => {
      await appendTo(h.stores, P, 0, [4_000]);
      await h.settle?.();
      const [first] = await log().read(P, 0, 1);
      const before = Buffer.from(first!.bytes);
      await appendTo(h.stores, P, 0, [4_000, 4_000]);
      await h.settle?.();
      await readAll(h.stores, P);
      expect(first!.bytes.equals(before)).toBe(true);
    });

    test('reads from any offset: the chunk that holds it and those after', async () => {
      const written = await appendTo(h.stores, P, 0, [1, 2, 3, 4], 10);
      for (const offset of [0, 9, 10, 19, 20, 35, 39]) {
        expect(await log().read(P, offset, 1_000)).toEqual(written.slice(Math.floor(offset / 10)));
      }
      expect(await log().read(P, 40, 1_000)).toEqual([]);
      expect(await log().read(P, 400, 1_000)).toEqual([]);
    });

    test('reads at least one chunk and no more than fit', async () => {
      await appendTo(h.stores, P, 0, [100, 100, 100]);
      const lengths = async (max: number) => (await log().read(P, 0, max)).map((chunk) => chunk.bytes.length);
      expect(await lengths(1)).toEqual([100]);
      expect(await lengths(199)).toEqual([100]);
      expect(await lengths(200)).toEqual([100, 100]);
      expect(await lengths(1_000)).toEqual([100, 100, 100]);
    });

    test('describes chunks without their frames', async () => {
      const written = await appendTo(h.stores, P, 0, [70, 80, 90], 2);
      const infos = written.map(({ bytes, ...info }) => ({ ...info, byteLength: bytes.length }));
      expect(await log().describe(P, 0, 10)).toEqual(infos);
      expect(await log().describe(P, 3, 1)).toEqual([infos[1]]);
      expect(await log().describe(P, 0, 0)).toEqual([]);
      await h.settle?.();
      expect(await log().describe(P, 0, 10)).toEqual(infos);
    });

    test('refuses an append that expects another end, and writes nothing', async () => {
      const written = await appendTo(h.stores, P, 0, [10, 10]);
      const behind = chunksAfter({ endOffset: 1, endByte: 10 }, [5]);
      await expectCode(log().append(P, 0, 1, behind), 'FAILED_PRECONDITION');
      const ahead = chunksAfter({ endOffset: 5, endByte: 20 }, [5]);
      await expectCode(log().append(P, 0, 5, ahead), 'FAILED_PRECONDITION');
      expect(await readAll(h.stores, P)).toEqual(written);
    });

    test('a stale ownerEpoch can neither append nor trim, after reopening too', async () => {
      const { ownerEpoch: old } = await h.stores.ownership.acquire(P);
      const written = await appendTo(h.stores, P, old, [10]);
      const { ownerEpoch: current } = await h.stores.ownership.acquire(P);
      expect(current).toBeGreaterThan(old);
      const refused = async () => {
        const bounds = await log().bounds(P);
        await expectCode(log().append(P, old, bounds.endOffset, chunksAfter(bounds, [1])), 'ABORTED');
        await expectCode(log().trim(P, old, 1, 1), 'ABORTED');
        expect(await readAll(h.stores, P)).toEqual(written);
      };
      await refused();
      await h.reopen();
      await refused();
      await appendTo(h.stores, P, current, [10]);
    });

    test('a released partition takes nothing more from the claim that released it', async () => {
      const { ownerEpoch } = await h.stores.ownership.acquire(P);
      const written = await appendTo(h.stores, P, ownerEpoch, [10]);
      await h.stores.ownership.release(P, ownerEpoch, Buffer.alloc(0));
      const next = chunksAfter(await log().bounds(P), [1]);
      await expectCode(log().append(P, ownerEpoch, 1, next), 'ABORTED');
      await expectCode(log().trim(P, ownerEpoch, 1, 1), 'ABORTED');
      await expectCode(log().confirm(P, ownerEpoch, 1, STORED), 'ABORTED');
      expect(await readAll(h.stores, P)).toEqual(written);
    });

    test('a claim that the store does not know of is FAILED_PRECONDITION: the store went back', async () => {
      const { ownerEpoch } = await h.stores.ownership.acquire(P);
      const chunks = chunksAfter(EMPTY, [1]);
      await expectCode(log().append(P, ownerEpoch + 1, 0, chunks), 'FAILED_PRECONDITION');
      await expectCode(log().trim(P, ownerEpoch + 1, 1, 1), 'FAILED_PRECONDITION');
      await expectCode(log().confirm(P, ownerEpoch + 1, 0, STORED), 'FAILED_PRECONDITION');
      expect(await log().bounds(P)).toEqual(ZERO);
    });

    test('confirms what is there, and nothing behind the end', async () => {
      const { ownerEpoch } = await h.stores.ownership.acquire(P);
      await log().confirm(P, ownerEpoch, 0, STORED);
      await appendTo(h.stores, P, ownerEpoch, [10, 10]);
      await log().confirm(P, ownerEpoch, 2, STORED);
      await expectCode(log().confirm(P, ownerEpoch, 3, STORED), 'FAILED_PRECONDITION');
      await h.stores.ownership.acquire(P);
      await expectCode(log().confirm(P, ownerEpoch, 2, STORED), 'ABORTED');
    });

    test('fences an append that is under way when the partition is acquired, or lets it be whole', async () => {
      const { ownerEpoch: old } = await h.stores.ownership.acquire(P);
      const appended = log()
        .append(P, old, 0, chunksAfter(EMPTY, [10]))
        .then(
          () => true,
          () => false,
        );
      const { ownerEpoch: current } = await h.stores.ownership.acquire(P);
      const { endOffset } = await log().bounds(P);
      expect(endOffset).toBe((await appended) ? 1 : 0);
      await appendTo(h.stores, P, current, [10]);
    });

    test('an append that timed out after the write is found by bounds()', async () => {
      const faulty = withFaults(h.stores, seededRandom(1), new VirtualClock(), { timeoutAfter: 1 });
      const chunks = chunksAfter(EMPTY, [10, 20]);
      await expectCode(faulty.log.append(P, 0, 0, chunks), 'UNAVAILABLE');
      expect((await log().bounds(P)).endOffset).toBe(2);
      await expectCode(log().append(P, 0, 0, chunks), 'FAILED_PRECONDITION');
      expect(await readAll(h.stores, P)).toEqual(chunks);
    });

    test('partitions and logEpochs do not see each other', async () => {
      const ids = [
        P,
        { ...P, partition: 4 },
        { ...P, logEpoch: 8 },
        { ...P, partition: 259 },
        { logEpoch: 1, partition: 0 },
      ];
      const written = await Promise.all(
        ids.map((id, index) => appendTo(h.stores, id, 0, [index + 1, index + 1])),
      );
      await h.settle?.();
      for (const [index, id] of ids.entries()) expect(await readAll(h.stores, id)).toEqual(written[index]);
    });

    test('trims whole chunks below the offset, as many as asked', async () => {
      const written = await appendTo(h.stores, P, 0, [1, 2, 3, 4, 5], 10);
      expect(await log().trim(P, 0, 19, 10)).toEqual({
        headOffset: 10,
        endOffset: 50,
        headByte: 1,
        endByte: 15,
      });
      expect(await log().trim(P, 0, 40, 2)).toMatchObject({ headOffset: 30, headByte: 6 });
      expect(await log().read(P, 0, 1_000)).toEqual(written.slice(3));
      expect(await log().read(P, 12, 1_000)).toEqual(written.slice(3));
      expect(await log().describe(P, 0, 1)).toMatchObject([{ firstOffset: 30 }]);
      await h.reopen();
      expect(await log().bounds(P)).toEqual({ headOffset: 30, endOffset: 50, headByte: 6, endByte: 15 });
      expect(await readAll(h.stores, P)).toEqual(written.slice(3));
    });

    test('a log trimmed to nothing keeps its end', async () => {
      await appendTo(h.stores, P, 0, [10, 20]);
      const empty = { headOffset: 2, endOffset: 2, headByte: 30, endByte: 30 };
      expect(await log().trim(P, 0, 1_000, 1_000)).toEqual(empty);
      await h.reopen();
      expect(await log().bounds(P)).toEqual(empty);
      expect(await log().read(P, 0, 1_000)).toEqual([]);
      const more = await appendTo(h.stores, P, 0, [5]);
      expect(more[0]).toMatchObject({ firstOffset: 2, startByte: 30 });
      expect(await readAll(h.stores, P)).toEqual(more);
    });

    test('a trim beside an append leaves the append', async () => {
      await appendTo(h.stores, P, 0, [10]);
      const next = chunksAfter(await log().bounds(P), [20]);
      const [, trimmed] = await Promise.all([log().append(P, 0, 1, next), log().trim(P, 0, 1, 10)]);
      expect(trimmed).toMatchObject({ headOffset: 1, headByte: 10 });
      expect(await readAll(h.stores, P)).toEqual(next);
    });

    test('reads across what is settled and what is new, in order', async () => {
      const written = await appendTo(h.stores, P, 0, [10, 20, 30]);
      await h.settle?.();
      written.push(...(await appendTo(h.stores, P, 0, [40, 50])));
      expect(await readAll(h.stores, P)).toEqual(written);
      expect(await log().read(P, 2, 1_000)).toEqual(written.slice(2));
      expect(await log().describe(P, 0, 4)).toHaveLength(4);
      expect(await log().trim(P, 0, 4, 10)).toMatchObject({ headOffset: 4 });
      expect(await readAll(h.stores, P)).toEqual(written.slice(4));
      await h.settle?.();
      expect(await readAll(h.stores, P)).toEqual(written.slice(4));
    });

    test('drops all partitions of a logEpoch and nothing else; a new logEpoch begins at 0', async () => {
      const other = { logEpoch: 8, partition: 3 };
      const kept = await appendTo(h.stores, other, 0, [1, 2]);
      for (const partition of [0, 1, 2]) {
        await appendTo(
          h.stores,
          { logEpoch: 7, partition },
          0,
          Array.from({ length: 300 }, () => 9),
        );
      }
      await log().drop(7);
      await log().drop(7);
      const check = async () => {
        for (const partition of [0, 1, 2]) {
          expect(await log().bounds({ logEpoch: 7, partition })).toEqual(ZERO);
          expect(await log().read({ logEpoch: 7, partition }, 0, 1_000)).toEqual([]);
        }
        expect(await readAll(h.stores, other)).toEqual(kept);
      };
      await check();
      await h.reopen();
      await check();
      const again = await appendTo(h.stores, { logEpoch: 9, partition: 0 }, 0, [4]);
      expect(again[0]).toMatchObject({ firstOffset: 0, startByte: 0 });
    });

    for (const [how, reason] of [
      ['flip', 'flipped|checksum'],
      ['lose', 'missing'],
    ] as const) {
      test(`a chunk that a bad disk has damaged (${how}) is not given out, and nothing else is touched`, async () => {
        const other = { ...P, partition: 9 };
        const kept = await appendTo(h.stores, other, 0, [100, 100]);
        const written = await appendTo(h.stores, P, 0, [400, 400, 400, 400], 10);
        await h.settle?.();
        await h.damage(P, 15, how);

        expect(await log().read(P, 0, 1)).toEqual([written[0]]);
        const few = await log().read(P, 0, 1_000_000);
        expect(few[0]).toEqual(written[0]);
        expect(few.every((chunk) => written.some(({ bytes }) => bytes.equals(chunk.bytes)))).toBe(true);
        // A lost chunk may show only by its neighbours: then the read skips it.
        const error = await log()
          .read(P, 15, 1_000_000)
          .then(
            (chunks) => {
              expect(how).toBe('lose');
              expect(chunks).toEqual(written.slice(2));
            },
            (damage: unknown) => damage,
          );
        if (error !== undefined) {
          expect(error).toMatchObject({ range: { firstOffset: 10, endOffset: 20 } });
          expect((error as Error).message).toMatch(new RegExp(reason));
        }
        expect(await log().read(P, 20, 1_000_000)).toEqual(written.slice(2));
        expect(await log().bounds(P)).toMatchObject({ headOffset: 0, endOffset: 40 });
        expect(await readAll(h.stores, other)).toEqual(kept);
        written.push(...(await appendTo(h.stores, P, 0, [50], 10)));
        expect(await log().read(P, 30, 1_000_000)).toEqual(written.slice(3));

        // Retention is not held up by the damage.
        expect(await log().trim(P, 0, 20, 10)).toMatchObject({ headOffset: 20 });
        expect(await readAll(h.stores, P)).toEqual(written.slice(2));
      });
    }

    test('remembers what was given up, in order, until the log is dropped', async () => {
      await appendTo(h.stores, P, 0, [10, 10, 10], 10);
      const ranges = [
        { firstOffset: 20, endOffset: 30 },
        { firstOffset: 0, endOffset: 10 },
      ];
      for (const range of ranges) await log().skip(P, range);
      await log().skip(P, ranges[0]!);
      expect(await log().skipped({ ...P, partition: 9 })).toEqual([]);
      await h.reopen();
      expect(await log().skipped(P)).toEqual([ranges[1], ranges[0]]);
      await log().drop(P.logEpoch);
      expect(await log().skipped(P)).toEqual([]);
      await expectCode(log().skip(P, ranges[0]!), 'ABORTED');
    });

    test('who looks at a log while it is dropped finds less, or nothing, and no error', async () => {
      const sizes = Array.from({ length: 600 }, () => 9);
      const written = await appendTo(h.stores, P, 0, sizes);
      await h.settle?.();
      let dropped = false;
      const dropping = log()
        .drop(P.logEpoch)
        .then(() => {
          dropped = true;
        });
      for (let look = 0; !dropped; look = (look + 7) % 600) {
        const [infos, chunks, bounds] = await Promise.all([
          log().describe(P, look, 256),
          log().read(P, look, 1_000),
          log().bounds(P),
        ]);
        expect(infos.length + chunks.length).toBeLessThanOrEqual(2 * written.length);
        expect(bounds.headOffset).toBeLessThanOrEqual(600);
        await new Promise(setImmediate);
      }
      await dropping;
      expect(await log().describe(P, 0, 256)).toEqual([]);
    });

    test('who owned a partition of a dropped topic is stale, and nobody acquires it any more', async () => {
      const { ownerEpoch } = await h.stores.ownership.acquire(P);
      await appendTo(h.stores, P, ownerEpoch, [1]);
      await log().drop(P.logEpoch);
      await expectCode(
        log().append(P, ownerEpoch, 1, chunksAfter({ endOffset: 1, endByte: 1 }, [1])),
        'ABORTED',
      );
      await expectCode(log().append(P, ownerEpoch, 0, chunksAfter(EMPTY, [1])), 'ABORTED');
      await expectCode(log().trim(P, ownerEpoch, 1, 1), 'ABORTED');
      await expectCode(h.stores.ownership.acquire(P), 'FAILED_PRECONDITION');
      await expectCode(h.stores.ownership.acquire({ ...P, partition: 9 }), 'FAILED_PRECONDITION');
      const record = Buffer.from('x');
      expect(await h.stores.cursors.commit([{ subscription: 1, partition: P, ownerEpoch, record }])).toEqual([
        0,
      ]);
      expect(await log().bounds(P)).toEqual(ZERO);
    });

    test('10,000 chunks: any of them is found, and all in order', { timeout: 60_000 }, async () => {
      const total = 10_000;
      for (let done = 0; done < total; done += 500) {
        await appendTo(
          h.stores,
          P,
          0,
          Array.from({ length: 500 }, (_, i) => 20 + ((done + i) % 50)),
          2,
        );
      }
      expect((await log().bounds(P)).endOffset).toBe(total * 2);
      const random = seededRandom(5);
      for (let i = 0; i < 200; i++) {
        const offset = Math.floor(random() * total * 2);
        const [chunk] = await log().read(P, offset, 1);
        expect(chunk!.firstOffset).toBe(offset - (offset % 2));
      }
      const all = await readAll(h.stores, P, 64 << 10);
      expect(all).toHaveLength(total);
      expect(
        all.every((chunk, i) => chunk.firstOffset === i * 2 && chunk.bytes.length === 20 + (i % 50)),
      ).toBe(true);
      let head = 0;
      while (head < total) head = (await log().trim(P, 0, total, 1_024)).headOffset;
      expect(head).toBe(total);
      await h.reopen();
      expect(await readAll(h.stores, P)).toHaveLength(total / 2);
    });

    test('many partitions append side by side', async () => {
      const ids = Array.from({ length: 32 }, (_, partition) => ({ logEpoch: 2, partition }));
      await Promise.all(
        ids.map(async (id) => {
          for (let i = 0; i < 20; i++) await appendTo(h.stores, id, 0, [50 + i]);
        }),
      );
      await h.reopen();
      for (const id of ids) {
        const chunks = await readAll(h.stores, id);
        expect(chunks.map((chunk) => chunk.bytes.length)).toEqual(
          Array.from({ length: 20 }, (_, i) => 50 + i),
        );
      }
    });
  });
}
