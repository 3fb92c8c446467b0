// The log of each partition as a stream; the comments of ports/log-store.ts are the contract.
//
// Every append carries a number. After one whose outcome is unknown, bounds() forbids all numbers up to then
// before it looks, so that what it answers stays true.
import { assert, BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import {
  type Chunk,
  type ChunkInfo,
  DamagedLog,
  type Durability,
  type LogBounds,
  type LogRange,
  type LogStore,
} from '../../ports/log-store.ts';
import { chunkId, chunkInfo, firstIdAt, readIndexEntry, readLogEntry } from './chunk-entry.ts';
import type { Confirmer } from './confirmer.ts';
import type { Argument, BufferReply, RedisConnection } from './connection.ts';
import type { RedisKeys } from './keys.ts';
import type { PartitionLists } from './partition-lists.ts';
import { boundsOf, refusalError, verdictOf } from './replies.ts';
import type { WriteNumbers } from './write-numbers.ts';

/** The most of one append, which is one script call: far more than the engine ever sends. */
const MAX_APPEND_CHUNKS = 4_096;
const MAX_APPEND_BYTES = 64 << 20;
/** Entries of the index that are read at a time. */
const INDEX_STEP = 256;
/** How long stale owners of a dropped topic are told so. */
const DROPPED_SECONDS = 86_400;
const STORED: Durability = { level: 'stored', minReplicas: 0 };

export interface LogStoreParts {
  readonly connection: RedisConnection;
  readonly keys: RedisKeys;
  readonly memberId: string;
  readonly numbers: WriteNumbers;
  readonly lists: PartitionLists;
  readonly confirmer: Confirmer;
}

export class RedisLogStore implements LogStore {
  readonly #parts: LogStoreParts;
  /** Partitions whose last append has an unknown outcome. */
  readonly #doubtful = new Set<string>();

  constructor(parts: LogStoreParts) {
    this.#parts = parts;
  }

  async bounds(partition: PartitionId): Promise<LogBounds> {
    const { connection, keys, memberId, numbers } = this.#parts;
    const { meta, index } = keys.partition(partition);
    const name = formatPartitionId(partition);
    if (!this.#doubtful.has(name)) {
      return boundsOf((await connection.script('bounds', [meta, index], [])) as string[]);
    }
    const reply = await connection.script('fence', [meta, index], [memberId, numbers.next()]);
    this.#doubtful.delete(name);
    return boundsOf(reply as string[]);
  }

  async append(
    partition: PartitionId,
    ownerEpoch: number,
    expectedEnd: number,
    chunks: readonly Chunk[],
    durability: Durability = STORED,
  ): Promise<void> {
    const { connection, keys, memberId, numbers, lists, confirmer } = this.#parts;
    const { endOffset, endByte } = endAfter(expectedEnd, chunks);
    if (ownerEpoch === 0) await lists.enlist(partition);
    const args: Argument[] = [ownerEpoch, memberId, numbers.next(), expectedEnd, endOffset, endByte];
    for (const chunk of chunks) args.push(chunkId(chunk), chunkInfo(chunk), chunk.bytes);
    const { meta, log, index } = keys.partition(partition);
    let verdict: ReturnType<typeof verdictOf>;
    try {
      verdict = verdictOf(await connection.script('append', [meta, log, index], args));
    } catch (error) {
      // Only this answer of Redis certainly comes before the first write.
      if (error instanceof BrokerError && error.code === 'RESOURCE_EXHAUSTED') throw error;
      this.#doubtful.add(formatPartitionId(partition));
      throw unknownOutcome(error);
    }
    if (verdict[0] !== 'OK') throw refusalError(partition, ownerEpoch, verdict);
    try {
      await confirmer.confirm(partition, ownerEpoch, endOffset, durability);
    } catch (error) {
      // The chunks are written, whatever the error says of the claim, which may be another's by now.
      throw unknownOutcome(error);
    }
  }

  async confirm(
    partition: PartitionId,
    ownerEpoch: number,
    endOffset: number,
    durability: Durability,
  ): Promise<void> {
    await this.#parts.confirmer.check(partition, ownerEpoch, endOffset);
    await this.#parts.confirmer.confirm(partition, ownerEpoch, endOffset, durability);
  }

  async read(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<Chunk[]> {
    const { connection, keys } = this.#parts;
    for (;;) {
      const infos = await this.#fitting(partition, fromOffset, maxBytes);
      const first = infos[0];
      const last = infos.at(-1);
      if (!first || !last) return [];
      const { log } = keys.partition(partition);
      const entries = await connection.run('read', (client) =>
        client.xrangeBuffer(log, chunkId(first), chunkId(last)),
      );
      const chunks = wholeChunks(entries as unknown as BufferReply[], infos);
      if (chunks.length > 0) return chunks;
      // Was it trimmed or dropped in between, or has the store gone back?
      const { headOffset, endOffset } = await this.bounds(partition);
      const { firstOffset, count } = first;
      if (headOffset > firstOffset) continue;
      if (endOffset <= firstOffset) return [];
      throw new DamagedLog(
        partition,
        { firstOffset, endOffset: firstOffset + count },
        isEntryOf(entries[0], first) ? 'its bytes do not have the checksum that was stored' : 'it is missing',
      );
    }
  }

  describe(partition: PartitionId, fromOffset: number, maxChunks: number): Promise<ChunkInfo[]> {
    return this.#walk(partition, fromOffset, (count) => count < maxChunks);
  }

  async trim(
    partition: PartitionId,
    ownerEpoch: number,
    beforeOffset: number,
    maxChunks: number,
  ): Promise<LogBounds> {
    const { connection, keys, memberId } = this.#parts;
    const { meta, log, index } = keys.partition(partition);
    const args = [ownerEpoch, memberId, beforeOffset, Math.min(maxChunks, MAX_APPEND_CHUNKS)];
    const verdict = verdictOf(await connection.script('trim', [meta, log, index], args));
    if (verdict[0] !== 'OK') throw refusalError(partition, ownerEpoch, verdict);
    return boundsOf(verdict.slice(1));
  }

  async skip(partition: PartitionId, { firstOffset, endOffset }: LogRange): Promise<void> {
    const { meta } = this.#parts.keys.partition(partition);
    const verdict = verdictOf(
      await this.#parts.connection.script('skip', [meta], [`${firstOffset}-${endOffset}`]),
    );
    if (verdict[0] !== 'OK') throw refusalError(partition, 0, verdict);
  }

  async skipped(partition: PartitionId): Promise<readonly LogRange[]> {
    const { connection, keys } = this.#parts;
    const { meta } = keys.partition(partition);
    const text = (await connection.run('skipped', (client) => client.hget(meta, 'skipped'))) ?? '';
    const ranges = text.split(' ').filter((range) => range !== '');
    return ranges
      .map((range) => {
        const [firstOffset, endOffset] = range.split('-').map(Number);
        return { firstOffset: firstOffset!, endOffset: endOffset! };
      })
      .sort((a, b) => a.firstOffset - b.firstOffset);
  }

  async drop(logEpoch: number): Promise<void> {
    const { connection, keys, lists } = this.#parts;
    await lists.dropTopic(logEpoch, DROPPED_SECONDS, async (partition) => {
      const { meta, log, index, note } = keys.partition(partition);
      await connection.script('drop', [meta, log, index, note], [DROPPED_SECONDS]);
    });
  }

  /** The chunks that fit into maxBytes, from the one with that offset on; at least one if there is one. */
  #fitting(partition: PartitionId, fromOffset: number, maxBytes: number): Promise<ChunkInfo[]> {
    let bytes = 0;
    return this.#walk(partition, fromOffset, (count, { byteLength }) => {
      bytes += byteLength;
      return count === 0 || bytes <= maxBytes;
    });
  }

  /**
   * The chunks from the one with that offset on, while `takes` agrees; it gets the number of those taken
   * before.
   */
  async #walk(
    partition: PartitionId,
    fromOffset: number,
    takes: (count: number, info: ChunkInfo) => boolean,
  ): Promise<ChunkInfo[]> {
    const { connection, keys } = this.#parts;
    const { index } = keys.partition(partition);
    const infos: ChunkInfo[] = [];
    let next = fromOffset;
    for (;;) {
      const entries = await connection.run('read', (client) =>
        client.xrange(index, firstIdAt(next), '+', 'COUNT', INDEX_STEP),
      );
      for (const entry of entries) {
        next = Number.parseInt(entry[0], 10);
        const info = readIndexEntry(entry);
        if (info === undefined) continue;
        if (!takes(infos.length, info)) return infos;
        infos.push(info);
      }
      if (entries.length < INDEX_STEP) return infos;
    }
  }
}

function isEntryOf(entry: readonly [id: unknown, fields: unknown] | undefined, chunk: ChunkInfo): boolean {
  return String(entry?.[0]).startsWith(`${chunkId(chunk)}-`);
}

/** The entries as chunks, up to the first that is missing or is not what `infos` describes. */
function wholeChunks(entries: readonly BufferReply[], infos: readonly ChunkInfo[]): Chunk[] {
  const chunks: Chunk[] = [];
  for (const [index, { firstOffset, count }] of infos.entries()) {
    const chunk = entries[index] === undefined ? undefined : readLogEntry(entries[index]);
    if (chunk?.firstOffset !== firstOffset || chunk.count !== count) return chunks;
    chunks.push(chunk);
  }
  return chunks;
}

function unknownOutcome(error: unknown): unknown {
  if (!(error instanceof BrokerError) || error.code === 'UNAVAILABLE') return error;
  return new BrokerError('UNAVAILABLE', `written, perhaps not for good: ${error.message}`, { cause: error });
}

function endAfter(expectedEnd: number, chunks: readonly Chunk[]): { endOffset: number; endByte: number } {
  const first = chunks[0];
  assert(first && chunks.length <= MAX_APPEND_CHUNKS, `an append has 1 to ${MAX_APPEND_CHUNKS} chunks`);
  // The script compares expectedEnd with the stored end. startByte of the first chunk is taken as it is.
  let endOffset = expectedEnd;
  let endByte = first.startByte;
  for (const chunk of chunks) {
    assert(chunk.firstOffset === endOffset && chunk.count >= 1, 'chunks are not contiguous in offsets');
    assert(chunk.startByte === endByte, 'chunks are not contiguous in bytes');
    endOffset += chunk.count;
    endByte += chunk.bytes.length;
  }
  assert(endByte - first.startByte <= MAX_APPEND_BYTES, `an append has at most ${MAX_APPEND_BYTES} bytes`);
  return { endOffset, endByte };
}
