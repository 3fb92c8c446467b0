// Reads a partition's log from end to end and says what is not as it was appended. Takes a step at a time, so
// that others get their turns; the log may grow and be trimmed meanwhile.
import type { PartitionId } from '../../core/partition.ts';
import { type Clock, sleep } from '../../ports/clock.ts';
import { type Chunk, DamagedLog, type LogRange, type LogStore } from '../../ports/log-store.ts';

export interface Damage {
  readonly range: LogRange;
  readonly reason: string;
  /** The range was given up: delivery passes it. */
  readonly skipped: boolean;
}

export interface CheckedLog {
  readonly headOffset: number;
  readonly endOffset: number;
  readonly damages: readonly Damage[];
}

export async function checkLog(
  log: LogStore,
  id: PartitionId,
  readBytes: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckedLog> {
  const { headOffset, endOffset } = await log.bounds(id);
  const skipped = await log.skipped(id);
  const damages: Damage[] = [];
  const isSkipped = ({ firstOffset }: LogRange): boolean =>
    skipped.some((each) => each.firstOffset <= firstOffset && firstOffset < each.endOffset);
  for (let at = headOffset; at < endOffset && !signal.aborted; ) {
    const { chunks, damage } = await readFrom(log, id, at, readBytes);
    let { range, reason } = damage ?? { range: undefined, reason: '' };
    for (const { firstOffset, count } of chunks) {
      if (firstOffset > at) {
        range = { firstOffset: at, endOffset: firstOffset };
        reason = MISSING;
        break;
      }
      at = firstOffset + count;
    }
    if (chunks.length === 0 && range === undefined) {
      range = { firstOffset: at, endOffset };
      reason = MISSING;
    }
    if (range !== undefined) {
      const bounds = await log.bounds(id);
      // Retention has deleted it meanwhile.
      if (bounds.headOffset > range.firstOffset) at = bounds.headOffset;
      else {
        damages.push({ range, reason, skipped: isSkipped(range) });
        at = range.endOffset;
      }
    }
    await sleep(clock, 0);
  }
  return { headOffset, endOffset, damages };
}

/** The damage at an offset; undefined: there is none, or the offset is not in the log. */
export async function damageAt(log: LogStore, id: PartitionId, offset: number): Promise<Damage | undefined> {
  const { headOffset, endOffset } = await log.bounds(id);
  if (offset < headOffset || offset >= endOffset) return undefined;
  const skipped = await log.skipped(id);
  const { chunks, damage } = await readFrom(log, id, offset, 1);
  const next = chunks[0]?.firstOffset ?? endOffset;
  if (damage === undefined && next <= offset) return undefined;
  const range = damage?.range ?? { firstOffset: offset, endOffset: next };
  return {
    range,
    reason: damage?.reason ?? MISSING,
    skipped: skipped.some((each) => each.firstOffset <= offset && offset < each.endOffset),
  };
}

export const MISSING = 'it is missing';

async function readFrom(
  log: LogStore,
  id: PartitionId,
  offset: number,
  readBytes: number,
): Promise<{ chunks: readonly Chunk[]; damage?: DamagedLog }> {
  try {
    return { chunks: await log.read(id, offset, readBytes) };
  } catch (error) {
    if (error instanceof DamagedLog) return { chunks: [], damage: error };
    throw error;
  }
}
