// What a store adapter gives to the conformance suites: open stores that survive being closed and opened
// again.
import { expect } from 'vitest';
import type { ErrorCode } from '../../services/broker/core/errors.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import type { ClusterStores, Stores } from '../support/memory-store.ts';

export interface StoreHarness {
  /** The stores as they were opened last. */
  readonly stores: Stores;
  /** Closes the stores in order and opens the same data again. */
  reopen(): Promise<void>;
  /** Closes the stores and removes the data. */
  close(): Promise<void>;
  /**
   * Resolves when everything written is where the adapter keeps it for good. Absent if there is only one
   * place.
   */
  settle?(): Promise<void>;
  /**
   * Does what a bad disk does to the chunk with that offset, which is where the adapter keeps it for good:
   * flips a bit of its frames, or loses it. The store may be opened anew for that.
   */
  damage(partition: PartitionId, offset: number, how: 'flip' | 'lose'): Promise<void>;
}

export type OpenHarness = () => Promise<StoreHarness>;

/** A store that the members of a cluster share. */
export interface SharedHarness {
  /** The stores as a member with that id opens them; the same object for the same id. */
  member(id: string): Promise<ClusterStores>;
  /** Closes all members' stores and removes the data. */
  close(): Promise<void>;
}

export type OpenSharedHarness = () => Promise<SharedHarness>;

/**
 * Chunks of these sizes in bytes, each of `count` messages, that follow on `end`; contents tell them apart.
 */
export function chunksAfter(
  end: { endOffset: number; endByte: number },
  sizes: readonly number[],
  count = 1,
): Chunk[] {
  let { endOffset: firstOffset, endByte: startByte } = end;
  return sizes.map((size) => {
    const bytes = Buffer.alloc(size, `${firstOffset}.`);
    const chunk = { firstOffset, count, publishTimeMs: 1_700_000_000_000 + firstOffset, startByte, bytes };
    firstOffset += count;
    startByte += size;
    return chunk;
  });
}

export const EMPTY = { endOffset: 0, endByte: 0 };

/** Appends chunks of these sizes at the log's end and returns them. */
export async function appendTo(
  stores: Stores,
  partition: PartitionId,
  ownerEpoch: number,
  sizes: readonly number[],
  count = 1,
): Promise<Chunk[]> {
  const bounds = await stores.log.bounds(partition);
  const chunks = chunksAfter(bounds, sizes, count);
  await stores.log.append(partition, ownerEpoch, bounds.endOffset, chunks);
  return chunks;
}

export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ name: 'BrokerError', code });
}

/** The whole log, read in steps of maxBytes. */
export async function readAll(stores: Stores, partition: PartitionId, maxBytes = 1 << 20): Promise<Chunk[]> {
  const found: Chunk[] = [];
  let { headOffset: next } = await stores.log.bounds(partition);
  for (;;) {
    const chunks = await stores.log.read(partition, next, maxBytes);
    const last = chunks.at(-1);
    if (!last) return found;
    found.push(...chunks);
    next = last.firstOffset + last.count;
  }
}
