// Handlers and loops that keep the event loop: work of 10 ms that never waits, and work that takes longer in
// one go than a lease lasts, at a real broker with short leases.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Backlog } from '../../services/client/admin-types.ts';
import type { Client } from '../../services/client/client.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';

let broker: BrokerProcess;
let client: Client;

beforeAll(async () => {
  broker = await startBroker();
  client = broker.connect();
});

afterAll(async () => {
  await client.close();
  await broker[Symbol.asyncDispose]();
});

beforeEach(() => client.admin.createTopic('orders', { partitions: 1 }));
afterEach(() => client.admin.deleteTopic('orders', { force: true }));

async function prepare(
  messages: number,
  settings: { ackDeadlineSeconds: number; ordering: boolean },
): Promise<string[]> {
  await client.admin.createSubscription('audit', { topic: 'orders', ...settings });
  await using publisher = client.publisher('orders');
  const texts = Array.from({ length: messages }, (_, n) => String(n));
  await Promise.all(texts.map((data) => publisher.publish({ data, orderingKey: 'k' })));
  return texts;
}

async function backlog(): Promise<Backlog> {
  const [report] = await client.admin.getBacklog(['audit']);
  return report!;
}

function keepTheLoop(forMs: number): void {
  const untilMs = performance.now() + forMs;
  while (performance.now() < untilMs);
}

type Api = 'loop' | 'handlers';

/** Consumes until everything is settled, as the broker says. */
async function consume(api: Api, handle: (message: ReceivedMessage) => void): Promise<void> {
  const subscription = api === 'loop' ? client.subscribe('audit') : undefined;
  const subscriber = api === 'handlers' ? client.subscriber('audit', handle) : undefined;
  const looking = setInterval(async () => {
    if ((await backlog()).messages > 0) return;
    subscription?.end();
    await subscriber?.stop();
  }, 50);
  if (subscription === undefined) await subscriber!.closed;
  else {
    for await (const message of subscription) {
      handle(message);
      message.ack();
    }
  }
  clearInterval(looking);
}

const CASES = [
  ['loop', false],
  ['loop', true],
  ['handlers', false],
  ['handlers', true],
] as const;

test.each(CASES)(
  'work that never waits starves nothing: %s, ordering %s',
  async (api, ordering) => {
    const texts = await prepare(400, { ackDeadlineSeconds: 2, ordering });
    const handled: string[] = [];
    let leastBacklog = 400;
    const looking = setInterval(async () => {
      leastBacklog = Math.min(leastBacklog, (await backlog()).messages);
    }, 100);
    const seen: number[] = [];
    await consume(api, (message) => {
      handled.push(message.text);
      if (handled.length === 300) seen.push(leastBacklog);
      keepTheLoop(10);
    });
    clearInterval(looking);
    // Messages were settled meanwhile, as timers and sockets of this very process have seen.
    expect(seen[0]).toBeLessThan(300);
    expect(handled).toEqual(texts);
    expect(await backlog()).toMatchObject({ messages: 0, redeliveredTotal: 0 });
  },
  30_000,
);

test.each(CASES)(
  'what keeps the loop for longer than its lease lasts is handled once: %s, ordering %s',
  async (api, ordering) => {
    const texts = await prepare(3, { ackDeadlineSeconds: 1, ordering });
    const handled: string[] = [];
    await consume(api, (message) => {
      handled.push(message.text);
      keepTheLoop(2_500);
    });
    expect(handled.sort()).toEqual(texts);
  },
  40_000,
);
