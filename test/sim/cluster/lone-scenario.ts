// What a seed stands for when the broker is alone: tighter limits and a worse store than a cluster has, and
// calm weather now and then, in which the bounds on delay are promised.
import type { EngineLimits } from '../../../services/broker/engine/context.ts';
import { Chance } from '../prng.ts';
import {
  type ClusterScenario,
  type ClusterWeather,
  type ConsumerPlan,
  DAY_MS,
  drawCapacity,
  drawMistakes,
  drawPublisher,
  FAIR,
  PROJECT,
  type PublisherPlan,
  type PublisherRanges,
  type SubscriptionPlan,
  type TopicPlan,
} from './scenario.ts';

/** A batch of the largest messages, with room to spare: an idle broker must take any batch. */
const LARGEST_BATCH_BYTES = 8 * 700 + 2_000;

export function drawLoneScenario(seed: number): ClusterScenario {
  const chance = new Chance(seed);
  const calm = chance.bool(0.12);
  const topics = chance.bool(0.6) ? 1 : 2;
  const small = !calm && chance.bool(0.12);
  return {
    seed,
    alone: true,
    calm,
    brokers: 1,
    drift: 0,
    chaosMs: chance.scale(1_500, 12_000),
    handOverMs: 0,
    storeLatencyMs: [0, chance.pick([0, 1, 5, 30])],
    limits: calm ? { ...drawLimits(chance), ...AMPLE } : drawLimits(chance),
    storeCapacityBytes: small ? chance.scale(2 * LARGEST_BATCH_BYTES, 60_000) : Number.POSITIVE_INFINITY,
    maxPullBytes: chance.scale(500, 20_000),
    maxLinkBytes: 0,
    topics: Array.from({ length: topics }, (_, index) => drawTopic(chance, index, calm, small)),
    // In a small store nothing may come to be kept for longer than the simulation lasts.
    weather: calm ? FAIR : { ...drawWeather(chance), ...(small && { adminChanges: 0, updates: 0 }) },
  };
}

/** The limits with which the bounds on delay are promised. */
const AMPLE = { cacheBytes: 1_000_000, maxRun: 50, maxQueued: 300, maxUnsettled: 1_000, maxHoles: 100 };

function drawLimits(chance: Chance): EngineLimits {
  return {
    maxChunkBytes: chance.scale(150, 5_000),
    maxChunkMessages: 10_000,
    maxAppendBytes: chance.scale(300, 20_000),
    maxUncommittedBytes: chance.scale(LARGEST_BATCH_BYTES, 60_000),
    cacheBytes: chance.scale(1_500, 100_000),
    recentBytes: 0,
    readBytes: chance.scale(300, 10_000),
    maxHoles: chance.scale(2, 100),
    maxQueued: chance.scale(2, 300),
    maxUnsettled: chance.scale(4, 1_000),
    maxRun: chance.scale(1, 50),
    cursorCommitMs: chance.scale(5, 100),
    leaseSweepMs: chance.scale(10, 200),
    unknownOutcomeMs: chance.scale(100, 3_000),
    retentionSweepMs: chance.scale(100, 3_000),
  };
}

function drawTopic(chance: Chance, index: number, calm: boolean, small: boolean): TopicPlan {
  const name = `topic${index}`;
  const retains = !small && (chance.bool(0.6) || calm);
  const subscriptions = Array.from({ length: chance.int(1, 3) }, (_, nth) =>
    drawSubscription(chance, `${name}-sub${nth}`, calm ? CALM_KINDS[nth]! : 'any'),
  );
  const publishers = Array.from({ length: chance.int(1, 2) }, (_, nth) => ({
    ...drawPublisher(chance, `${name}-pub${nth}`, PUBLISHERS),
    ...(calm && drawHotSpot(chance)),
  }));
  const durability = !calm && chance.bool(0.2) ? 'memory' : 'fsync';
  return {
    durability,
    name: `${PROJECT}/topics/${name}`,
    partitions: chance.pick(calm ? [1, 2, 3, 3] : [1, 1, 2, 3]),
    retentionMs: retains || (!small && chance.bool(0.5)) ? DAY_MS : chance.scale(300, 8_000),
    retentionBytes: retains || chance.bool(0.5) ? 0 : chance.scale(1_000, 20_000),
    subscriptions,
    publishers,
  };
}

type SubscriptionKind = 'any' | 'prompt' | 'steady';

const CALM_KINDS: readonly SubscriptionKind[] = ['prompt', 'steady', 'any'];

function drawSubscription(chance: Chance, id: string, kind: SubscriptionKind): SubscriptionPlan {
  const consumers = chance.pick([1, 1, 2, 3]);
  const draw = { any: drawConsumer, prompt: promptConsumer, steady: steadyConsumer }[kind];
  return {
    name: `${PROJECT}/subscriptions/${id}`,
    ordering: chance.bool(0.6),
    ackDeadlineMs: kind === 'any' ? chance.scale(100, 5_000) : 30_000,
    consumers: Array.from({ length: consumers }, (_, nth) => draw(chance, `${id}-c${nth}`)),
    pullers: kind !== 'any' || chance.bool(0.7) ? 0 : chance.int(1, 2),
    prompt: kind === 'prompt',
    steady: kind === 'steady',
  };
}

function promptConsumer(chance: Chance, name: string): ConsumerPlan {
  return {
    name,
    anonymous: chance.bool(0.5),
    maxOutstandingMessages: 1_000,
    maxOutstandingBytes: 1_000_000,
    outboxBytes: 1_000_000,
    ackDeadlineMs: undefined,
    networkMs: 1,
    workMs: [0, 1],
    nack: 0,
    forget: 0,
    extend: 0,
    leaves: 0,
    blocks: 0,
    changesCredit: 0,
    halfOpenMs: 0,
  };
}

function steadyConsumer(chance: Chance, name: string): ConsumerPlan {
  return {
    ...promptConsumer(chance, name),
    maxOutstandingMessages: chance.scale(1, 12),
    workMs: [0, chance.scale(10, 100)],
  };
}

function drawConsumer(chance: Chance, name: string): ConsumerPlan {
  const difficult = chance.bool(0.6);
  return {
    name,
    anonymous: chance.bool(0.4),
    ...drawCapacity(chance),
    ackDeadlineMs: chance.bool(0.5) ? undefined : chance.scale(50, 5_000),
    networkMs: chance.scale(1, 40),
    workMs: [0, chance.scale(1, 300)],
    ...drawMistakes(chance, difficult),
    leaves: difficult ? chance.pick([0, 0.2, 1]) : 0,
    blocks: difficult ? chance.pick([0, 0.3, 1]) : 0,
    changesCredit: difficult ? chance.pick([0, 0.5]) : 0,
    halfOpenMs: difficult ? chance.pick([0, 500, 8_000]) : 0,
  };
}

const PUBLISHERS: PublisherRanges = { batches: [4, 25], hot: 0.5, networkMs: 30, pauseMs: 600 };

/** A publisher with one partition that has a backlog, and others in which there is little. */
function drawHotSpot(chance: Chance): Partial<PublisherPlan> {
  return {
    batches: chance.int(15, 30),
    keys: 12,
    keyless: 0,
    hot: chance.pick([0, 0.7, 0.95]),
    pauseMs: 100,
  };
}

function drawWeather(chance: Chance): ClusterWeather {
  return {
    ...FAIR,
    kills: chance.pick([0, 0.2, 0.6]),
    restarts: chance.pick([0, 0, 0.2]),
    outages: chance.pick([0, 0, 0.2]),
    fullStores: chance.pick([0, 0, 0.2]),
    faultChanges: chance.pick([0, 1]),
    worstFault: chance.pick([0.02, 0.1, 0.4]),
    wallJumps: chance.pick([0, 0, 0.2]),
    adminChanges: chance.pick([0, 0.3, 1]),
    growths: chance.pick([0, 0, 0.5, 1.5]),
    updates: chance.pick([0, 0, 0.3]),
    damages: chance.pick([0, 0, 0, 0.5]),
  };
}
