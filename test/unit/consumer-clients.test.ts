// Who a consumer is over all its streams: the newest stream of a client id is the client, consumers without
// one are different ones, and thousands come and go at little cost. On engines in memory and virtual time.
import { expect, test } from 'vitest';
import { consumerClient } from '../../services/broker/core/consumer-client.ts';
import { Delivery } from '../../services/broker/core/delivery.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { chunkView } from '../support/delivery-rig.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import { createSharedMemory, RelayNode, type TestMessage, TestRoutes } from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

let clock: VirtualClock;
let nodes: RelayNode[];
let routes: TestRoutes;

/** Three brokers; each partition is owned by the one that `owner` says. */
async function brokers(
  partitions: number,
  owner: (partition: number) => number,
  ordering: boolean,
): Promise<PartitionId[]> {
  clock = new VirtualClock();
  const peers = new MemoryPeers({ clock });
  routes = new TestRoutes();
  const memory = createSharedMemory({ clock });
  nodes = ['x', 'y', 'z'].map((id) => {
    routes.add(id, `${id}:1`);
    return new RelayNode({ id, clock, memory, routes, connector: peers.connector(id, clock) });
  });
  for (const node of nodes) {
    await run(node.start());
    peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
  }
  const ids = await run(nodes[0]!.createTopic(partitions));
  await run(nodes[0]!.createSubscription('audit', ordering, 600_000));
  for (const node of nodes) await run(node.definitions.refresh());
  for (const id of ids) {
    const node = nodes[owner(id.partition)]!;
    routes.set(id, node.id);
    await run(node.own(id));
  }
  return ids;
}

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

async function publish(keys: number, each: number): Promise<void> {
  for (let turn = 0; turn < each; turn += 1) {
    const messages = Array.from({ length: keys }, (_, key) => ({ data: `${turn}`, key: `key-${key}` }));
    await run(nodes[0]!.publish(messages));
  }
}

const ORDERED_AND_NOT = [false, true];
const WHERE: readonly [string, number, number][] = [
  ['both at the owner', 0, 0],
  ['both behind one relay', 1, 1],
  ['behind two relays', 1, 2],
  ['the old one behind a relay', 1, 0],
];

for (const ordering of ORDERED_AND_NOT) {
  for (const [where, first, second] of WHERE) {
    const how = ordering ? 'in order' : 'in any order';
    test(`a client that comes back before its dead stream is noticed goes on at once: ${where}, ${how}`, async () => {
      await brokers(2, () => 0, ordering);
      const other = nodes[0]!.subscribe('audit', { clientId: 'other', maxMessages: 5, manual: true });
      // The stream is half-open: it takes everything, and nobody is there.
      const dead = nodes[first]!.subscribe('audit', { clientId: 'client', manual: true });
      await publish(20, 5);
      await clock.runUntil(() => dead.messages.length >= 20);
      const again = nodes[second]!.subscribe('audit', { clientId: 'client' });
      const place = ({ partition, offset }: TestMessage): string => `${partition.partition}-${offset}`;
      const missing = (): Set<string> => {
        const had = new Set(dead.messages.map(place));
        for (const message of [...again.messages, ...other.messages]) had.delete(place(message));
        return had;
      };
      await clock.runUntil(() => missing().size === 0, 1_000);
      await clock.runUntil(() => dead.ended !== undefined, 1_000);
      expect(dead.ended?.code).toBe('ABORTED');
      expect([again.ended, other.ended]).toEqual([undefined, undefined]);
      expect(again.messages.length).toBeGreaterThan(0);
    });

    test(`and if it was given everything and resumes, it keeps that: ${where}, ${how}`, async () => {
      await brokers(2, () => 0, ordering);
      const before = nodes[first]!.subscribe('audit', { clientId: 'client', manual: true });
      await publish(20, 5);
      await clock.runUntil(() => before.messages.length === 100);
      // The broker ends the stream in good order; what owners are told of that may come later than the next
      // stream.
      await run(before.consumer.quiesce());
      before.consumer.leave('wait');
      const after = nodes[second]!.subscribe('audit', { clientId: 'client', resumes: true });
      await clock.advance(10);
      after.outstanding += before.outstanding;
      after.ack(before.messages);
      await publish(20, 1);
      await clock.runUntil(() => after.messages.length >= 20, 10_000);
      await clock.advance(1_000);
      expect(after.messages.map(({ attempt }) => attempt)).toEqual(new Array(20).fill(1));
    });
  }
}

test('a note of a stream that has ended since: what it had is delivered at once', async () => {
  const [id] = await brokers(1, () => 0, false);
  const [x, y, z] = nodes;
  const left = z!.subscribe('audit', { clientId: 'client', manual: true });
  await publish(20, 1);
  await clock.runUntil(() => left.messages.length === 20);
  const other = y!.subscribe('audit', { clientId: 'other' });
  routes.set(id!, y!.id);
  const { ownerEpoch, note } = await run(x!.broker.partitions.handOver(id!));
  await clock.advance(50);
  left.consumer.leave();
  await clock.advance(50);
  await run(x!.stores.ownership.release(id!, ownerEpoch, note));
  await run(y!.own(id!));
  // Not after ten minutes, when the leases would end.
  await clock.runUntil(() => other.messages.length === 20, 1_000);
  expect(other.messages.map(({ attempt }) => attempt)).toEqual(new Array(20).fill(2));
});

test('a client has a stream to an owner beside one to any broker', async () => {
  await brokers(2, (partition) => partition, false);
  const any = nodes[2]!.subscribe('audit', { clientId: 'client' });
  const owned = nodes[0]!.subscribe('audit', { clientId: 'client', ownedOnly: true });
  await publish(20, 2);
  await clock.runUntil(() => any.messages.length + owned.messages.length === 40);
  expect([any.ended, owned.ended]).toEqual([undefined, undefined]);
});

test('consumers without a client id share an ordered subscription, wherever they connect', async () => {
  await brokers(4, (partition) => partition % 3, true);
  const consumers = nodes.flatMap((node) => [node.subscribe('audit'), node.subscribe('audit')]);
  await publish(200, 2);
  const got = (): number[] => consumers.map(({ messages }) => messages.length);
  await clock.runUntil(() => got().reduce((a, b) => a + b) === 400);
  for (const count of got()) expect(count).toBeGreaterThan(10);
});

test('a thousand consumers of an ordered subscription come and go', { timeout: 60_000 }, () => {
  const partitions = Array.from({ length: 8 }, () => {
    const delivery = new Delivery(
      { ordering: true, maxHoles: 10_000, maxQueued: 50_000, maxUnsettled: 60_000, maxRun: 1_000 },
      { startOffset: 0 },
      2_000,
    );
    delivery.step({ kind: 'join', consumer: 1, hash: 1 }, 0);
    const keys = Array.from({ length: 2_000 }, (_, at) => 1 + at);
    const chunk = chunkView(0, new Array<number>(2_000).fill(1), keys);
    // Every slot is in use.
    delivery.step(
      {
        kind: 'lease',
        ...{ consumer: 1, chunk, maxMessages: 1, maxBytes: 1_000, idle: true, deadlineMs: 1e9 },
      },
      0,
    );
    return delivery;
  });
  let longestMs = 0;
  const measured = (work: () => void): void => {
    const fromMs = performance.now();
    work();
    longestMs = Math.max(longestMs, performance.now() - fromMs);
  };
  const fromMs = performance.now();
  for (let consumer = 2; consumer <= 1_001; consumer += 1) {
    const { hash } = consumerClient('stream', '', Math.random, '');
    measured(() => {
      for (const delivery of partitions) delivery.step({ kind: 'join', consumer, hash }, 0);
    });
  }
  for (let consumer = 2; consumer <= 1_001; consumer += 1) {
    measured(() => {
      for (const delivery of partitions) delivery.step({ kind: 'leave', consumer, leases: 'end' }, 0);
    });
  }
  // Scoring all members for all slots at each join or leave took 15 s for a tenth of these partitions.
  expect(performance.now() - fromMs).toBeLessThan(10_000);
  expect(longestMs).toBeLessThan(1_000);
});
