// Consumers that want so much and no more, at a real broker: nothing is leased to them that they did not ask
// for, and the ends of partitions that GetPartitionBacklog tells are what they can wait for.
import { expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { startBroker } from '../support/broker.ts';

async function topicOf(client: Client, messages: number, partitions: number): Promise<void> {
  await client.admin.createTopic('orders', { partitions });
  await client.admin.createSubscription('audit', { topic: 'orders' });
  await publish(client, messages);
}

async function publish(client: Client, messages: number): Promise<void> {
  await using publisher = client.publisher('orders');
  await Promise.all(Array.from({ length: messages }, (_, n) => publisher.publish({ data: `${n}` })));
}

const deliveries = async (client: Client) => {
  const [backlog] = await client.admin.getBacklog(['audit']);
  return { delivered: backlog!.deliveredTotal, acked: backlog!.ackedTotal, left: backlog!.messages };
};

test('a consumer that ends before it acknowledges its last message is given nothing for the credit', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await topicOf(client, 20, 1);
  for (let round = 1; round <= 3; round += 1) {
    const subscription = client.subscribe('audit', { maxOutstandingMessages: 5 });
    for (let left = 5; left > 0; left -= 1) {
      const { value } = await subscription.next();
      if (left > 1) subscription.limitMessages(left - 1);
      else subscription.end();
      value.ack();
    }
    // The consumer stays open, with credit that it does not want.
    await expect.poll(async () => (await deliveries(client)).acked).toBe(5 * round);
    await subscription.close();
    expect(await deliveries(client)).toEqual({
      delivered: 5 * round,
      acked: 5 * round,
      left: 20 - 5 * round,
    });
  }
});

test('end() gives back what was not handed out, and others have it while the stream stays', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await topicOf(client, 20, 1);
  const subscription = client.subscribe('audit', { maxOutstandingMessages: 20 });
  const { value: first } = await subscription.next();
  subscription.end();
  expect(await subscription.next()).toEqual({ value: undefined, done: true });
  await using other = client.subscribe('audit', { maxOutstandingMessages: 20 });
  for (let n = 0; n < 19; n += 1) (await other.next()).value.ack();
  first.ack();
  await subscription.close();
  await other.close();
  expect((await deliveries(client)).left).toBe(0);
});

test('the end as it was: reached once what lies before it is settled or with others, whatever is published', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await topicOf(client, 40, 4);
  await using holder = client.subscribe('audit', { maxOutstandingMessages: 3, clientId: 'holder' });
  await holder.next();
  const ends = (await client.admin.getPartitionBacklog('audit')).map(({ endOffset }) => endOffset);
  expect(ends.reduce((sum, end) => sum + end, 0)).toBe(40);
  await publish(client, 10);
  const left = async () => {
    const asked = { clientId: 'mine', beforeOffsets: ends };
    const partitions = await client.admin.getPartitionBacklog('audit', asked);
    const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);
    return [
      sum(partitions.map(({ messages }) => messages)),
      sum(partitions.map(({ elsewhereMessages }) => elsewhereMessages)),
    ];
  };
  expect(await left()).toEqual([40, 3]);
  await using mine = client.subscribe('audit', { clientId: 'mine' });
  let before = 0;
  while (before < 37) {
    const { value } = await mine.next();
    if (value.offset < ends[value.partition]!) before += 1;
    value.ack();
  }
  await expect.poll(left).toEqual([3, 3]);
});
