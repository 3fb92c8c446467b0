// engine/links/relay and engine/links/owner over links in memory, on virtual time: consumers, settles and
// backlog behind a broker that owns some of the partitions, or none.
import { fromBinary } from '@bufbuild/protobuf';
import { beforeEach, expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { BEAT_MS, SILENT_BEATS } from '../../services/broker/engine/links/heartbeat.ts';
import { PEER_WINDOW_BYTES } from '../../services/broker/engine/links/owner/peer-sink.ts';
import { LEG_LINGER_MS } from '../../services/broker/engine/links/relay/relayed-consumer.ts';
import { SubscribeResponseSchema } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import {
  createSharedMemory,
  move,
  operationOf,
  PROJECT,
  RelayNode,
  TestRoutes,
  TOPIC,
} from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

let clock: VirtualClock;
let peers: MemoryPeers;
let routes: TestRoutes;
let nodes: RelayNode[];

/** Starts the brokers x, y and z with a topic; `owner` says which of them owns a partition. */
async function cluster(partitions: number, owner: (partition: number) => number): Promise<PartitionId[]> {
  const memory = createSharedMemory({ clock });
  nodes = ['x', 'y', 'z'].map((id) => {
    routes.add(id, `${id}:1`);
    return new RelayNode({ id, clock, memory, routes, connector: peers.connector(id, clock) });
  });
  await run(Promise.all(nodes.map((node) => node.start())));
  for (const node of nodes)
    peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
  const ids = await run(nodes[0]!.createTopic(partitions));
  await everywhere();
  for (const id of ids) {
    const node = nodes[owner(id.partition)]!;
    routes.set(id, node.id);
    await run(node.own(id));
  }
  return ids;
}

async function everywhere(): Promise<void> {
  for (const node of nodes) await run(node.definitions.refresh());
}

async function subscriptions(...names: string[]): Promise<void> {
  for (const name of names) await run(nodes[0]!.createSubscription(name));
  await everywhere();
}

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

const numbers = (count: number, from = 0): { data: string }[] =>
  Array.from({ length: count }, (_, at) => ({ data: `${from + at}` }));
const sorted = (data: readonly string[]): string[] => [...data].sort((a, b) => Number(a) - Number(b));

beforeEach(() => {
  clock = new VirtualClock();
  peers = new MemoryPeers({ clock });
  routes = new TestRoutes();
});

test('publish and subscribe through a broker that owns nothing, one of three, or all', async () => {
  for (const owner of [(p: number) => p % 3, (p: number) => 1 + (p % 2), () => 0]) {
    clock = new VirtualClock();
    peers = new MemoryPeers({ clock });
    routes = new TestRoutes();
    await cluster(6, owner);
    await subscriptions('audit');
    const consumer = nodes[0]!.subscribe('audit');
    for (let turn = 0; turn < 12; turn += 1) {
      await run(nodes[0]!.publish(numbers(10, turn * 10)));
      await clock.advance(60);
    }
    await clock.runUntil(() => consumer.messages.length === 120);
    await clock.advance(200);
    expect(sorted(consumer.data)).toEqual(numbers(120).map(({ data }) => data));
    const [report] = await run(nodes[0]!.backlog.report(PROJECT, []));
    expect(report).toMatchObject({ messages: 0, outstandingMessages: 0, deliveredTotal: 120, consumers: 1 });
  }
});

test('in order by key, whoever owns it and wherever it is published', async () => {
  await cluster(4, (p) => p % 3);
  await run(nodes[0]!.createSubscription('ordered', true));
  await everywhere();
  const consumers = nodes.map((node, at) => node.subscribe('ordered', { clientId: `client-${at}` }));
  for (let turn = 0; turn < 20; turn += 1) {
    const messages = Array.from({ length: 12 }, (_, at) => ({ data: `${turn}`, key: `key-${at}` }));
    await run(nodes[turn % 3]!.publish(messages));
  }
  const got = () => consumers.flatMap(({ messages }) => messages);
  await clock.runUntil(() => got().length === 240);
  for (let at = 0; at < 12; at += 1) {
    const values = got().filter(({ key }) => key === `key-${at}`);
    // A key stays with one consumer, so that its order is the consumer's.
    expect(values.map(({ data }) => Number(data))).toEqual(Array.from({ length: 20 }, (_, turn) => turn));
  }
});

test('a chunk crosses a link once, for 64 subscriptions behind it', async () => {
  await cluster(2, () => 1);
  const names = Array.from({ length: 64 }, (_, at) => `sub-${at}`);
  await subscriptions(...names);
  const consumers = names.map((name) => nodes[0]!.subscribe(name));
  await clock.advance(100);
  const payload = 'x'.repeat(1_000);
  for (let turn = 0; turn < 40; turn += 1) {
    await run(nodes[1]!.publish(Array.from({ length: 50 }, () => ({ data: payload }))));
    await clock.advance(10);
  }
  await clock.runUntil(() => consumers.every(({ messages }) => messages.length === 2_000));
  const { chunkBytes } = peers.traffic('y', 'x');
  const stored = nodes[1]!.broker.stats.publishedBytes;
  expect(nodes[1]!.broker.stats.deliveredMessages).toBe(64 * 2_000);
  expect(chunkBytes).toBe(stored);
  expect(chunkBytes).toBeLessThanOrEqual(1.2 * 2_000 * 1_000);
});

test('one that takes nothing is sent a window full, and delays nobody', async () => {
  await cluster(1, () => 1);
  await subscriptions('slow', 'quick');
  const slow = nodes[0]!.subscribe('slow', { blocked: true, maxMessages: 100_000 });
  const quick = nodes[0]!.subscribe('quick');
  await clock.advance(100);
  const payload = 'x'.repeat(10_000);
  for (let turn = 0; turn < 50; turn += 1)
    await run(nodes[0]!.publish(Array.from({ length: 10 }, () => ({ data: payload }))));
  await clock.runUntil(() => quick.messages.length === 500);
  const [report] = await run(nodes[0]!.backlog.report(PROJECT, [`${PROJECT}/subscriptions/slow`]));
  const sent = report!.outstandingMessages * 10_000;
  expect(sent).toBeGreaterThan(PEER_WINDOW_BYTES / 2);
  expect(sent).toBeLessThan(PEER_WINDOW_BYTES + 200_000);
  slow.unblock();
  await clock.runUntil(() => slow.messages.length === 500);
  expect(slow.messages.every(({ attempt }) => attempt === 1)).toBe(true);
});

test('owners together have no more outstanding than the consumer allows', async () => {
  await cluster(6, (p) => p % 3);
  await subscriptions('small');
  for (const maxMessages of [1, 2, 7]) {
    const consumer = nodes[0]!.subscribe('small', { manual: true, maxMessages });
    await run(nodes[0]!.publish(Array.from({ length: 60 }, (_, at) => ({ data: 'x', key: `${at}` }))));
    const seen = new Set<number>();
    let acked = 0;
    for (let turn = 0; turn < 400 && acked < 60; turn += 1) {
      await clock.advance(50);
      expect(consumer.outstanding).toBeLessThanOrEqual(maxMessages);
      for (const { partition } of consumer.messages) seen.add(partition.partition);
      // What comes while it is acknowledged is for the next turn.
      const fresh = consumer.messages.slice(acked);
      acked += fresh.length;
      consumer.ack(fresh);
    }
    expect(consumer.messages).toHaveLength(60);
    expect(seen.size).toBe(6);
    consumer.consumer.leave();
  }
});

test('nacks, leases that end and departures are the owner’s to see', async () => {
  const ids = await cluster(1, () => 1);
  await subscriptions('audit');
  const first = nodes[0]!.subscribe('audit', { manual: true });
  await run(nodes[0]!.publish(numbers(3)));
  await clock.runUntil(() => first.messages.length === 3);
  first.nack(first.messages.slice(0, 1));
  await clock.runUntil(() => first.messages.length === 4);
  expect(first.messages[3]).toMatchObject({ data: '0', attempt: 2, partition: ids[0] });
  first.consumer.settle({ operations: [operationOf('extend', first.messages[1]!, 60)] });
  await clock.advance(10_200);
  // All but the extended one have expired and come again.
  expect(sorted(first.data.slice(4))).toEqual(['0', '2']);
  first.consumer.leave();
  const second = nodes[2]!.subscribe('audit');
  await clock.runUntil(() => second.messages.length === 3);
  expect(sorted(second.data)).toEqual(['0', '1', '2']);
});

test('an old word of a message reaches the owner as one, whoever brings it', async () => {
  await cluster(1, () => 1);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit', { manual: true });
  await run(nodes[0]!.publish(numbers(1)));
  await clock.runUntil(() => consumer.messages.length === 1);
  const nack = (attempt: number) => ({ ...operationOf('nack', consumer.messages[0]!), attempt });
  consumer.consumer.settle({ operations: [nack(1)] });
  await clock.runUntil(() => consumer.messages.length === 2);
  consumer.consumer.settle({ operations: [nack(1)] });
  await run(
    nodes[0]!.broker.settle({ subscription: `${PROJECT}/subscriptions/audit`, operations: [nack(1)] }),
  );
  await clock.advance(500);
  expect(consumer.messages).toHaveLength(2);
  consumer.consumer.settle({ operations: [nack(2)] });
  await clock.runUntil(() => consumer.messages.length === 3);
  expect(consumer.messages[2]).toMatchObject({ attempt: 3 });
});

test('what a consumer says of a subscription that had the name before touches nothing, through a relay or not', async () => {
  await cluster(1, () => 1);
  await subscriptions('audit');
  const name = `${PROJECT}/subscriptions/audit`;
  for (const node of [nodes[0]!, nodes[1]!]) {
    const consumer = node.subscribe('audit', { manual: true });
    await run(nodes[0]!.publish(numbers(2)));
    await clock.runUntil(() => consumer.messages.length === 2);
    const [first, second] = consumer.messages.map((message) => operationOf('ack', message));
    const { incarnation } = node.broker.runtimeOf(name);
    consumer.consumer.settle({ operations: [first!], incarnation: incarnation - 1 });
    await run(node.broker.settle({ subscription: name, operations: [first!], incarnation: incarnation - 1 }));
    consumer.consumer.settle({ operations: [second!], incarnation });
    await clock.advance(500);
    const [backlog] = await run(node.backlog.report(PROJECT, [name]));
    expect(backlog).toMatchObject({ messages: 1 });
    await run(node.broker.settle({ subscription: name, operations: [first!], incarnation }));
    consumer.consumer.leave();
  }
});

test('a consumer is told what its subscription is like, first and when it changes, wherever the owner is', async () => {
  await cluster(2, (p) => p);
  await subscriptions('audit');
  await run(nodes[0]!.publish(numbers(4)));
  const name = `${PROJECT}/subscriptions/audit`;
  for (const node of nodes) {
    const consumer = node.subscribe('audit', { manual: true });
    const { incarnation } = node.broker.runtimeOf(name);
    await clock.runUntil(() => consumer.messages.length === 4);
    expect(consumer.described).toEqual([{ ackDeadlineMs: 10_000, incarnation, at: 0 }]);
    const change = (ackDeadlineMs: number) =>
      run(
        nodes[2]!.definitions.updateSubscription('test', { name, topic: TOPIC, ackDeadlineMs }, [
          'ack_deadline_seconds',
        ]),
      );
    await change(20_000);
    await everywhere();
    expect(consumer.described.slice(1)).toEqual([{ ackDeadlineMs: 20_000, incarnation, at: 4 }]);
    await change(10_000);
    await everywhere();
    consumer.consumer.leave();
    await clock.advance(100);
  }
});

test('what a direct consumer acknowledges while a partition moves is settled, wherever it says so', async () => {
  for (const at of ['the former owner', 'the next owner'] as const) {
    clock = new VirtualClock();
    peers = new MemoryPeers({ clock });
    routes = new TestRoutes();
    const [id] = await cluster(1, () => 1);
    await subscriptions('audit');
    const [, y, z] = nodes;
    const how = { ownedOnly: true, clientId: 'a', manual: true };
    const former = y!.subscribe('audit', how);
    const next = z!.subscribe('audit', how);
    await run(y!.publish(numbers(3)));
    await clock.runUntil(() => former.messages.length === 3);
    const moved = move(routes, id!, y!, z!, async () => {
      const stream = at === 'the former owner' ? former : next;
      stream.consumer.settle({ operations: former.messages.map((each) => operationOf('ack', each)) });
      await new Promise<void>((resolve) => clock.setTimer(1_500, resolve));
    });
    await run(moved);
    await clock.advance(60_000);
    expect([at, former.messages.length, next.messages.length]).toEqual([at, 3, 0]);
    const [report] = await run(nodes[0]!.backlog.report(PROJECT, []));
    expect(report).toMatchObject({ messages: 0, outstandingMessages: 0 });
  }
});

test('a planned move delivers nothing twice and loses no ack', async () => {
  const ids = await cluster(3, (p) => p);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit', { manual: true });
  const publishing: Promise<void>[] = [];
  let published = 0;
  const publish = (): void => {
    const messages = Array.from({ length: 9 }, (_, at) => ({ data: `${published + at}`, key: `${at}` }));
    published += 9;
    publishing.push(nodes[published % 3]!.publish(messages));
  };
  let acked = 0;
  const ack = (): void => {
    consumer.ack(consumer.messages.slice(acked, consumer.messages.length - 5));
    acked = Math.max(acked, consumer.messages.length - 5);
  };
  for (let turn = 0; turn < 30; turn += 1) {
    publish();
    await clock.advance(7);
    ack();
    if (turn % 3 === 0) {
      const id = ids[(turn / 3) % 3]!;
      const from = nodes.find(({ broker }) => broker.owner(id) !== undefined)!;
      const to = nodes[(nodes.indexOf(from) + 1 + (turn % 2)) % 3]!;
      const moved = move(routes, id, from, to, async () => {
        // Publishes and acks come while nobody owns the partition.
        publish();
        ack();
        await new Promise<void>((resolve) => clock.setTimer(30, resolve));
        ack();
      });
      await run(moved);
    }
  }
  await run(Promise.all(publishing));
  await clock.runUntil(() => consumer.messages.length === published);
  consumer.ack(consumer.messages.slice(acked));
  await clock.advance(30_000);
  expect(consumer.messages).toHaveLength(published);
  expect(consumer.messages.every(({ attempt }) => attempt === 1)).toBe(true);
  for (let key = 0; key < 9; key += 1) {
    const values = consumer.messages
      .filter((message) => message.key === `${key}`)
      .map(({ data }) => Number(data));
    expect(values).toEqual([...values].sort((a, b) => a - b));
  }
  const [report] = await run(nodes[0]!.backlog.report(PROJECT, []));
  expect(report).toMatchObject({ messages: 0, outstandingMessages: 0 });
});

test('an owner that dies: the next one delivers, publishes that wait go to it', async () => {
  const [id] = await cluster(1, () => 1);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit');
  await run(nodes[0]!.publish(numbers(5)));
  await clock.runUntil(() => consumer.messages.length === 5);
  peers.kill('y');
  await clock.advance(10);
  const waiting = nodes[0]!.publish(numbers(5, 5));
  await clock.advance(500);
  routes.set(id!, 'z');
  await run(nodes[2]!.own(id!));
  await run(waiting);
  await clock.runUntil(() => new Set(consumer.data).size === 10);
});

test('what waits for a stream is dropped when its owner is lost: others are given it', async () => {
  const [id] = await cluster(1, () => 1);
  await subscriptions('audit');
  const blocked = nodes[0]!.subscribe('audit', { blocked: true });
  await clock.advance(100);
  await run(nodes[2]!.publish(numbers(5)));
  await clock.advance(100);
  const [report] = await run(nodes[0]!.backlog.report(PROJECT, []));
  expect(report).toMatchObject({ outstandingMessages: 5 });
  peers.kill('y');
  routes.set(id!, 'z');
  await run(nodes[2]!.own(id!));
  const other = nodes[2]!.subscribe('audit');
  await clock.runUntil(() => other.messages.length === 5);
  await clock.advance(200);
  blocked.unblock();
  await clock.advance(200);
  expect(blocked.messages).toEqual([]);
});

test('a way that has fallen silent is given up, in either direction', async () => {
  for (const [from, to] of [
    ['x', 'y'],
    ['y', 'x'],
  ] as const) {
    clock = new VirtualClock();
    peers = new MemoryPeers({ clock });
    routes = new TestRoutes();
    await cluster(1, () => 1);
    await subscriptions('audit');
    const consumer = nodes[0]!.subscribe('audit');
    await run(nodes[0]!.publish(numbers(1)));
    await clock.runUntil(() => consumer.messages.length === 1);
    peers.silence(from, to);
    const failed = nodes[0]!.publish(numbers(1, 1)).catch((error: Error) => error.message);
    const before = clock.monotonicMs();
    expect(await run(failed)).toContain('may have been stored');
    expect(clock.monotonicMs() - before).toBeLessThanOrEqual((SILENT_BEATS + 1) * BEAT_MS);
    await clock.advance(BEAT_MS * 2);
    if (from === 'x') expect(nodes[1]!.peers.links).toBe(0);
    peers.heal();
    await run(nodes[0]!.publish(numbers(1, 2)));
    await clock.runUntil(() => consumer.data.includes('2'));
  }
});

test('a subscription deleted through another broker ends the stream with NOT_FOUND', async () => {
  await cluster(1, () => 1);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit');
  await clock.advance(50);
  await run(nodes[1]!.definitions.deleteSubscription('test', `${PROJECT}/subscriptions/audit`));
  await clock.advance(50);
  expect(consumer.ended).toMatchObject({ code: 'NOT_FOUND' });
  // The other way round, the broker with the client hears of the deletion first.
  await everywhere();
  await subscriptions('other');
  const second = nodes[0]!.subscribe('other');
  await clock.advance(50);
  await run(nodes[0]!.definitions.deleteSubscription('test', `${PROJECT}/subscriptions/other`));
  await clock.advance(50);
  expect(second.ended).toMatchObject({ code: 'NOT_FOUND' });
});

test('partitions that are added reach open streams, also where the route is known before the topic has changed', async () => {
  const [first] = await cluster(1, () => 1);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit');
  await clock.advance(50);
  await run(nodes[2]!.definitions.updateTopic('test', { name: TOPIC, partitions: 2 }, ['partitions']));
  const added = { logEpoch: first!.logEpoch, partition: 1 };
  routes.set(added, 'z');
  await run(nodes[2]!.own(added));
  await clock.advance(200);
  await everywhere();
  await run(nodes[0]!.publish(Array.from({ length: 20 }, (_, at) => ({ data: `${at}`, key: `${at}` }))));
  await clock.runUntil(() => consumer.messages.length === 20, 2_000);
  expect(new Set(consumer.messages.map(({ partition }) => partition.partition))).toEqual(new Set([0, 1]));
});

test('Pull and Acknowledge through a relay', async () => {
  await cluster(2, (p) => 1 + p);
  await subscriptions('audit');
  const name = `${PROJECT}/subscriptions/audit`;
  await run(nodes[0]!.publish(Array.from({ length: 20 }, (_, at) => ({ data: `${at}`, key: `${at}` }))));
  const got: Buffer[] = [];
  for (let pull = 0; pull < 8; pull += 1) got.push(...(await run(nodes[0]!.broker.pull(name, 10, 500))));
  const { receivedMessages } = fromBinary(SubscribeResponseSchema, Buffer.concat(got));
  const ids = receivedMessages.map(({ ackId }) => /^(\d+)\.(\d+)-(\d+)$/.exec(ackId)!);
  expect(ids).toHaveLength(20);
  const [before] = await run(nodes[0]!.backlog.report(PROJECT, [name]));
  expect(before).toMatchObject({ messages: 20, outstandingMessages: 20 });
  const operations = ids.map(([, logEpoch, partition, offset]) => ({
    kind: 'ack' as const,
    logEpoch: Number(logEpoch),
    partition: Number(partition),
    first: Number(offset),
    last: Number(offset),
    seconds: 0,
  }));
  await run(nodes[0]!.broker.settle({ subscription: name, operations }));
  const [after] = await run(nodes[0]!.backlog.report(PROJECT, [name]));
  expect(after).toMatchObject({ messages: 0, outstandingMessages: 0 });
});

test('a backlog that is not known is none at all, and a first message is heard of', async () => {
  const [, second] = await cluster(2, (p) => 1 + p);
  await subscriptions('audit');
  const heard: string[] = [];
  nodes[0]!.backlog.onFirstMessage((name) => heard.push(name));
  await clock.advance(50);
  await run(nodes[2]!.publish(numbers(1)));
  await clock.advance(50);
  expect(heard).toEqual([`${PROJECT}/subscriptions/audit`]);
  // A partition moves: the new owner answers when it has it.
  routes.set(second!, 'y');
  const asked = nodes[0]!.backlog.report(PROJECT, []);
  await clock.advance(500);
  const { ownerEpoch, note } = await run(nodes[2]!.broker.partitions.handOver(second!));
  await run(nodes[2]!.stores.ownership.release(second!, ownerEpoch, note));
  await run(nodes[1]!.own(second!));
  expect(await run(asked)).toMatchObject([{ messages: 1 }]);
  routes.set(second!, 'nobody');
  await expect(run(nodes[0]!.backlog.report(PROJECT, []))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  routes.set(second!, 'y');
  peers.separate('x', 'y');
  await expect(run(nodes[0]!.backlog.report(PROJECT, []))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('a hand-over that is late costs no lease, and what was settled before the consumer left is settled', async () => {
  const [id] = await cluster(1, () => 1);
  await subscriptions('audit');
  const name = `${PROJECT}/subscriptions/audit`;
  const consumer = nodes[0]!.subscribe('audit', { manual: true });
  await run(nodes[0]!.publish(numbers(10)));
  await clock.runUntil(() => consumer.messages.length === 10);
  const extend = consumer.messages.map((message) => operationOf('extend', message, 300));
  consumer.consumer.settle({ operations: extend });
  await clock.advance(50);
  // The partition is to go to Z, and for longer than the consumer stays at Y nothing comes of it.
  routes.set(id!, 'z');
  await clock.advance(3 * LEG_LINGER_MS);
  const [report] = await run(nodes[1]!.broker.backlog.report(PROJECT, [name]).then((reports) => reports));
  expect(report).toMatchObject({ messages: 10, outstandingMessages: 10 });
  const { ownerEpoch, note } = await run(nodes[1]!.broker.partitions.handOver(id!));
  await run(nodes[1]!.stores.ownership.release(id!, ownerEpoch, note));
  // Nobody owns the partition, so nobody can be told yet.
  consumer.ack(consumer.messages);
  consumer.consumer.leave();
  const other = nodes[0]!.subscribe('audit');
  await clock.advance(500);
  await run(nodes[2]!.own(id!));
  await clock.advance(1_000);
  expect(await run(nodes[0]!.backlog.report(PROJECT, [name]))).toMatchObject([
    { messages: 0, outstandingMessages: 0 },
  ]);
  expect(other.messages).toEqual([]);
});

test('what a consumer settled while nobody was to own the partition is settled although it has left', async () => {
  const [id] = await cluster(1, () => 1);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit', { manual: true });
  await run(nodes[0]!.publish(numbers(3)));
  await clock.runUntil(() => consumer.messages.length === 3);
  peers.kill('y');
  routes.remove('y');
  consumer.ack(consumer.messages);
  await clock.advance(1_000);
  consumer.consumer.leave();
  routes.set(id!, 'z');
  await run(nodes[2]!.own(id!));
  await clock.advance(1_000);
  expect(await run(nodes[0]!.backlog.report(PROJECT, []))).toMatchObject([{ messages: 0 }]);
});

test('what is settled while the new owner does not know the subscription yet is settled when it does', async () => {
  const [id] = await cluster(1, () => 1);
  await run(nodes[0]!.createSubscription('audit'));
  await run(nodes[1]!.definitions.refresh());
  const consumer = nodes[0]!.subscribe('audit', { manual: true });
  await run(nodes[0]!.publish(numbers(50)));
  await clock.runUntil(() => consumer.messages.length === 50);
  const { ownerEpoch, note } = await run(nodes[1]!.broker.partitions.handOver(id!));
  await run(nodes[1]!.stores.ownership.release(id!, ownerEpoch, note));
  routes.set(id!, 'z');
  await run(nodes[2]!.own(id!));
  for (const message of consumer.messages) {
    consumer.ack([message]);
    await clock.advance(5);
  }
  await run(nodes[2]!.definitions.refresh());
  await clock.advance(2_000);
  expect(await run(nodes[0]!.backlog.report(PROJECT, []))).toMatchObject([{ messages: 0 }]);
});

test('nothing is left behind when all have gone', async () => {
  await cluster(3, (p) => p);
  await subscriptions('audit');
  const consumer = nodes[0]!.subscribe('audit');
  await run(nodes[1]!.publish(numbers(30)));
  await clock.runUntil(() => consumer.messages.length === 30);
  // It is counted where its stream ends, though it has sessions at all owners.
  expect(nodes.map(({ broker }) => broker.stats.consumers)).toEqual([1, 0, 0]);
  const reports = await run(
    Promise.all(nodes.map(({ broker }) => broker.backlog.reportLocal([`${PROJECT}/subscriptions/audit`]))),
  );
  expect(reports.map(([report]) => report)).toMatchObject([
    { consumers: 1, connectedConsumers: 1 },
    { consumers: 1, connectedConsumers: 0 },
    { consumers: 1, connectedConsumers: 0 },
  ]);
  consumer.consumer.leave();
  for (const node of nodes) node.peers.close();
  await run(Promise.all(nodes.map(({ broker }) => broker.stop())));
  await clock.advance(60_000);
  expect(clock.timerCount).toBe(0);
  expect(nodes.map(({ broker }) => broker.stats.consumers)).toEqual([0, 0, 0]);
});
