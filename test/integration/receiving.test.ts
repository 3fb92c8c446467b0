// What requests bring before a handler has taken them is counted, and bounded for a connection, a principal
// and the broker, at a real server with TLS. It fails when grpc-js is built otherwise than receiving.ts knows
// it.
import type { ClientHttp2Stream } from 'node:http2';
import { fromBinary } from '@bufbuild/protobuf';
import { beforeAll, expect, test } from 'vitest';
import { issueClient, issueServer } from '../../services/certs/issue.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { Publisher, PublishStreamResponseSchema } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { heldAppends, TOPIC } from '../support/engine-rig.ts';
import { outcomeOf } from '../support/fuzz-connection.ts';
import { framed } from '../support/fuzz-mutate.ts';
import { type Authority, createAuthority, startGrpcRig } from '../support/grpc-rig.ts';
import { frameOf, PlainConnection, startLimitsRig } from '../support/limits-rig.ts';
import { untilPasses } from '../support/until.ts';

const KIB = 1024;
const RECEIVING = {
  maxBytes: 300 * KIB,
  maxBrokerBytes: 100 * KIB,
  maxPrincipalBytes: 200 * KIB,
  maxConnectionBytes: 100 * KIB,
  freeConnectionBytes: 8 * KIB,
  arrivalMs: 60_000,
};
const { publish, publishStream } = Publisher.method;

let authority: Authority;
beforeAll(async () => {
  authority = await createAuthority();
});

const clientOf = async (principal: string): Promise<Authority> => ({
  ...authority,
  client: await issueClient(authority.ca, { principal }),
});

/** Sends most of a request of that length. */
function half(connection: PlainConnection, bytes: number): ClientHttp2Stream {
  const stream = connection.start(publish);
  stream.write(framed(Buffer.alloc(bytes)).subarray(0, bytes - 100));
  return stream;
}

test('requests that have not arrived whole fill a connection, a principal, the broker, and nobody else', async () => {
  const isBroker = (principal: string): boolean => principal.endsWith('/broker/b');
  await using rig = await startLimitsRig(authority, {
    server: { limits: { receiving: RECEIVING }, isBroker },
  });
  const { address, server } = rig.grpc;
  const opened: PlainConnection[] = [];
  const openAs = async (as: Authority): Promise<PlainConnection> => {
    const connection = await PlainConnection.open(as, address);
    opened.push(connection);
    return connection;
  };
  const open = async (principal: string) => openAs(await clientOf(principal));
  const [first, second, third] = [await open('alice'), await open('alice'), await open('alice')];
  const other = await open('bob');
  const broker = await openAs({ ...authority, client: await issueServer(authority.ca, { broker: 'b' }) });
  const refused = async (stream: ClientHttp2Stream, details: string) =>
    expect(await outcomeOf(stream)).toMatchObject({
      end: 'RESOURCE_EXHAUSTED',
      details: expect.stringContaining(details),
    });
  half(first, 60 * KIB);
  await refused(half(first, 60 * KIB), 'this connection has');
  half(second, 90 * KIB);
  await untilPasses(() => expect(server.receiving.bytes).toBeGreaterThan(145 * KIB));
  await refused(half(third, 90 * KIB), 'spiffe://fanfare/alice has');
  half(other, 90 * KIB);
  await untilPasses(() => expect(server.receiving.bytes).toBeGreaterThan(235 * KIB));
  const fourth = await open('carol');
  await refused(half(fourth, 90 * KIB), 'this broker has');
  // What is kept for brokers is there.
  half(broker, 90 * KIB);
  await untilPasses(() => expect(server.receiving.bytes).toBeGreaterThan(325 * KIB));
  // Who sends little is served meanwhile.
  const small = fourth
    .start(Admin.method.listTopics)
    .end(frameOf(Admin.method.listTopics, { parent: 'projects/p' }));
  expect(await outcomeOf(small)).toMatchObject({ end: 'OK' });
  await Promise.all(opened.map((connection) => connection[Symbol.asyncDispose]()));
  await untilPasses(() => expect(server.receiving.bytes).toBe(0));
});

test('a request that takes too long to arrive is ended, and one that goes on although it was refused is cut', async () => {
  const limits = { receiving: { ...RECEIVING, arrivalMs: 100 } };
  await using rig = await startLimitsRig(authority, { server: { limits } });
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const late = { end: 'DEADLINE_EXCEEDED', details: 'the request did not arrive whole within 0.1 s' };
  const begun = half(connection, 10 * KIB);
  expect(await outcomeOf(begun)).toMatchObject(late);
  // Whole, but its client never says so.
  const open = connection.start(publish);
  open.write(frameOf(publish, { topic: TOPIC, messages: [{ data: Buffer.from('x') }] }));
  expect(await outcomeOf(open)).toMatchObject(late);
  const stream = connection.start(publishStream);
  stream.write(frameOf(publishStream, { topic: TOPIC, messages: [{ data: Buffer.from('x') }] }));
  stream.write(framed(Buffer.alloc(10 * KIB)).subarray(0, KIB));
  expect(await rig.during(outcomeOf(stream))).toMatchObject(late);
  expect(rig.grpc.server.receiving.bytes).toBe(0);
  await untilPasses(() => expect([begun.closed, open.closed, stream.closed]).toEqual([true, true, true]));
});

test('a stream that is quiet between requests is not late', async () => {
  const limits = { receiving: { ...RECEIVING, arrivalMs: 50 } };
  await using rig = await startLimitsRig(authority, { server: { limits } });
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const stream = connection.start(publishStream);
  const request = frameOf(publishStream, { topic: TOPIC, messages: [{ data: Buffer.from('x') }] });
  let answers = 0;
  const outcome = outcomeOf(stream, { onMessage: () => (answers += 1) });
  const middle = request.length >> 1;
  stream.write(request.subarray(0, middle));
  stream.write(request.subarray(middle));
  await rig.during(untilPasses(() => expect(answers).toBe(1)));
  // Once that one is late, the stream has been quiet for long enough.
  expect(await outcomeOf(half(connection, KIB))).toMatchObject({ end: 'DEADLINE_EXCEEDED' });
  stream.end(request);
  expect(await rig.during(outcome)).toMatchObject({ end: 'OK' });
  expect(answers).toBe(2);
});

test('what a stream has sent counts until its handler takes it', async () => {
  const { between, letGo } = heldAppends();
  await using rig = await startLimitsRig(authority, { engine: { between } });
  const { receiving } = rig.grpc.server;
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const stream = connection.start(publishStream);
  const outcome = outcomeOf(stream);
  const request = frameOf(publishStream, { topic: TOPIC, messages: [{ data: Buffer.alloc(1_000 * KIB) }] });
  // The handler takes 8 MiB, and reads no more until they are answered.
  for (let sent = 0; sent < 12; sent += 1) stream.write(request);
  // One is read ahead, and what came with it of the next.
  await untilPasses(() => expect(receiving.bytes).toBeGreaterThanOrEqual(request.length));
  await connection.ping();
  expect(receiving.bytes).toBeLessThan(request.length + 100 * KIB);
  stream.end();
  letGo();
  const { end, messages } = await rig.during(outcome);
  expect({ end, messages: messages.length }).toEqual({ end: 'OK', messages: 12 });
  expect(messages.map((bytes) => fromBinary(PublishStreamResponseSchema, bytes).error)).toEqual(
    Array(12).fill(undefined),
  );
  await untilPasses(() => expect(receiving.bytes).toBe(0));
});

test('a compressed request is refused before its body', async () => {
  await using rig = await startGrpcRig(authority);
  await using connection = await PlainConnection.open(authority, rig.address);
  const stream = connection.session.request({
    ':method': 'POST',
    ':path': '/fanfare.v1.Admin/ListTopics',
    'content-type': 'application/grpc',
    'grpc-encoding': 'gzip',
    te: 'trailers',
  });
  // Nothing of it has been sent.
  expect(await outcomeOf(stream)).toMatchObject({
    end: 'UNIMPLEMENTED',
    details: 'compressed requests are not taken: send them with grpc-encoding identity',
  });
  stream.close();
  const flagged = connection.start(Admin.method.listTopics);
  flagged.end(framed(Buffer.from('x'), 1));
  expect(await outcomeOf(flagged)).toMatchObject({ end: 'UNIMPLEMENTED' });
});
