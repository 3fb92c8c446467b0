// What runs against a topic during a chaos run: subscriptions, publishers, consumers. The topic and each
// subscription are noted in the journal once they are there, under the full names that the clients use.
import type { Client } from '../../services/client/client.ts';
import { until } from '../support/redis.ts';
import type { ChaosClients, Door, PublisherOrder } from './clients.ts';

export interface LoadOrder {
  readonly topic: string;
  readonly partitions: number;
  readonly publishers: number;
  readonly each: Omit<PublisherOrder, 'topic'>;
  readonly subscriptions: readonly SubscriptionOrder[];
}

export interface SubscriptionOrder {
  readonly name: string;
  readonly ordered: boolean;
  readonly streams: number;
  readonly pulls: number;
  readonly nacks?: number;
}

/** One admin client for each broker. */
export type Admins = readonly Client['admin'][];

const KNOWN_TIMEOUT_MS = 20_000;

/** Counts publishers and consumers, so that no name is given twice in a run. */
let named = 0;

export async function startLoad(
  clients: ChaosClients,
  admins: Admins,
  door: Door,
  order: LoadOrder,
): Promise<Load> {
  const load = new Load(clients, admins, door, order);
  await load.start();
  return load;
}

export class Load {
  readonly #clients: ChaosClients;
  readonly #admins: Admins;
  readonly #door: Door;
  readonly #order: LoadOrder;
  #publishers: string[] = [];
  #consumers: string[] = [];
  #subscriptions: SubscriptionOrder[] = [];

  constructor(clients: ChaosClients, admins: Admins, door: Door, order: LoadOrder) {
    this.#clients = clients;
    this.#admins = admins;
    this.#door = door;
    this.#order = order;
  }

  async start(): Promise<void> {
    const { topic, partitions, subscriptions, publishers, each } = this.#order;
    await this.#admin.createTopic(topic, { partitions });
    await this.#known((admin) => admin.getTopic(topic));
    await this.#clients.note({ ev: 'topic', topic: topicName(topic) });
    for (const subscription of subscriptions) await this.subscribe(subscription);
    for (let i = 0; i < publishers; i += 1) {
      const name = `${topic}-p${++named}`;
      this.#publishers.push(name);
      this.#clients.publish(name, this.#door, { topic, ...each });
    }
  }

  /** Adds one more subscription and its consumers. */
  async subscribe(subscription: SubscriptionOrder): Promise<void> {
    const { name, ordered } = subscription;
    const { topic } = this.#order;
    await this.#admin.createSubscription(name, { topic, ordering: ordered });
    await this.#known((admin) => admin.getSubscription(name));
    const full = { s: subscriptionName(name), topic: topicName(topic) };
    await this.#clients.note({ ev: 'subscription', ...full, ordered });
    this.#subscriptions.push(subscription);
    this.#consume(subscription);
  }

  /** Consumes again after stopConsuming(). */
  consume(): void {
    for (const each of this.#subscriptions) this.#consume(each);
  }

  async stopPublishing(): Promise<void> {
    const names = this.#publishers;
    this.#publishers = [];
    await Promise.all(names.map((name) => this.#clients.stop(name)));
  }

  async stop(): Promise<void> {
    await this.stopPublishing();
    await this.stopConsuming();
  }

  async stopConsuming(prefix = ''): Promise<void> {
    const names = this.#consumers.filter((name) => name.startsWith(prefix));
    this.#consumers = this.#consumers.filter((name) => !names.includes(name));
    await Promise.all(names.map((name) => this.#clients.stop(name)));
  }

  /** Deletes the topic with its subscriptions. Its clients must have stopped. */
  async delete(): Promise<void> {
    const { topic } = this.#order;
    await this.#clients.note({ ev: 'deleting', topic: topicName(topic) });
    await this.#admin.deleteTopic(topic, { force: true });
  }

  async deleteSubscription(name: string): Promise<void> {
    await this.stopConsuming(`${name}-c`);
    await this.#clients.note({ ev: 'deleting', s: subscriptionName(name) });
    await this.#admin.deleteSubscription(name);
    this.#subscriptions = this.#subscriptions.filter((each) => each.name !== name);
  }

  #consume({ name, streams, pulls, nacks = 0 }: SubscriptionOrder): void {
    for (let i = 0; i < streams + pulls; i += 1) {
      const consumer = `${name}-c${++named}`;
      this.#consumers.push(consumer);
      this.#clients.consume(consumer, this.#door, { subscription: name, pulls: i >= streams, nacks });
    }
  }

  get #admin(): Client['admin'] {
    return this.#admins[0]!;
  }

  /**
   * Resolves when each broker has heard of what was created: until then, for up to a second, some say
   * NOT_FOUND.
   */
  async #known(asked: (admin: Client['admin']) => Promise<unknown>): Promise<void> {
    for (const admin of this.#admins) {
      await until(
        'a broker has heard of what was created',
        async () => !!(await asked(admin)),
        KNOWN_TIMEOUT_MS,
      );
    }
  }
}

function topicName(id: string): string {
  return `projects/default/topics/${id}`;
}

function subscriptionName(id: string): string {
  return `projects/default/subscriptions/${id}`;
}
