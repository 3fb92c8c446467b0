// A failover of Redis that loses the last cursors and takes longer than a lease, so that every partition is
// claimed anew: what was acknowledged, and committed, is not delivered again as long as a broker lives that
// knows of it.
import { expect, test } from 'vitest';
import { SAYS } from '../support/cluster-lines.ts';
import { type LossyFailover, startPromotable } from '../support/lossy-failover.ts';
import { publish, range, settled, settledNow, take } from '../support/lossy-workload.ts';

const MINUTES_MS = 60_000;

/** Publishes 100 messages and acknowledges 70; the replica never hears of 60 of these. */
async function acknowledgeUnheard(redis: LossyFailover): Promise<number[]> {
  const { cluster } = redis;
  await using client = cluster.client('all');
  await client.admin.createTopic('orders', { partitions: 4 });
  await client.admin.createSubscription('billing', { topic: 'orders' });
  await publish(client, 'orders', 0, 100);
  const before = await take(client, 'billing', 10);
  await settled(redis, client, 'billing', 10);
  await cluster.settled();
  await redis.fallBehind();
  const unheard = await take(client, 'billing', 60);
  await settled(redis, client, 'billing', 70);
  return [...before, ...unheard];
}

/** The replica takes over when all brokers have lost their leases. */
async function failOverLate({ cluster, failOver }: LossyFailover): Promise<void> {
  const sinceMs = Date.now();
  await failOver(async () => {
    for (const i of cluster.brokers.keys()) await cluster.logged(i, SAYS.fenced, sinceMs);
  });
}

async function expectTheRest(redis: LossyFailover, acknowledged: readonly number[]): Promise<void> {
  await using client = redis.cluster.client('all');
  const rest = range(0, 100).filter((n) => !acknowledged.includes(n));
  expect(await take(client, 'billing', 30)).toEqual(rest);
  await settled(redis, client, 'billing', 100);
}

test('guarantee 11: each broker that claims its partitions anew has its cursors', {
  timeout: 2 * MINUTES_MS,
}, async () => {
  await using redis = await startPromotable();
  const acknowledged = await acknowledgeUnheard(redis);
  await failOverLate(redis);
  await redis.cluster.settled();
  await expectTheRest(redis, acknowledged);
});

test('guarantee 11: a broker that has lost its partitions to others tells them of its cursors', {
  timeout: 2 * MINUTES_MS,
}, async () => {
  await using redis = await startPromotable();
  const { cluster } = redis;
  const acknowledged = await acknowledgeUnheard(redis);
  // Broker 0 alone knows the cursors of its partitions; the new master hears of the others' at once.
  redis.cutOff(0);
  await failOverLate(redis);
  await cluster.until(
    ({ brokers, partitions }) =>
      brokers.length === 2 && partitions.every(({ owner }) => owner === 'broker-2' || owner === 'broker-3'),
    1,
  );
  await using client = cluster.client(1);
  // Broker 0 must not get its partitions back. The command to drain takes living brokers only, so the store
  // is told.
  const drained = 'fanfare:{cluster}:drained';
  await (await redis.serverOf(drained)).command('SADD', drained, 'broker-1');
  expect(await settledNow(redis, client, 'billing')).toBeLessThan(70);
  redis.reconnect(0);
  await settled(redis, client, 'billing', 70);
  await expectTheRest(redis, acknowledged);
});
