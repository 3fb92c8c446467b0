// Guarantees of the README that no larger test names: 4 (nobody waits for anybody) and 7 (a recreated topic
// or subscription sees nothing of its predecessor), on a real broker.
import { expect, test } from 'vitest';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { memoryMb } from '../bench/process-stats.ts';
import { startBroker } from '../support/broker.ts';

const MESSAGES = 2_000;
const MESSAGE_BYTES = 64 * 1024;
/**
 * What a consumer that reads nothing may cost, in MB: its outbox, the transport's buffers, the chunks it
 * holds on to.
 */
const MAX_GROWTH_MB = 350;

test('guarantee 4: a consumer that reads nothing delays nobody and takes no more memory than its credit', async () => {
  await using broker = await startBroker({ args: ['--cache', '32MiB'] });
  await using client = broker.connect();
  await client.admin.createTopic('orders', { partitions: 2 });
  await client.admin.createSubscription('stuck', { topic: 'orders' });
  await client.admin.createSubscription('live', { topic: 'orders' });

  // It takes its messages and settles none, and its process is as good as frozen: nothing is read from its
  // connection.
  await using frozen = broker.connect();
  const stuck = frozen.subscribe('stuck', { maxOutstandingMessages: 100_000, maxOutstandingBytes: 1 << 30 });
  const first = stuck[Symbol.asyncIterator]().next();

  let received = 0;
  let worstMs = 0;
  const all = Promise.withResolvers<void>();
  client.subscribeRaw('live', {
    onChunk: (bytes, settle) => {
      settle.ack();
      received += Math.round(bytes.length / MESSAGE_BYTES);
      if (received >= MESSAGES) all.resolve();
    },
  });
  const before = memoryMb(broker.pid).nowMb;
  const publisher = client.publisher('orders');
  const data = Buffer.alloc(MESSAGE_BYTES, 'x');
  for (let i = 0; i < MESSAGES; i += 1) {
    await publisher.ready();
    const startMs = performance.now();
    publisher.publish({ data }).then(
      () => {
        worstMs = Math.max(worstMs, performance.now() - startMs);
      },
      (error: unknown) => all.reject(error),
    );
  }
  await all.promise;
  await first;
  expect(worstMs).toBeLessThan(20_000);
  expect(memoryMb(broker.pid).peakMb - before).toBeLessThan(MAX_GROWTH_MB);
  const [backlog] = await client.admin.getBacklog(['stuck']);
  expect(backlog?.messages).toBe(MESSAGES);
}, 90_000);

test('guarantee 7: a recreated topic and subscription see nothing of their predecessors', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  const { admin } = client;
  await admin.createTopic('orders', { partitions: 1 });
  await admin.createSubscription('audit', { topic: 'orders' });
  const publisher = client.publisher('orders');
  await Promise.all(['a', 'b', 'c'].map((data) => publisher.publish({ data: `old ${data}` })));
  const old = client.subscribe('audit');
  const kept: ReceivedMessage[] = [];
  for await (const message of old) {
    kept.push(message);
    if (kept.length === 3) break;
  }
  const watching = client.subscribeRaw('audit', { onChunk: () => {} });
  for await (const [backlog] of admin.watchBacklog({ intervalMs: 100 })) if (backlog?.consumers === 1) break;

  await admin.deleteTopic('orders', { force: true });
  await expect(watching.closed).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await expect(admin.getSubscription('audit')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await admin.createTopic('orders', { partitions: 1 });
  await admin.createSubscription('audit', { topic: 'orders', start: 'earliest' });

  // The same offsets come again, and acks of the old ones.
  await Promise.all(['a', 'b', 'c'].map((data) => publisher.publish({ data: `new ${data}` })));
  const received: string[] = [];
  for await (const message of client.subscribe('audit')) {
    if (received.length === 0) for (const stale of kept) stale.ack();
    received.push(String(message.data));
    message.nack();
    if (received.length === 3) break;
  }
  expect(received.sort()).toEqual(['new a', 'new b', 'new c']);
  const [backlog] = await admin.getBacklog(['audit']);
  expect(backlog?.messages).toBe(3);
}, 30_000);
