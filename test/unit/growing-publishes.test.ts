// How publishes go on while a topic grows: the router's side (engine/topic-runtime.ts) and the owner's
// (engine/log/partition-growth.ts).
import { beforeEach, describe, expect, test } from 'vitest';
import type { TopicDefinition } from '../../services/broker/core/definitions.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import type { PendingPublish } from '../../services/broker/engine/log/publish-group.ts';
import type { PublishedRun } from '../../services/broker/engine/routed-batch.ts';
import { createStats } from '../../services/broker/engine/stats.ts';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import { TopicRuntime } from '../../services/broker/engine/topic-runtime.ts';
import { engineLimits } from '../../services/broker/limits.ts';
import { type EngineRig, heldAppends, startEngine, TOPIC } from '../support/engine-rig.ts';
import { keyThatMoves } from '../support/keys.ts';
import type { Stores } from '../support/memory-store.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const MOVED = keyThatMoves(0, 2, 1, 4);
/** A key that goes to a new partition, which has nothing to write down itself. */
const TO_NEW = keyThatMoves(1, 2, 2, 4);
const STAYS = keyThatMoves(0, 2, 0, 4);
const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

describe('a broker that routes', () => {
  const BEFORE: TopicDefinition = {
    ...{
      name: TOPIC,
      partitions: 2,
      retentionMs: 60_000,
      retentionBytesPerPartition: 0,
      durability: 'fsync',
    },
    ...{ minReplicas: 0, labels: {}, logEpoch: 1, createTimeMs: 0, revision: 1 },
  };
  const AFTER = { ...BEFORE, partitions: 4, formerPartitions: [2] };
  let topic: TopicRuntime;
  let given: { readonly partition: number; readonly publish: PendingPublish }[];

  beforeEach(() => {
    const clock = new VirtualClock();
    const context = {
      ...{ clock, steady: new SteadyClock(clock, SILENT), limits: engineLimits(1 << 20) },
      ...{ stats: createStats(), logger: SILENT, tracing: undefined },
    };
    given = [];
    topic = new TopicRuntime(BEFORE, context, ({ partition }, publish) => given.push({ partition, publish }));
  });

  function publish(...keys: string[]): Promise<PublishedRun[] | BrokerError> {
    const bodies = keys.map((orderingKey) => ({ data: Buffer.from('x'), attributes: {}, orderingKey }));
    return new Promise((resolve) =>
      topic.publish(parsePublish(requestBytes(TOPIC, bodies), LIMITS), resolve, resolve),
    );
  }

  /** Partitions of what was given out since the last call. */
  function partitions(): number[] {
    return given.splice(0).map(({ partition }) => partition);
  }

  test('routes nothing by the new count before all that it had routed has an answer', async () => {
    const before = publish(MOVED);
    topic.grow(AFTER);
    const after = publish(MOVED);
    const [old] = given.splice(0);
    expect(old!.partition).toBe(0);
    expect(given).toEqual([]);
    old!.publish.done(7);
    expect(await before).toEqual([{ partition: 0, firstOffset: 7, count: 1 }]);
    expect(given).toMatchObject([{ partition: 1, publish: { partitions: 4 } }]);
    given[0]!.publish.done(0);
    expect(await after).toEqual([{ partition: 1, firstOffset: 0, count: 1 }]);
  });

  test('routes what comes back anew, in the old order, and before what is new', async () => {
    const first = publish(MOVED, STAYS);
    const second = publish(MOVED);
    topic.grow(AFTER);
    const third = publish(MOVED);
    const [a, b] = given.splice(0);
    // Over links they may come back in any order.
    b!.publish.misrouted();
    expect(given).toEqual([]);
    a!.publish.misrouted();
    expect(given.map(({ partition }) => partition)).toEqual([0, 1, 1, 1]);
    for (const [offset, { publish: each }] of given.entries()) each.done(offset * 10);
    expect(await first).toEqual([
      { partition: 1, firstOffset: 10, count: 1 },
      { partition: 0, firstOffset: 0, count: 1 },
    ]);
    expect(await second).toEqual([{ partition: 1, firstOffset: 20, count: 1 }]);
    expect(await third).toEqual([{ partition: 1, firstOffset: 30, count: 1 }]);
  });

  test('fails what waits when the topic goes', async () => {
    const before = publish(MOVED);
    topic.grow(AFTER);
    const after = publish(MOVED);
    topic.close(new BrokerError('NOT_FOUND', 'it was deleted'));
    expect(await after).toMatchObject({ code: 'NOT_FOUND' });
    given[0]!.publish.misrouted();
    expect(await before).toMatchObject({ code: 'NOT_FOUND' });
    expect(partitions()).toEqual([0]);
  });
});

describe('an owner', () => {
  async function grow({ definitions }: EngineRig, count: number): Promise<void> {
    await definitions.updateTopic('tester', { name: TOPIC, partitions: count }, ['partitions']);
  }

  /** Starts an engine whose store takes the beginnings of eras in these partitions only when it is freed. */
  async function startHeld(...held: number[]): Promise<EngineRig & { readonly free: () => void }> {
    const kept = new Set(held);
    const between = (stores: Stores): Stores => ({
      ...stores,
      cursors: {
        load: (subscription, partition) => stores.cursors.load(subscription, partition),
        drop: (subscription) => stores.cursors.drop(subscription),
        async commit(commits) {
          const eras = commits.filter(({ subscription, partition }) => subscription === partition.logEpoch);
          const allowed = commits.filter(
            (commit) => !eras.includes(commit) || !kept.has(commit.partition.partition),
          );
          await stores.cursors.commit(allowed);
          if (allowed.length < commits.length) throw new BrokerError('UNAVAILABLE', 'fault: not these');
          return [];
        },
      },
    });
    const rig = await startEngine({ partitions: 2, ordering: true, between });
    return { ...rig, free: () => kept.clear() };
  }

  test('takes nothing by the new count before the partition from which keys come has begun the era', async () => {
    const rig = await startHeld(1);
    await grow(rig, 4);
    let stored: unknown;
    void rig.publish(`${TO_NEW}:after`).then((outcome) => {
      stored = outcome;
    });
    await rig.clock.advance(2_000);
    expect(stored).toBeUndefined();
    rig.free();
    await rig.clock.advance(1_000);
    expect(stored).toMatchObject([{ partition: 2, firstOffset: 0 }]);
  });

  test('takes nothing by the new count before its own era is durable', async () => {
    const rig = await startHeld(0);
    await grow(rig, 4);
    let stored: unknown;
    void rig.publish(`${STAYS}:after`).then((outcome) => {
      stored = outcome;
    });
    await rig.clock.advance(2_000);
    expect(stored).toBeUndefined();
    rig.free();
    await rig.clock.advance(1_000);
    expect(stored).toMatchObject([{ partition: 0, firstOffset: 0 }]);
  });

  test('keeps publishes waiting for 10 s at most, and stores nothing of those that it tells to try again', async () => {
    const rig = await startHeld(1);
    await grow(rig, 4);
    let outcome: unknown;
    void rig.publish(`${TO_NEW}:late`).then((told) => {
      outcome = told;
    });
    await rig.clock.advance(9_999);
    expect(outcome).toBeUndefined();
    await rig.clock.advance(1);
    expect(outcome).toMatchObject({
      code: 'UNAVAILABLE',
      message:
        'the topic is growing, and not all brokers have followed for 10 s: nothing was stored, try again',
    });
    rig.free();
    await rig.clock.advance(1_000);
    expect(await rig.clock.finish(rig.publish(`${TO_NEW}:after`))).toMatchObject([{ firstOffset: 0 }]);
  });

  test('takes nothing by an older count any more', async () => {
    const rig = await startEngine({ partitions: 2, ordering: true });
    await grow(rig, 4);
    await rig.clock.advance(1_000);
    const body = { data: Buffer.from('x'), attributes: {}, orderingKey: MOVED };
    const slice = { batch: parsePublish(requestBytes(TOPIC, [body]), LIMITS), indexes: undefined };
    const { logEpoch } = rig.definitions.getTopic(TOPIC);
    const owner = rig.broker.owner({ logEpoch, partition: 0 })!;
    const ends: string[] = [];
    const ended = (how: string) => (): void => void ends.push(how);
    for (const partitions of [2, undefined])
      owner.publish({
        slice,
        partitions,
        done: ended('done'),
        failed: ended('failed'),
        misrouted: ended('misrouted'),
      });
    await rig.clock.advance(1_000);
    expect(ends).toEqual(['misrouted', 'misrouted']);
  });

  test('that is being opened has what is published meanwhile', async () => {
    const between = (stores: Stores): Stores => ({
      ...stores,
      ownership: {
        ...stores.ownership,
        acquire: async (id, how) => {
          if (id.partition >= 2) await new Promise<void>((resolve) => rig.clock.setTimer(500, resolve));
          return stores.ownership.acquire(id, how);
        },
      },
    });
    const rig: EngineRig = await startEngine({ partitions: 2, ordering: true, between });
    const grown = grow(rig, 4);
    await rig.clock.advance(300);
    expect(rig.broker.ownedPartitions).toBe(2);
    const published = rig.publish(`${TO_NEW}:first`, `${STAYS}:second`);
    await rig.clock.finish(grown);
    expect(await rig.clock.finish(published)).toMatchObject([{ partition: 2 }, { partition: 0 }]);
  });

  test('begins the era behind everything that it has accepted', async () => {
    const { between, letGo } = heldAppends();
    const rig = await startEngine({ partitions: 2, ordering: true, between });
    const before = rig.publish(`${MOVED}:before`);
    await rig.clock.advance(100);
    await grow(rig, 4);
    await rig.clock.advance(1_000);
    letGo();
    await rig.clock.advance(1_000);
    expect(await before).toMatchObject([{ partition: 0, firstOffset: 0 }]);
    const after = rig.publish(`${MOVED}:after`);
    await rig.clock.advance(1_000);
    expect(await after).toMatchObject([{ partition: 1 }]);
    const kept = rig.consume({ keep: true });
    await rig.clock.advance(1_000);
    expect(kept).toEqual(['before']);
  });

  test('that finds eras which no definition knows of goes on with what there is, and says so', async () => {
    const rig = await startEngine({ partitions: 2, ordering: true });
    const found = await rig.stores.definitions.get('topic', TOPIC);
    await grow(rig, 4);
    await rig.clock.advance(1_000);
    await rig.broker.stop();
    const grown = await rig.stores.definitions.get('topic', TOPIC);
    await rig.stores.definitions.put('topic', TOPIC, found!.body, grown!.revision);
    const next = await startEngine({ after: rig });
    const late = next.publish(`${MOVED}:late`);
    await rig.clock.advance(12_000);
    expect(next.said.join()).toMatch(/error: the store has forgotten that the topic had more partitions/);
    await late;
    const again = next.publish(`${MOVED}:again`);
    await rig.clock.advance(1_000);
    expect(await again).toMatchObject([{ partition: 0 }]);
  });
});
