// Stored messages that are damaged: their delivery stops there and says so, all else goes on, and what was
// given up is passed.
import { expect, test } from 'vitest';
import { checkLog } from '../../services/broker/engine/log/log-check.ts';
import { type EngineRig, startEngine } from '../support/engine-rig.ts';

const DAMAGED =
  'error: stored messages are damaged: their delivery stops there, all else goes on; "fanfare doctor" says what to do';
const P = { logEpoch: 1, partition: 0 };

/** Messages a, b, … in chunks of their own, of which only the last stays in memory. */
async function withMessages(
  letters: string,
  how: Parameters<typeof startEngine>[0] = {},
): Promise<EngineRig> {
  const rig = await startEngine({ ...how, limits: { cacheBytes: 1, ...how.limits } });
  for (const letter of letters) {
    void rig.publish(letter);
    await rig.clock.advance(100);
  }
  return rig;
}

for (const how of ['flip', 'lose'] as const) {
  for (const ordering of [false, true]) {
    test(`${how}, ${ordering ? 'with' : 'without'} ordering: delivery stops there until it is given up`, async () => {
      const rig = await withMessages('abcde', { ordering });
      rig.memory.damage(P, 2, how);
      const received = rig.consume();
      await rig.clock.advance(60_000);
      expect(received).toEqual(['a', 'b']);
      expect(rig.said.filter((line) => line.startsWith('error'))).toEqual([DAMAGED]);
      expect(rig.broker.stats.damagedRanges).toBe(1);

      const published = rig.publish('f');
      await rig.clock.advance(100);
      expect(await published).toMatchObject([{ firstOffset: 5 }]);
      const { damages } = await check(rig);
      expect(damages).toMatchObject([{ range: { firstOffset: 2, endOffset: 3 }, skipped: false }]);

      await rig.stores.log.skip(P, damages[0]!.range);
      await rig.clock.advance(10_000);
      expect(received).toEqual(['a', 'b', 'd', 'e', 'f']);
      expect(rig.broker.stats.damagedRanges).toBe(0);
      expect((await check(rig)).damages).toMatchObject([{ skipped: true }]);
      const [backlog] = await rig.broker.backlog.report('projects/p', []);
      expect(backlog).toMatchObject({ messages: 0, outstandingMessages: 0 });
    });
  }
}

async function check(rig: EngineRig) {
  const done = checkLog(rig.stores.log, P, 1 << 20, rig.clock, new AbortController().signal);
  await rig.clock.advance(10);
  return done;
}

test('what was given up behind messages that are outstanding is passed, too', async () => {
  const rig = await withMessages('abcd');
  for (const offset of [1, 2]) rig.memory.damage(P, offset, 'flip');
  const received = rig.consume({ keep: true });
  await rig.clock.advance(1_000);
  for (const firstOffset of [2, 1]) await rig.stores.log.skip(P, { firstOffset, endOffset: firstOffset + 1 });
  await rig.clock.advance(6_000);
  expect(received).toEqual(['a', 'd']);
});

test('other partitions and other subscriptions go on, and what is in memory is delivered', async () => {
  const rig = await withMessages('', { partitions: 2 });
  void rig.publish('k0:a', 'k1:b', 'k2:c', 'k3:d', 'k4:e', 'k5:f');
  const early = rig.consume({ keep: true });
  await rig.clock.advance(100);
  expect(early).toHaveLength(6);
  for (const text of ['k0:g', 'k1:h', 'k2:i', 'k3:j', 'k4:k', 'k5:l']) {
    void rig.publish(text);
    await rig.clock.advance(10);
  }
  const { endOffset } = await rig.stores.log.bounds(P);
  rig.memory.damage(P, endOffset - 1, 'flip');
  await rig.clock.advance(100);
  // Live delivery does not ask the store.
  expect(early).toHaveLength(12);
});

test('retention passes damage, and then it is no matter any more', async () => {
  const rig = await withMessages('abcd', {});
  rig.memory.damage(P, 1, 'lose');
  const received = rig.consume();
  await rig.clock.advance(1_000);
  expect(received).toEqual(['a']);
  expect(rig.broker.stats.damagedRanges).toBe(1);
  await rig.definitions.updateTopic('tester', { name: 'projects/p/topics/top', retentionMs: 60_000 }, [
    'retention',
  ]);
  await rig.clock.advance(200_000);
  expect(rig.broker.stats.damagedRanges).toBe(0);
  expect((await rig.stores.log.bounds(P)).headOffset).toBe(4);
  void rig.publish('e');
  await rig.clock.advance(100);
  expect(received).toEqual(['a', 'e']);
});

test('a store that has gone back is not damaged: what it has lost comes again', async () => {
  const rig = await withMessages('ab', { limits: { recentBytes: 1 << 20 } });
  const failover = rig.memory.checkpoint();
  void rig.publish('c');
  await rig.clock.advance(10);
  failover();
  const received = rig.consume();
  await rig.clock.advance(10_000);
  expect(received).toEqual(['a', 'b', 'c']);
  expect(rig.said.filter((line) => line.startsWith('error'))).toEqual([]);
});
