// Seeded runs of three linked engines: partitions move, links break, brokers publish and consume, all at
// random. What counts in the end is what a client sees.
//
//   RELAY_SEED=7 vitest run test/unit/relay-random.test.ts    one run again
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import { TIMEOUT_MS } from '../support/property.ts';
import { seededRandom } from '../support/random.ts';
import {
  createSharedMemory,
  move,
  PROJECT,
  RelayNode,
  type TestConsumer,
  type TestMessage,
  TestRoutes,
} from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const KEYS = 8;
const SEEDS = process.env.RELAY_SEED
  ? [Number(process.env.RELAY_SEED)]
  : Array.from({ length: 60 }, (_, at) => at + 1);

interface Faults {
  readonly moves: boolean;
  readonly cuts: boolean;
}

class RandomRun {
  readonly clock = new VirtualClock();
  readonly routes = new TestRoutes();
  readonly random: () => number;
  readonly peers: MemoryPeers;
  readonly nodes: RelayNode[];
  readonly acknowledged: string[] = [];
  readonly consumers: {
    readonly at: TestConsumer;
    readonly ordered: boolean;
    settled: number;
    open: boolean;
  }[] = [];
  ids: PartitionId[] = [];
  readonly #next = new Array<number>(KEYS).fill(0);
  readonly #busy = new Set<number>();
  #moving = 0;

  constructor(seed: number) {
    this.random = seededRandom(seed);
    this.peers = new MemoryPeers({ clock: this.clock, delayMs: () => Math.floor(this.random() * 8) });
    const memory = createSharedMemory({ clock: this.clock, latencyMs: () => Math.floor(this.random() * 5) });
    this.nodes = ['x', 'y', 'z'].map((id) => {
      this.routes.add(id, `${id}:1`);
      const connector = this.peers.connector(id, this.clock);
      return new RelayNode({ id, clock: this.clock, memory, routes: this.routes, connector });
    });
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.random() * from.length)]!;
  }

  run<T>(work: Promise<T>): Promise<T> {
    return this.clock.finish(work);
  }

  async begin(): Promise<void> {
    for (const node of this.nodes) {
      await this.run(node.start());
      this.peers.listen(node.id, `${node.id}:1`, this.clock, (link, relay) => node.peers.accept(link, relay));
    }
    this.ids = await this.run(this.nodes[0]!.createTopic(4));
    await this.run(this.nodes[0]!.createSubscription('plain', false, 5_000));
    await this.run(this.nodes[0]!.createSubscription('ordered', true, 5_000));
    for (const node of this.nodes) await this.run(node.definitions.refresh());
    for (const id of this.ids) {
      const node = this.pick(this.nodes);
      this.routes.set(id, node.id);
      await this.run(node.own(id));
    }
    for (const ordered of [true, false]) for (const node of this.nodes) this.subscribe(node, ordered);
  }

  subscribe(node: RelayNode, ordered: boolean): void {
    const at = node.subscribe(ordered ? 'ordered' : 'plain', {
      manual: true,
      maxMessages: this.pick([1, 3, 50, 1_000]),
      clientId: `client-${node.id}-${ordered}`,
    });
    this.consumers.push({ at, ordered, settled: 0, open: true });
  }

  /** Publishes as a client does: one batch of a key at a time, again until it is stored. */
  publish(): void {
    const key = Math.floor(this.random() * KEYS);
    if (this.#busy.has(key)) return;
    this.#busy.add(key);
    const first = this.#next[key]!;
    const count = 1 + Math.floor(this.random() * 5);
    this.#next[key] = first + count;
    const messages = Array.from({ length: count }, (_, at) => ({
      data: `${key}:${first + at}`,
      key: `${key}`,
    }));
    const again = (): void => {
      this.pick(this.nodes)
        .publish(messages)
        .then(
          () => {
            this.#busy.delete(key);
            this.acknowledged.push(...messages.map(({ data }) => data));
          },
          (error: unknown) => {
            if (!(error instanceof BrokerError) || !error.retriable) throw error;
            this.clock.setTimer(20, again);
          },
        );
    };
    again();
  }

  settle(all: boolean): void {
    for (const consumer of this.consumers) {
      if (!consumer.open) continue;
      const { messages } = consumer.at;
      const upTo = all
        ? messages.length
        : consumer.settled + Math.floor(this.random() * (messages.length - consumer.settled + 1));
      consumer.at.ack(messages.slice(consumer.settled, upTo));
      consumer.settled = upTo;
    }
  }

  /** One client goes and comes again at another broker. */
  replace(): void {
    const consumer = this.pick(this.consumers.filter(({ open }) => open));
    consumer.open = false;
    consumer.at.consumer.leave();
    this.subscribe(this.pick(this.nodes), consumer.ordered);
  }

  move(): void {
    if (this.#moving > 0) return;
    const id = this.pick(this.ids);
    const from = this.nodes.find(({ broker }) => broker.owner(id) !== undefined)!;
    const to = this.pick(this.nodes.filter((node) => node !== from));
    this.#moving += 1;
    const pause = () =>
      new Promise<void>((resolve) => this.clock.setTimer(Math.floor(this.random() * 40), resolve));
    void move(this.routes, id, from, to, pause).then(() => {
      this.#moving -= 1;
    });
  }

  async step({ moves, cuts }: Faults): Promise<void> {
    const dice = this.random();
    if (dice < 0.5) this.publish();
    else if (dice < 0.8) this.settle(false);
    else if (dice < 0.86 && moves) this.move();
    else if (dice < 0.9 && cuts) this.peers.cut(this.pick(['x', 'y', 'z']), this.pick(['x', 'y', 'z']));
    else if (dice < 0.92 && cuts) this.replace();
    await this.clock.advance(Math.floor(this.random() * 15));
  }

  /** Runs until all is published, delivered and settled. */
  async drain(): Promise<void> {
    await this.clock.runUntil(() => this.#busy.size === 0 && this.#moving === 0, 60_000);
    for (let turn = 0; turn < 2_000; turn += 1) {
      this.settle(true);
      await this.clock.advance(20);
      if (turn % 50 < 49) continue;
      const reports = await this.run(this.pick(this.nodes).backlog.report(PROJECT, []));
      if (reports.every(({ messages, outstandingMessages }) => messages === 0 && outstandingMessages === 0))
        return;
    }
    throw new Error('something is never delivered or settled');
  }

  delivered(ordered: boolean): TestMessage[] {
    return this.consumers.filter((consumer) => consumer.ordered === ordered).flatMap(({ at }) => at.messages);
  }

  check({ cuts }: Faults): void {
    for (const ordered of [true, false]) {
      const delivered = this.delivered(ordered);
      const seen = new Set(delivered.map(({ data }) => data));
      for (const data of this.acknowledged) if (!seen.has(data)) throw new Error(`${data} is lost`);
      if (cuts) continue;
      // With nothing but planned moves nothing comes twice.
      if (delivered.length !== this.acknowledged.length) throw new Error('something was delivered twice');
      if (delivered.some(({ attempt }) => attempt > 1)) throw new Error('something was delivered again');
    }
    this.#checkOrder();
  }

  /** By first appearance in the log, what was published later is stored later. */
  #checkOrder(): void {
    const offsets = new Map<string, { partition: number; offset: number }>();
    for (const { data, partition, offset } of this.delivered(false)) {
      const known = offsets.get(data);
      if (known === undefined || offset < known.offset)
        offsets.set(data, { partition: partition.partition, offset });
    }
    for (let key = 0; key < KEYS; key += 1) {
      let before = -1;
      for (let at = 0; at < this.#next[key]!; at += 1) {
        const { offset } = offsets.get(`${key}:${at}`)!;
        if (offset < before) throw new Error(`${key}:${at} is stored before its predecessor`);
        before = offset;
      }
    }
    for (const consumer of this.consumers) if (consumer.ordered) checkInOrder(consumer.at.messages);
  }
}

/** First deliveries of a key reach a consumer in order. */
function checkInOrder(messages: readonly TestMessage[]): void {
  const highest = new Map<string, number>();
  for (const { key, partition, offset, attempt } of messages) {
    const name = `${key} ${partition.partition}`;
    if (attempt === 1 && offset < (highest.get(name) ?? -1))
      throw new Error(`${key} at ${offset} is delivered behind ${highest.get(name)}`);
    highest.set(name, Math.max(offset, highest.get(name) ?? -1));
  }
}

async function runSeed(seed: number, faults: Faults): Promise<void> {
  const run = new RandomRun(seed);
  try {
    await run.begin();
    for (let step = 0; step < 150; step += 1) await run.step(faults);
    await run.drain();
    run.check(faults);
  } catch (error) {
    throw new Error(`RELAY_SEED=${seed}: ${(error as Error).message}`, { cause: error });
  }
}

test(
  'planned moves: nothing is lost, comes twice or out of order',
  async () => {
    for (const seed of SEEDS) await runSeed(seed, { moves: true, cuts: false });
  },
  TIMEOUT_MS,
);

test(
  'moves, broken links and clients that go: nothing is lost or out of order',
  async () => {
    for (const seed of SEEDS) await runSeed(seed, { moves: true, cuts: true });
    expect(SEEDS.length).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
