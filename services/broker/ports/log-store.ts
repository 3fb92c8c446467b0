// The log of every partition: append, read, trim.
//
// Offsets are JavaScript numbers below 2^53, contiguous within a partition, beginning at 0. Appends and trims
// carry the ownerEpoch that OwnershipStore.acquire gave. A store refuses an older claim than the partition's
// newest, one that was released, and one of another member with the same number: ABORTED. A claim that is
// newer than what the store knows means that the store went *back* (a failover that lost its last writes):
// FAILED_PRECONDITION, and the owner acquires again, above its own epoch. A partition that nobody ever
// acquired is at ownerEpoch 0.
//
// A store that is full refuses messages and new definitions, and nothing else: it keeps some room for trims,
// drops, cursors, claims, and changed and deleted definitions.
import type { DurabilityLevel } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../core/partition.ts';

/** A run of frames of one partition, as stored, cached and sent. Never changed once made. */
export interface Chunk {
  readonly firstOffset: number;
  /** At least 1. */
  readonly count: number;
  /** The time by the owner's clock. It rises from chunk to chunk, unless a clock was put back by much. */
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

/** What a log holds: offsets from headOffset to below endOffset, the next to be given. Equal: it is empty. */
export interface LogBounds {
  readonly headOffset: number;
  readonly endOffset: number;
  /** The startByte of the chunk at headOffset; endByte if the log is empty. */
  readonly headByte: number;
  /** The startByte that the next chunk must have. */
  readonly endByte: number;
}

/** How durable an append must be before it resolves. */
export interface Durability {
  /** Stores take `memory` as `stored`: only the engine makes something of it. */
  readonly level: DurabilityLevel;
  /** How many replicas must have the append, with `replicated`. */
  readonly minReplicas: number;
}

/** Offsets from firstOffset to below endOffset. */
export interface LogRange {
  readonly firstOffset: number;
  readonly endOffset: number;
}

/** What the store has in the range is not what was appended. The rest of the log is not affected. */
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
  /** All zero for a partition that was never written. Trimming everything does not put endOffset back. */
  bounds(partition: PartitionId): Promise<LogBounds>;

  /**
   * Appends consecutive chunks, all or none, and resolves once they are as durable as asked (absent:
   * `stored`). The caller does not touch the buffers again, and has at most one append under way for a
   * partition. ABORTED: ownerEpoch is stale; nothing was written. FAILED_PRECONDITION: expectedEnd is not the
   * log's end, or the store went back; nothing was written. RESOURCE_EXHAUSTED: no space; nothing was
   * written. UNAVAILABLE: the outcome is unknown, or the chunks are written but not yet as durable as asked;
   * the caller reads bounds() before it appends anything else. What such an append has not done by the time
   * that bounds() answers, it never does.
   */
  append(
    partition: PartitionId,
    ownerEpoch: number,
    expectedEnd: number,
    chunks: readonly Chunk[],
    durability?: Durability,
  ): Promise<void>;

  /**
   * Resolves once everything below endOffset is as durable as asked: for an append of unknown outcome that
   * bounds() has found. ABORTED: ownerEpoch is stale. FAILED_PRECONDITION: the log ends before endOffset.
   * UNAVAILABLE: it is not so yet, or not known; ask again.
   */
  confirm(
    partition: PartitionId,
    ownerEpoch: number,
    endOffset: number,
    durability: Durability,
  ): Promise<void>;

  /**
   * The chunk that holds fromOffset and those after it, in order, while they fit into maxBytes; always at
   * least one if there is one. If fromOffset was trimmed, the first chunk there is comes first. Empty at the
   * end of the log. Every append that has resolved is seen. Each chunk is compared with the checksum that was
   * stored with it: rejects with DamagedLog if the first one is not what was appended, else ends before the
   * one that is not. A missing chunk shows by its neighbours' offsets.
   */
  read(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<Chunk[]>;

  /** As read, without the frames: at most maxChunks. Chunks whose description is damaged are left out. */
  describe(partition: PartitionId, fromOffset: number, maxChunks: number): Promise<ChunkInfo[]>;

  /**
   * Deletes the chunks that lie wholly below beforeOffset, at most maxChunks of them, so that the store is
   * never held up for long. Returns the bounds afterwards. ABORTED; FAILED_PRECONDITION: the store went back.
   */
  trim(
    partition: PartitionId,
    ownerEpoch: number,
    beforeOffset: number,
    maxChunks: number,
  ): Promise<LogBounds>;

  /**
   * Writes down that the range is given up, and does no more. Needs no claim: what is in the range cannot be
   * read anyway. Durable, for the life of the log.
   */
  skip(partition: PartitionId, range: LogRange): Promise<void>;

  /** The ranges that were given up, in order. */
  skipped(partition: PartitionId): Promise<readonly LogRange[]>;

  /**
   * Deletes everything of all partitions of a topic's incarnation, in bounded steps. Idempotent. Claims for
   * them are stale from then on.
   */
  drop(logEpoch: number): Promise<void>;
}
