// The bounds of limits.ts that hold within the engine: sizes of what is gathered, kept and read, and its
// times. Each is reached by the real engine on virtual time, with the limits that a broker has.
// limits.test.ts has the list of all bounds.
import { expect, test } from 'vitest';
import { sliceBytes } from '../../services/broker/core/chunk.ts';
import { MAX_LISTED, mergeDrainReports } from '../../services/broker/core/draining.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { type PublishBatch, parsePublish } from '../../services/broker/core/publish-batch.ts';
import { CachedChunk } from '../../services/broker/engine/log/chunk-cache.ts';
import { RecentRing } from '../../services/broker/engine/log/recent-chunks.ts';
import {
  CURSOR_COMMIT_MS,
  DEFINITION_DEFAULTS,
  DEFINITION_LIMITS,
  engineLimits,
  LEASE_SWEEP_MS,
  MAX_APPEND_BYTES,
  MAX_CHUNK_BYTES,
  MAX_CHUNK_MESSAGES,
  MAX_MESSAGE_BYTES,
  MIN_CACHE_BYTES,
  PUBLISH_LIMITS,
  READ_BYTES,
  RECENT_BYTES,
  RETENTION_SWEEP_MS,
  UNKNOWN_OUTCOME_MS,
} from '../../services/broker/limits.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import { type EngineOptions, type EngineRig, startEngine, TOPIC } from '../support/engine-rig.ts';
import { requestBytes } from '../support/publish-requests.ts';

const MIB = 1024 * 1024;

/** An engine whose first append waits for `go`, and what each append brought. */
async function startHeld(options: EngineOptions = {}) {
  const gate = Promise.withResolvers<void>();
  const appends: (readonly Chunk[])[] = [];
  const rig = await startEngine({
    ...options,
    between: (stores) => ({
      ...stores,
      log: {
        ...stores.log,
        async append(...args) {
          appends.push(args[3]);
          await gate.promise;
          await stores.log.append(...args);
        },
      },
    }),
  });
  return { ...rig, appends, go: gate.resolve };
}

/**
 * Publishes the batches behind one that is under way, so that they are gathered; returns the appends that
 * they became.
 */
async function gathered(...batches: readonly PublishBatch[]): Promise<(readonly Chunk[])[]> {
  const { broker, clock, appends, go, publish } = await startHeld();
  const outcomes = [publish('first')];
  await clock.settle();
  for (const batch of batches)
    outcomes.push(new Promise((resolve) => broker.publish(TOPIC, batch, resolve, resolve)));
  await clock.settle();
  expect(appends).toHaveLength(1);
  go();
  for (const outcome of await clock.finish(Promise.all(outcomes)))
    expect(outcome).not.toBeInstanceOf(BrokerError);
  return appends.slice(1);
}

const ofMessages = (count: number): PublishBatch =>
  parsePublish(requestBytes(TOPIC, Array(count).fill({ data: Buffer.from('x') })), PUBLISH_LIMITS);

/** One message that counts as so many bytes. */
function ofBytes(bytes: number): PublishBatch {
  const batch = (length: number) =>
    parsePublish(requestBytes(TOPIC, [{ data: Buffer.alloc(length) }]), PUBLISH_LIMITS);
  const made = batch(bytes - (sliceBytes({ batch: batch(bytes - 5), indexes: undefined }) - (bytes - 5)));
  expect(sliceBytes({ batch: made, indexes: undefined })).toBe(bytes);
  return made;
}

const counts = (appends: readonly (readonly Chunk[])[]) =>
  appends.map((chunks) => chunks.map(({ count }) => count));

test('messages of a chunk', async () => {
  const thousands = Array.from({ length: 8 }, () => ofMessages(1_000));
  const rest = MAX_CHUNK_MESSAGES - 8_000;
  expect(counts(await gathered(...thousands, ofMessages(rest)))).toEqual([[MAX_CHUNK_MESSAGES]]);
  expect(counts(await gathered(...thousands, ofMessages(rest + 1)))).toEqual([[8_000, rest + 1]]);
});

test('bytes of a chunk; a single larger message makes one of its own', async () => {
  const half = ofBytes(MAX_CHUNK_BYTES / 2);
  expect(counts(await gathered(half, half))).toEqual([[2]]);
  expect(counts(await gathered(half, ofBytes(MAX_CHUNK_BYTES / 2 + 1)))).toEqual([[1, 1]]);
  const largest = parsePublish(
    requestBytes(TOPIC, [{ data: Buffer.alloc(MAX_MESSAGE_BYTES) }, { data: Buffer.from('x') }]),
    PUBLISH_LIMITS,
  );
  expect(counts(await gathered(largest))).toEqual([[1, 1]]);
});

test('bytes of an append', async () => {
  const quarter = ofBytes(MAX_APPEND_BYTES / 4);
  const three = [quarter, quarter, quarter];
  expect(counts(await gathered(...three, quarter))).toEqual([[1, 1, 1, 1]]);
  expect(counts(await gathered(...three, ofBytes(MAX_APPEND_BYTES / 4 + 1)))).toEqual([[1, 1, 1], [1]]);
});

async function publishMany(rig: EngineRig, count: number, bytes: number): Promise<void> {
  for (let nth = 0; nth < count; nth += 1) {
    const outcome = await rig.clock.finish(rig.publish('x'.repeat(bytes)));
    expect(outcome).not.toBeInstanceOf(BrokerError);
  }
}

test('what is kept in memory behind the ends of logs; what was dropped is read in bounded pieces', async () => {
  const asked = new Set<number>();
  const rig = await startEngine({
    limits: { cacheBytes: MIN_CACHE_BYTES },
    between: (stores) => ({
      ...stores,
      log: {
        ...stores.log,
        read(id, fromOffset, maxBytes) {
          asked.add(maxBytes);
          return stores.log.read(id, fromOffset, maxBytes);
        },
      },
    }),
  });
  await publishMany(rig, 7, MIB);
  expect(rig.broker.cachedBytes).toBeGreaterThan(7 * MIB);
  await publishMany(rig, 5, MIB);
  expect(rig.broker.cachedBytes).toBeGreaterThan(MIN_CACHE_BYTES - 1.1 * MIB);
  expect(rig.broker.cachedBytes).toBeLessThanOrEqual(MIN_CACHE_BYTES);
  const received = rig.consume();
  await rig.clock.advance(1_000);
  expect(received).toHaveLength(12);
  expect([...asked]).toEqual([READ_BYTES]);
});

test('what is kept for a store that may go back', () => {
  const ring = new RecentRing(engineLimits(0, RECENT_BYTES).recentBytes);
  const recent = ring.of({ logEpoch: 1, partition: 0 });
  const bytes = Buffer.alloc(MIB);
  const add = (nth: number): void => {
    const chunk = { firstOffset: nth, count: 1, publishTimeMs: 0, startByte: nth * MIB };
    recent.add(new CachedChunk({ ...chunk, bytes }), 0);
  };
  const most = RECENT_BYTES / MIB;
  for (let nth = 0; nth < most; nth += 1) add(nth);
  expect(recent.from(0)).toHaveLength(most);
  add(most);
  expect(recent.from(0)).toBeUndefined();
  expect(recent.from(1)).toHaveLength(most);
});

test('consumers listed in the report of a drain', () => {
  const reportOf = (nth: number) => ({
    consumers: [{ clientId: `${nth}`, peerAddress: '', streams: 1, outstandingMessages: nth }],
    streams: 1,
    outstandingMessages: nth,
  });
  const reports = Array.from({ length: MAX_LISTED + 1 }, (_, nth) => reportOf(nth));
  const merged = mergeDrainReports(reports);
  expect(merged.consumers).toHaveLength(1_000);
  // The one with the least is left out, not uncounted.
  expect(merged.consumers.some(({ clientId }) => clientId === '0')).toBe(false);
  expect(merged.streams).toBe(1_001);
});

test('an ack is in its cursor after so long', async () => {
  const { clock, broker, publish, consume } = await startEngine();
  await clock.finish(publish('a'));
  consume();
  await clock.settle();
  expect(broker.stats.ackedMessages).toBe(1);
  await clock.advance(CURSOR_COMMIT_MS - 1);
  expect(broker.stats.cursorCommits).toBe(0);
  await clock.advance(1);
  expect(broker.stats.cursorCommits).toBe(1);
});

test('a lease ends so soon after its deadline', async () => {
  const { clock, broker, publish, consume } = await startEngine();
  await clock.finish(publish('a'));
  // The sweeper's turns and the deadline do not fall together.
  await clock.advance(LEASE_SWEEP_MS / 2);
  consume({ keep: true });
  await clock.advance(DEFINITION_DEFAULTS.ackDeadlineMs - 1);
  expect(broker.stats.expiredLeases).toBe(0);
  await clock.advance(1 + LEASE_SWEEP_MS);
  expect(broker.stats.expiredLeases).toBe(1);
});

test('publishers wait so long for a store that does not say whether it has appended', async () => {
  const { clock, stores, publish } = await startEngine();
  stores.faults.down = true;
  let outcome: unknown;
  const began = clock.monotonicMs();
  void publish('a').then((told) => {
    outcome = told;
  });
  await clock.advance(UNKNOWN_OUTCOME_MS - 1);
  expect(outcome).toBeUndefined();
  await clock.runUntil(() => outcome !== undefined);
  expect(clock.monotonicMs() - began).toBe(UNKNOWN_OUTCOME_MS);
  expect(outcome).toMatchObject({
    code: 'UNAVAILABLE',
    message: 'the store does not answer: the messages may have been stored',
  });
});

test('what is older than the retention goes with the next sweep', async () => {
  const { minRetentionMs } = DEFINITION_LIMITS;
  const { clock, broker, publish } = await startEngine({ retentionMs: minRetentionMs });
  await clock.advance(RETENTION_SWEEP_MS / 2);
  await clock.finish(publish('a'));
  await clock.advance(minRetentionMs);
  expect(broker.stats.trimmedChunks).toBe(0);
  await clock.advance(RETENTION_SWEEP_MS);
  expect(broker.stats.trimmedChunks).toBe(1);
});

test('of more bytes than a topic keeps the oldest go with the next sweep, and no others', async () => {
  const { clock, broker, publish } = await startEngine({ retentionBytesPerPartition: MIB });
  for (let nth = 0; nth < 10; nth += 1) await clock.finish(publish('x'.repeat(200_000)));
  await clock.advance(RETENTION_SWEEP_MS);
  const { storedMessages, storedBytes } = broker.topicSizes()[0]!;
  expect(storedMessages).toBeGreaterThan(2);
  expect(storedBytes).toBeLessThanOrEqual(MIB);
  expect(broker.stats.trimmedChunks).toBe(10 - storedMessages);
});
