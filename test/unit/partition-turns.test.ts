// Partitions of one subscription take turns: a backlog in one keeps nobody waiting in another. On engines in
// memory and on virtual time: at the owner itself, behind a relay, and both; with ordering and without; by
// stream and by Pull.
import { expect, test } from 'vitest';
import { partitionOfKey } from '../../services/broker/core/partition.ts';
import { hashOfKey } from '../../services/broker/core/publish-batch.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import {
  createSharedMemory,
  PROJECT,
  RelayNode,
  type TestConsumer,
  TestRoutes,
} from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const PARTITIONS = 4;
/** Messages that wait in the hot partition. */
const BACKLOG = 20_000;
const CREDIT = 100;
/**
 * Most messages of the hot partition that are delivered between the publish of a message in a quiet one and
 * its delivery.
 */
const MOST_BEFORE = 12 * CREDIT;

let clock: VirtualClock;
let nodes: RelayNode[];

/** Two brokers, of which the first has the consumer; partitions belong to the one that `owner` says. */
async function brokers(owner: (partition: number) => number, ordering: boolean): Promise<void> {
  clock = new VirtualClock();
  const peers = new MemoryPeers({ clock });
  const routes = new TestRoutes();
  const memory = createSharedMemory({ clock });
  nodes = ['x', 'y'].map((id) => {
    routes.add(id, `${id}:1`);
    return new RelayNode({ id, clock, memory, routes, connector: peers.connector(id, clock) });
  });
  for (const node of nodes) {
    await run(node.start());
    peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
  }
  const ids = await run(nodes[0]!.createTopic(PARTITIONS));
  await run(nodes[0]!.createSubscription('audit', ordering));
  for (const node of nodes) await run(node.definitions.refresh());
  for (const id of ids) {
    const node = nodes[owner(id.partition)]!;
    routes.set(id, node.id);
    await run(node.own(id));
  }
}

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

/** The consumer acknowledges what it has, every other millisecond. */
async function handle(consumer: TestConsumer, until: () => boolean): Promise<void> {
  while (!until()) {
    consumer.ack(consumer.messages.slice(consumer.messages.length - consumer.outstanding));
    await clock.advance(2);
  }
}

function keysOf(partition: number, count: number): string[] {
  const keys: string[] = [];
  for (let at = 0; keys.length < count; at += 1) {
    const bytes = Buffer.from(`key-${at}`);
    if (partitionOfKey(hashOfKey(bytes, 0, bytes.length), PARTITIONS) === partition) keys.push(`key-${at}`);
  }
  return keys;
}

/** `keys` is how many keys the hot partition has; a single one is the worst that can be. */
async function backlogIn(partition: number, keys: number): Promise<void> {
  const names = keysOf(partition, keys);
  for (let from = 0; from < BACKLOG; from += 500) {
    const messages = Array.from({ length: 500 }, (_, at) => ({
      data: `${from + at}`,
      key: names[(from + at) % keys]!,
    }));
    await run(nodes[0]!.publish(messages));
  }
}

async function oneInEachOther(hot: number): Promise<void> {
  for (let partition = 0; partition < PARTITIONS; partition += 1) {
    if (partition === hot) continue;
    await run(nodes[0]!.publish([{ data: 'quiet', key: keysOf(partition, 1)[0]! }]));
  }
}

const OWNERS: readonly [string, (partition: number) => number][] = [
  ['at the owner', () => 0],
  ['behind a relay', () => 1],
  ['with some here and some there', (partition) => partition % 2],
];

for (const [where, owner] of OWNERS) {
  for (const ordering of [false, true]) {
    for (const hot of [0, PARTITIONS - 1]) {
      const title = `${where}, ${ordering ? 'in order' : 'in any order'}, hot is ${hot}`;
      test(`guarantee 4: a quiet partition is served beside a hot one: ${title}`, async () => {
        await brokers(owner, ordering);
        await backlogIn(hot, 10);
        const consumer = nodes[0]!.subscribe('audit', { maxMessages: CREDIT, manual: true });
        await handle(consumer, () => consumer.messages.length >= 1_000);
        const before = consumer.messages.length;
        await oneInEachOther(hot);
        const quiet = () => consumer.messages.filter(({ data }) => data === 'quiet');
        await handle(
          consumer,
          () => quiet().length === PARTITIONS - 1 || consumer.messages.length > before + 5 * MOST_BEFORE,
        );
        const last = consumer.messages.findLastIndex(({ data }) => data === 'quiet');
        expect(quiet().length).toBe(PARTITIONS - 1);
        expect(last - before).toBeLessThan(MOST_BEFORE);
      });
    }
  }
}

for (const [where, owner] of OWNERS) {
  for (const ordering of [false, true]) {
    test(`guarantee 4: and by Pull: ${where}, ${ordering ? 'in order' : 'in any order'}`, async () => {
      await brokers(owner, ordering);
      await backlogIn(1, 10);
      await oneInEachOther(1);
      const { broker } = nodes[0]!;
      const subscription = `${PROJECT}/subscriptions/audit`;
      const partitions = new Set<string>();
      for (let call = 0; call < 30 && partitions.size < PARTITIONS; call += 1) {
        const frames = Buffer.concat(await run(broker.pull(subscription, 50, 1_000)));
        const ids = [...frames.toString('latin1').matchAll(/(\d+)\.(\d+)-(\d+)/g)].map(([id]) => id);
        for (const id of ids) partitions.add(id.split('-')[0]!);
        const operations = ids.map((id) => {
          const [logEpoch = 0, partition = 0, offset = 0] = id.split(/[.-]/).map(Number);
          return { kind: 'ack' as const, logEpoch, partition, first: offset, last: offset, seconds: 0 };
        });
        await run(broker.settle({ subscription, operations }));
      }
      expect(partitions.size).toBe(PARTITIONS);
    });
  }
}
