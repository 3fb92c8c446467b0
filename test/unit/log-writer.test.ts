// The partition's writer against a store that goes back: what it restores, and what it must not.
import { beforeEach, describe, expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { CachedChunk } from '../../services/broker/engine/log/chunk-cache.ts';
import { LogWriter } from '../../services/broker/engine/log/log-writer.ts';
import { RecentRing } from '../../services/broker/engine/log/recent-chunks.ts';
import { createStats } from '../../services/broker/engine/stats.ts';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import type { OwnershipStore } from '../../services/broker/ports/ownership-store.ts';
import { createSharedMemory } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

const P = { logEpoch: 1, partition: 0 };
const BEGIN_MS = new VirtualClock().nowMs();
const WAITING = { giveUp: () => undefined, closed: false };

let memory: ReturnType<typeof createSharedMemory>;
let mine: ReturnType<typeof memory.open>;
let errors: string[];
let clock: VirtualClock;

beforeEach(() => {
  memory = createSharedMemory();
  mine = memory.open('me');
  errors = [];
  clock = new VirtualClock();
});

/** A chunk of one message of 10 bytes, told apart by its letter. */
function chunk(offset: number, letter: string): CachedChunk {
  return new CachedChunk({
    firstOffset: offset,
    count: 1,
    publishTimeMs: BEGIN_MS + letter.charCodeAt(0),
    startByte: offset * 10,
    bytes: Buffer.alloc(10, letter),
  });
}

async function writer(options: { recentBytes?: number; checkStore?: () => Promise<void> } = {}) {
  const recent = new RecentRing(options.recentBytes ?? 1_000);
  return claimed(recent, options);
}

/** A writer with the memory of a broker that may have had the partition before. */
async function claimed(recent: RecentRing, options: { checkStore?: () => Promise<void> } = {}) {
  const { ownerEpoch } = await mine.ownership.acquire(P);
  const stats = createStats();
  const made = new LogWriter({
    id: P,
    ownerEpoch,
    log: mine.log,
    ownership: mine.ownership as OwnershipStore,
    recent,
    durability: { level: 'stored', minReplicas: 0 },
    checkStore: options.checkStore ?? (async () => undefined),
    context: {
      clock,
      steady: new SteadyClock(clock, SILENT),
      limits: { unknownOutcomeMs: 1_000 } as never,
      stats,
      logger: { info: () => {}, warn: () => {}, error: (_fields, message) => errors.push(message) },
      tracing: undefined,
    },
  });
  let end = (await made.open()).bounds.endOffset;
  const append = async (letters: string): Promise<string> => {
    const chunks = [...letters].map((letter, i) => chunk(end + i, letter));
    const appending = made.append(end, chunks, WAITING);
    await clock.advance(500);
    const outcome = await appending;
    if (outcome.kind === 'appended') end += chunks.length;
    return outcome.kind;
  };
  return { made, append, stats, end: () => end };
}

async function stored(): Promise<string> {
  const chunks = await mine.log.read(P, 0, 1e9);
  return chunks.map(({ bytes }) => String.fromCharCode(bytes[0]!)).join('');
}

describe('a store that lost its last writes', () => {
  test('gets those again that another owner had appended', async () => {
    const former = await writer();
    await former.append('ab');
    const failover = memory.checkpoint();
    await former.append('cd');
    const { append, stats } = await writer();
    await append('e');
    failover();
    expect(await append('f')).toBe('appended');
    expect(await stored()).toBe('abcdef');
    expect(stats.restoredMessages).toBe(3);
  });

  test('but not what was there for long', async () => {
    const former = await writer();
    const failover = memory.checkpoint();
    await former.append('ab');
    await clock.advance(100_000);
    const { made, end } = await writer();
    failover();
    expect(await made.verify(end())).toBe('lost');
    expect(errors).toEqual([expect.stringContaining('no broker holds any more')]);
  });

  test('before the new owner has appended anything', async () => {
    const former = await writer();
    await former.append('ab');
    const failover = memory.checkpoint();
    await former.append('cd');
    const { made, end } = await writer();
    failover();
    expect(await made.verify(end())).toBe('same');
    expect(await stored()).toBe('abcd');
  });

  test('gets them again with the next append, and nobody notices', async () => {
    const { append, made, stats } = await writer();
    await append('ab');
    const failover = memory.checkpoint();
    await append('c');
    await append('d');
    failover();
    expect(await append('e')).toBe('appended');
    expect(await stored()).toBe('abcde');
    expect(stats.restoredMessages).toBe(2);
    expect(made.takeRestored()).toBe(true);
    expect(made.takeRestored()).toBe(false);
  });

  test('gets them again when it is looked at, without an append', async () => {
    const { append, made, end } = await writer();
    const failover = memory.checkpoint();
    await append('abc');
    failover();
    expect(await made.verify(end())).toBe('same');
    expect(await stored()).toBe('abc');
  });

  test('is claimed again if it forgot the claim, too', async () => {
    const failover = memory.checkpoint();
    const { append, made } = await writer();
    await append('abc');
    const before = made.ownerEpoch;
    failover();
    expect(await append('d')).toBe('appended');
    expect(made.ownerEpoch).toBeGreaterThan(before);
    expect(await stored()).toBe('abcd');
  });

  test('is left alone if it is not the same store any more: it was emptied by mistake', async () => {
    let asked = 0;
    const failover = memory.checkpoint();
    const { made, append, end } = await writer({
      checkStore: async () => {
        asked += 1;
        throw new BrokerError('UNAVAILABLE', 'another cluster');
      },
    });
    await append('abc');
    failover();
    expect(await made.verify(end())).toBe('later');
    expect(asked).toBe(1);
    expect(await stored()).toBe('');
  });

  test('whose missing end is no longer in memory is a loss: said loudly, and the claim is given up', async () => {
    const { append } = await writer({ recentBytes: 25 });
    const failover = memory.checkpoint();
    await append('abc');
    await append('de');
    failover();
    expect(await append('f')).toBe('lost');
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(/no broker holds any more/);
  });

  test('to which another broker has written since is not touched', async () => {
    const { append } = await writer();
    await append('ab');
    const failover = memory.checkpoint();
    await append('cd');
    failover();
    const other = memory.open('other');
    const { ownerEpoch } = await other.ownership.acquire(P);
    await other.log.append(P, ownerEpoch, 2, [chunk(2, 'X')]);
    expect(await append('e')).toBe('lost');
    expect(await stored()).toBe('abX');
  });

  test('that forgot the claim, and to which another broker has written since, is not overwritten', async () => {
    const failover = memory.checkpoint();
    await mine.ownership.acquire(P);
    const { append, made } = await writer();
    await append('ab');
    failover();
    const other = memory.open('other');
    const { ownerEpoch } = await other.ownership.acquire(P);
    expect(ownerEpoch).toBeLessThan(made.ownerEpoch);
    await other.log.append(P, ownerEpoch, 0, [chunk(0, 'X')]);
    expect(await append('c')).toBe('lost');
    expect(await stored()).toBe('X');
  });
});

describe('a broker that has the partition again', () => {
  test('brings back what the store has forgotten meanwhile', async () => {
    const recent = new RecentRing(1_000);
    const first = await claimed(recent);
    await first.append('ab');
    const failover = memory.checkpoint();
    await first.append('cd');
    failover();
    const again = await claimed(recent);
    expect(await stored()).toBe('abcd');
    expect(again.stats.restoredMessages).toBe(2);
    expect(again.made.takeRestored()).toBe(true);
    expect(await again.append('e')).toBe('appended');
    expect(await stored()).toBe('abcde');
    expect(errors).toEqual([]);
  });

  test('leaves alone what others have appended to its own, and keeps it with its own', async () => {
    const recent = new RecentRing(1_000);
    const failover = memory.checkpoint();
    await (await claimed(recent)).append('ab');
    const other = memory.open('other');
    const { ownerEpoch } = await other.ownership.acquire(P);
    await other.log.append(P, ownerEpoch, 2, [chunk(2, 'X')]);
    const again = await claimed(recent);
    expect(await again.append('c')).toBe('appended');
    expect(await stored()).toBe('abXc');
    failover();
    expect(await again.append('d')).toBe('appended');
    expect(await stored()).toBe('abXcd');
    expect(errors).toEqual([]);
  });

  test('says loudly that its own is lost where others wrote in its place', async () => {
    const recent = new RecentRing(1_000);
    const first = await claimed(recent);
    await first.append('ab');
    const failover = memory.checkpoint();
    await first.append('cd');
    failover();
    const other = memory.open('other');
    const { ownerEpoch } = await other.ownership.acquire(P);
    for (const [i, letter] of [...'XYZ'].entries()) {
      await other.log.append(P, ownerEpoch, 2 + i, [chunk(2 + i, letter)]);
    }
    const again = await claimed(recent);
    expect(errors).toEqual([expect.stringMatching(/no broker holds any more/)]);
    expect(await again.append('e')).toBe('appended');
    expect(await stored()).toBe('abXYZe');
  });

  test('has nothing to bring back to a log of which everything was trimmed', async () => {
    const recent = new RecentRing(1_000);
    const first = await claimed(recent);
    await first.append('ab');
    await mine.log.trim(P, first.made.ownerEpoch, 2, 10);
    await claimed(recent);
    expect(errors).toEqual([]);
  });
});

test('a stale claim is lost at once, and nothing was written', async () => {
  const { append } = await writer();
  await append('a');
  await memory.open('other').ownership.acquire(P);
  expect(await append('b')).toBe('lost');
  expect(await stored()).toBe('a');
});

describe('an append whose outcome is not what it seems', () => {
  /** A writer on a store that answers each append in turn as told; `append` writes. */
  async function between(answer: (append: () => Promise<void>, nth: number) => Promise<void>) {
    const { log } = mine;
    let nth = 0;
    const calls = { count: 0 };
    const counted = <A extends unknown[], T>(call: (...args: A) => T): ((...args: A) => T) => {
      return (...args) => {
        calls.count += 1;
        return call(...args);
      };
    };
    mine = {
      ...mine,
      log: {
        ...log,
        bounds: counted(log.bounds),
        confirm: counted(log.confirm),
        append: counted((...args) => {
          nth += 1;
          return answer(() => log.append(...args), nth);
        }),
      },
    };
    return { ...(await writer()), calls };
  }

  for (const code of ['INTERNAL', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED'] as const) {
    test(`written, then ${code} of the confirmation: it is confirmed, and stored once`, async () => {
      const confirmed: number[] = [];
      const { append } = await between(async (write, nth) => {
        await write();
        // An adapter may say nothing but this of what it has written.
        if (nth === 1) throw new BrokerError(code === 'RESOURCE_EXHAUSTED' ? 'UNAVAILABLE' : code, 'odd');
      });
      const confirm = mine.log.confirm.bind(mine.log);
      let refusals = code === 'RESOURCE_EXHAUSTED' ? 1 : 0;
      Object.assign(mine.log, {
        confirm: async (...args: Parameters<typeof confirm>) => {
          if (refusals-- > 0) throw new BrokerError(code, 'odd');
          await confirm(...args);
          confirmed.push(args[2]);
        },
      });
      const outcome = append('a');
      await clock.advance(1_000);
      expect(await outcome).toBe('appended');
      expect(confirmed).toEqual([1]);
      expect(await append('b')).toBe('appended');
      expect(await stored()).toBe('ab');
    });
  }

  test('written, then the store is full: nobody is told that it was refused', async () => {
    const { append } = await between(async (write, nth) => {
      await write();
      if (nth === 1) throw new BrokerError('UNAVAILABLE', 'no answer');
    });
    const bounds = mine.log.bounds.bind(mine.log);
    let refusals = 1;
    Object.assign(mine.log, {
      bounds: async (...args: Parameters<typeof bounds>) => {
        if (refusals-- > 0) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
        return bounds(...args);
      },
    });
    expect(await append('a')).toBe('appended');
    expect(await stored()).toBe('a');
  });

  test('written, and trimmed before anybody has looked: it is taken for ours', async () => {
    const { append, made } = await between(async (write) => {
      await write();
      await mine.log.trim(P, made.ownerEpoch, 1, 10);
      throw new BrokerError('UNAVAILABLE', 'no answer');
    });
    expect(await append('a')).toBe('appended');
    expect(errors).toEqual([]);
  });

  test('another chunk as long, of the same moment, where it should be: it is not taken for it', async () => {
    const { append } = await between(async (_write, nth) => {
      if (nth > 1) throw new BrokerError('FAILED_PRECONDITION', 'ends elsewhere');
      const { ownerEpoch } = (await mine.ownership.describe([P]))[0]!;
      const { endOffset } = await mine.log.bounds(P);
      const other = {
        ...chunk(endOffset, 'a'),
        count: 1,
        bytes: Buffer.alloc(10, 'X'),
      } as unknown as CachedChunk;
      await memory.open('me').log.append(P, ownerEpoch, endOffset, [other]);
      throw new BrokerError('UNAVAILABLE', 'no answer');
    });
    const outcome = append('a');
    await clock.advance(10_000);
    expect(await outcome).toBe('lost');
    expect(errors).toEqual([expect.stringMatching(/another broker wrote in between/)]);
    expect(await stored()).toBe('X');
  });

  test('a store that contradicts itself is asked with pauses, and no more once the owner is closed', async () => {
    const { made, calls, stats } = await between(async () => {
      throw new BrokerError('FAILED_PRECONDITION', 'it ends elsewhere');
    });
    const before = calls.count;
    let gaveUp = 0;
    let closed = false;
    const outcome = made.append(0, [chunk(0, 'a')], {
      giveUp: () => {
        gaveUp += 1;
      },
      get closed() {
        return closed;
      },
    });
    await clock.advance(60_000);
    expect(calls.count - before).toBeLessThan(100);
    expect(gaveUp).toBe(1);
    closed = true;
    await clock.advance(2_000);
    expect(await outcome).toEqual({ kind: 'lost', perhaps: false });
    expect(stats.appendFailures).toBeGreaterThan(10);
  });
});
