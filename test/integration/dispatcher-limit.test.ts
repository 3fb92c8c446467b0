// A broker at the limit of partitions that all subscriptions together may have to deliver, with a heap of 1
// GiB: it starts with more of them, as a broker without the limit may have left them, lets go of them, and is
// then filled up to the limit and no further.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import { MAX_DISPATCHERS } from '../../services/broker/limits.ts';
import { startBroker } from '../support/broker.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const PARTITIONS = 1_000;
const FULL = MAX_DISPATCHERS / PARTITIONS;
const TOO_MANY = 5;

test('a broker at the limit of partitions to deliver', { timeout: 240_000 }, async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'fanfare-dispatchers-'));
  try {
    await define(dataDir, FULL + TOO_MANY);
    await using broker = await startBroker({
      dataDir,
      nodeArgs: ['--max-old-space-size=1024'],
      startTimeoutMs: 120_000,
    });
    await using client = broker.connect();
    const create = () => client.admin.createSubscription('one-more', { topic: 'wide', ordering: true });
    await expect(create()).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringContaining(
        `have ${MAX_DISPATCHERS + TOO_MANY * PARTITIONS} partitions to deliver`,
      ),
    });
    for (let at = 0; at <= TOO_MANY; at += 1) await client.admin.deleteSubscription(`sub-${at}`);
    await create();
    await client.admin.createTopic('small', { partitions: 1 });
    await expect(client.admin.createSubscription('small', { topic: 'small' })).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
    });
    await expect(client.admin.updateTopic('wide', { partitions: PARTITIONS + 1 })).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
    });
    // The broker works, too.
    await client.publisher('wide').publish({ data: 'x', orderingKey: 'k' });
    for await (const message of client.subscribe('one-more')) {
      message.ack();
      break;
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});

/** Writes ordered subscriptions past the limit straight into the broker's folder. */
async function define(dataDir: string, subscriptions: number): Promise<void> {
  const store = await openEmbeddedStore({ dir: dataDir });
  try {
    const definitions = new Definitions({
      store: store.definitions,
      clock: new VirtualClock(),
      durability: { supported: ['fsync'], default: 'fsync' },
      currentEnds: async () => [],
      audit: () => {},
      onWarning: () => {},
    });
    await definitions.load();
    const topic = 'projects/default/topics/wide';
    const { logEpoch } = await definitions.createTopic('test', { name: topic, partitions: PARTITIONS });
    const name = (at: number) => `projects/default/subscriptions/sub-${at}`;
    await definitions.createSubscription('test', { name: name(0), topic, ordering: true, start: 'earliest' });
    const { body } = (await store.definitions.get('subscription', name(0)))!;
    for (let at = 1; at < subscriptions; at += 1) {
      const incarnation = await store.definitions.nextIncarnation(logEpoch);
      const of = JSON.stringify({ ...JSON.parse(body), incarnation });
      await store.definitions.put('subscription', name(at), of, 0);
    }
  } finally {
    await store.close();
  }
}
