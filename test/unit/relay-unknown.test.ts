// What consumers settle that is nowhere in the cluster: a partition that the topic has not got, a
// subscription that is gone. It is ignored at once, as by a broker that is alone, and neither holds up the
// call nor keeps the stream from coming to rest. On virtual time.
import { beforeEach, expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import {
  createSharedMemory,
  operationOf,
  PROJECT,
  RelayNode,
  TestRoutes,
  TOPIC,
} from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const AUDIT = `${PROJECT}/subscriptions/audit`;

let clock: VirtualClock;
let routes: TestRoutes;
/** The broker of the clients; below, the owner. */
let near: RelayNode;
let owner: RelayNode;
let id: PartitionId;

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

/** Resolves with the milliseconds that the work took. */
async function timed(work: Promise<unknown>): Promise<number> {
  const before = clock.monotonicMs();
  await run(work);
  return clock.monotonicMs() - before;
}

beforeEach(async () => {
  clock = new VirtualClock();
  const peers = new MemoryPeers({ clock });
  routes = new TestRoutes();
  const memory = createSharedMemory({ clock });
  const nodes = ['x', 'y'].map((name) => {
    routes.add(name, `${name}:1`);
    return new RelayNode({ id: name, clock, memory, routes, connector: peers.connector(name, clock) });
  });
  [near, owner] = nodes as [RelayNode, RelayNode];
  await run(Promise.all(nodes.map((node) => node.start())));
  for (const node of nodes)
    peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
  [id] = (await run(near.createTopic(1))) as [PartitionId];
  await run(near.createSubscription('audit'));
  await run(owner.definitions.refresh());
  routes.set(id, 'y');
  await run(owner.own(id));
});

const unknown = (kind: SettleOperation['kind'], over: Partial<SettleOperation> = {}): SettleOperation => ({
  kind,
  ...id,
  partition: 500,
  first: 0,
  last: 9,
  seconds: kind === 'extend' ? 60 : 0,
  ...over,
});

test('what names a partition that the topic has not got, or another topic’s log, is ignored at once', async () => {
  for (const kind of ['ack', 'nack', 'extend'] as const) {
    for (const operation of [unknown(kind), unknown(kind, { partition: 0, logEpoch: 4_711 })]) {
      const settling = near.broker.settle({ subscription: AUDIT, operations: [operation] });
      expect(await timed(settling), `${kind} ${operation.partition}`).toBeLessThan(5);
    }
  }
});

test('a stream that has said such a thing comes to rest all the same', async () => {
  const consumer = near.subscribe('audit', { manual: true, clientId: 'a' });
  await run(near.publish([{ data: 'x' }]));
  await clock.runUntil(() => consumer.messages.length === 1);
  consumer.consumer.settle({ operations: [unknown('ack'), unknown('nack', { partition: 7 })] });
  expect(await timed(consumer.consumer.quiesce())).toBeLessThan(5);
});

test('an acknowledgement of a partition that this broker has not heard of yet is kept for it', async () => {
  const consumer = near.subscribe('audit', { manual: true });
  await clock.advance(50);
  const added = { ...id, partition: 1 };
  await run(owner.definitions.updateTopic('test', { name: TOPIC, partitions: 2 }, ['partitions']));
  routes.set(added, 'y');
  await run(owner.own(added));
  const keys = Array.from({ length: 20 }, (_, at) => ({ data: `${at}`, key: `${at}` }));
  await run(owner.publish(keys));
  await clock.runUntil(() => consumer.messages.length === 20);
  const ofAdded = consumer.messages.filter(({ partition }) => partition.partition === 1);
  expect(ofAdded).not.toEqual([]);
  // Neither the topic's change nor the route has come here.
  routes.set(added, 'nobody');
  const half = Math.ceil(ofAdded.length / 2);
  consumer.ack(ofAdded.slice(0, half));
  const operations = ofAdded.slice(half).map((message) => operationOf('ack', message));
  const settling = near.broker.settle({ subscription: AUDIT, operations });
  await clock.advance(300);
  routes.set(added, 'y');
  await run(settling);
  consumer.ack(consumer.messages.filter(({ partition }) => partition.partition === 0));
  await clock.advance(1_000);
  expect(await run(owner.broker.backlog.report(PROJECT, []))).toMatchObject([{ messages: 0 }]);
});

test('what waits for an owner ends with its subscription', async () => {
  const consumer = near.subscribe('audit', { manual: true });
  await run(near.publish([{ data: 'x' }, { data: 'y' }]));
  await clock.runUntil(() => consumer.messages.length === 2);
  routes.set(id, 'nobody');
  const [first, second] = consumer.messages;
  consumer.ack([first!]);
  const settling = near.broker.settle({ subscription: AUDIT, operations: [operationOf('ack', second!)] });
  await clock.advance(1_000);
  await run(near.definitions.deleteSubscription('test', AUDIT));
  expect(await timed(settling)).toBeLessThan(300);
  expect(await timed(near.relay.endPublishes())).toBeLessThan(300);
});
