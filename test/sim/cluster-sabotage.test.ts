// The simulation of clusters can fail: with a bug planted between the parts the checker finds out within a
// few seeds. Each stands for a line that somebody could forget.
import { afterEach, expect, test, vi } from 'vitest';
import type { merge, Past } from '../../services/broker/core/definition-merge.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { decodeEras, encodeEras } from '../../services/broker/core/growth.ts';
import { decodeHandOver, encodeHandOver } from '../../services/broker/core/hand-over.ts';
import { PartitionOwner } from '../../services/broker/engine/log/partition-owner.ts';
import type { MembershipKeeper } from '../../services/broker/engine/membership/membership-keeper.ts';
import { TopicRuntime } from '../../services/broker/engine/topic-runtime.ts';
import type { DefinitionStore } from '../../services/broker/ports/definition-store.ts';
import type { Claim } from '../../services/broker/ports/ownership-store.ts';
import type { ClusterStores, SharedMemory } from '../support/memory-store.ts';
import { type ClusterRunOptions, runClusterSeed } from './cluster/run.ts';
import { type ClusterScenario, FAIR } from './cluster/scenario.ts';

/** In place of core/definition-merge's, while it is there. */
const planted = vi.hoisted(() => ({
  merge: undefined as ((real: typeof merge) => typeof merge) | undefined,
}));

vi.mock('../../services/broker/core/definition-merge.ts', async (original) => {
  const real = await original<{ merge: typeof merge }>();
  return {
    ...real,
    merge: (...args: Parameters<typeof merge>) => (planted.merge?.(real.merge) ?? real.merge)(...args),
  };
});

afterEach(() => {
  planted.merge = undefined;
  vi.restoreAllMocks();
});

const MOST_SEEDS = 60;
const CONTROL_SEEDS = 25;
const NOTHING = 'nothing was noticed';
const MINUTES_MS = 300_000;

/** The failure of the first seed in which something is noticed. */
async function firstFailure(options: () => ClusterRunOptions, most = MOST_SEEDS): Promise<string> {
  for (let seed = 1; seed <= most; seed += 1) {
    const { failure } = await runClusterSeed(seed, options());
    if (failure !== undefined) return failure instanceof Error ? failure.message : String(failure);
  }
  return NOTHING;
}

/** The scenario with more of these faults than a seed would have by itself. */
function stormy(
  weather: Partial<ClusterScenario['weather']>,
): (scenario: ClusterScenario) => ClusterScenario {
  return (scenario) => ({ ...scenario, chaosMs: 6_000, weather: { ...scenario.weather, ...weather } });
}

const PAUSES = stormy({ pauses: 1, suspended: 0 });
const STORE_CUTS = stormy({ storeCuts: 1.5 });
const DRAINS = stormy({ drains: 0.8 });
/** Hand-overs do not wait: a claim goes while its owner waits for a confirmation. */
const LATE_CONFIRMATIONS = (scenario: ClusterScenario): ClusterScenario => ({
  ...stormy({ pauses: 0.5, drains: 2, confirmMs: 900, failConfirms: 0 })(scenario),
  handOverMs: 800,
});
const GROWTHS = stormy({ growths: 1.5 });
const FAILOVERS = stormy({ failovers: 0.4 });
/** Failovers with many changes that they can lose. */
const LOST_CHANGES = stormy({ failovers: 1, adminChanges: 3 });
const LOST_UPDATES = stormy({ failovers: 1, updates: 3, adminChanges: 1 });
const UPDATES = stormy({ updates: 3 });
/** In which leases end. */
const LONG_FAILOVERS = stormy({ failovers: 0.8, outages: 0.4 });

/** Partitions move, clients come back to other brokers, links are slow, and nothing else ends a lease. */
const MOVES = (scenario: ClusterScenario): ClusterScenario => ({
  ...scenario,
  brokers: 3,
  chaosMs: 6_000,
  weather: { ...FAIR, drains: 2, linkMs: 600 },
  topics: scenario.topics.map((topic) => ({
    ...topic,
    partitions: 4,
    publishers: topic.publishers.map((publisher) => ({ ...publisher, batches: 150, pauseMs: 30 })),
    subscriptions: topic.subscriptions.map((subscription) => ({
      ...subscription,
      ackDeadlineMs: 30_000,
      consumers: subscription.consumers.map((consumer) => ({
        ...consumer,
        ...{ anonymous: false, leaves: 1, halfOpenMs: 0, networkMs: 2, ackDeadlineMs: undefined },
        ...{ nack: 0, forget: 0, extend: 0, workMs: [0, 1_500] as const },
        ...{ maxOutstandingMessages: 60, maxOutstandingBytes: 20_000 },
      })),
    })),
  })),
});

/** All topics answer publishers before anything is stored. */
function early(change: (scenario: ClusterScenario) => ClusterScenario): typeof change {
  return (scenario) => {
    const changed = change(scenario);
    return { ...changed, topics: changed.topics.map((topic) => ({ ...topic, durability: 'memory' })) };
  };
}

const EARLY_DRAINS = early(DRAINS);
const EARLY_STORE_CUTS = early(stormy({ storeCuts: 1.5, fullStores: 0.5 }));
const EARLY_FAILOVERS = early(FAILOVERS);
/** Owners are lost while their topic grows. */
const EARLY_GROWTHS = early(stormy({ growths: 1.5, kills: 0.5, storeCuts: 0.5 }));

/** Whatever a stale owner writes goes through under the newest claim. */
function withoutEpochCheck(memory: SharedMemory): SharedMemory {
  return {
    ...memory,
    open(memberId) {
      const stores = memory.open(memberId);
      const { ownership, log } = stores;
      return {
        ...stores,
        log: {
          ...log,
          async append(id, ownerEpoch, expectedEnd, chunks, durability) {
            const [state] = await ownership.describe([id]);
            const { ownerEpoch: newest, holder } = state!;
            const writer = holder === '' ? log : memory.open(holder).log;
            await writer.append(id, Math.max(newest, ownerEpoch), expectedEnd, chunks, durability);
          },
        },
      };
    },
  };
}

/** The member believes that its lease never ends. */
function neverFenced(keeper: MembershipKeeper): void {
  const listen = keeper.listen.bind(keeper);
  Object.defineProperties(keeper, {
    holds: { get: () => true },
    inForce: { get: () => keeper.view?.assignmentVersion === keeper.known.storedVersion },
    listen: { value: ({ changed }: Parameters<MembershipKeeper['listen']>[0]) => listen({ changed }) },
  });
}

test('without a bug nothing is noticed in the same weather', { timeout: MINUTES_MS }, async () => {
  for (const change of [
    PAUSES,
    STORE_CUTS,
    DRAINS,
    FAILOVERS,
    LONG_FAILOVERS,
    LOST_CHANGES,
    LATE_CONFIRMATIONS,
    GROWTHS,
    UPDATES,
    LOST_UPDATES,
    EARLY_DRAINS,
    EARLY_STORE_CUTS,
    EARLY_FAILOVERS,
    EARLY_GROWTHS,
    MOVES,
  ])
    expect(await firstFailure(() => ({ change }), CONTROL_SEEDS)).toBe(NOTHING);
});

test('a store that does not check the epoch', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: PAUSES,
    sabotage: { memory: withoutEpochCheck },
  }));
  // A member that goes on after a pause has its late write accepted, or gives out what it brought.
  expect(failure).toMatch(/has appended under epoch|although its lease has ended/);
});

test('a member that serves on when its lease has ended', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: STORE_CUTS,
    sabotage: { membership: neverFenced },
  }));
  expect(failure).toMatch(/although its lease has ended/);
});

test('a relay that forgets acks of partitions that have moved', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: DRAINS,
    sabotage: { answer: (answer) => (answer.kind === 'bounced' ? undefined : answer) },
  }));
  expect(failure).toMatch(/acknowledged it long ago/);
});

test('a hand-over without the last commit of the cursors', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => {
    const handingOver = new Map<string, number>();
    const count = (memberId: string, by: number): void =>
      void handingOver.set(memberId, (handingOver.get(memberId) ?? 0) + by);
    return {
      change: DRAINS,
      sabotage: {
        handOverBegins: (memberId) => count(memberId, 1),
        handOverEnds: (memberId) => count(memberId, -1),
        stores: (memberId, stores) => {
          const { cursors } = stores;
          return {
            ...stores,
            cursors: {
              load: (subscription, partition) => cursors.load(subscription, partition),
              drop: (subscription) => cursors.drop(subscription),
              commit: async (commits) => (handingOver.get(memberId) ? [] : cursors.commit(commits)),
            },
          };
        },
      },
    };
  });
  // What was acknowledged last is delivered again.
  expect(failure).toMatch(
    /although client \w+ at \S+ has it|long ago|by the cursor in the store|overtakes|its owner has forgotten the first time/,
  );
});

test('an owner that does not remember what it has appended', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: (scenario) => ({
      ...FAILOVERS(scenario),
      limits: { ...scenario.limits, recentBytes: 0 },
    }),
  }));
  expect(failure).toMatch(
    /its owner has appended|has not brought it back|has let go without bringing|has not settled/,
  );
});

test('a broker that forgets the cursors of partitions that it has lost', {
  timeout: MINUTES_MS,
}, async () => {
  const failure = await firstFailure(() => ({
    change: LONG_FAILOVERS,
    sabotage: { broker: ({ partitions }) => void Object.assign(partitions.remembered, { keep: () => {} }) },
  }));
  expect(failure).toMatch(/which has committed it as settled/);
});

/** The definitions as the member sees them, changed. */
function withDefinitions(
  stores: ClusterStores,
  changed: (definitions: DefinitionStore) => Partial<DefinitionStore>,
): ClusterStores {
  const { definitions } = stores;
  return {
    ...stores,
    definitions: {
      list: () => definitions.list(),
      version: () => definitions.version(),
      get: (kind, name) => definitions.get(kind, name),
      remove: (kind, name, revision) => definitions.remove(kind, name, revision),
      nextIncarnation: (above) => definitions.nextIncarnation(above),
      put: (...args) => definitions.put(...args),
      removals: () => definitions.removals(),
      ...changed(definitions),
    },
  };
}

test('definitions that the store has lost, taken for deleted', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: LOST_CHANGES,
    sabotage: {
      stores: (_id, stores) =>
        withDefinitions(stores, (definitions) => ({
          removals: async () => ({ ...(await definitions.removals()), forgottenTo: Number.MAX_SAFE_INTEGER }),
        })),
    },
  }));
  // A broker lacks the topic, or has another one: whichever is seen first.
  expect(failure).toMatch(/has said that it is \d+$|ms after the last fault: topic/);
});

/** A write that is only not confirmed fails with the error's cause, which says that nothing was written. */
function withoutUnknown(stores: ClusterStores): ClusterStores {
  const { log } = stores;
  return {
    ...stores,
    log: {
      bounds: (id) => log.bounds(id),
      read: (id, fromOffset, maxBytes) => log.read(id, fromOffset, maxBytes),
      describe: (id, fromOffset, maxChunks) => log.describe(id, fromOffset, maxChunks),
      skip: (id, range) => log.skip(id, range),
      skipped: (id) => log.skipped(id),
      confirm: (...args) => log.confirm(...args),
      trim: (...args) => log.trim(...args),
      drop: (logEpoch) => log.drop(logEpoch),
      append: (...args) =>
        log.append(...args).catch((error: Error) => {
          throw error.cause instanceof BrokerError ? error.cause : error;
        }),
    },
  };
}

test('an append that was written, and is said not to have been because the claim went meanwhile', {
  timeout: MINUTES_MS,
}, async () => {
  const failure = await firstFailure(() => ({
    change: LATE_CONFIRMATIONS,
    sabotage: { stores: (_id, stores) => withoutUnknown(stores) },
  }));
  expect(failure).toMatch(/and was sent \d times|follows/);
});

test('a new owner that throws the note of the former one away', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: DRAINS,
    sabotage: { claim: ({ ownerEpoch }) => ({ ownerEpoch, handOver: undefined }) },
  }));
  expect(failure).toMatch(/although .* has it|a second time with attempt/);
});

test('a new owner for which a client is one, whatever stream of it has a lease', {
  timeout: MINUTES_MS,
}, async () => {
  const failure = await firstFailure(() => ({
    change: MOVES,
    sabotage: { claim: withoutStreams },
  }));
  expect(failure).toMatch(/although .* has it/);
});

function withoutStreams({ ownerEpoch, handOver }: Claim): Claim {
  if (handOver === undefined || handOver.length === 0) return { ownerEpoch, handOver };
  const told = decodeHandOver(handOver).map(({ incarnation, leases }) => ({
    incarnation,
    leases: leases.map((lease) => ({ ...lease, holder: { ...lease.holder, stream: '' } })),
  }));
  return { ownerEpoch, handOver: encodeHandOver(told) };
}

/** Eras of partitions are read as if they began with the first message, with nothing published before. */
function erasFromZero(stores: ClusterStores): ClusterStores {
  const { cursors } = stores;
  return {
    ...stores,
    cursors: {
      load: async (subscription, partition) => {
        const record = await cursors.load(subscription, partition);
        if (record === undefined || subscription !== partition.logEpoch) return record;
        return encodeEras(decodeEras(record).map(({ partitions }) => ({ partitions, fromOffset: 0 })));
      },
      drop: (subscription) => cursors.drop(subscription),
      commit: (commits) => cursors.commit(commits),
    },
  };
}

test('a subscription that does not wait for what was before its topic grew', {
  timeout: MINUTES_MS,
}, async () => {
  const failure = await firstFailure(() => ({
    change: GROWTHS,
    sabotage: { stores: (_id, stores) => erasFromZero(stores) },
  }));
  expect(failure).toMatch(/the topic has grown/);
});

test('a deletion that the store has forgotten, and that is not done again', {
  timeout: MINUTES_MS,
}, async () => {
  planted.merge = (real) => (known, found, past) => {
    const believes: Past = {
      isComplete: past.isComplete,
      wasRemoved: (entry) => entry !== found?.entry && past.wasRemoved(entry),
    };
    return real(known, found, believes);
  };
  const failure = await firstFailure(() => ({ change: LOST_CHANGES }));
  expect(failure).toMatch(/has come back; \S+ has deleted it/);
});

test('an update that the store has forgotten, and that is not written again', {
  timeout: MINUTES_MS,
}, async () => {
  planted.merge = (real) => (known, found, past) => {
    const step = real(known, found, past);
    const isBehind = step.kind === 'write' && !step.state.deleted && found !== undefined && !found.deleted;
    return isBehind ? { kind: 'take' } : step;
  };
  const failure = await firstFailure(() => ({ change: LOST_UPDATES }));
  expect(failure).toMatch(/has \{.*\}; \S+ has said that it has \{/);
});

test('retention that goes by what was in force when the topic was opened', {
  timeout: MINUTES_MS,
}, async () => {
  const { grow } = TopicRuntime.prototype;
  vi.spyOn(TopicRuntime.prototype, 'grow').mockImplementation(function (this: TopicRuntime, definition) {
    const { retentionMs, retentionBytesPerPartition } = this.definition;
    grow.call(this, { ...definition, retentionMs, retentionBytesPerPartition });
  });
  const failure = await firstFailure(() => ({ change: UPDATES }));
  expect(failure).toMatch(/retention has not deleted|retention \(.*\) deletes/);
});

/** Retention deletes a few messages more than it has said. */
function trimsMore(stores: ClusterStores): ClusterStores {
  const { log } = stores;
  const trim: typeof log.trim = (id, ownerEpoch, beforeOffset, maxChunks) =>
    log.trim(id, ownerEpoch, beforeOffset + 8, maxChunks);
  return {
    ...stores,
    log: new Proxy(log, { get: (_, key) => (key === 'trim' ? trim : Reflect.get(log, key)) }),
  };
}

test('retention that deletes more than the settings say', { timeout: MINUTES_MS }, async () => {
  const failure = await firstFailure(() => ({
    change: UPDATES,
    sabotage: { stores: (_id, stores) => trimsMore(stores) },
  }));
  expect(failure).toMatch(/retention \(.*\) deletes/);
});

test('what retention had deleted and a failover has brought back stays', {
  timeout: MINUTES_MS,
}, async () => {
  vi.spyOn(PartitionOwner.prototype, 'trimAgain').mockResolvedValue();
  const failure = await firstFailure(() => ({ change: LOST_UPDATES }));
  expect(failure).toMatch(/retention has not deleted/);
});

test('a hand-over that does not wait until what was answered early is stored', {
  timeout: MINUTES_MS,
}, async () => {
  vi.spyOn(PartitionOwner.prototype, 'flushed').mockResolvedValue();
  const failure = await firstFailure(() => ({ change: EARLY_DRAINS }));
  expect(failure).toMatch(/has let go without storing/);
});

test('an owner that forgets what it has answered early when it loses a partition', {
  timeout: MINUTES_MS,
}, async () => {
  const failure = await firstFailure(() => ({
    change: EARLY_STORE_CUTS,
    sabotage: { broker: ({ partitions }) => void Object.assign(partitions.passedOn, { take: () => {} }) },
  }));
  expect(failure).toMatch(/was acknowledged, is not in the store/);
});
