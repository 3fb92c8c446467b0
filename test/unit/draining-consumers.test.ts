// engine/delivery/draining-consumers.ts in a cluster of three on virtual time: consumers that will be stopped
// get nothing new wherever their streams end, and what they hold is known to the message.
import { beforeEach, expect, test } from 'vitest';
import type { DrainReport } from '../../services/broker/core/draining.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { MAX_DRAIN_NAMES } from '../../services/broker/limits.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import {
  createSharedMemory,
  move,
  PROJECT,
  RelayNode,
  type TestConsumer,
  TestRoutes,
} from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const AUDIT = `${PROJECT}/subscriptions/audit`;
const TTL_MS = 15_000;

let clock: VirtualClock;
let peers: MemoryPeers;
let routes: TestRoutes;
let nodes: RelayNode[];
let partitions: PartitionId[];

/** Starts nodes x, y, z with a topic; `owner` says which of them owns a partition. */
async function cluster(count: number, owner: (partition: number) => number, ordering = false): Promise<void> {
  const memory = createSharedMemory({ clock });
  nodes = ['x', 'y', 'z'].map((id) => {
    routes.add(id, `${id}:1`);
    return new RelayNode({ id, clock, memory, routes, connector: peers.connector(id, clock) });
  });
  await run(Promise.all(nodes.map((node) => node.start())));
  for (const node of nodes)
    peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
  partitions = await run(nodes[0]!.createTopic(count));
  await everywhere();
  for (const id of partitions) {
    const node = nodes[owner(id.partition)]!;
    routes.set(id, node.id);
    await run(node.own(id));
  }
  await run(nodes[0]!.createSubscription('audit', ordering));
  await everywhere();
}

async function everywhere(): Promise<void> {
  for (const node of nodes) await run(node.definitions.refresh());
}

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

function drain(
  at: number,
  clientIds: readonly string[],
  ttlMs = TTL_MS,
  peerAddresses: readonly string[] = [],
): Promise<DrainReport> {
  return run(nodes[at]!.draining.drain({ subscription: AUDIT, clientIds, peerAddresses, ttlMs }));
}

async function publish(count: number, from = 0): Promise<void> {
  await run(
    nodes[0]!.publish(
      Array.from({ length: count }, (_, at) => ({ data: `${from + at}`, key: `k${from + at}` })),
    ),
  );
}

const unsettled = ({ messages }: TestConsumer) => messages;
const noRedelivery = (consumers: readonly TestConsumer[]) =>
  expect(consumers.flatMap(unsettled).filter(({ attempt }) => attempt > 1)).toEqual([]);

beforeEach(() => {
  clock = new VirtualClock();
  peers = new MemoryPeers({ clock });
  routes = new TestRoutes();
});

test('one that drains gets nothing new and settles what it has; whoever is asked knows how much that is', async () => {
  await cluster(6, (p) => p % 3);
  const leaving = nodes[0]!.subscribe('audit', { clientId: 'leaving', manual: true, maxMessages: 30 });
  await publish(60);
  await clock.runUntil(() => leaving.messages.length === 30);
  const staying = nodes[1]!.subscribe('audit', { clientId: 'staying' });
  await clock.advance(1_000);

  const first = await drain(2, ['leaving']);
  expect(first).toEqual({
    consumers: [{ clientId: 'leaving', peerAddress: '', streams: 1, outstandingMessages: 30 }],
    streams: 1,
    outstandingMessages: 30,
  });
  leaving.ack(leaving.messages.slice(0, 12));
  await clock.advance(200);
  expect((await drain(1, ['leaving'])).outstandingMessages).toBe(18);
  leaving.ack(leaving.messages.slice(12));
  await publish(100, 60);
  await clock.runUntil(() => staying.messages.length === 130);
  expect(leaving.messages.length).toBe(30);
  expect((await drain(0, ['leaving'])).outstandingMessages).toBe(0);
  noRedelivery([leaving, staying]);
});

test('not repeated it lapses, repeated it goes on, without names or time it ends at once', async () => {
  await cluster(3, (p) => p);
  const only = nodes[0]!.subscribe('audit', { clientId: 'only' });
  await drain(0, ['only']);
  await publish(9);
  await clock.advance(TTL_MS - 1_000);
  await drain(0, ['only']);
  await clock.advance(TTL_MS - 1_000);
  expect(only.messages.length).toBe(0);
  await clock.advance(2_000);
  expect(only.messages.length).toBe(9);

  for (const end of [() => drain(1, []), () => drain(1, ['only'], 0), () => drain(1, ['another'])]) {
    const before = only.messages.length;
    await drain(2, ['only']);
    await publish(9, before);
    await clock.advance(1_000);
    expect(only.messages.length).toBe(before);
    await end();
    await clock.runUntil(() => only.messages.length === before + 9);
    await drain(2, []);
  }
});

test('it holds for streams and pulls that come later, by client id or by address, at any broker', async () => {
  await cluster(3, (p) => p);
  await drain(1, ['late'], TTL_MS, ['10.0.0.7']);
  await publish(12);
  const late = nodes[0]!.subscribe('audit', { clientId: 'late' });
  const direct = nodes[2]!.subscribe('audit', { clientId: 'late', ownedOnly: true });
  const there = nodes[2]!.subscribe('audit', { clientId: 'x', address: '10.0.0.7' });
  const origin = { clientId: '', peerAddress: '10.0.0.7' };
  const pulled = await run(nodes[0]!.broker.pull(AUDIT, 10, 2_000, () => {}, origin));
  expect(pulled).toEqual([]);
  await clock.advance(1_000);
  expect([late, direct, there].map(({ messages }) => messages.length)).toEqual([0, 0, 0]);
  const report = await drain(1, ['late'], TTL_MS, ['10.0.0.7']);
  expect(report).toMatchObject({ streams: 3, outstandingMessages: 0 });
  expect(report.consumers).toContainEqual({
    clientId: 'late',
    peerAddress: '',
    streams: 2,
    outstandingMessages: 0,
  });
  // A consumer without a name is nobody's namesake.
  const other = nodes[1]!.subscribe('audit');
  await clock.runUntil(() => other.messages.length === 12);
});

test('its ordering keys go to others once it has settled what it has of them, in order and not before', async () => {
  await cluster(4, (p) => p % 3, true);
  const leaving = nodes[0]!.subscribe('audit', { clientId: 'leaving', manual: true });
  const keys = Array.from({ length: 20 }, (_, at) => `key-${at}`);
  const round = (data: string) => run(nodes[0]!.publish(keys.map((key) => ({ data, key }))));
  await round('1');
  await clock.runUntil(() => leaving.messages.length === 20);
  await drain(1, ['leaving']);
  const staying = nodes[2]!.subscribe('audit', { clientId: 'staying' });
  await round('2');
  await clock.advance(2_000);
  // The first messages of these keys are still with the other consumer.
  expect(staying.messages).toEqual([]);
  leaving.ack(leaving.messages.filter(({ key }) => key !== 'key-3'));
  await clock.advance(2_000);
  const moved = staying.messages.map(({ key }) => key);
  expect(moved).not.toContain('key-3');
  expect(moved.length).toBeGreaterThan(10);
  leaving.ack(leaving.messages.filter(({ key }) => key === 'key-3'));
  await clock.runUntil(() => staying.messages.length === 20);
  expect(leaving.messages.length).toBe(20);
  noRedelivery([leaving, staying]);

  // If everybody drains nobody gets anything, and nothing is lost by it.
  await drain(1, ['leaving', 'staying']);
  await round('3');
  await clock.advance(2_000);
  expect(leaving.messages.length + staying.messages.length).toBe(40);
  await drain(1, []);
  await clock.runUntil(() => leaving.messages.length + staying.messages.length === 60);
});

test('through moves of partitions it stays so, and what it holds stays known', async () => {
  await cluster(2, (p) => 1 + p, true);
  const leaving = nodes[0]!.subscribe('audit', { clientId: 'leaving', manual: true });
  await publish(40);
  await clock.runUntil(() => leaving.messages.length === 40);
  await drain(1, ['leaving']);
  // The question comes in the middle: the partition is nobody's, and what is outstanding of it in nobody's
  // answer.
  let asked: Promise<DrainReport> | undefined;
  const between = async () => {
    asked = nodes[1]!.draining.drain({
      subscription: AUDIT,
      clientIds: ['leaving'],
      peerAddresses: [],
      ttlMs: TTL_MS,
    });
    await new Promise<void>((resolve) => clock.setTimer(500, resolve));
  };
  await run(move(routes, partitions[0]!, nodes[1]!, nodes[2]!, between));
  expect((await run(asked!)).outstandingMessages).toBe(40);
  await run(move(routes, partitions[1]!, nodes[2]!, nodes[0]!));
  expect((await drain(1, ['leaving'])).outstandingMessages).toBe(40);
  const staying = nodes[1]!.subscribe('audit', { clientId: 'staying' });
  leaving.ack(leaving.messages);
  await clock.advance(1_000);
  expect((await drain(2, ['leaving'])).outstandingMessages).toBe(0);
  await publish(40, 40);
  await clock.runUntil(() => staying.messages.length === 40);
  await run(move(routes, partitions[0]!, nodes[2]!, nodes[0]!));
  await publish(40, 80);
  await clock.runUntil(() => staying.messages.length === 80);
  expect(leaving.messages.length).toBe(40);
  noRedelivery([leaving, staying]);
});

test('a direct consumer whose partition has moved: not known before it is back, rather than nothing', async () => {
  await cluster(1, () => 1);
  const direct = nodes[1]!.subscribe('audit', { clientId: 'direct', manual: true, ownedOnly: true });
  await publish(10);
  await clock.runUntil(() => direct.messages.length === 10);
  await run(move(routes, partitions[0]!, nodes[1]!, nodes[2]!));
  await expect(drain(0, ['direct'])).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('moved'),
  });
  const again = nodes[2]!.broker.subscribe(
    AUDIT,
    { deliver: () => {}, writable: true, close: () => {} },
    { maxOutstandingMessages: 100, maxOutstandingBytes: 1e6, ackDeadlineMs: undefined },
    { ownedOnly: true, resumes: true, origin: { clientId: 'direct', peerAddress: '' } },
  );
  expect((await drain(0, ['direct'])).outstandingMessages).toBe(10);
  again.leave();
});

test('a broker that does not answer: the others are told, and the caller that it is not known', async () => {
  await cluster(3, (p) => p);
  const here = nodes[0]!.subscribe('audit', { clientId: 'here' });
  const there = nodes[1]!.subscribe('audit', { clientId: 'there' });
  await clock.advance(500);
  routes.add('ghost', 'ghost:1');
  await expect(drain(0, ['here', 'there'])).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('ghost'),
  });
  await publish(9);
  await clock.advance(1_000);
  expect(here.messages.length + there.messages.length).toBe(0);
  routes.remove('ghost');
  expect(await drain(0, ['here', 'there'])).toMatchObject({ streams: 2, outstandingMessages: 0 });
});

test('bounded: more names than a broker remembers are refused, and change nothing', async () => {
  await cluster(1, () => 0);
  const names = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, at) => `${prefix}-${at}`);
  for (let at = 0; at < MAX_DRAIN_NAMES / 1_000; at += 1) {
    const subscription = `${PROJECT}/subscriptions/many-${at}`;
    const clientIds = names('client', 1_000);
    await run(nodes[0]!.draining.drain({ subscription, clientIds, peerAddresses: [], ttlMs: TTL_MS }));
  }
  await expect(drain(0, ['one'])).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message:
      '10000 consumers of other subscriptions are draining: 1 more exceed the limit of 10000; drain them later',
  });
  const one = nodes[0]!.subscribe('audit', { clientId: 'one' });
  await publish(5);
  await clock.runUntil(() => one.messages.length === 5);
  await clock.advance(TTL_MS);
  expect(await drain(0, ['one'])).toMatchObject({ streams: 1 });
});

test('a subscription that is made again begins without those who drained', async () => {
  await cluster(1, () => 1);
  await drain(0, ['one']);
  await run(nodes[0]!.definitions.deleteSubscription('test', AUDIT));
  await everywhere();
  await run(nodes[0]!.createSubscription('audit'));
  await everywhere();
  const one = nodes[0]!.subscribe('audit', { clientId: 'one' });
  await publish(5);
  await clock.advance(1_000);
  expect(one.messages.length).toBe(5);
});
