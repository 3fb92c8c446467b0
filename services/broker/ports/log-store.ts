// The log of every partition: append, read, trim. Called by engine/partition-owner (append), engine/chunk-cache (read)
// and engine/retention-sweeper (describe, trim).
//
// Offsets are JavaScript numbers below 2^53, contiguous within a partition, beginning at 0. All writes carry the
// ownerEpoch that OwnershipStore.acquire gave; a store refuses a smaller one than the partition's newest.
import type { PartitionId } from '../core/partition.ts';

/** A run of frames of one partition, as stored, cached and sent. Never changed once made. */
export interface Chunk {
  readonly firstOffset: number;
  /** At least 1. */
  readonly count: number;
  /** By the owner's clock; never smaller than the previous chunk's. */
  readonly publishTimeMs: number;
  /** How many bytes of frames the partition had received before this chunk, trimmed ones included. */
  readonly startByte: number;
  /** The frames. */
  readonly bytes: Buffer;
}

/** A chunk without its frames. */
export interface ChunkInfo {
  readonly firstOffset: number;
  readonly count: number;
  readonly publishTimeMs: number;
  readonly startByte: number;
  readonly byteLength: number;
}

/** headOffset is the first offset that can be read, endOffset the next that will be given: equal when empty. */
export interface LogBounds {
  readonly headOffset: number;
  readonly endOffset: number;
  /** startByte of the chunk at headOffset; endByte if empty. */
  readonly headByte: number;
  /** startByte that the next chunk must have. */
  readonly endByte: number;
}

export interface LogStore {
  /** All zero for a partition that was never written. Survives trimming everything: endOffset never goes back. */
  bounds(partition: PartitionId): Promise<LogBounds>;

  /**
   * Appends consecutive chunks, all or none, and resolves once they are as durable as the store's level. The caller
   * does not touch the buffers again, and has at most one append under way for a partition.
   * ABORTED: ownerEpoch is stale, nothing was written. FAILED_PRECONDITION: expectedEnd is not the log's end, nothing was
   * written. RESOURCE_EXHAUSTED: no space, nothing was written. UNAVAILABLE: the outcome is unknown; the caller reads
   * bounds() before it appends anything else.
   */
  append(
    partition: PartitionId,
    ownerEpoch: number,
    expectedEnd: number,
    chunks: readonly Chunk[],
  ): Promise<void>;

  /**
   * The chunk that holds fromOffset and those after it, in order, while they fit into maxBytes; always at least one if
   * there is one. If fromOffset was trimmed, begins with the first chunk there is. Empty at the end of the log. Sees every
   * append that has resolved.
   */
  read(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<Chunk[]>;

  /** Like read, without the frames: at most maxChunks. */
  describe(partition: PartitionId, fromOffset: number, maxChunks: number): Promise<ChunkInfo[]>;

  /**
   * Deletes the chunks whose every offset is below beforeOffset; at most maxChunks of them, so that the store is never
   * held up for long. Returns the bounds afterwards. ABORTED if ownerEpoch is stale.
   */
  trim(
    partition: PartitionId,
    ownerEpoch: number,
    beforeOffset: number,
    maxChunks: number,
  ): Promise<LogBounds>;

  /** Deletes everything of all partitions of a topic's incarnation, in bounded steps. Idempotent. */
  drop(logEpoch: number): Promise<void>;
}
