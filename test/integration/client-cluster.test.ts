// The client library on a real cluster that is restarted beneath it: relayed (any broker) and direct (the
// owners).
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';

const PARTITIONS = 6;
const KEYS = 30;
const LONG = { timeout: 120_000 };

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ proxies: true });
}, 60_000);

afterAll(() => cluster?.[Symbol.asyncDispose]());

/** Publishes keyed messages and consumes them, until it is told to finish; then it says what went wrong. */
class Traffic {
  readonly #client: Client;
  readonly #topic: string;
  #publishing = true;
  /** Known once the last message has been published. */
  #total: number | undefined;
  published = 0;
  readonly received = new Set<number>();
  /** Message ids that came again after they had been acknowledged here. */
  readonly redelivered: string[] = [];
  readonly misordered: string[] = [];
  readonly errors: string[] = [];
  #done: Promise<void>[] = [];

  constructor(client: Client, topic: string) {
    this.#client = client;
    this.#topic = topic;
  }

  async start(): Promise<void> {
    await this.#client.admin.createTopic(this.#topic, { partitions: PARTITIONS });
    await this.#client.admin.createSubscription(this.#topic, { topic: this.#topic, ordering: true });
    await cluster.settled();
    this.#done = [this.#publish(), this.#consume()];
    for (const done of this.#done) done.catch((error) => this.errors.push(String(error)));
  }

  async finish(): Promise<void> {
    this.#publishing = false;
    await Promise.all(this.#done);
  }

  async #publish(): Promise<void> {
    const publisher = this.#client.publisher(this.#topic);
    while (this.#publishing) {
      for (let i = 0; i < 10; i += 1) {
        const n = this.published++;
        publisher
          .publish({ data: String(n), orderingKey: `key-${n % KEYS}` })
          .catch((error) => this.errors.push(`message ${n}: ${error}`));
      }
      // This is the pace of the load, not a wait for something.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    // The consumer ends with the last message that is missing: one must come after the total is known.
    const last = publisher.publish({ data: String(this.published++), orderingKey: 'last' });
    this.#total = this.published;
    await last;
    await publisher.close();
  }

  async #consume(): Promise<void> {
    const newest = new Map<string, number>();
    const acked = new Set<string>();
    for await (const message of this.#client.subscribe(this.#topic)) {
      const n = Number(message.text);
      const { messageId, orderingKey } = message;
      if (acked.has(messageId)) this.redelivered.push(messageId);
      // A message that was published twice has two ids, and the second comes later.
      else if (!this.received.has(n) && n < (newest.get(orderingKey) ?? -1)) {
        this.misordered.push(`${orderingKey}: ${n} after ${newest.get(orderingKey)}`);
      }
      newest.set(orderingKey, Math.max(n, newest.get(orderingKey) ?? -1));
      this.received.add(n);
      message.ack();
      acked.add(messageId);
      if (this.received.size === this.#total) break;
    }
  }
}

describe.each([
  ['relayed', false],
  ['direct', true],
])('%s', (name, direct) => {
  test('a rolling restart: no error, nothing lost, misordered or delivered again', LONG, async () => {
    await using client = cluster.client('all', { direct });
    const traffic = new Traffic(client, `rolling-${name}`);
    await traffic.start();
    for (let i = 0; i < 3; i += 1) {
      expect((await cluster.terminate(i)).code).toBe(0);
      await cluster.restart(i);
      await cluster.settled();
    }
    await traffic.finish();
    console.log(`${name}: ${traffic.published} messages over a rolling restart`);
    expect(traffic.received.size).toBe(traffic.published);
    const { errors, misordered, redelivered } = traffic;
    expect({ errors, misordered, redelivered }).toEqual({ errors: [], misordered: [], redelivered: [] });
  });

  test('a broker killed: no error, nothing lost or misordered', LONG, async () => {
    await using client = cluster.client('all', { direct });
    const traffic = new Traffic(client, `killed-${name}`);
    await traffic.start();
    await cluster.kill(1);
    await cluster.restart(1);
    await cluster.settled();
    await traffic.finish();
    expect(traffic.received.size).toBe(traffic.published);
    const { errors, misordered } = traffic;
    expect({ errors, misordered }).toEqual({ errors: [], misordered: [] });
  });
});

test('direct clients are at the owners, and know when partitions move', LONG, async () => {
  await using client = cluster.client(0, { direct: true });
  await client.admin.createTopic('owned', { partitions: PARTITIONS });
  await cluster.settled();
  const proxied = () => cluster.brokers.map(({ peerProxy }) => peerProxy!.bytes.toServer);
  await using publisher = client.publisher('owned');
  const publish = async () => {
    const before = proxied();
    const data = Buffer.alloc(1_000);
    const keys = Array.from({ length: 200 }, (_, n) => `key-${n}`);
    await Promise.all(keys.map((orderingKey) => publisher.publish({ data, orderingKey })));
    return proxied().map((bytes, i) => bytes - before[i]!);
  };
  // The first batch may go before the routing table is here; afterwards each owner is reached at its
  // advertised address.
  await publish();
  const reached = async () => (await publish()).map((bytes) => bytes > 20_000);
  const { partitions } = await client.cluster.get({ partitions: true });
  const owners = new Set(
    partitions.filter(({ topic }) => topic.endsWith('/owned')).map(({ owner }) => owner),
  );
  expect(await reached()).toEqual(cluster.brokers.map(({ name }) => owners.has(name)));
  await client.cluster.drain('broker-2');
  await cluster.until((info) => info.partitions.every(({ owner }) => owner !== 'broker-2'), 0);
  await publish();
  expect((await reached())[1]).toBe(false);
  await client.cluster.drain('broker-2', { revoke: true });
});
