// Brokers that die, stop and restart under load, on a real cluster: three processes over a real Redis, 8
// subscriptions, keys. CLUSTER_KILLS says how often a broker is killed (CI: 30).
import { expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { ClusterLoad, distribution } from '../support/cluster-load.ts';

const KILLS = Number(process.env.CLUSTER_KILLS ?? 4);
const PARTITIONS = 12;
const LOAD = { partitions: PARTITIONS, subscriptions: 8, keys: 200, rate: 400 };

/** Partitions of the topic that the broker owns. */
async function ownedBy(cluster: Cluster, i: number, seenBy: number): Promise<number[]> {
  await using client = cluster.client(seenBy);
  const { partitions } = await client.cluster.get({ partitions: true });
  return partitions
    .filter(({ owner }) => owner === cluster.brokers[i]!.name)
    .map(({ partition }) => partition);
}

test(`guarantees 1, 2, 9: ${KILLS} brokers killed under load lose and misorder nothing, and delivery resumes within 3 s`, {
  timeout: 60_000 + KILLS * 20_000,
}, async () => {
  await using cluster = await startCluster({ brokers: 3 });
  await using client = cluster.client('all');
  const load = new ClusterLoad(client, { topic: 'kills', ...LOAD });
  await load.start();
  await load.resumed([...Array(PARTITIONS).keys()], performance.now(), 30_000);
  const gaps: number[] = [];
  for (let round = 0; round < KILLS; round += 1) {
    const victim = Math.floor(Math.random() * 3);
    await cluster.settled();
    const affected = await ownedBy(cluster, victim, (victim + 1) % 3);
    // The moment is random: after so many more messages.
    const target = load.published + 1 + Math.floor(Math.random() * 300);
    while (load.published < target) await new Promise((resolve) => setTimeout(resolve, 1));
    const killedMs = performance.now();
    await cluster.kill(victim);
    const resumed = await load.resumed(affected, killedMs, 20_000);
    gaps.push(...resumed.values());
    await cluster.restart(victim);
  }
  await cluster.settled();
  const report = await load.finish(60_000);
  console.log(`${KILLS} kills: partitions resumed after ${distribution(gaps)}; ${JSON.stringify(report)}`);
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
  expect(Math.max(...gaps)).toBeLessThan(3_000);
});

test('guarantee 10: a rolling restart loses, misorders and redelivers nothing, and no client sees an error', {
  timeout: 180_000,
}, async () => {
  await using cluster = await startCluster({ brokers: 3 });
  await using client = cluster.client('all');
  const load = new ClusterLoad(client, { topic: 'rolling', ...LOAD });
  await load.start();
  await load.resumed([...Array(PARTITIONS).keys()], performance.now(), 30_000);
  const gaps: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    await cluster.settled();
    const affected = await ownedBy(cluster, i, (i + 1) % 3);
    const fromMs = performance.now();
    expect(await cluster.terminate(i)).toMatchObject({ code: 0 });
    await load.resumed(affected, performance.now(), 20_000);
    const longest = load.longestGaps(fromMs, performance.now());
    for (const partition of affected) gaps.push(longest.get(partition)!);
    await cluster.restart(i);
  }
  await cluster.settled();
  const finishingMs = performance.now();
  const report = await load.finish(60_000);
  console.log(
    `rolling restart: longest gaps of the moved partitions ${distribution(gaps)}; ${JSON.stringify(report)}`,
  );
  expect(report).toMatchObject({ lost: 0, redelivered: 0, clientErrors: 0, faults: [] });
  // Nothing was left that had to wait for the end of its lease, a minute.
  expect(performance.now() - finishingMs).toBeLessThan(20_000);
});
