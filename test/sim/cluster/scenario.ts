// What a seed stands for in a simulated cluster, or with a broker that is alone: how many brokers on what
// clocks, which topics, subscriptions and clients, how tight the limits, how bad the weather. All of it is
// drawn once, before anything runs.
import type { EngineLimits } from '../../../services/broker/engine/context.ts';
import { Chance } from '../prng.ts';

export interface ConsumerPlan {
  readonly name: string;
  /** It has no client id; otherwise its name is the id. */
  readonly anonymous: boolean;
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly outboxBytes: number;
  /** Undefined: the subscription's. */
  readonly ackDeadlineMs: number | undefined;
  readonly networkMs: number;
  readonly workMs: readonly [number, number];
  /** Probabilities, per message. */
  readonly nack: number;
  readonly forget: number;
  readonly extend: number;
  /** How often per second it changes to another broker, stops reading for a while, changes its credit. */
  readonly leaves: number;
  readonly blocks: number;
  readonly changesCredit: number;
  /** The longest time for which the broker takes a lost stream for a good one. */
  readonly halfOpenMs: number;
}

export interface SubscriptionPlan {
  readonly name: string;
  readonly ordering: boolean;
  readonly ackDeadlineMs: number;
  readonly consumers: readonly ConsumerPlan[];
  readonly pullers: number;
  /** Its consumers are quick and have credit: others must not delay it. */
  readonly prompt: boolean;
  /** Its consumers are slow and steady: no partition in which something waits is passed over. */
  readonly steady: boolean;
}

export interface PublisherPlan {
  readonly name: string;
  readonly batches: number;
  readonly maxBatch: number;
  readonly keys: number;
  readonly keyless: number;
  /** The share of the messages that have one and the same key. */
  readonly hot: number;
  readonly maxDataBytes: number;
  readonly networkMs: number;
  readonly pauseMs: number;
  readonly inFlight: number;
  /** The probability, per batch, that it goes to another broker and sends there what was not answered. */
  readonly leaves: number;
}

export interface TopicPlan {
  readonly name: string;
  readonly partitions: number;
  readonly retentionMs: number;
  /** 0: no limit. */
  readonly retentionBytes: number;
  readonly durability: 'fsync' | 'stored' | 'memory';
  readonly subscriptions: readonly SubscriptionPlan[];
  readonly publishers: readonly PublisherPlan[];
}

/** How often each kind happens per virtual second, unless it says otherwise. */
export interface ClusterWeather {
  readonly kills: number;
  readonly pauses: number;
  /** The share of the pauses in which the whole machine is suspended. */
  readonly suspended: number;
  readonly restarts: number;
  readonly joins: number;
  readonly drains: number;
  readonly storeCuts: number;
  readonly outages: number;
  readonly fullStores: number;
  readonly failovers: number;
  readonly linkCuts: number;
  readonly silences: number;
  readonly wallJumps: number;
  readonly storeClockJumps: number;
  readonly adminChanges: number;
  /** How often a topic gets more partitions. */
  readonly growths: number;
  /** Settings of topics and subscriptions are changed. */
  readonly updates: number;
  /** Probabilities. */
  readonly loseSignals: number;
  readonly loseRequests: number;
  readonly loseAnswers: number;
  /** The longest way, in milliseconds, one way: to the store, and between brokers. */
  readonly storeMs: number;
  readonly linkMs: number;
  /** The longest time from an append to its confirmation (0: none), and the probability that it fails. */
  readonly confirmMs: number;
  readonly failConfirms: number;
  /** How often a lone broker's store changes how it fails, and the worst probability of each fault. */
  readonly faultChanges: number;
  readonly worstFault: number;
  /** Stored chunks that a bad disk damages, to be given up by an operator a while later. */
  readonly damages: number;
}

export interface ClusterScenario {
  readonly seed: number;
  /** One broker, on a store of its own. */
  readonly alone: boolean;
  /** No faults, and nothing that takes long: then the bounds on delay are checked. */
  readonly calm: boolean;
  readonly brokers: number;
  /** The most by which a clock's rate may differ from 1. */
  readonly drift: number;
  readonly chaosMs: number;
  readonly handOverMs: number;
  readonly limits: EngineLimits;
  readonly maxPullBytes: number;
  readonly maxLinkBytes: number;
  /** How long a lone broker's store takes for a call. */
  readonly storeLatencyMs: readonly [number, number];
  /**
   * Beyond this a lone broker's store is full and stays so until retention has made room, in the drain as
   * well. Infinity: it never is.
   */
  readonly storeCapacityBytes: number;
  readonly topics: readonly TopicPlan[];
  readonly weather: ClusterWeather;
}

export const PROJECT = 'projects/sim';
/** Longer than any simulation. */
export const DAY_MS = 86_400_000;

/**
 * A planned scenario: brokers join, leave and drain, and nothing fails. A rough one: everything, a few kinds
 * at a time.
 */
export function drawClusterScenario(seed: number): ClusterScenario {
  const chance = new Chance(seed ^ 0xc105);
  const planned = chance.bool(0.25);
  return {
    seed,
    alone: false,
    calm: false,
    brokers: chance.pick([2, 2, 3, 3, 4, 5]),
    drift: chance.pick([0, 0.01, 0.09]),
    chaosMs: chance.scale(1_500, 7_000),
    handOverMs: chance.pick([800, 2_000, 5_000]),
    limits: drawLimits(chance),
    maxPullBytes: chance.scale(500, 20_000),
    maxLinkBytes: chance.scale(1_000, 500_000),
    storeLatencyMs: [0, 0],
    storeCapacityBytes: Number.POSITIVE_INFINITY,
    topics: Array.from({ length: chance.pick([1, 1, 2]) }, (_, index) => drawTopic(chance, index, planned)),
    weather: planned ? drawPlanned(chance) : drawRough(chance),
  };
}

function drawLimits(chance: Chance): EngineLimits {
  return {
    maxChunkBytes: chance.scale(150, 5_000),
    maxChunkMessages: 10_000,
    maxAppendBytes: chance.scale(300, 20_000),
    maxUncommittedBytes: chance.scale(9_000, 60_000),
    cacheBytes: chance.scale(1_500, 100_000),
    recentBytes: 10_000_000,
    readBytes: chance.scale(300, 10_000),
    maxHoles: chance.scale(4, 100),
    maxQueued: chance.scale(4, 300),
    maxUnsettled: chance.scale(4, 1_000),
    maxRun: chance.scale(1, 50),
    cursorCommitMs: chance.scale(5, 100),
    leaseSweepMs: chance.scale(50, 200),
    unknownOutcomeMs: chance.scale(500, 5_000),
    retentionSweepMs: chance.scale(500, 3_000),
  };
}

function drawTopic(chance: Chance, index: number, planned: boolean): TopicPlan {
  const name = `topic${index}`;
  const retains = planned || chance.bool(0.85);
  const durability = chance.bool(0.2) ? 'memory' : 'stored';
  return {
    name: `${PROJECT}/topics/${name}`,
    partitions: chance.pick([1, 2, 3, 4]),
    retentionMs: DAY_MS,
    retentionBytes: retains ? 0 : chance.scale(1_000, 20_000),
    durability,
    subscriptions: Array.from({ length: chance.int(1, 2) }, (_, nth) =>
      drawSubscription(chance, `${name}-sub${nth}`, planned),
    ),
    publishers: Array.from({ length: chance.int(1, 2) }, (_, nth) =>
      drawPublisher(chance, `${name}-pub${nth}`, PUBLISHERS),
    ),
  };
}

function drawSubscription(chance: Chance, id: string, planned: boolean): SubscriptionPlan {
  return {
    name: `${PROJECT}/subscriptions/${id}`,
    ordering: chance.bool(0.6),
    ackDeadlineMs: planned ? 30_000 : chance.scale(300, 10_000),
    consumers: Array.from({ length: chance.pick([1, 2, 3]) }, (_, nth) =>
      drawConsumer(chance, `${id}-c${nth}`, planned),
    ),
    pullers: chance.bool(0.7) ? 0 : 1,
    prompt: false,
    steady: false,
  };
}

function drawConsumer(chance: Chance, name: string, planned: boolean): ConsumerPlan {
  const difficult = !planned && chance.bool(0.5);
  const halfOpenMs = difficult ? chance.pick([0, 1_000, 8_000]) : 0;
  return {
    name,
    anonymous: chance.bool(0.4),
    ...drawCapacity(chance),
    ackDeadlineMs: planned || chance.bool(0.5) ? undefined : chance.scale(300, 10_000),
    networkMs: chance.scale(1, 20),
    workMs: [0, chance.scale(1, 300)],
    ...drawMistakes(chance, difficult),
    leaves: halfOpenMs > 0 ? chance.pick([0.3, 0.8]) : chance.pick([0, 0, 0.3]),
    blocks: difficult ? chance.pick([0, 0.3]) : 0,
    changesCredit: difficult ? chance.pick([0, 0.5]) : 0,
    halfOpenMs,
  };
}

/** What a consumer takes before it has settled something. */
export function drawCapacity(
  chance: Chance,
): Pick<ConsumerPlan, 'maxOutstandingMessages' | 'maxOutstandingBytes' | 'outboxBytes'> {
  return {
    maxOutstandingMessages: chance.scale(1, 60),
    maxOutstandingBytes: chance.scale(60, 20_000),
    outboxBytes: chance.scale(100, 20_000),
  };
}

/** What it does with messages instead of acknowledging them. */
export function drawMistakes(
  chance: Chance,
  difficult: boolean,
): Pick<ConsumerPlan, 'nack' | 'forget' | 'extend'> {
  return {
    nack: difficult ? chance.pick([0, 0.05, 0.3]) : 0,
    forget: difficult ? chance.pick([0, 0.05, 0.2]) : 0,
    extend: difficult ? chance.pick([0, 0.2]) : 0,
  };
}

/** The largest values that are drawn, of batches also the smallest. */
export interface PublisherRanges {
  readonly batches: readonly [number, number];
  readonly hot: number;
  readonly networkMs: number;
  readonly pauseMs: number;
}

const PUBLISHERS: PublisherRanges = { batches: [6, 40], hot: 0.7, networkMs: 20, pauseMs: 300 };

export function drawPublisher(chance: Chance, name: string, most: PublisherRanges): PublisherPlan {
  const [fewest, batches] = most.batches;
  return {
    name,
    batches: chance.scale(fewest, batches),
    maxBatch: chance.scale(1, 8),
    keys: chance.pick([1, 2, 4, 12]),
    keyless: chance.pick([0, 0, 0.3, 1]),
    hot: chance.pick([0, 0, most.hot]),
    maxDataBytes: chance.pick([20, 60, 600]),
    networkMs: chance.scale(1, most.networkMs),
    pauseMs: chance.scale(1, most.pauseMs),
    inFlight: chance.int(1, 4),
    leaves: chance.pick([0, 0, 0.1]),
  };
}

export const FAIR: ClusterWeather = {
  kills: 0,
  pauses: 0,
  suspended: 0,
  restarts: 0,
  joins: 0,
  drains: 0,
  storeCuts: 0,
  outages: 0,
  fullStores: 0,
  failovers: 0,
  linkCuts: 0,
  silences: 0,
  wallJumps: 0,
  storeClockJumps: 0,
  adminChanges: 0,
  growths: 0,
  updates: 0,
  loseSignals: 0,
  loseRequests: 0,
  loseAnswers: 0,
  storeMs: 1,
  linkMs: 1,
  confirmMs: 0,
  failConfirms: 0,
  faultChanges: 0,
  worstFault: 0,
  damages: 0,
};

function drawPlanned(chance: Chance): ClusterWeather {
  return {
    ...FAIR,
    restarts: chance.pick([0, 0.3, 0.6]),
    joins: chance.pick([0, 0.3]),
    drains: chance.pick([0.3, 0.8]),
    wallJumps: chance.pick([0, 0.2]),
    adminChanges: chance.pick([0, 0, 0.5]),
    growths: chance.pick([0, 0.3, 1]),
    updates: chance.pick([0, 0, 0.5]),
    loseSignals: chance.pick([0, 0.3]),
    storeMs: chance.pick([1, 5, 20]),
    linkMs: chance.pick([1, 5, 40]),
    confirmMs: chance.pick([0, 5, 50]),
  };
}

function drawRough(chance: Chance): ClusterWeather {
  const some = (...rates: number[]): number => (chance.bool(0.4) ? chance.pick(rates) : 0);
  const weather = {
    kills: some(0.2, 0.5),
    pauses: some(0.2, 0.5),
    suspended: 0.4,
    restarts: some(0.2, 0.5),
    joins: some(0.2),
    drains: some(0.3, 0.8),
    storeCuts: some(0.2, 0.4),
    outages: some(0.2),
    fullStores: some(0.2),
    failovers: some(0.2, 0.4),
    linkCuts: some(0.3, 1),
    silences: some(0.3, 0.6),
    wallJumps: some(0.2),
    storeClockJumps: some(0.2, 0.5),
    adminChanges: some(0.3, 1),
    growths: some(0.3, 1),
    updates: some(0.3, 1),
    loseSignals: chance.pick([0, 0.1, 1]),
    loseRequests: chance.pick([0, 0, 0.02, 0.1]),
    loseAnswers: chance.pick([0, 0, 0.02, 0.1]),
    storeMs: chance.pick([1, 5, 50]),
    linkMs: chance.pick([1, 10, 100]),
    confirmMs: chance.pick([0, 0, 20, 900]),
    failConfirms: chance.pick([0, 0.1, 0.5]),
    faultChanges: 0,
    worstFault: 0,
  };
  // A store that goes back has what was damaged, and does not know that it was given up.
  return { ...weather, damages: weather.failovers > 0 ? 0 : some(0.3) };
}
