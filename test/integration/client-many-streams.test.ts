// A client with more subscriptions than a broker takes streams on one connection.
import { expect, test } from 'vitest';
import { startBroker } from '../support/broker.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';

const SUBSCRIPTIONS = 2_500;

test('2,500 subscriptions on a client all receive, it publishes and administers; connections that were added go again', async () => {
  await using broker = await startBroker();
  await using proxy = await startFaultProxy(broker.address);
  await using client = broker.connect({ address: proxy.address });
  await client.admin.createTopic('orders');
  const publisher = client.publisher('orders');
  // The publisher's stream is on the first connection, which stays.
  await publisher.publish({ data: 'before' });
  const names = Array.from({ length: SUBSCRIPTIONS }, (_, n) => `sub-${n}`);
  const toMake = names.values();
  const maker = async () => {
    for (const name of toMake) await client.admin.createSubscription(name, { topic: 'orders' });
  };
  await Promise.all(Array.from({ length: 32 }, maker));
  expect(proxy.connections).toBe(1);

  const retries: string[] = [];
  const received = new Map<string, string[]>(names.map((name) => [name, []]));
  let complete: (() => void) | undefined;
  let missing = 0;
  const allReceive = (data: string) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    missing = SUBSCRIPTIONS;
    complete = resolve;
    return Promise.all([promise, publisher.publish({ data }), client.admin.listTopics()]);
  };
  const subscribers = names.map((name) =>
    client.subscriber(
      name,
      (message) => {
        received.get(name)!.push(message.data.toString());
        missing -= 1;
        if (missing === 0) complete?.();
      },
      { onRetry: ({ message }) => retries.push(message) },
    ),
  );
  await allReceive('first');
  await allReceive('second');
  expect(proxy.connections).toBe(3);
  for (const each of received.values()) expect(each).toEqual(['first', 'second']);
  expect([...new Set(retries)]).toEqual([]);

  // In groups: each stream has a few seconds to end, on however busy a machine.
  for (let from = 1; from < subscribers.length; from += 100)
    await Promise.all(subscribers.slice(from, from + 100).map((subscriber) => subscriber.stop()));
  await expect.poll(() => proxy.connections, { timeout: 30_000, interval: 100 }).toBe(1);
  missing = 1;
  await publisher.publish({ data: 'third' });
  await expect.poll(() => received.get('sub-0')).toEqual(['first', 'second', 'third']);
  expect([...new Set(retries)]).toEqual([]);
}, 120_000);
