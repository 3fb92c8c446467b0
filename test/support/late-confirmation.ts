// Confirms appends late: an append is written at once and confirmed later, as with the durability levels that
// wait for replicas or a disk. In between the claim may go, and the confirmation may fail. As
// ports/log-store.ts asks for, nothing then says that nothing was written: the outcome is unknown.
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Clock, Random } from '../../services/broker/ports/clock.ts';
import type { LogStore } from '../../services/broker/ports/log-store.ts';

export interface Confirmation {
  /** From the write to its confirmation; 0: it comes with the write. */
  delayMs(): number;
  /** The probability that the confirmation fails. */
  fails: number;
}

export function confirmedLate(log: LogStore, clock: Clock, random: Random, how: Confirmation): LogStore {
  return {
    bounds: (id) => log.bounds(id),
    read: (id, fromOffset, maxBytes) => log.read(id, fromOffset, maxBytes),
    describe: (id, fromOffset, maxChunks) => log.describe(id, fromOffset, maxChunks),
    skip: (id, range) => log.skip(id, range),
    skipped: (id) => log.skipped(id),
    confirm: (id, ownerEpoch, endOffset, durability) => log.confirm(id, ownerEpoch, endOffset, durability),
    trim: (id, ownerEpoch, beforeOffset, maxChunks) => log.trim(id, ownerEpoch, beforeOffset, maxChunks),
    drop: (logEpoch) => log.drop(logEpoch),
    async append(id, ownerEpoch, expectedEnd, chunks, durability) {
      await log.append(id, ownerEpoch, expectedEnd, chunks, durability);
      const delayMs = how.delayMs();
      if (delayMs === 0) return;
      await new Promise<void>((resolve) => clock.setTimer(delayMs, resolve));
      const last = chunks.at(-1)!;
      try {
        if (random() < how.fails) throw new BrokerError('INTERNAL', 'fault: an odd reply');
        await log.confirm(id, ownerEpoch, last.firstOffset + last.count, durability!);
      } catch (cause) {
        throw new BrokerError('UNAVAILABLE', 'fault: written, perhaps not for good', { cause });
      }
    },
  };
}
