// Topics that get more partitions under load: order per key over the growth, on real brokers, one and several
// of them, some of which die meanwhile.
import { expect, test } from 'vitest';
import { startBroker } from '../support/broker.ts';
import { startCluster } from '../support/cluster.ts';
import { ClusterLoad } from '../support/cluster-load.ts';

const LOAD = { partitions: 2, growsTo: 11, subscriptions: 3, keys: 100, rate: 400, late: true };
const RESUME_MS = 30_000;

const upTo = (partitions: number): number[] => [...Array(partitions).keys()];

test('guarantee 2: a topic that grows, twice, on a broker that is killed, keeps the order of its keys', {
  timeout: 120_000,
}, async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  const load = new ClusterLoad(client, { topic: 'grows', ...LOAD });
  await load.start();
  await load.resumed(upTo(2), performance.now(), RESUME_MS);
  await client.admin.updateTopic('grows', { partitions: 5 });
  await load.resumed(upTo(5), performance.now(), RESUME_MS);
  await client.admin.updateTopic('grows', { partitions: 11 });
  await broker.kill();
  await using again = await startBroker({ dataDir: broker.dataDir, listen: broker.address });
  await load.resumed(upTo(11), performance.now(), RESUME_MS);
  const report = await load.finish(60_000);
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
  expect(again.address).toBe(broker.address);
});

test('guarantee 2: a topic that grows in a cluster, while a broker is killed, keeps the order of its keys', {
  timeout: 180_000,
}, async () => {
  await using cluster = await startCluster({ brokers: 3 });
  await using client = cluster.client('all');
  const load = new ClusterLoad(client, { topic: 'grows', ...LOAD });
  await load.start();
  await load.resumed(upTo(2), performance.now(), RESUME_MS);
  for (const [i, partitions] of [3, 6, 11].entries()) {
    await cluster.settled();
    await Promise.all([client.admin.updateTopic('grows', { partitions }), i === 1 && cluster.kill(1)]);
    await load.resumed(upTo(partitions), performance.now(), RESUME_MS);
    if (i === 1) await cluster.restart(1);
  }
  await cluster.settled();
  const report = await load.finish(60_000);
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
});
