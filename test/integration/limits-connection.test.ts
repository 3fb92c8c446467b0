// What a connection, its streams, and all watchers together may take, each bound of limits.ts reached: at the
// real server, over an engine on virtual time. test/unit/limits.test.ts has the list of all bounds.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { fromBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { openServerTls, type ServerTlsOptions } from '../../services/broker/adapters/grpc/tls.ts';
import {
  CONNECTION_SWEEP_MS,
  CONNECTION_WINDOW_BYTES,
  HTTP2_PREFACE_TIMEOUT_MS,
  KEEPALIVE_TIMEOUT_MS,
  MAX_CONNECTION_IDLE_MS,
  MAX_OUTBOX_BYTES,
  MAX_PUBLISH_STREAM_BYTES,
  MAX_STREAMS_PER_CONNECTION,
  MAX_WATCHES_PER_PRINCIPAL,
  SLOW_CONSUMER_AFTER_MS,
  STREAM_WINDOW_BYTES,
  TLS_HANDSHAKE_TIMEOUT_MS,
  TLS_RELOAD_INTERVAL_MS,
  WATCH_LIMITS,
} from '../../services/broker/limits.ts';
import { issueServer } from '../../services/certs/issue.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { Publisher, PublishStreamResponseSchema } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { Routing } from '../../services/gen/fanfare/v1/routing_pb.ts';
import { Subscriber } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { heldAppends, SUBSCRIPTION, TOPIC } from '../support/engine-rig.ts';
import { outcomeOf } from '../support/fuzz-connection.ts';
import { type Authority, createAuthority, startGrpcRig } from '../support/grpc-rig.ts';
import { frameOf, PlainConnection, startLimitsRig } from '../support/limits-rig.ts';
import { untilPasses } from '../support/until.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Buffers of sockets and streams beside HTTP/2's windows. */
const ON_THE_WAY_BYTES = 256 * KIB;
/** So many answered pings, and nothing happened: nothing is going to. */
const PATIENCE_PINGS = 50;
/** services/DESIGN.md, "Memory". */
const OUTBOX_WRITES = 64;

let authority: Authority;
beforeAll(async () => {
  authority = await createAuthority();
});

/** Resolves to whether it has come true before the server had answered many pings. */
async function comesTrue(connection: PlainConnection, condition: () => boolean): Promise<boolean> {
  for (let pings = 0; pings < PATIENCE_PINGS && !condition(); pings += 1) await connection.ping();
  return condition();
}

test('a publish stream that its client has ended is answered to the last, and ends then', async () => {
  const { between, letGo } = heldAppends();
  await using rig = await startLimitsRig(authority, { engine: { between } });
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const { publishStream } = Publisher.method;
  const stream = connection.start(publishStream);
  const outcome = outcomeOf(stream);
  stream.end(frameOf(publishStream, { topic: TOPIC, messages: [{ data: Buffer.from('last') }] }));
  let ended = false;
  void outcome.then(() => {
    ended = true;
  });
  expect(await comesTrue(connection, () => ended)).toBe(false);
  letGo();
  const { end, messages } = await rig.during(outcome);
  expect({ end, messages: messages.length }).toEqual({ end: 'OK', messages: 1 });
});

test('a publish stream whose requests are not answered is read up to its bound, and on when they are', async () => {
  const { between, letGo } = heldAppends();
  await using rig = await startLimitsRig(authority, { engine: { between } });
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const { publishStream } = Publisher.method;
  const stream = connection.start(publishStream);
  const outcome = outcomeOf(stream);
  const request = frameOf(publishStream, { topic: TOPIC, messages: [{ data: Buffer.alloc(MIB) }] });
  let written = 0;
  let taken = 0;
  do {
    written += 1;
    stream.write(request, () => {
      taken += 1;
    });
  } while (written < 40 && (await comesTrue(connection, () => taken === written)));
  // One request fills it, one more is read ahead, and what the window takes is received.
  expect(taken * request.length).toBeGreaterThanOrEqual(MAX_PUBLISH_STREAM_BYTES);
  expect(taken * request.length).toBeLessThan(
    MAX_PUBLISH_STREAM_BYTES + 2 * request.length + STREAM_WINDOW_BYTES + ON_THE_WAY_BYTES,
  );
  stream.end();
  letGo();
  const { end, messages } = await rig.during(outcome);
  expect(end).toBe('OK');
  const answers = messages.map((bytes) => fromBinary(PublishStreamResponseSchema, bytes));
  expect(answers.map(({ error }) => error)).toEqual(Array(written).fill(undefined));
});

test('a connection has so many streams, the next one waits for a place; all watchers of a client together are as many', {
  timeout: 60_000,
}, async () => {
  await using rig = await startGrpcRig(authority, { watches: WATCH_LIMITS, clock: new VirtualClock() });
  const topic = 'projects/p/topics/orders';
  await rig.definitions.createTopic('test', { name: topic });
  await using connection = await PlainConnection.open(authority, rig.address);
  expect(connection.session.remoteSettings.maxConcurrentStreams).toBe(MAX_STREAMS_PER_CONNECTION);
  const { watchBacklog } = Admin.method;
  const { watchRoutes } = Routing.method;
  const watch = (on: PlainConnection) =>
    on.start(watchBacklog).end(frameOf(watchBacklog, { parent: 'projects/p' }));
  const shortest = connection.start(watchRoutes).end(frameOf(watchRoutes, { topic }));
  const others = Array.from({ length: MAX_STREAMS_PER_CONNECTION - 1 }, () => watch(connection));
  await Promise.all([shortest, ...others].map((stream) => once(stream, 'data')));

  let heard = false;
  const waiting = watch(connection);
  const first = once(waiting, 'data').then(() => {
    heard = true;
  });
  await using elsewhere = await PlainConnection.open(authority, rig.address);
  expect(await outcomeOf(watch(elsewhere))).toMatchObject({
    end: 'RESOURCE_EXHAUSTED',
    details: `spiffe://fanfare/tester has ${MAX_WATCHES_PER_PRINCIPAL} streams that watch, which is the limit: watch several resources on one stream`,
  });
  expect(await comesTrue(connection, () => heard)).toBe(false);
  expect(rig.backlog.listeners.size).toBe(MAX_STREAMS_PER_CONNECTION - 1);
  await rig.definitions.deleteTopic('test', topic, { force: false });
  await first;
  expect(rig.backlog.listeners.size).toBe(MAX_STREAMS_PER_CONNECTION);
  expect(rig.unexpected).toEqual([]);
});

test('what may be sent on a connection before it is read', async () => {
  await using rig = await startLimitsRig(authority);
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const window = (): number => connection.session.state.remoteWindowSize!;
  const stream = connection.start(Admin.method.listTopics);
  await outcomeOf(stream.end(frameOf(Admin.method.listTopics, { parent: 'projects/p' })));
  await connection.ping();
  // Only those that publish have much to say at once.
  expect(window()).toBeLessThan(128 * KIB);
  await outcomeOf(connection.start(Publisher.method.publish).end(frameOf(Publisher.method.publish, {})));
  await connection.ping();
  const remoteWindowSize = window();
  // The call's own bytes are given back in lots.
  expect(remoteWindowSize).toBeGreaterThan(CONNECTION_WINDOW_BYTES - KIB);
  expect(remoteWindowSize).toBeLessThanOrEqual(CONNECTION_WINDOW_BYTES);
});

test('a consumer that reads nothing is given as much as its outbox holds, and is told so in the end', async () => {
  await using rig = await startLimitsRig(authority);
  const { broker, clock, publish } = rig.engine;
  await using connection = await PlainConnection.open(authority, rig.grpc.address, 0);
  const stream = connection.start(Subscriber.method.subscribe);
  stream.write(frameOf(Subscriber.method.subscribe, { subscription: SUBSCRIPTION }));
  await untilPasses(() => expect(broker.stats.consumers).toBe(1));
  const size = 100_000;
  for (let nth = 0; nth < 40; nth += 1) {
    void publish('x'.repeat(size));
    await clock.settle();
  }
  // The last one only has to begin within it.
  const inOutbox = Math.ceil(MAX_OUTBOX_BYTES / (size + 60));
  expect(broker.stats.deliveredMessages).toBe(inOutbox);
  expect(broker.stats.slowConsumers).toBe(0);
  await clock.advance(SLOW_CONSUMER_AFTER_MS - 1);
  expect(broker.stats.slowConsumers).toBe(0);
  await clock.advance(1);
  expect(broker.stats.slowConsumers).toBe(1);
  // Others get what it has, whether or not it ever hears of its end.
  expect(broker.stats.consumers).toBe(0);

  const outcome = outcomeOf(stream);
  connection.session.settings({ initialWindowSize: 16 * MIB });
  connection.session.setLocalWindowSize(16 * MIB);
  expect(await outcome).toMatchObject({
    end: 'RESOURCE_EXHAUSTED',
    details: 'SLOW_CONSUMER: nothing was read for 60 s while messages were waiting',
  });
  expect(broker.stats.deliveredMessages).toBe(inOutbox);
});

test('a consumer that reads nothing has so many small writes under way', async () => {
  await using rig = await startLimitsRig(authority);
  const { broker, clock, publish } = rig.engine;
  await using connection = await PlainConnection.open(authority, rig.grpc.address, 0);
  const stream = connection.start(Subscriber.method.subscribe);
  stream.write(frameOf(Subscriber.method.subscribe, { subscription: SUBSCRIPTION }));
  await untilPasses(() => expect(broker.stats.consumers).toBe(1));
  for (let nth = 0; nth < 100; nth += 1) {
    void publish('x');
    await clock.settle();
  }
  // The first write is what the subscription is like.
  expect(broker.stats.deliveredMessages).toBe(OUTBOX_WRITES - 1);
});

test('certificates are looked at so often', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-limits-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const files = { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key'), ca: join(dir, 'ca.crt') };
  const place = async ({ cert, key }: Authority['server']): Promise<void> => {
    await Promise.all([writeFile(files.cert, cert), writeFile(files.key, key)]);
  };
  await writeFile(files.ca, authority.ca.cert);
  await place(authority.server);
  const reloaded = Promise.withResolvers<void>();
  let reloads = 0;
  const clock = new VirtualClock();
  // The certificate is of now, the clock of some other day.
  clock.jumpWallClock(Date.now() - clock.nowMs());
  const options: ServerTlsOptions = {
    files,
    clock,
    onReload: () => {
      reloads += 1;
      reloaded.resolve();
    },
    onProblem: reloaded.reject,
  };
  const tls = await openServerTls(options);
  onTestFinished(() => tls.close());
  await place(await issueServer(authority.ca));
  await clock.advance(TLS_RELOAD_INTERVAL_MS - 1);
  expect([reloads, clock.timerCount]).toEqual([0, 1]);
  await clock.advance(1);
  await reloaded.promise;
  expect(reloads).toBe(1);
});

test('so long TLS may take, and so long the first words of HTTP/2', async () => {
  const clock = new VirtualClock();
  clock.jumpWallClock(Date.now() - clock.nowMs());
  const rig = await startGrpcRig(authority, { server: { clock } });
  const port = Number(rig.address.split(':')[1]);
  const { ca, client } = authority;
  const silent = connectTcp(port, '127.0.0.1').resume();
  const secured = connectTls({
    ...{ host: 'localhost', port, ca: ca.cert, cert: client.cert, key: client.key },
    ALPNProtocols: ['h2'],
  }).resume();
  for (const socket of [silent, secured]) socket.on('error', () => {});
  await once(secured, 'secureConnect');
  await untilPasses(() => expect(rig.server.connections.counts.open).toBe(2));
  const { counts } = rig.server.connections;
  await clock.advance(TLS_HANDSHAKE_TIMEOUT_MS - 1);
  expect(counts.ended).toBe(0);
  await clock.advance(CONNECTION_SWEEP_MS);
  expect(counts.ended).toBe(1);
  await once(silent, 'close');
  await clock.advance(HTTP2_PREFACE_TIMEOUT_MS - CONNECTION_SWEEP_MS);
  expect(counts.ended).toBe(1);
  await clock.advance(CONNECTION_SWEEP_MS);
  expect(counts.ended).toBe(2);
  await once(secured, 'close');
  // Its clock stands still by itself.
  const stopped = rig[Symbol.asyncDispose]();
  await clock.advance(1);
  await stopped;
});

test('times that are the transport’s to keep are given to it', async () => {
  const seen: unknown[] = [];
  const addService = vi.spyOn(grpc.Server.prototype, 'addService').mockImplementation(function (
    this: grpc.Server,
    ...args
  ) {
    seen.push(this);
    addService.mockRestore();
    this.addService(...args);
  });
  await using _rig = await startGrpcRig(authority);
  // grpc-js' own default is the same time.
  const options = expect.objectContaining({
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.max_connection_idle_ms': MAX_CONNECTION_IDLE_MS,
  });
  expect(seen).toEqual([expect.objectContaining({ options })]);
});
