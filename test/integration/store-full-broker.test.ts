// A broker whose disk is full of its own messages, and of nothing else: everything that its error advises
// works, and so do acknowledging, stopping and starting. It runs on a tmpfs of its own; where mounting is not
// permitted store-full-disk.test.ts does the store's part on a simulated disk.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { FanfareError } from '../../services/client/errors.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { mountSmallDisk } from '../support/small-disk.ts';

const TEST_MS = 120_000;
/** 56 MiB, of which the journal takes 16 and the reserve 8. */
const small = await mountSmallDisk(56);
afterAll(() => small?.unmount());

const SIZES = [
  ['small messages', 1_000],
  ['large messages', 1_000_000],
] as const;

describe.runIf(small)(
  'guarantee 6: a broker on a disk that is full of its messages',
  { timeout: TEST_MS },
  () => {
    for (const [kind, bytes] of SIZES) {
      test(`${kind}: acknowledging, stopping, starting, shorter retention, deleting`, async () => {
        const dataDir = join(small!.dir, `data-${bytes}`);
        let broker = await startBroker({ dataDir });
        try {
          await prepare(broker);
          await publishUntilFull(broker, 'big', bytes);

          // "acking" acknowledges while the disk is full, and so before the stop; "held" is outstanding at
          // it.
          await using acking = broker.connect();
          const seen: string[] = [];
          const held = Promise.withResolvers<void>();
          const consuming = (async () => {
            for await (const message of acking.subscribe('watch')) {
              seen.push(message.data.toString());
              if (seen.at(-1) === 'held') held.resolve();
              else message.ack();
            }
          })();
          await held.promise;
          await expectFull(broker, bytes);
          expect(await broker.stop()).toEqual({ code: 0, signal: null });
          await acking.close();
          await consuming;

          broker = await startBroker({ dataDir });
          await expectFull(broker, bytes);
          await using client = broker.connect();
          const again: string[] = [];
          for await (const message of client.subscribe('watch')) {
            again.push(message.data.toString());
            message.ack();
            break;
          }
          expect({ seen, again }).toEqual({ seen: ['acked', 'held'], again: ['held'] });

          await client.admin.updateTopic('big', { retentionBytesPerPartition: 1 << 20 });
          await publishUntilTaken(client, 'big', bytes);
          await client.admin.updateTopic('big', { retentionBytesPerPartition: 0 });
          await publishUntilFull(broker, 'big', bytes);

          await broker.kill();
          broker = await startBroker({ dataDir });
          await using last = broker.connect();
          await last.admin.deleteTopic('big', { force: true });
          await publishUntilTaken(last, 'kept', bytes);
        } finally {
          await broker[Symbol.asyncDispose]();
          await rm(dataDir, { recursive: true, force: true });
        }
      });
    }
  },
);

async function prepare(broker: BrokerProcess): Promise<void> {
  await using client = broker.connect();
  await client.admin.createTopic('big', { partitions: 1 });
  await client.admin.createSubscription('behind', { topic: 'big' });
  await client.admin.createTopic('kept', { partitions: 1 });
  await client.admin.createSubscription('watch', { topic: 'kept', start: 'earliest' });
  const publisher = client.publisher('kept');
  await publisher.publish({ data: 'acked' });
  await publisher.publish({ data: 'held' });
}

function patient(client: Client, topic: string, retryDeadlineMs: number) {
  return client.publisher(topic, { retryDeadlineMs, batch: { maxBytes: 1 << 20 } });
}

async function publishUntilFull(broker: BrokerProcess, topic: string, bytes: number): Promise<void> {
  await using client = broker.connect();
  const publisher = patient(client, topic, 2_000);
  const data = Buffer.alloc(bytes, 'x');
  let full: unknown;
  while (full === undefined) {
    await publisher.ready();
    // Not those of which nobody knows: a try may be under way when there is no more time.
    publisher.publish({ data }).catch((error: FanfareError) => {
      if (error.code !== 'UNAVAILABLE') full ??= error;
    });
    await new Promise(setImmediate);
  }
  expect(full).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  expect((full as Error).message).toContain('is full: free space there, shorten retention or delete topics');
}

async function expectFull(broker: BrokerProcess, bytes: number): Promise<void> {
  await using client = broker.connect();
  const refused = patient(client, 'big', 2_000).publish({ data: Buffer.alloc(bytes) });
  await expect(refused).rejects.toMatchObject({
    message: expect.stringContaining('is full: free space there'),
  });
}

async function publishUntilTaken(client: Client, topic: string, bytes: number): Promise<void> {
  const publisher = patient(client, topic, 30_000);
  expect(await publisher.publish({ data: Buffer.alloc(bytes) })).not.toBeInstanceOf(FanfareError);
}
