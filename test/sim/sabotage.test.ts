// The simulation can fail: with a store that lies to the engine, the checker finds out within a few seeds.
// Each lie stands for a kind of bug that would break the same promise. The last ones are no lies: the broker
// must live with them.
import { expect, test, vi } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import type { Stores } from '../support/memory-store.ts';
import { runSeed } from './run.ts';
import type { Scenario } from './scenario.ts';

// A test in which nothing is to be found runs all seeds.
vi.setConfig({ testTimeout: 60_000 });

const MOST_SEEDS = 60;
const NOTHING = 'nothing was noticed';

/** True for every nth call, beginning with the nth. */
function everyNth(n: number): () => boolean {
  let calls = 0;
  return () => {
    calls += 1;
    return calls % n === 0;
  };
}

/** The failure of the first seed in which something is noticed. */
async function firstFailure(
  sabotage: (stores: Stores) => Stores,
  change: (scenario: Scenario) => Scenario = (scenario) => scenario,
): Promise<string> {
  for (let seed = 1; seed <= MOST_SEEDS; seed += 1) {
    const { failure } = await runSeed(seed, { sabotage, change });
    if (failure !== undefined) return failure instanceof Error ? failure.message : String(failure);
  }
  return NOTHING;
}

/**
 * The scenario with retention that is quicker than the consumers, and a cache that holds next to nothing of
 * what it deletes.
 */
function soonTrimmed(scenario: Scenario): Scenario {
  return {
    ...scenario,
    calm: false,
    limits: { ...scenario.limits, cacheBytes: 1_000, retentionSweepMs: 100 },
    topics: scenario.topics.map((topic) => ({ ...topic, retentionMs: 100 })),
  };
}

function withOtherBytes(chunk: Chunk): Chunk {
  const bytes = Buffer.from(chunk.bytes);
  const at = bytes.indexOf('|');
  bytes[at] = 0x21;
  return { ...chunk, bytes };
}

test('an append that is confirmed and never happens', async () => {
  const failure = await firstFailure((stores) => {
    const lies = everyNth(5);
    const { log } = stores;
    return {
      ...stores,
      log: { ...log, append: async (...args) => (lies() ? undefined : log.append(...args)) },
    };
  });
  expect(failure).toMatch(/was acknowledged at .*, where nothing is|is not in the log|is not stored/);
});

test('a cursor commit that is confirmed and never happens', async () => {
  const failure = await firstFailure((stores) => {
    const { cursors } = stores;
    return { ...stores, cursors: { ...cursors, commit: async () => [] } };
  });
  expect(failure).toMatch(/a crash now would forget that|although it is settled|was delivered after the end/);
});

test('a trim that deletes one message more than it should', async () => {
  const failure = await firstFailure((stores) => {
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async trim(...args) {
          const bounds = await log.trim(...args);
          return { ...bounds, headOffset: bounds.headOffset + 1 };
        },
      },
    };
  });
  expect(failure).toMatch(/has not settled|overtakes|reports/);
});

test('a read that gives back other bytes', async () => {
  const failure = await firstFailure((stores) => {
    const lies = everyNth(10);
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async read(...args) {
          const chunks = await log.read(...args);
          return lies() ? chunks.map(withOtherBytes) : chunks;
        },
      },
    };
  });
  expect(failure).toMatch(/with other bytes/);
});

test('a definition that is confirmed and never kept', async () => {
  const failure = await firstFailure((stores) => {
    const { definitions } = stores;
    return {
      ...stores,
      definitions: { ...definitions, put: async (_kind, _name, _body, revision) => revision + 1 },
    };
  });
  expect(failure).toMatch(/should have the incarnation/);
});

test('damage that is passed though nobody has given it up', async () => {
  const failure = await firstFailure(
    (stores) => ({
      ...stores,
      log: { ...stores.log, skipped: async () => [{ firstOffset: 0, endOffset: 2 ** 40 }] },
    }),
    (scenario) => ({
      ...scenario,
      calm: false,
      limits: { ...scenario.limits, cacheBytes: 1_000 },
      weather: { ...scenario.weather, damages: 3 },
    }),
  );
  expect(failure).toMatch(/has not settled|overtakes|reports|as the broker counts/);
});

test('an append that has happened, and is said to have been refused', async () => {
  const failure = await firstFailure((stores) => {
    const lies = everyNth(5);
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async append(...args) {
          await log.append(...args);
          if (lies()) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
        },
      },
    };
  });
  expect(failure).toMatch(/sent \d times without "nothing was stored"/);
});

test('a full store that does not trim while it is full', async () => {
  const failure = await firstFailure(
    (stores) => {
      const { log } = stores;
      let full = false;
      return {
        ...stores,
        log: {
          ...log,
          async append(...args) {
            full = true;
            await log.append(...args);
            full = false;
          },
          async trim(...args) {
            if (full) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
            return log.trim(...args);
          },
        },
      };
    },
    (scenario) => ({
      ...soonTrimmed(scenario),
      storeCapacityBytes: 2_000,
      limits: { ...scenario.limits, retentionSweepMs: 100 },
    }),
  );
  expect(failure).toMatch(/unanswered batches/);
});

test('a store that trims and never says so is lived with', async () => {
  const failure = await firstFailure((stores) => {
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async trim(...args) {
          await log.trim(...args);
          throw new BrokerError('UNAVAILABLE', 'timed out after the write');
        },
      },
    };
  }, soonTrimmed);
  expect(failure).toBe(NOTHING);
});

test('a store that appends and never says so is lived with', async () => {
  const failure = await firstFailure((stores) => {
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async append(...args) {
          await log.append(...args);
          throw new BrokerError('UNAVAILABLE', 'timed out after the write');
        },
      },
    };
  });
  expect(failure).toBe(NOTHING);
});

test('a read that leaves a chunk out is lived with: the gap shows, and the next read has it', async () => {
  const failure = await firstFailure((stores) => {
    const lies = everyNth(10);
    const { log } = stores;
    return {
      ...stores,
      log: {
        ...log,
        async read(...args) {
          const chunks = await log.read(...args);
          return lies() && chunks.length > 1 ? chunks.slice(1) : chunks;
        },
      },
    };
  });
  expect(failure).toBe(NOTHING);
});
