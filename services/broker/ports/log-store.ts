// The log of every partition: append, read, trim.
//
// Offsets are JavaScript numbers below 2^53, contiguous within a partition, beginning at 0. All writes carry the
// ownerEpoch that OwnershipStore.acquire gave. A store refuses an older claim than the partition's newest, one that was
// released, and one of another member with the same number: ABORTED. A claim that is newer than what the store knows means
// that the store went *back* (a failover that lost its last writes): FAILED_PRECONDITION, and the owner acquires again,
// above its own epoch. A partition that nobody ever acquired is at ownerEpoch 0.
//
// A store that is full refuses messages and new definitions, and nothing else: trimming, dropping, cursors, claims, changed
// and deleted definitions work in what it keeps for that.
import type { DurabilityLevel } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';

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

/** How durable an append must be before it resolves. */
export interface Durability {
  /** `memory` is for the engine to make use of: stores take it as `stored`. */
  readonly level: DurabilityLevel;
  /** With `replicated`: how many replicas must have it. */
  readonly minReplicas: number;
}

/** Offsets from firstOffset to below endOffset. */
export interface LogRange {
  readonly firstOffset: number;
  readonly endOffset: number;
}

/** What the store has in the range is not what was appended. Nothing else of the log is touched by that. */
export class DamagedLog extends BrokerError {
  readonly range: LogRange;
  readonly reason: string;

  constructor(partition: PartitionId, range: LogRange, reason: string) {
    const { firstOffset, endOffset } = range;
    super(
      'INTERNAL',
      `${formatPartitionId(partition)} is damaged from ${firstOffset} to ${endOffset - 1}: ${reason}`,
    );
    this.range = range;
    this.reason = reason;
  }
}

export interface LogStore {
  /** All zero for a partition that was never written. Survives trimming everything: endOffset never goes back. */
  bounds(partition: PartitionId): Promise<LogBounds>;

  /**
   * Appends consecutive chunks, all or none, and resolves once they are as durable as asked (absent: `stored`). The
   * caller does not touch the buffers again, and has at most one append under way for a partition.
   * ABORTED: ownerEpoch is stale, nothing was written. FAILED_PRECONDITION: expectedEnd is not the log's end, or the store
   * went back; nothing was written. RESOURCE_EXHAUSTED: no space, nothing was written. UNAVAILABLE: the outcome is unknown,
   * or they are written but not yet as durable as asked; the caller reads bounds() before it appends anything else. What
   * such an append has not done by the time that bounds() answers, it never does.
   */
  append(
    partition: PartitionId,
    ownerEpoch: number,
    expectedEnd: number,
    chunks: readonly Chunk[],
    durability?: Durability,
  ): Promise<void>;

  /**
   * Resolves once everything below endOffset is as durable as asked: for an append of unknown outcome that bounds() has
   * found. ABORTED: ownerEpoch is stale. FAILED_PRECONDITION: the log ends before endOffset (any more). UNAVAILABLE: not
   * yet, or not known; ask again.
   */
  confirm(
    partition: PartitionId,
    ownerEpoch: number,
    endOffset: number,
    durability: Durability,
  ): Promise<void>;

  /**
   * The chunk that holds fromOffset and those after it, in order, while they fit into maxBytes; always at least one if
   * there is one. If fromOffset was trimmed, begins with the first chunk there is. Empty at the end of the log. Sees every
   * append that has resolved. Each chunk has been compared with the checksum that was stored with it: rejects with DamagedLog
   * if the first one is not what was appended, else ends before the one that is not. A chunk that is missing shows by its
   * neighbours' offsets.
   */
  read(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<Chunk[]>;

  /** Like read, without the frames: at most maxChunks. Chunks whose description is damaged are left out. */
  describe(partition: PartitionId, fromOffset: number, maxChunks: number): Promise<ChunkInfo[]>;

  /**
   * Deletes the chunks whose every offset is below beforeOffset; at most maxChunks of them, so that the store is never
   * held up for long. Returns the bounds afterwards. ABORTED, FAILED_PRECONDITION as in append.
   */
  trim(
    partition: PartitionId,
    ownerEpoch: number,
    beforeOffset: number,
    maxChunks: number,
  ): Promise<LogBounds>;

  /**
   * Writes down that what is in the range is given up: no more than that. Whoever asks, claim or none: it cannot be read
   * anyway. Durable; for the life of the log.
   */
  skip(partition: PartitionId, range: LogRange): Promise<void>;

  /** The ranges that were given up, in order. */
  skipped(partition: PartitionId): Promise<readonly LogRange[]>;

  /**
   * Deletes everything of all partitions of a topic's incarnation, in bounded steps. Idempotent. Whoever still owns one of
   * them is stale from then on.
   */
  drop(logEpoch: number): Promise<void>;
}
