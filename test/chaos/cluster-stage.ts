// The cluster of a chaos run: three brokers, each a process, over a Redis with a replica; its load; and what
// is done to them. Each fault takes its time, ends with everything running again, and says what it did.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LogLine } from '../support/broker.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import type { ChaosClients, Door } from './clients.ts';
import { type Admins, type Load, type LoadOrder, startLoad } from './load.ts';
import { type RedisPair, startRedisPair } from './redis-pair.ts';

const BROKERS = 3;
const MAIN_LOAD: LoadOrder = {
  topic: 'orders',
  partitions: 8,
  publishers: 3,
  each: { keys: 20, perSecond: 20, bytes: 200 },
  subscriptions: [
    { name: 'audit', ordered: true, streams: 3, pulls: 0 },
    { name: 'billing', ordered: true, streams: 1, pulls: 1 },
    { name: 'feed', ordered: false, streams: 2, pulls: 1, nacks: 0.01 },
  ],
};
/** The load of topics that come and go. */
const SIDE_LOAD = { partitions: 4, publishers: 1, each: { keys: 5, perSecond: 8, bytes: 100 } };

export async function startClusterStage(clients: ChaosClients, random: () => number): Promise<ClusterStage> {
  await using opened = new AsyncDisposableStack();
  const suspended = await mkdtemp(join(tmpdir(), 'fanfare-suspended-'));
  opened.defer(() => rm(suspended, { recursive: true }));
  const redis = opened.use(await startRedisPair());
  const cluster = opened.use(
    await startCluster({
      brokers: BROKERS,
      redis: redis.master.address,
      proxies: true,
      env: { CHAOS_SUSPENDED: suspended },
      nodeArgs: ['--import', fileURLToPath(new URL('suspended-clock.ts', import.meta.url))],
    }),
  );
  const admins = cluster.brokers.map((_, i) => opened.use(cluster.client(i)).admin);
  const door = { addresses: cluster.brokers.map(({ address }) => address), tls: cluster.tls };
  const load = await startLoad(clients, admins, door, MAIN_LOAD);
  return new ClusterStage({ clients, random, suspended, redis, cluster, admins, door, load }, opened.move());
}

interface Parts {
  readonly clients: ChaosClients;
  readonly random: () => number;
  /** The folder in which suspended-clock.ts looks for its mark. */
  readonly suspended: string;
  readonly redis: RedisPair;
  readonly cluster: Cluster;
  /** An admin client for each broker. */
  readonly admins: Admins;
  readonly door: Door;
  readonly load: Load;
}

export class ClusterStage implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #opened: AsyncDisposableStack;
  #visits = 0;
  /** Loads of the topics that a visit has created: they go again once it is over. */
  #sideLoads: Load[] = [];
  #lateSubscription: string | undefined;

  constructor(parts: Parts, opened: AsyncDisposableStack) {
    this.#parts = parts;
    this.#opened = opened;
  }

  async kill(): Promise<string> {
    const { cluster } = this.#parts;
    const i = this.#someBroker();
    const awayMs = this.#between(0, 4_000);
    await cluster.kill(i);
    await delay(awayMs);
    await cluster.restart(i);
    return `${cluster.brokers[i]!.name} killed, and started again after ${seconds(awayMs)}`;
  }

  async stop(): Promise<string> {
    const { cluster } = this.#parts;
    const i = this.#someBroker();
    const stoppedMs = this.#between(300, 8_000);
    await cluster.stop(i);
    await delay(stoppedMs);
    await cluster.cont(i);
    return `${cluster.brokers[i]!.name} stood still for ${seconds(stoppedMs)}`;
  }

  async suspend(): Promise<string> {
    const { cluster, suspended } = this.#parts;
    const i = this.#someBroker();
    const suspendedMs = this.#between(1_000, 8_000);
    const mark = join(suspended, String(cluster.brokers[i]!.process.pid));
    await writeFile(mark, '');
    await cluster.stop(i);
    await delay(suspendedMs);
    await cluster.cont(i);
    // The broker has looked at its clock many times by then.
    await cluster.settled(i);
    await rm(mark);
    return `${cluster.brokers[i]!.name} suspended for ${seconds(suspendedMs)}`;
  }

  async loseTail(): Promise<string> {
    const behindMs = this.#between(500, 5_000);
    const how = await this.#failOver(() => delay(behindMs));
    return `${how} without the last ${seconds(behindMs)}`;
  }

  /**
   * The new master does not know some topics, still has one that was deleted, and has the former one of a
   * recreated topic.
   */
  async loseDefinitions(): Promise<string> {
    const { admins, load } = this.#parts;
    const n = ++this.#visits;
    const gone = await this.#side(`gone-${n}`);
    const again = await this.#side(`again-${n}`);
    await delay(this.#between(1_000, 3_000));
    // The clients stop first, so that the replica is not behind for as long as that takes.
    await Promise.all([gone, again].map((side) => side.stop()));
    const how = await this.#failOver(async () => {
      await gone.delete();
      await again.delete();
      this.#sideLoads = [await this.#side(`again-${n}`), await this.#side(`fresh-${n}`)];
      this.#lateSubscription = `late-${n}`;
      const late = { name: this.#lateSubscription, ordered: true, streams: 1, pulls: 1 };
      await load.subscribe(late);
      await admins[0]!.updateTopic('orders', { labels: { visit: String(n) } });
      await delay(this.#between(500, 3_000));
    });
    return `${how} without topics created, deleted, and deleted and created again`;
  }

  /**
   * Loses what CLUSTER.md says is lost: the owners die with the failover, so nobody has what the new master
   * lacks.
   */
  async plantLoss(): Promise<string> {
    const { cluster, load } = this.#parts;
    const all = [...cluster.brokers.keys()];
    await load.stopConsuming();
    const how = await this.#failOver(
      () => delay(2_000),
      async () => {
        for (const i of all) await cluster.kill(i);
      },
    );
    for (const i of all) await cluster.restart(i);
    load.consume();
    return `${how} without the last 2 s, and all brokers were killed`;
  }

  /**
   * Resolves when the running brokers own all partitions as assigned; rejects if they do not within 30 s, or
   * if one has ended by itself.
   */
  async settled(): Promise<void> {
    const { cluster } = this.#parts;
    for (const { name, process } of cluster.brokers) {
      const exit = await Promise.race([process.exited, delay(0)]);
      if (exit) throw new Error(`${name} has ended by itself (code ${exit.code}, signal ${exit.signal})`);
    }
    await cluster.settled();
  }

  /** Full names of all topics and subscriptions, as each broker lists them. */
  async definitions(): Promise<string[][]> {
    return Promise.all(
      this.#parts.admins.map(async (admin) => {
        const [topics, subscriptions] = [await admin.listTopics(), await admin.listSubscriptions()];
        return [...topics, ...subscriptions].map(({ name }) => name);
      }),
    );
  }

  /** Deletes what a visit has left, once everything of it is delivered: `drained` waits for that. */
  async tidy(drained: () => Promise<void>): Promise<void> {
    if (this.#sideLoads.length === 0) return;
    for (const load of this.#sideLoads) await load.stopPublishing();
    await drained();
    for (const load of this.#sideLoads) {
      await load.stop();
      await load.delete();
    }
    await this.#parts.load.deleteSubscription(this.#lateSubscription!);
    this.#sideLoads = [];
  }

  stopPublishing(): Promise<void> {
    return this.#parts.load.stopPublishing();
  }

  stopConsuming(): Promise<void> {
    return this.#parts.load.stopConsuming();
  }

  logs(): { name: string; lines: readonly LogLine[] }[] {
    const { cluster } = this.#parts;
    return cluster.brokers.map(({ name }, i) => ({ name, lines: cluster.logs(i) }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
  }

  #side(topic: string): Promise<Load> {
    const { clients, admins, door } = this.#parts;
    const subscriptions = [{ name: `${topic}-s`, ordered: true, streams: 2, pulls: 0 }];
    return startLoad(clients, admins, door, { topic, ...SIDE_LOAD, subscriptions });
  }

  /**
   * What is written during `meanwhile` is on the master alone, which is then killed. The replica takes over
   * at once, or after leases have ended; `then` runs before it does.
   */
  async #failOver(meanwhile: () => Promise<void>, then?: () => Promise<void>): Promise<string> {
    const { redis, cluster, random } = this.#parts;
    const awayMs = random() < 0.5 ? this.#between(0, 500) : this.#between(2_000, 5_000);
    redis.fallBehind();
    await meanwhile();
    await redis.failOver(
      async () => {
        await then?.();
        await delay(awayMs);
      },
      (address) => {
        for (const { storeProxy } of cluster.brokers) {
          storeProxy!.target = address;
          storeProxy!.cut();
        }
      },
    );
    return `Redis failed over in ${seconds(awayMs)}`;
  }

  #someBroker(): number {
    return Math.floor(this.#parts.random() * BROKERS);
  }

  #between(leastMs: number, mostMs: number): number {
    return leastMs + this.#parts.random() * (mostMs - leastMs);
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
