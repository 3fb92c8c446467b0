// What tests of lossy failovers do with topics and subscriptions: publish numbers, take and acknowledge some,
// look what the store has of that.
import { decodeCursor } from '../../services/broker/core/cursor.ts';
import type { Client } from '../../services/client/client.ts';
import type { LossyFailover } from './lossy-failover.ts';
import { until } from './redis.ts';

export async function publish(client: Client, topic: string, from: number, count: number): Promise<void> {
  await using publisher = client.publisher(topic, { retryDeadlineMs: 60_000 });
  const numbers = Array.from({ length: count }, (_, index) => from + index);
  await Promise.all(numbers.map((n) => publisher.publish({ data: `${n}`, orderingKey: `key-${n % 7}` })));
}

/** Takes and acknowledges so many messages; more than that, a moment later, are an error. */
export async function take(client: Client, subscription: string, count: number): Promise<number[]> {
  const got: number[] = [];
  const timeout = AbortSignal.timeout(40_000);
  const consumer = client.subscribe(subscription, {
    clientId: 'consumer',
    signal: timeout,
    maxOutstandingMessages: count,
  });
  for await (const message of consumer) {
    got.push(Number(message.data.toString()));
    message.ack();
    if (got.length === count) break;
  }
  return got.sort((a, b) => a - b);
}

/** Resolves when the cursors in the store say that so many messages are settled. */
export async function settled(
  redis: LossyFailover,
  client: Client,
  subscription: string,
  count: number,
): Promise<void> {
  await until(
    `${count} messages of ${subscription} are settled`,
    async () => (await settledNow(redis, client, subscription)) === count,
  );
}

export async function settledNow(
  redis: LossyFailover,
  client: Client,
  subscription: string,
): Promise<number> {
  const { incarnation, topic } = await client.admin.getSubscription(subscription);
  const { logEpoch, partitions } = await client.admin.getTopic(topic.split('/').at(-1)!);
  let sum = 0;
  for (let partition = 0; partition < partitions; partition += 1) {
    const key = `fanfare:{${logEpoch}.${partition}}:cursors`;
    const record = await (await redis.serverOf(key)).bytes(key, `${incarnation}`);
    if (record === null) continue;
    const cursor = decodeCursor(record);
    sum += cursor.floor;
    for (const { first, last } of cursor.settled) sum += last - first + 1;
  }
  return sum;
}

export function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}
