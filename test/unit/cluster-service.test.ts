// fanfare.v1.Cluster and fanfare.v1.Routing over the keepers of a cluster on virtual time, called without a
// transport.
import { EventEmitter } from 'node:events';
import {
  create,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { clusterService, soleCluster } from '../../services/broker/adapters/grpc/cluster.ts';
import { authorizeAll, Identity } from '../../services/broker/adapters/grpc/identity.ts';
import { routingService } from '../../services/broker/adapters/grpc/routing.ts';
import { type GrpcService, RpcBorder } from '../../services/broker/adapters/grpc/rpc.ts';
import { WatchSlots } from '../../services/broker/adapters/grpc/watch.ts';
import { type AuditRecord, Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import { soleRoutes } from '../../services/broker/engine/membership/routes.ts';
import { Cluster } from '../../services/gen/fanfare/v1/cluster_pb.ts';
import { Routing } from '../../services/gen/fanfare/v1/routing_pb.ts';
import { CLUSTER, KeeperRig, type RigMember } from '../support/keeper-rig.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const ORDERS = 'projects/p/topics/orders';
const TOPICS = [{ logEpoch: 1, partitions: 8 }];
const { getCluster, drainBroker } = Cluster.method;
const failing = (code: number, details: string) =>
  expect.objectContaining({ code, details: expect.stringContaining(details) });

function borderOf(clock = new VirtualClock()): RpcBorder {
  const unexpected = (error: unknown): never => {
    throw error;
  };
  const identity = new Identity({ plaintext: true });
  return new RpcBorder({ identity, clock, random: () => 0, maxStreamAgeMs: 1e9, onUnexpected: unexpected });
}

function serviceOf({ membership, routes, connection }: RigMember, audit: AuditRecord[] = []): GrpcService {
  return clusterService({
    border: borderOf(),
    authorize: authorizeAll,
    audit: (record) => audit.push(record),
    definitions: { topics: () => [{ name: ORDERS, ...TOPICS[0]! }].values() as never },
    cluster: membership,
    routes,
    ownership: connection.stores.ownership,
  });
}

function call<M extends DescMethod>(
  service: GrpcService,
  method: M,
  request: MessageInitShape<M['input']>,
): Promise<MessageShape<M['output']>> {
  const handler = service.handlers[method.localName] as (
    call: unknown,
    answer: (error: unknown, bytes: Buffer) => void,
  ) => void;
  const bytes = Buffer.from(toBinary(method.input, create(method.input, request)));
  return new Promise((resolve, reject) => {
    handler(Object.assign(new EventEmitter(), { request: bytes, getPath: () => '' }), (error, answer) =>
      error ? reject(error) : resolve(fromBinary(method.output, answer) as MessageShape<M['output']>),
    );
  });
}

test('tells members, owners, epochs and moves; the same from every member', async () => {
  const rig = new KeeperRig(TOPICS);
  const [a] = await rig.open('a');
  await rig.converge();
  const [b] = await rig.join('b');
  await rig.converge();
  await rig.clock.advance(1_000);
  const answer = await rig.resolved(call(serviceOf(b!), getCluster, { includePartitions: true }));
  expect(answer).toMatchObject({
    clusterId: CLUSTER,
    coordinator: 'a',
    coordinatorTerm: 1n,
    assignmentVersion: 2n,
  });
  expect(answer.brokers).toMatchObject([
    {
      name: 'a',
      id: a!.id,
      address: 'a:7443',
      version: 'test',
      draining: false,
      assignedPartitions: a!.ownership.owned,
    },
    { name: 'b', id: b!.id, assignedPartitions: b!.ownership.owned },
  ]);
  expect(answer.partitions.map(({ partition }) => partition)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  for (const { topic, partition, assigned, owner, ownerEpoch } of answer.partitions) {
    const member = b!.host.owned.has(`1.${partition}`) ? 'b' : 'a';
    expect({ topic, assigned, owner }).toEqual({ topic: ORDERS, assigned: member, owner: member });
    expect(ownerEpoch).toBe(member === 'b' ? 2n : 1n);
  }
  const brief = await rig.resolved(call(serviceOf(a!), getCluster, {}));
  expect(brief.partitions).toEqual([]);
  expect(brief.recentMoves).toHaveLength(8 + b!.ownership.owned);
  expect(brief.recentMoves[0]).toMatchObject({ topic: ORDERS, from: 'a', to: 'b', reason: 'joined' });
});

test('drains and revokes, and refuses what would leave nobody', async () => {
  const rig = new KeeperRig(TOPICS);
  const [a, b] = await rig.open('a', 'b');
  await rig.converge();
  const audit: AuditRecord[] = [];
  const service = serviceOf(a!, audit);
  const drain = (name: string, revoke = false) => rig.resolved(call(service, drainBroker, { name, revoke }));
  await expect(drain('nobody')).rejects.toEqual(failing(5, 'there are a, b'));
  await drain('b');
  await drain('b');
  await rig.clock.runUntil(() => b!.ownership.owned === 0, 1_000);
  await rig.converge();
  const { brokers } = await rig.resolved(call(service, getCluster, {}));
  expect(brokers.map(({ draining, assignedPartitions }) => [draining, assignedPartitions])).toEqual([
    [false, 8],
    [true, 0],
  ]);
  await expect(drain('a')).rejects.toEqual(failing(9, 'the last broker that is not drained'));
  rig.crash(b!);
  await rig.converge();
  // The broker is gone, but its name is still drained.
  await drain('b', true);
  await rig.clock.advance(1_000);
  await expect(drain('b', true)).rejects.toEqual(failing(5, 'no living broker'));
  expect(audit.map(({ resource, result }) => `${resource} ${result}`)).toEqual([
    'cluster/brokers/nobody NOT_FOUND',
    'cluster/brokers/b OK',
    'cluster/brokers/b OK',
    'cluster/brokers/a FAILED_PRECONDITION',
    'cluster/brokers/b OK',
    'cluster/brokers/b NOT_FOUND',
  ]);
});

test('before it has joined a broker says so', async () => {
  const rig = new KeeperRig(TOPICS);
  await rig.open();
  await expect(call(serviceOf(rig.begin('a')), getCluster, {})).rejects.toEqual(failing(14, 'not joined'));
});

test('too many partitions for one answer are refused, in words that help', async () => {
  const rig = new KeeperRig(TOPICS);
  const [a] = await rig.open('a');
  const service = clusterService({
    border: borderOf(),
    authorize: authorizeAll,
    audit: () => {},
    definitions: { topics: () => [{ name: ORDERS, logEpoch: 1, partitions: 100_000 }].values() as never },
    cluster: a!.membership,
    routes: a!.routes,
    ownership: a!.connection.stores.ownership,
  });
  await expect(call(service, getCluster, { includePartitions: true })).rejects.toEqual(
    failing(8, '100000 partitions'),
  );
});

test('a broker that is alone owns everything and can not be drained', async () => {
  const { ownership } = createMemoryStore();
  await ownership.acquire({ logEpoch: 1, partition: 0 });
  const load = () => ({ partitions: 1, consumers: 2, publishedPerSecond: 3, deliveredPerSecond: 4 });
  const address = () => 'alone:7443';
  const service = clusterService({
    border: borderOf(),
    authorize: authorizeAll,
    audit: () => {},
    definitions: { topics: () => [{ name: ORDERS, logEpoch: 1, partitions: 1 }].values() as never },
    cluster: soleCluster({ id: 'this-broker', name: 'alone', version: '1', address, load }),
    routes: soleRoutes({ selfId: 'this-broker', name: () => 'alone', address, ownerEpochOf: () => 1 }),
    ownership,
  });
  const answer = await call(service, getCluster, { includePartitions: true });
  expect(answer).toMatchObject({
    clusterId: '',
    coordinator: 'alone',
    brokers: [{ name: 'alone', assignedPartitions: 1, ownedPartitions: 1, consumers: 2 }],
    partitions: [{ topic: ORDERS, partition: 0, assigned: 'alone', owner: 'alone', ownerEpoch: 1n }],
  });
  await expect(call(service, drainBroker, { name: 'alone' })).rejects.toEqual(failing(9, 'the last broker'));
});

test('routes are told at once and after changes that concern the topic, and only after those', async () => {
  const rig = new KeeperRig([]);
  const [a] = await rig.open('a');
  const definitions = new Definitions({
    store: createMemoryStore().definitions,
    clock: rig.clock,
    durability: { supported: ['stored'], default: 'stored' },
    currentEnds: async () => [0],
    audit: () => {},
    onWarning: () => {},
  });
  await definitions.load();
  const { logEpoch } = await definitions.createTopic('me', { name: ORDERS, partitions: 4 });
  rig.topics.change([{ logEpoch, partitions: 4 }]);
  await rig.converge();
  const { routes } = a!;
  const service = routingService({
    border: borderOf(),
    authorize: authorizeAll,
    definitions,
    watches: new WatchSlots({ max: 1, maxPerPrincipal: 1, reserved: 0 }),
    routes,
  });
  const first = await call(service, Routing.method.getRoutes, { topic: ORDERS });
  expect(first.routes).toMatchObject(
    [0, 1, 2, 3].map((partition) => ({ partition, address: 'a:7443', ownerEpoch: 2n })),
  );

  const answers: (typeof first)['routes'][] = [];
  const { watchRoutes } = Routing.method;
  const stream = Object.assign(new EventEmitter(), {
    request: Buffer.from(toBinary(watchRoutes.input, create(watchRoutes.input, { topic: ORDERS }))),
    getPath: () => '',
    write: (bytes: Buffer, done: () => void) => {
      answers.push(fromBinary(watchRoutes.output, bytes).routes);
      done();
    },
    end: () => {},
  });
  (service.handlers.watchRoutes as (call: unknown) => void)(stream);
  await rig.clock.advance(10);
  expect(answers).toEqual([first.routes]);
  rig.topics.change([...rig.topics.list, { logEpoch: logEpoch + 1, partitions: 4 }]);
  await rig.converge();
  await rig.clock.advance(1_000);
  expect(answers).toHaveLength(1);
  await rig.join('b');
  await rig.converge();
  await rig.clock.advance(10);
  const moved = answers.at(-1)!.filter(({ address }) => address === 'b:7443');
  expect(moved.length).toBeGreaterThan(0);
  for (const { ownerEpoch } of moved) expect(ownerEpoch).toBeGreaterThan(2n);
  stream.emit('cancelled');
});
