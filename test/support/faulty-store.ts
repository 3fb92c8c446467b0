// The stores with faults drawn from seeded chance: slow answers, failures before anything was written, and
// the worst one, a time-out after the write: UNAVAILABLE although it happened. `down` fails everything until
// it is cleared.
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Clock, Random } from '../../services/broker/ports/clock.ts';
import type { Stores } from './memory-store.ts';

export interface Faults {
  /** While true every call fails with UNAVAILABLE and changes nothing. */
  down: boolean;
  /**
   * While true writes that need room (messages, new definitions) fail with RESOURCE_EXHAUSTED and change
   * nothing.
   */
  full: boolean;
  /** Probabilities per call, 0 to 1. */
  slow: number;
  failBefore: number;
  /** The probability for writes only. */
  timeoutAfter: number;
  /** How long a slow call waits before it begins. */
  slowMs: number;
}

export interface FaultyStores extends Stores {
  /** May be changed at any time; a change counts for calls that begin after it. */
  readonly faults: Faults;
  /** How often each fault struck. */
  readonly struck: Record<'down' | 'full' | 'slow' | 'failBefore' | 'timeoutAfter', number>;
}

const NO_FAULTS: Faults = { down: false, full: false, slow: 0, failBefore: 0, timeoutAfter: 0, slowMs: 100 };

/** `given` is completed and used itself: several views of one store may share their faults. */
export function withFaults(
  inner: Stores,
  random: Random,
  clock: Clock,
  given: Partial<Faults> = {},
): FaultyStores {
  const faults: Faults = Object.assign(given, { ...NO_FAULTS, ...given });
  const struck = { down: 0, full: 0, slow: 0, failBefore: 0, timeoutAfter: 0 };

  const strikes = (fault: 'slow' | 'failBefore' | 'timeoutAfter'): boolean => {
    // Chance is drawn even for a fault that is off, so that switching one off leaves the others' order
    // unchanged.
    if (random() >= faults[fault]) return false;
    struck[fault]++;
    return true;
  };
  const begin = async (): Promise<void> => {
    if (strikes('slow')) await new Promise<void>((resolve) => clock.setTimer(faults.slowMs, resolve));
    if (faults.down) {
      struck.down++;
      throw new BrokerError('UNAVAILABLE', 'fault: the store is down');
    }
    if (strikes('failBefore')) throw new BrokerError('UNAVAILABLE', 'fault: failed before the write');
  };
  const read = async <T>(call: () => Promise<T>): Promise<T> => {
    await begin();
    return call();
  };
  const write = async <T>(call: () => Promise<T>, needsRoom = false): Promise<T> => {
    await begin();
    if (faults.full && needsRoom) {
      struck.full++;
      throw new BrokerError('RESOURCE_EXHAUSTED', 'fault: the store is full');
    }
    const result = await call();
    if (strikes('timeoutAfter')) throw new BrokerError('UNAVAILABLE', 'fault: timed out after the write');
    return result;
  };

  const { log, cursors, definitions, ownership } = inner;
  return {
    faults,
    struck,
    log: {
      bounds: (id) => read(() => log.bounds(id)),
      read: (id, fromOffset, maxBytes) => read(() => log.read(id, fromOffset, maxBytes)),
      describe: (id, fromOffset, maxChunks) => read(() => log.describe(id, fromOffset, maxChunks)),
      skip: (id, range) => write(() => log.skip(id, range)),
      skipped: (id) => read(() => log.skipped(id)),
      append: (id, epoch, expectedEnd, chunks, durability) =>
        write(() => log.append(id, epoch, expectedEnd, chunks, durability), true),
      confirm: (id, epoch, endOffset, durability) =>
        read(() => log.confirm(id, epoch, endOffset, durability)),
      trim: (id, epoch, before, maxChunks) => write(() => log.trim(id, epoch, before, maxChunks)),
      drop: (logEpoch) => write(() => log.drop(logEpoch)),
    },
    cursors: {
      load: (subscription, id) => read(() => cursors.load(subscription, id)),
      commit: (commits) => write(() => cursors.commit(commits)),
      drop: (subscription) => write(() => cursors.drop(subscription)),
    },
    definitions: {
      list: () => read(() => definitions.list()),
      version: () => read(() => definitions.version()),
      get: (kind, name) => read(() => definitions.get(kind, name)),
      put: (kind, name, body, expected, revision) =>
        write(
          () => definitions.put(kind, name, body, expected, revision),
          expected === 0 && revision === undefined,
        ),
      remove: (kind, name, revision) => write(() => definitions.remove(kind, name, revision)),
      removals: () => read(() => definitions.removals()),
      nextIncarnation: (above) => write(() => definitions.nextIncarnation(above), true),
    },
    ownership: {
      acquire: (id, how) => write(() => ownership.acquire(id, how)),
      describe: (ids) => read(() => ownership.describe(ids)),
      release: (id, epoch, handOver) => write(() => ownership.release(id, epoch, handOver)),
    },
  };
}
