// Links between brokers as they really are: gRPC over mutual TLS with the brokers' certificates, engines over
// one memory store.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { Identity } from '../../services/broker/adapters/grpc/identity.ts';
import { peerService } from '../../services/broker/adapters/grpc/peer.ts';
import { peerConnector } from '../../services/broker/adapters/grpc/peer-connector.ts';
import { RpcBorder } from '../../services/broker/adapters/grpc/rpc.ts';
import { GrpcServer } from '../../services/broker/adapters/grpc/server.ts';
import { openServerTls } from '../../services/broker/adapters/grpc/tls.ts';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { TestClient } from '../support/grpc-rig.ts';
import { createSharedMemory, move, PROJECT, RelayNode, TestRoutes } from '../support/relay-rig.ts';
import { untilPasses } from '../support/until.ts';

interface Linked extends AsyncDisposable {
  readonly node: RelayNode;
  /** The proxy before the server, to which other brokers connect. */
  readonly proxy: FaultProxy;
  readonly refused: { principal: string; address: string }[];
}

const isBroker = (principal: string): boolean => principal.startsWith('spiffe://fanfare/broker/');

let ca: CertificatePair;
let dir: string;
let stack: AsyncDisposableStack;
let routes: TestRoutes;
let memory: ReturnType<typeof createSharedMemory>;

beforeAll(async () => {
  ca = await createCa();
});

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  dir = await mkdtemp(join(tmpdir(), 'fanfare-peer-'));
  stack.defer(() => rm(dir, { recursive: true }));
  routes = new TestRoutes();
  memory = createSharedMemory();
});

afterEach(() => stack.disposeAsync());

async function writeCertificate(name: string, pair: CertificatePair) {
  const files = { cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`), ca: join(dir, 'ca.crt') };
  await writeFile(files.cert, pair.cert);
  await writeFile(files.key, pair.key);
  await writeFile(files.ca, ca.cert);
  return files;
}

async function start(id: string, pair?: CertificatePair): Promise<Linked> {
  const files = await writeCertificate(id, pair ?? (await issueServer(ca, { broker: id })));
  const clock = nodeClock;
  const connector = peerConnector({ selfId: id, clock, tls: files, isBroker });
  const node = new RelayNode({ id, clock, memory, routes, connector });
  const tls = await openServerTls({ files, clock, onReload: () => {}, onProblem: () => {} });
  const border = new RpcBorder({
    identity: new Identity({ plaintext: false }),
    clock,
    random: () => 0,
    maxStreamAgeMs: 60_000,
    onUnexpected: (error) => node.logs.push(`unexpected ${error}`),
  });
  const refused: Linked['refused'] = [];
  const server = new GrpcServer({
    border,
    clock,
    credentials: tls.credentials,
    keepaliveMs: 30_000,
    services: [
      peerService({
        border,
        clock,
        selfId: id,
        isBroker,
        onRefused: (caller) => refused.push(caller),
        accept: (link, relay) => node.peers.accept(link, relay),
      }),
    ],
  });
  const port = await server.bind({ host: '127.0.0.1', port: 0 });
  const proxy = await startFaultProxy(`127.0.0.1:${port}`);
  routes.add(id, proxy.address);
  await node.start();
  return stack.use({
    node,
    proxy,
    refused,
    async [Symbol.asyncDispose]() {
      await node.broker.stop();
      node.peers.close();
      await server.drain({ timeoutMs: 1_000, before: () => {}, after: () => {} });
      tls.close();
      await proxy[Symbol.asyncDispose]();
    },
  });
}

async function topic(linked: readonly Linked[], partitions: number, owner: (p: number) => number) {
  const ids = await linked[0]!.node.createTopic(partitions);
  for (const { node } of linked) await node.definitions.refresh();
  for (const id of ids) {
    const { node } = linked[owner(id.partition)]!;
    routes.set(id, node.id);
    await node.own(id);
  }
  return ids;
}

async function subscriptions(linked: readonly Linked[], ...names: string[]): Promise<void> {
  for (const name of names) await linked[0]!.node.createSubscription(name);
  for (const { node } of linked) await node.definitions.refresh();
}

async function trio(partitions: number, owner: (p: number) => number): Promise<[Linked[], PartitionId[]]> {
  const linked = [await start('x'), await start('y'), await start('z')];
  return [linked, await topic(linked, partitions, owner)];
}

const keyed = (count: number, from = 0) =>
  Array.from({ length: count }, (_, at) => ({ data: `${from + at}`, key: `${at % 7}` }));

test('publish, subscribe and acknowledge over links, and while a partition moves', async () => {
  const [linked, ids] = await trio(4, (p) => p % 3);
  const [x, y, z] = linked.map(({ node }) => node) as [RelayNode, RelayNode, RelayNode];
  await subscriptions(linked, 'audit');
  const consumer = x.subscribe('audit');
  const publishing: Promise<void>[] = [];
  for (let turn = 0; turn < 20; turn += 1) {
    publishing.push([x, y, z][turn % 3]!.publish(keyed(50, turn * 50)));
    if (turn === 10) await move(routes, ids[1]!, y, z);
    if (turn === 15) await move(routes, ids[2]!, z, x);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(publishing);
  await untilPasses(() => expect(new Set(consumer.data).size).toBe(1_000));
  await untilPasses(async () => {
    const [report] = await x.backlog.report(PROJECT, []);
    expect(report).toMatchObject({ messages: 0, outstandingMessages: 0 });
  });
  expect(consumer.messages).toHaveLength(1_000);
  expect(linked.flatMap(({ node }) => node.logs.filter((line) => line.startsWith('unexpected')))).toEqual([]);
});

test('bytes cross once: 64 subscriptions behind a relay cost little more than one', async () => {
  const linked = [await start('x'), await start('y')];
  await topic(linked, 4, () => 1);
  const names = Array.from({ length: 64 }, (_, at) => `sub-${at}`);
  await subscriptions(linked, ...names);
  const [x, y] = linked as [Linked, Linked];
  const consumers = names.map((name) => x.node.subscribe(name));
  const payload = 'x'.repeat(1_000);
  const messages = 4_000;
  const { broker } = y.node;
  const joined = (name: string): number => broker.runtimeOf(`${PROJECT}/subscriptions/${name}`).consumers;
  await untilPasses(() => expect(names.map(joined)).toEqual(names.map(() => 1)));
  const before = { ...y.proxy.bytes };
  for (let sent = 0; sent < messages; sent += 200)
    await y.node.publish(Array.from({ length: 200 }, (_, at) => ({ data: payload, key: `${at}` })));
  await untilPasses(() =>
    expect(consumers.every((consumer) => consumer.messages.length === messages)).toBe(true),
  );
  const sent = y.proxy.bytes.toClient - before.toClient;
  const ratio = sent / (messages * payload.length);
  console.log(`owner to relay: ${sent} bytes, ${ratio.toFixed(3)} × the payload, for 64 subscriptions`);
  expect(ratio).toBeLessThanOrEqual(1.2);
}, 60_000);

test('only a broker opens a link, and only to the broker that it means', async () => {
  const { proxy, refused, node } = await start('y');
  const call = (pair: CertificatePair) => {
    const client = new TestClient(proxy.address.replace('127.0.0.1', 'localhost'), pair, ca);
    stack.defer(() => client.close());
    const link = client.makeBidiStreamRequest('/fanfare.peer.v1.Peer/Link', Buffer.from, Buffer.from);
    link.on('data', () => {});
    return new Promise<number>((resolve) =>
      link.on('error', (error: { code?: number }) => resolve(error.code ?? -1)),
    );
  };
  expect(await call(await issueClient(ca, { principal: 'mallory' }))).toBe(status.PERMISSION_DENIED);
  expect(refused).toMatchObject([{ principal: 'spiffe://fanfare/mallory' }]);
  // A server's certificate that names only hosts is no broker's either.
  expect(await call(await issueServer(ca))).toBe(status.PERMISSION_DENIED);
  expect(await call(await issueServer(ca, { broker: 'x' }))).toBe(status.INVALID_ARGUMENT);
  const files = await writeCertificate('x', await issueServer(ca, { broker: 'x' }));
  const reason = await closedReason(files, proxy.address, 'another');
  expect(reason).toContain('this is broker y, not another');
  expect(node.peers.links).toBe(0);
});

test('a relay talks to brokers only, whatever else the CA has signed', async () => {
  const impostor = await start('impostor', await issueServer(ca));
  const files = await writeCertificate('x', await issueServer(ca, { broker: 'x' }));
  expect(await closedReason(files, impostor.proxy.address, 'impostor')).toContain('no broker');
  // Nor does a relay talk to a broker whose certificate is for another host.
  const elsewhere = await start('y');
  const byName = elsewhere.proxy.address.replace('127.0.0.1', '127.0.0.2');
  expect(await closedReason(files, byName, 'y')).not.toBe('');
});

test('a half-open link is given up within two seconds, and another one takes its place', async () => {
  const [linked] = await trio(1, () => 1);
  const [x, y] = linked as [Linked, Linked];
  await subscriptions(linked, 'audit');
  const consumer = x.node.subscribe('audit');
  await x.node.publish(keyed(1));
  await untilPasses(() => expect(consumer.messages).toHaveLength(1));
  y.proxy.set('both', { holds: true });
  const beganMs = performance.now();
  await expect(x.node.publish(keyed(1, 1))).rejects.toThrow('may have been stored');
  const tookMs = performance.now() - beganMs;
  console.log(`a half-open link was given up after ${Math.round(tookMs)} ms`);
  expect(tookMs).toBeLessThan(4_000);
  y.proxy.cut();
  y.proxy.heal();
  await x.node.publish(keyed(1, 2));
  await untilPasses(() => expect(consumer.data).toContain('2'));
}, 30_000);

function closedReason(
  files: { cert: string; key: string; ca: string },
  address: string,
  memberId: string,
): Promise<string> {
  const connector = peerConnector({ selfId: 'x', clock: nodeClock, tls: files, isBroker });
  return new Promise((resolve) => {
    const link = connector.connect(address, memberId, {
      answer: () => resolve('it was answered'),
      writableAgain: () => {},
      closed: resolve,
    });
    link.send({ kind: 'backlog', call: 0, parent: '', names: [] });
  });
}
