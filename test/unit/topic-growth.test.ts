// Guarantee 2 over a growth of the topic, on one broker. test/sim/cluster has several brokers.
import { describe, expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { decodeEras, encodeEras } from '../../services/broker/core/growth.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import { type EngineRig, startEngine, TOPIC } from '../support/engine-rig.ts';
import { keyThatMoves } from '../support/keys.ts';
import type { Stores } from '../support/memory-store.ts';

/** A key that moves from partition 0 of 2 to 1 of 4. */
const MOVED = keyThatMoves(0, 2, 1, 4);
const GONE = keyThatMoves(1, 2, 2, 4);

async function grow({ definitions }: EngineRig, partitions: number): Promise<void> {
  await definitions.updateTopic('tester', { name: TOPIC, partitions }, ['partitions']);
}

/** Publishes in one turn, and lets the clock go on until it is known whether that is stored. */
async function published(rig: EngineRig, ...texts: string[]): Promise<unknown> {
  const outcome = rig.publish(...texts);
  await rig.clock.advance(100);
  return outcome;
}

const ORDERED = { partitions: 2, ordering: true };

describe('a subscription with ordering', () => {
  test('guarantee 2: what comes after the growth waits for what was before', async () => {
    const rig = await startEngine(ORDERED);
    for (let n = 0; n < 20; n += 1) await published(rig, `${MOVED}:a${n}`);
    await grow(rig, 4);
    for (let n = 0; n < 20; n += 1)
      expect(await published(rig, `${MOVED}:b${n}`)).toMatchObject([{ partition: 1 }]);
    const received = rig.consume();
    await rig.clock.advance(2_000);
    expect(received).toHaveLength(40);
    expect(received).toEqual([...received].sort((a, b) => order(a) - order(b)));
  });

  test('is given nothing of what is after while something before is outstanding, and then at once', async () => {
    const rig = await startEngine(ORDERED);
    await published(rig, `${MOVED}:before`);
    const kept = rig.consume({ keep: true });
    await rig.clock.advance(100);
    await grow(rig, 4);
    await published(rig, `${MOVED}:after`);
    await rig.clock.advance(5_000);
    expect(kept).toEqual(['before']);
    const [report] = await rig.broker.backlog.report('projects/p', []);
    expect(report).toMatchObject({ messages: 2, blockedMessages: 1 });
    // The lease of "before" ends, it comes again, and the other consumer acknowledges it.
    const received = rig.consume();
    await rig.clock.advance(40_000);
    expect(received.slice(-2)).toEqual(['before', 'after']);
  });

  test('what was before and is lost to retention is not waited for', async () => {
    const rig = await startEngine({ ...ORDERED, retentionMs: 60_000 });
    await published(rig, `${MOVED}:before`);
    await grow(rig, 4);
    await rig.clock.advance(59_000);
    await published(rig, `${MOVED}:after`);
    await rig.clock.advance(20_000);
    const received = rig.consume();
    await rig.clock.advance(1_000);
    expect(received).toEqual(['after']);
  });

  test('other partitions wait for nothing', async () => {
    const rig = await startEngine(ORDERED);
    const stays = keyThatMoves(0, 2, 0, 4);
    await published(rig, `${MOVED}:before`);
    const kept = rig.consume({ keep: true });
    await rig.clock.advance(100);
    await grow(rig, 4);
    await published(rig, `${stays}:stays`, `${MOVED}:after`, `${GONE}:moves without anything before`);
    await rig.clock.advance(1_000);
    expect(kept).toEqual(['before', 'stays', 'moves without anything before']);
  });

  test('over two growths, of which the one between has no messages', async () => {
    const rig = await startEngine(ORDERED);
    await published(rig, `${MOVED}:before`);
    await grow(rig, 3);
    await grow(rig, 4);
    await published(rig, `${MOVED}:after`);
    const kept = rig.consume({ keep: true });
    await rig.clock.advance(2_000);
    expect(kept).toEqual(['before']);
  });

  test('over a restart', async () => {
    const rig = await startEngine(ORDERED);
    await published(rig, `${MOVED}:before`);
    await grow(rig, 4);
    await published(rig, `${MOVED}:after`);
    await rig.broker.stop();
    const next = await startEngine({ ...ORDERED, after: rig });
    const kept = next.consume({ keep: true });
    await rig.clock.advance(2_000);
    expect(kept).toEqual(['before']);
    expect(await published(next, `${MOVED}:later`)).toMatchObject([{ partition: 1, firstOffset: 1 }]);
    const received = next.consume();
    await rig.clock.advance(40_000);
    expect(received).toEqual(['before', 'after', 'later']);
  });

  test('does not wait for what the store has forgotten before the era', async () => {
    const rig = await startEngine(ORDERED);
    await published(rig, `${MOVED}:before`);
    await grow(rig, 4);
    await rig.clock.advance(1_000);
    await rig.broker.stop();
    // As if 7 more messages had been in each partition when the topic grew.
    const forgetful = (stores: Stores): Stores => ({
      ...stores,
      cursors: {
        commit: (commits) => stores.cursors.commit(commits),
        drop: (subscription) => stores.cursors.drop(subscription),
        async load(subscription, id) {
          const record = await stores.cursors.load(subscription, id);
          if (subscription !== id.logEpoch || record === undefined) return record;
          const eras = decodeEras(record).map((era, at) =>
            at === 0 ? era : { ...era, fromOffset: era.fromOffset + 7 },
          );
          return encodeEras(eras);
        },
      },
    });
    const next = await startEngine({ ...ORDERED, after: rig, between: forgetful });
    await published(next, `${MOVED}:after`);
    const received = next.consume();
    await rig.clock.advance(5_000);
    expect(received).toEqual(['before', 'after']);
  });
});

test('a subscription without ordering does not wait', async () => {
  const rig = await startEngine({ ...ORDERED, ordering: false });
  await published(rig, `${MOVED}:before`);
  const kept = rig.consume({ keep: true });
  await rig.clock.advance(100);
  await grow(rig, 4);
  await published(rig, `${MOVED}:after`);
  expect(kept).toEqual(['before', 'after']);
});

describe('publishes', () => {
  test('that are under way when the topic grows keep their order, and all are stored', async () => {
    const rig = await startEngine(ORDERED);
    const outcomes = [rig.publish(`${MOVED}:0`, 'keyless', `${GONE}:0`)];
    const grown = grow(rig, 4);
    for (let n = 1; n < 30; n += 1) outcomes.push(rig.publish(`${MOVED}:${n}`, `${GONE}:${n}`));
    await rig.clock.advance(500);
    await grown;
    for (const outcome of await Promise.all(outcomes)) expect(outcome).toBeInstanceOf(Array);
    const received = rig.consume();
    await rig.clock.advance(2_000);
    expect(received).toHaveLength(61);
  });

  test('wait while the store does not take the beginning of the era, then hear that nothing was stored', async () => {
    let down = false;
    const between = (stores: Stores): Stores => ({
      ...stores,
      cursors: {
        load: (subscription, partition) => stores.cursors.load(subscription, partition),
        drop: (subscription) => stores.cursors.drop(subscription),
        commit: async (commits) => {
          if (down) throw new BrokerError('UNAVAILABLE', 'fault: the store is down');
          return stores.cursors.commit(commits);
        },
      },
    });
    const rig = await startEngine({ ...ORDERED, between });
    await published(rig, `${MOVED}:before`);
    down = true;
    await grow(rig, 4);
    const late = rig.publish(`${GONE}:late`);
    await rig.clock.advance(11_000);
    expect(await late).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('nothing was stored'),
    });
    down = false;
    await rig.clock.advance(1_000);
    expect(await published(rig, `${GONE}:again`)).toMatchObject([{ partition: 2 }]);
  });
});

function order(identity: string): number {
  return (identity.startsWith('a') ? 0 : 100) + Number(identity.slice(1));
}

describe('a broker that has not heard that its topic has grown', () => {
  const ADDED = { logEpoch: 1, partition: 2 };

  /** Another broker, of which this one hears nothing by itself. */
  async function growElsewhere(rig: EngineRig): Promise<void> {
    const other = new Definitions({
      store: rig.stores.definitions,
      clock: rig.clock,
      durability: { supported: ['fsync'], default: 'fsync' },
      currentEnds: async () => [],
      audit: () => {},
      onWarning: () => {},
    });
    await other.load();
    await other.updateTopic('tester', { name: TOPIC, partitions: 4 }, ['partitions']);
  }

  test('does not open a partition that came with that: it would not wait for where its keys come from', async () => {
    const rig = await startEngine(ORDERED);
    const claim = await rig.stores.ownership.acquire(ADDED);
    await growElsewhere(rig);
    await expect(rig.broker.partitions.own(ADDED, claim)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(rig.broker.owner(ADDED)).toBeUndefined();
    await rig.definitions.refresh();
    await rig.broker.partitions.own(ADDED, claim);
    expect(rig.broker.owner(ADDED)).toBeDefined();
  });

  test('opens one of which the store has forgotten that the topic had it', async () => {
    const rig = await startEngine(ORDERED);
    await rig.broker.partitions.own(ADDED, await rig.stores.ownership.acquire(ADDED));
    expect(rig.broker.owner(ADDED)).toBeDefined();
  });
});
