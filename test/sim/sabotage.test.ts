// The simulation can fail: with a bug planted between the parts the checker finds out within a few seeds.
// Each stands for a line that somebody could forget, or for a store that lies. What a broker must live with
// is here as well, and nothing may be noticed of it; nor without a bug in the same weather.
import { afterEach, expect, test, vi } from 'vitest';
import type { merge, Past } from '../../services/broker/core/definition-merge.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { decodeEras, encodeEras } from '../../services/broker/core/growth.ts';
import { decodeHandOver, encodeHandOver } from '../../services/broker/core/hand-over.ts';
import { PartitionOwner } from '../../services/broker/engine/log/partition-owner.ts';
import type { MembershipKeeper } from '../../services/broker/engine/membership/membership-keeper.ts';
import { TopicRuntime } from '../../services/broker/engine/topic-runtime.ts';
import type { CursorStore } from '../../services/broker/ports/cursor-store.ts';
import type { DefinitionStore } from '../../services/broker/ports/definition-store.ts';
import type { Chunk, LogStore } from '../../services/broker/ports/log-store.ts';
import type { Claim } from '../../services/broker/ports/ownership-store.ts';
import type { ClusterStores, SharedMemory } from '../support/memory-store.ts';
import { type ClusterRunOptions, runClusterSeed } from './cluster/run.ts';
import type { Sabotage } from './cluster/sabotage.ts';
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
const timeout = 300_000;

/** The failure of the first seed in which something is noticed. */
async function firstFailure(options: () => ClusterRunOptions, most = MOST_SEEDS): Promise<string> {
  for (let seed = 1; seed <= most; seed += 1) {
    const { failure } = await runClusterSeed(seed, options());
    if (failure !== undefined) return failure instanceof Error ? failure.message : String(failure);
  }
  return NOTHING;
}

// --- the store as brokers see it, changed ---

type Stores = NonNullable<Sabotage['stores']>;

function changed<S extends object>(store: S, change: (store: S) => Partial<S>): S {
  const changes = change(store);
  return new Proxy(store, { get: (_, key) => Reflect.get(key in changes ? changes : store, key) });
}

function log(change: (log: LogStore) => Partial<LogStore>): Stores {
  return (_id, stores) => ({ ...stores, log: changed(stores.log, change) });
}

function cursors(change: (cursors: CursorStore) => Partial<CursorStore>): Stores {
  return (_id, stores) => ({ ...stores, cursors: changed(stores.cursors, change) });
}

function definitions(change: (definitions: DefinitionStore) => Partial<DefinitionStore>): Stores {
  return (_id, stores) => ({ ...stores, definitions: changed(stores.definitions, change) });
}

/** True for every nth call, beginning with the nth. */
function everyNth(n: number): () => boolean {
  let calls = 0;
  return () => {
    calls += 1;
    return calls % n === 0;
  };
}

function withOtherBytes(chunk: Chunk): Chunk {
  const bytes = Buffer.from(chunk.bytes);
  const at = bytes.indexOf('|');
  bytes[at] = 0x21;
  return { ...chunk, bytes };
}

// --- a broker that is alone ---

type Change = (scenario: ClusterScenario) => ClusterScenario;

/**
 * The scenario with retention that is quicker than the consumers, and a cache that holds next to nothing of
 * what it deletes.
 */
const SOON_TRIMMED: Change = (scenario) => ({
  ...scenario,
  calm: false,
  limits: { ...scenario.limits, cacheBytes: 1_000, retentionSweepMs: 100 },
  topics: scenario.topics.map((topic) => ({ ...topic, retentionMs: 100 })),
});
const SMALL_STORE: Change = (scenario) => ({ ...SOON_TRIMMED(scenario), storeCapacityBytes: 8_000 });
const DAMAGES: Change = (scenario) => ({
  ...scenario,
  calm: false,
  limits: { ...scenario.limits, cacheBytes: 1_000 },
  weather: { ...scenario.weather, damages: 3 },
});

interface Planted {
  readonly bug: string;
  readonly noticed: RegExp;
  readonly change?: Change;
  /** Made anew for each seed. */
  readonly sabotage?: () => Sabotage;
  /** Done once, before the first seed. */
  readonly plant?: () => void;
}

const ALONE: readonly Planted[] = [
  {
    bug: 'an append that is confirmed and never happens',
    sabotage: () => {
      const lies = everyNth(5);
      return {
        stores: log((real) => ({
          append: async (...args) => (lies() ? undefined : real.append(...args)),
        })),
      };
    },
    noticed:
      /was acknowledged at .*, where nothing is|is not in the log|is not in the store|has stopped without/,
  },
  {
    bug: 'a cursor commit that is confirmed and never happens',
    sabotage: () => ({ stores: cursors(() => ({ commit: async () => [] })) }),
    noticed: /by the cursor in the store|the cursor in the store has it not|has stopped has it not/,
  },
  {
    bug: 'a trim that deletes one message more than it should',
    sabotage: () => ({
      stores: log((real) => ({
        async trim(...args) {
          const bounds = await real.trim(...args);
          return { ...bounds, headOffset: bounds.headOffset + 1 };
        },
      })),
    }),
    noticed: /has not settled|overtakes|reports|nobody has acknowledged it/,
  },
  {
    bug: 'a read that gives back other bytes',
    sabotage: () => {
      const lies = everyNth(10);
      return {
        stores: log((real) => ({
          async read(...args) {
            const chunks = await real.read(...args);
            return lies() ? chunks.map(withOtherBytes) : chunks;
          },
        })),
      };
    },
    noticed: /is delivered as .*, which it never was/,
  },
  {
    bug: 'a definition that is confirmed and never kept',
    sabotage: () => ({
      stores: definitions(() => ({ put: async (_kind, _name, _body, revision) => revision + 1 })),
    }),
    noticed: /has said that it is|has come back|no broker has taken up/,
  },
  {
    bug: 'damage that is passed though nobody has given it up',
    change: DAMAGES,
    sabotage: () => ({
      stores: log(() => ({ skipped: async () => [{ firstOffset: 0, endOffset: 2 ** 40 }] })),
    }),
    noticed: /has not settled|overtakes|reports|as the broker counts|nobody has acknowledged it/,
  },
  {
    bug: 'an append that has happened, and is said to have been refused',
    sabotage: () => {
      const lies = everyNth(5);
      return {
        stores: log((real) => ({
          async append(...args) {
            await real.append(...args);
            if (lies()) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
          },
        })),
      };
    },
    noticed: /and was sent \d times|is not being committed/,
  },
  {
    bug: 'a full store that does not trim while it is full',
    change: SMALL_STORE,
    sabotage: () => {
      let full = false;
      return {
        stores: log((real) => ({
          async append(...args) {
            full = true;
            await real.append(...args);
            full = false;
          },
          async trim(...args) {
            if (full) throw new BrokerError('RESOURCE_EXHAUSTED', 'the store is full');
            return real.trim(...args);
          },
        })),
      };
    },
    noticed: /unanswered batches/,
  },
];

const LIVED_WITH: readonly Omit<Planted, 'noticed'>[] = [
  {
    bug: 'a store that trims and never says so',
    change: SOON_TRIMMED,
    sabotage: () => ({
      stores: log((real) => ({
        async trim(...args) {
          await real.trim(...args);
          throw new BrokerError('UNAVAILABLE', 'timed out after the write');
        },
      })),
    }),
  },
  {
    bug: 'a store that appends and never says so',
    sabotage: () => ({
      stores: log((real) => ({
        async append(...args) {
          await real.append(...args);
          throw new BrokerError('UNAVAILABLE', 'timed out after the write');
        },
      })),
    }),
  },
  {
    bug: 'a read that leaves a chunk out: the gap shows, and the next read has it',
    sabotage: () => {
      const lies = everyNth(10);
      return {
        stores: log((real) => ({
          async read(...args) {
            const chunks = await real.read(...args);
            return lies() && chunks.length > 1 ? chunks.slice(1) : chunks;
          },
        })),
      };
    },
  },
];

// --- clusters ---

/** The scenario with more of these faults than a seed would have by itself. */
function stormy(weather: Partial<ClusterScenario['weather']>): Change {
  return (scenario) => ({ ...scenario, chaosMs: 6_000, weather: { ...scenario.weather, ...weather } });
}

const PAUSES = stormy({ pauses: 1, suspended: 0 });
const STORE_CUTS = stormy({ storeCuts: 1.5 });
const DRAINS = stormy({ drains: 0.8 });
/** Hand-overs do not wait: a claim goes while its owner waits for a confirmation. */
const LATE_CONFIRMATIONS: Change = (scenario) => ({
  ...stormy({ pauses: 0.5, drains: 2, confirmMs: 900, failConfirms: 0 })(scenario),
  handOverMs: 800,
});
const GROWTHS = stormy({ growths: 1.5 });
const FAILOVERS = stormy({ failovers: 0.4 });
/** Failovers with many changes that they can lose. */
const LOST_CHANGES = stormy({ failovers: 1, adminChanges: 3 });
const LOST_UPDATES = stormy({ failovers: 1, updates: 3, adminChanges: 1 });
/** Failovers that lose changes of settings, and nothing else of what is defined. */
const LOST_SETTINGS = stormy({ failovers: 1, updates: 3, adminChanges: 0 });
const UPDATES = stormy({ updates: 3 });
/** In which leases end. */
const LONG_FAILOVERS = stormy({ failovers: 0.8, outages: 0.4 });

/** All topics answer publishers before anything is stored. */
function early(change: Change): Change {
  return (scenario) => {
    const stormed = change(scenario);
    return { ...stormed, topics: stormed.topics.map((topic) => ({ ...topic, durability: 'memory' })) };
  };
}

const EARLY_DRAINS = early(DRAINS);
const EARLY_STORE_CUTS = early(stormy({ storeCuts: 1.5, fullStores: 0.5 }));
const EARLY_FAILOVERS = early(FAILOVERS);
/** Owners are lost while their topic grows. */
const EARLY_GROWTHS = early(stormy({ growths: 1.5, kills: 0.5, storeCuts: 0.5 }));

/** Partitions move, clients come back to other brokers, links are slow, and nothing else ends a lease. */
const MOVES: Change = (scenario) => ({
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

const CONTROLS = {
  MOVES,
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
  LOST_SETTINGS,
  EARLY_DRAINS,
  EARLY_STORE_CUTS,
  EARLY_FAILOVERS,
  EARLY_GROWTHS,
};

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

/** Commits are swallowed while the member hands something over. */
function withoutLastCommit(): Sabotage {
  const handingOver = new Map<string, number>();
  const count = (memberId: string, by: number): void =>
    void handingOver.set(memberId, (handingOver.get(memberId) ?? 0) + by);
  return {
    handOverBegins: (memberId) => count(memberId, 1),
    handOverEnds: (memberId) => count(memberId, -1),
    stores: (memberId, stores: ClusterStores) => ({
      ...stores,
      cursors: changed(stores.cursors, (real) => ({
        commit: async (commits) => (handingOver.get(memberId) ? [] : real.commit(commits)),
      })),
    }),
  };
}

/** A write that is only not confirmed fails with the error's cause, which says that nothing was written. */
const withoutUnknown = log((real) => ({
  append: (...args) =>
    real.append(...args).catch((error: Error) => {
      throw error.cause instanceof BrokerError ? error.cause : error;
    }),
}));

/** Eras of partitions are read as if they began with the first message, with nothing published before. */
const erasFromZero = cursors((real) => ({
  load: async (subscription, partition) => {
    const record = await real.load(subscription, partition);
    if (record === undefined || subscription !== partition.logEpoch) return record;
    return encodeEras(decodeEras(record).map(({ partitions }) => ({ partitions, fromOffset: 0 })));
  },
}));

/** Deletions that the store has forgotten are believed. */
function believesTheStore(): void {
  planted.merge = (real) => (known, found, past) => {
    const believes: Past = {
      isComplete: past.isComplete,
      wasRemoved: (entry) => entry !== found?.entry && past.wasRemoved(entry),
    };
    return real(known, found, believes);
  };
}

/** Updates that the store has forgotten are not written again. */
function takesWhatIsOlder(): void {
  planted.merge = (real) => (known, found, past) => {
    const step = real(known, found, past);
    const isBehind = step.kind === 'write' && !step.state.deleted && found !== undefined && !found.deleted;
    return isBehind ? { kind: 'take' } : step;
  };
}

function keepsFirstRetention(): void {
  const { grow } = TopicRuntime.prototype;
  vi.spyOn(TopicRuntime.prototype, 'grow').mockImplementation(function (this: TopicRuntime, definition) {
    const { retentionMs, retentionBytesPerPartition } = this.definition;
    grow.call(this, { ...definition, retentionMs, retentionBytesPerPartition });
  });
}

/** Leases of notes are the client's, whichever stream has them. */
function withoutStreams({ ownerEpoch, handOver }: Claim): Claim {
  if (handOver === undefined || handOver.length === 0) return { ownerEpoch, handOver };
  const told = decodeHandOver(handOver).map(({ incarnation, leases }) => ({
    incarnation,
    leases: leases.map((lease) => ({ ...lease, holder: { ...lease.holder, stream: '' } })),
  }));
  return { ownerEpoch, handOver: encodeHandOver(told) };
}

const IN_CLUSTERS: readonly Planted[] = [
  {
    bug: 'a store that does not check the epoch',
    change: PAUSES,
    sabotage: () => ({ memory: withoutEpochCheck }),
    // A member that goes on after a pause has its late write accepted, or gives out what it brought.
    noticed: /has appended under epoch|although its lease has ended/,
  },
  {
    bug: 'a member that serves on when its lease has ended',
    change: STORE_CUTS,
    sabotage: () => ({ membership: neverFenced }),
    noticed: /although its lease has ended/,
  },
  {
    bug: 'a relay that forgets acks of partitions that have moved',
    change: DRAINS,
    sabotage: () => ({ answer: (answer) => (answer.kind === 'bounced' ? undefined : answer) }),
    noticed: /acknowledged it long ago/,
  },
  {
    bug: 'a hand-over without the last commit of the cursors',
    change: DRAINS,
    sabotage: withoutLastCommit,
    // What was acknowledged last is delivered again.
    noticed:
      /although client \w+ at \S+ has it|long ago|by the cursor in the store|overtakes|its owner has forgotten the first time/,
  },
  {
    bug: 'an owner that does not remember what it has appended',
    change: (scenario) => ({
      ...FAILOVERS(scenario),
      limits: { ...scenario.limits, recentBytes: 0 },
    }),
    noticed: /its owner has appended|has not brought it back|has let go without bringing|has not settled/,
  },
  {
    bug: 'a broker that forgets the cursors of partitions that it has lost',
    change: LONG_FAILOVERS,
    sabotage: () => ({
      broker: ({ partitions }) => void Object.assign(partitions.remembered, { keep: () => {} }),
    }),
    noticed: /which has committed it as settled/,
  },
  {
    bug: 'definitions that the store has lost, taken for deleted',
    change: LOST_CHANGES,
    sabotage: () => ({
      stores: definitions((real) => ({
        removals: async () => ({ ...(await real.removals()), forgottenTo: Number.MAX_SAFE_INTEGER }),
      })),
    }),
    // A broker lacks the topic, or has another one: whichever is seen first.
    noticed: /has said that it is \d+$|ms after the last fault: topic/,
  },
  {
    bug: 'an append that was written, and is said not to have been because the claim went meanwhile',
    change: LATE_CONFIRMATIONS,
    sabotage: () => ({ stores: withoutUnknown }),
    noticed: /and was sent \d times|follows/,
  },
  {
    bug: 'a new owner that throws the note of the former one away',
    change: DRAINS,
    sabotage: () => ({ claim: ({ ownerEpoch }) => ({ ownerEpoch, handOver: undefined }) }),
    noticed: /although .* has it|a second time with attempt/,
  },
  {
    bug: 'a new owner for which a client is one, whatever stream of it has a lease',
    change: MOVES,
    sabotage: () => ({ claim: withoutStreams }),
    noticed: /although .* has it/,
  },
  {
    bug: 'a subscription that does not wait for what was before its topic grew',
    change: GROWTHS,
    sabotage: () => ({ stores: erasFromZero }),
    noticed: /the topic has grown/,
  },
  {
    bug: 'a deletion that the store has forgotten, and that is not done again',
    change: LOST_CHANGES,
    plant: believesTheStore,
    noticed: /has come back; \S+ has deleted it/,
  },
  {
    bug: 'an update that the store has forgotten, and that is not written again',
    change: LOST_UPDATES,
    plant: takesWhatIsOlder,
    // A broker that has forgotten that a topic has grown routes in a circle.
    noticed: /has \{.*\}; \S+ has said that it has \{|Maximum call stack size exceeded/,
  },
  {
    bug: 'retention that goes by what was in force when the topic was opened',
    change: UPDATES,
    plant: keepsFirstRetention,
    noticed: /retention has not deleted|retention \(.*\) deletes/,
  },
  {
    bug: 'retention that deletes more than the settings say',
    change: UPDATES,
    sabotage: () => ({
      stores: log((real) => ({
        trim: (id, ownerEpoch, beforeOffset, maxChunks) =>
          real.trim(id, ownerEpoch, beforeOffset + 8, maxChunks),
      })),
    }),
    noticed: /retention \(.*\) deletes/,
  },
  {
    bug: 'what retention had deleted and a failover has brought back stays',
    change: LOST_SETTINGS,
    plant: () => void vi.spyOn(PartitionOwner.prototype, 'trimAgain').mockResolvedValue(),
    noticed: /retention has not deleted/,
  },
  {
    bug: 'a hand-over that does not wait until what was answered early is stored',
    change: EARLY_DRAINS,
    plant: () => void vi.spyOn(PartitionOwner.prototype, 'flushed').mockResolvedValue(),
    noticed: /has let go without storing|the topic has grown/,
  },
  {
    bug: 'an owner that forgets what it has answered early when it loses a partition',
    change: EARLY_STORE_CUTS,
    sabotage: () => ({
      broker: ({ partitions }) => void Object.assign(partitions.passedOn, { take: () => {} }),
    }),
    noticed: /was acknowledged, is not in the store/,
  },
];

function runsOf(
  { change, sabotage }: Pick<Planted, 'change' | 'sabotage'>,
  alone: boolean,
): () => ClusterRunOptions {
  return () => ({ alone, ...(change && { change }), ...(sabotage && { sabotage: sabotage() }) });
}

for (const { bug, plant, noticed, ...planted } of ALONE)
  test(`alone, it is noticed: ${bug}`, { timeout }, async () => {
    plant?.();
    expect(await firstFailure(runsOf(planted, true))).toMatch(noticed);
  });

for (const { bug, ...planted } of LIVED_WITH)
  test(`alone, it is lived with: ${bug}`, { timeout }, async () => {
    expect(await firstFailure(runsOf(planted, true))).toBe(NOTHING);
  });

for (const { bug, plant, noticed, ...planted } of IN_CLUSTERS)
  test(`in a cluster, it is noticed: ${bug}`, { timeout }, async () => {
    plant?.();
    expect(await firstFailure(runsOf(planted, false))).toMatch(noticed);
  });

for (const [name, change] of Object.entries(CONTROLS))
  test(`without a bug nothing is noticed in ${name}`, { timeout }, async () => {
    expect(await firstFailure(() => ({ change }), CONTROL_SEEDS)).toBe(NOTHING);
  });

test('without a bug nothing is noticed with a lone store that is small or damaged', { timeout }, async () => {
  for (const change of [SOON_TRIMMED, SMALL_STORE, DAMAGES])
    expect(await firstFailure(() => ({ alone: true, change }), CONTROL_SEEDS)).toBe(NOTHING);
});
