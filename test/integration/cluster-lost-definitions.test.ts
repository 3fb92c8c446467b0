// A failover of Redis that loses what was defined last, on a real cluster: topics and subscriptions that were
// created, deleted, and deleted and created again while the replica had fallen behind are after it as they
// were before, with every acknowledged message and every ack; and when the new master has them, no broker
// needs to remember them any more.
import { expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import {
  type LossyFailover,
  startPromotable,
  startSentinels,
  startSlots,
} from '../support/lossy-failover.ts';
import { publish, range, settled, take } from '../support/lossy-workload.ts';

const MINUTES_MS = 60_000;

async function namesOf(client: Client): Promise<string[]> {
  const topics = await client.admin.listTopics();
  const subscriptions = await client.admin.listSubscriptions();
  return [...topics, ...subscriptions].map(({ id }) => id).sort();
}

async function survives(redis: LossyFailover): Promise<void> {
  const { cluster } = redis;
  await using client = cluster.client('all');
  const { admin } = client;
  for (const topic of ['kept', 'again', 'gone']) {
    await admin.createTopic(topic, { partitions: 4 });
    await admin.createSubscription(`${topic}-a`, { topic, ordering: true });
    await publish(client, topic, 0, 50);
    expect(await take(client, `${topic}-a`, 50)).toEqual(range(0, 50));
  }
  await admin.createSubscription('dropped', { topic: 'kept' });
  await cluster.settled();

  await redis.fallBehind();
  await admin.createTopic('fresh', { partitions: 4 });
  await admin.createSubscription('fresh-a', { topic: 'fresh', ordering: true });
  await publish(client, 'fresh', 0, 200);
  await admin.createSubscription('late', { topic: 'kept', ordering: true, start: 'earliest' });
  await publish(client, 'kept', 50, 100);
  const early = await take(client, 'late', 60);
  await settled(redis, client, 'late', 60);
  await admin.deleteTopic('again', { force: true });
  const again = await admin.createTopic('again', { partitions: 4 });
  await admin.createSubscription('again-a', { topic: 'again', start: 'earliest' });
  await publish(client, 'again', 1_000, 50);
  await admin.deleteTopic('gone', { force: true });
  await admin.deleteSubscription('dropped');
  await admin.updateTopic('kept', { labels: { changed: 'yes' } });
  const names = await namesOf(client);

  await redis.failOver();
  await publish(client, 'fresh', 200, 10);
  await publish(client, 'again', 1_050, 10);
  await publish(client, 'kept', 150, 10);
  await cluster.settled();
  expect(await namesOf(client)).toEqual(names);
  expect(names).toEqual(['again', 'again-a', 'fresh', 'fresh-a', 'kept', 'kept-a', 'late']);
  expect(await admin.getTopic('again')).toEqual(again);
  expect(await admin.getTopic('kept')).toMatchObject({ labels: { changed: 'yes' } });
  expect(await take(client, 'fresh-a', 100)).toHaveLength(100);

  // From here on the store remembers it all.
  await settled(redis, client, 'fresh-a', 100);
  for (const i of cluster.brokers.keys()) await cluster.kill(i);
  for (const i of cluster.brokers.keys()) await cluster.restart(i);
  await cluster.settled();
  expect(await namesOf(client)).toEqual(names);
  expect(await take(client, 'fresh-a', 110)).toHaveLength(110);
  expect(await take(client, 'again-a', 60)).toEqual(range(1_000, 60));
  expect([...new Set([...early, ...(await take(client, 'late', 100))])].length).toBeGreaterThanOrEqual(100);
  expect(await take(client, 'kept-a', 110)).toEqual(range(50, 110));
}

test('guarantee 11: of one server', { timeout: 3 * MINUTES_MS }, async () => {
  await using redis = await startPromotable();
  await survives(redis);
});

test('guarantee 11: of one that Sentinels watch over', { timeout: 3 * MINUTES_MS }, async () => {
  await using redis = await startSentinels();
  await survives(redis);
});

for (const [slot, key] of [
  ['of the definitions', 'fanfare:{cluster}:definitions'],
  ['of a partition', 'fanfare:{1.0}:meta'],
] as const) {
  test(`guarantee 11: of a Redis Cluster, in the slot ${slot}`, { timeout: 3 * MINUTES_MS }, async () => {
    await using redis = await startSlots(key);
    await survives(redis);
  });
}
