// Guarantee: bad input harms nobody. A real broker is sent well over 100,000 malformed and hostile requests
// and frames, on every RPC and beneath them. Each gets a proper status or a closed stream or connection, the
// broker's memory stays bounded, nothing in it fails unexpectedly, and a well-behaved publisher and
// subscriber beside it notice nothing.
//
// SEED= replays what is sent, though not how the broker's turns fall. The last test judges all of it.
import { gzipSync } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAX_RECEIVE_BYTES, MAX_REQUEST_BYTES, STREAM_WINDOW_BYTES } from '../../services/broker/limits.ts';
import { PullResponseSchema } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { memoryMb, resetPeak } from '../bench/process-stats.ts';
import { type BrokerProcess, startBroker, unexpectedLines } from '../support/broker.ts';
import { type Beside, startBeside } from '../support/fuzz-beside.ts';
import { FuzzConnection, FuzzPool, inFlight } from '../support/fuzz-connection.ts';
import * as floods from '../support/fuzz-floods.ts';
import { framed } from '../support/fuzz-mutate.ts';
import { attack, fixedAttacks, randomAttack } from '../support/fuzz-raw.ts';
import { refusals } from '../support/fuzz-refusals.ts';
import { fuzzedFrames, fuzzedRpcs, padding } from '../support/fuzz-requests.ts';
import { strangers } from '../support/fuzz-strangers.ts';
import { Tally } from '../support/fuzz-tally.ts';
import { seededRandom } from '../support/random.ts';

const MIB = 1024 * 1024;
const REQUESTS_PER_RPC = 1_200;
const AT_LEAST = 100_000;
/**
 * Most resident memory of the broker in MB: at any time, and when the floods are over. Idle it takes about
 * 150; 355 were seen.
 */
const PEAK_MB = 500;
const SETTLED_MB = 450;
/** The longest delays that a client beside the floods may notice, with 2 cores for all. */
const BESIDE_P99_MS = 2_000;
const BESIDE_MAX_MS = 5_000;

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const tally = new Tally();
const rpcs = fuzzedRpcs();
const rpcOf = (path: string) => rpcs.find((rpc) => rpc.path === path)!;
let broker: BrokerProcess;
let beside: Beside;
let pool: FuzzPool;
let flood: floods.Flood;

beforeAll(async () => {
  console.log(`SEED=${seed}`);
  // Cache and heap are small, so that neither what is published nor lazy garbage collection hides what leaks.
  broker = await startBroker({ args: ['--cache', '8MiB'], nodeArgs: ['--max-old-space-size=128'] });
  pool = new FuzzPool(broker.address, broker.tls);
  flood = { broker, pool, tally, random: seededRandom(seed) };
  await floods.fill(broker, 'work', 0, 0);
  beside = await startBeside(broker);
  resetPeak(broker.pid);
}, 60_000);

afterAll(async () => {
  beside?.[Symbol.dispose]();
  await pool?.[Symbol.asyncDispose]();
  await broker?.[Symbol.asyncDispose]();
});

test('every RPC answers malformed and hostile requests with a proper status', {
  timeout: 400_000,
}, async () => {
  for (const [index, rpc] of rpcs.entries()) {
    const random = seededRandom(seed + index);
    tally.count(rpc.path, REQUESTS_PER_RPC);
    await inFlight(REQUESTS_PER_RPC, 100, async () => {
      const frames = fuzzedFrames(rpc, random);
      const dropAfter = rpc.kind === 'server_streaming' ? 1 : undefined;
      const outcome = await pool.call(rpc.path, frames, dropAfter === undefined ? {} : { dropAfter });
      tally.judge(rpc.path, frames, outcome);
      // Every answer can be read.
      for (const answer of outcome.messages) fromBinary(rpc.output, answer);
    });
  }
  expect(tally.wrong).toEqual([]);
});

test('a refusal names the field and the limit', { timeout: 60_000 }, async () => {
  for (const { path, frames, code, details } of refusals()) {
    const outcome = await pool.call(path, frames);
    tally.count(path, 1);
    expect({ path, ...outcome }).toMatchObject({ path, end: code, details: expect.stringMatching(details) });
  }
});

test('requests that are too large or compressed are refused', { timeout: 60_000 }, async () => {
  const publish = '/fanfare.v1.Publisher/Publish';
  const createTopic = '/fanfare.v1.Admin/CreateTopic';
  const gzip = { headers: { 'grpc-encoding': 'gzip' } };
  for (const path of [publish, floods.PUBLISH_STREAM, createTopic, floods.SUBSCRIBE]) {
    const most = path.includes('Publisher') ? MAX_RECEIVE_BYTES : MAX_REQUEST_BYTES;
    const tooLarge = framed(padding(most + 1));
    for (let round = 0; round < 5; round += 1) {
      expect(await pool.call(path, tooLarge)).toMatchObject({
        end: 'INVALID_ARGUMENT',
        details: `the request has ${most + 1} bytes; at most ${most} are read`,
      });
    }
    const refused = {
      end: 'UNIMPLEMENTED',
      details: expect.stringContaining('compressed requests are not taken'),
    };
    const bomb = framed(gzipSync(Buffer.alloc(2 * MAX_RECEIVE_BYTES)), 1);
    await inFlight(10, 5, async () => expect(await pool.call(path, bomb, gzip)).toMatchObject(refused));
    // A message may say so by itself.
    expect(await pool.call(path, framed(Buffer.from('no gzip'), 1))).toMatchObject(refused);
    const unknown = { headers: { 'grpc-encoding': 'br' } };
    expect(await pool.call(path, framed(Buffer.from('br'), 1), unknown)).toMatchObject(refused);
    tally.count(path, 17);
  }
  await inFlight(40, 8, async () => {
    expect(await pool.call(publish, framed(padding(3 * MIB + 1)))).toMatchObject({
      end: 'INVALID_ARGUMENT',
      details: `the request has ${3 * MIB + 1} bytes; at most ${3 * MIB} are allowed: send several`,
    });
    tally.count(publish, 1);
  });
});

test('streams take floods of bad requests, one by one', { timeout: 120_000 }, async () => {
  const publishStream = rpcOf(floods.PUBLISH_STREAM);
  await floods.manyRequestsAStream(flood, publishStream, { streams: 80, requests: 150, wellFormed: true });
  for (const rpc of rpcs.filter(({ kind }) => kind === 'bidi_streaming')) {
    await floods.manyRequestsAStream(flood, rpc, { streams: 400, requests: 5 });
  }
  expect(tally.wrong).toEqual([]);
});

test('floods of nacks and extends lose no message', { timeout: 120_000 }, async () => {
  const count = 500;
  const logEpoch = await floods.fill(broker, 'nacked', count, 200);
  const subscription = 'projects/fuzz/subscriptions/nacked';
  await Promise.all([
    ...Array.from({ length: 4 }, () => floods.giveEverythingBack(flood, subscription, 400)),
    ...Array.from({ length: 8 }, () => floods.settleBlindly(flood, subscription, logEpoch, 1_500)),
  ]);
  expect(tally.wrong).toEqual([]);
  await using client = broker.connect({ project: 'fuzz' });
  const ids = new Set<string>();
  for await (const message of client.subscribe('nacked')) {
    message.ack();
    ids.add(`${message.partition}-${message.offset}`);
    if (ids.size === count) break;
  }
  await expect
    .poll(() => backlogOf('nacked'), { timeout: 10_000 })
    .toMatchObject({ messages: 0, consumers: 0 });
});

test('clients that never read, never finish, or go at once cost little', { timeout: 120_000 }, async () => {
  await floods.fill(broker, 'large', 400, 50_000);
  await using deaf = await FuzzConnection.open(broker.address, broker.tls, 0);
  const taken = await Promise.all(
    Array.from({ length: 4 }, () => floods.askWithoutReading(flood, deaf, 2 * STREAM_WINDOW_BYTES)),
  );
  // The broker does not read from a client that does not read, beyond its buffers and what may be under way.
  expect(Math.max(...taken)).toBeLessThan(STREAM_WINDOW_BYTES + MIB / 2);
  floods.callWithoutReading(flood, deaf, rpcs, 500);
  for (const consumer of Array.from({ length: 30 }, () => deaf.start(floods.SUBSCRIBE))) {
    consumer.on('error', () => {});
    consumer.write(
      floods.subscribeRequest({
        subscription: 'projects/fuzz/subscriptions/large',
        maxOutstandingMessages: 1_000_000n,
        maxOutstandingBytes: 2n ** 30n,
      }),
    );
  }
  const large = expect.poll(() => backlogOf('large'), { timeout: 20_000 });
  await large.toMatchObject({ consumers: 30 });
  await floods.neverFinish(flood, '/fanfare.v1.Publisher/Publish', 500);
  await floods.dropAtOnce(flood, rpcs, 4_000);
  expect(await backlogOf('large')).toMatchObject({ consumers: 30 });
  await deaf[Symbol.asyncDispose]();
  await expect.poll(() => backlogOf('large'), { timeout: 10_000 }).toMatchObject({ consumers: 0 });
  // Consumers of the dropped calls go soon; one may still be there.
  await expect
    .poll(async () => (await backlogOf('work')).consumers, { timeout: 10_000 })
    .toBeLessThanOrEqual(1);
  expect(tally.wrong).toEqual([]);
});

test('who pulls and goes leaves his place to the next', { timeout: 60_000 }, async () => {
  await floods.fill(broker, 'pulled', 0, 0);
  await floods.pullAndGo(flood, 'projects/fuzz/subscriptions/pulled', 300);
  await using client = broker.connect({ project: 'fuzz' });
  await client.publisher('pulled').publish({ data: 'x' });
  const { messages } = await pool.call(
    floods.PULL,
    floods.pullRequest('projects/fuzz/subscriptions/pulled', 5n),
  );
  expect(fromBinary(PullResponseSchema, messages[0]!).receivedMessages).toHaveLength(1);
});

test('hostile frames close the connection or change nothing', { timeout: 120_000 }, async () => {
  const random = seededRandom(seed);
  const attacks = [...fixedAttacks(), ...Array.from({ length: 300 }, () => randomAttack(random))];
  await inFlight(attacks.length, 8, async (at) => {
    const { name, count, unfinished, expected } = attacks[at]!;
    const verdict = await attack(broker.address, broker.tls, attacks[at]!);
    tally.count('HTTP/2 frames', count);
    if (expected !== undefined && verdict !== expected)
      tally.complain(`${name}: the connection is ${verdict}`);
    if (verdict === 'silent' && !unfinished) tally.complain(`${name}: no answer to a ping`);
  });
  expect(tally.wrong).toEqual([]);
});

test('who has no certificate of ours gets no answer', { timeout: 60_000 }, async () => {
  for (const { name, answer } of await strangers(broker)) {
    tally.count('TLS', 1);
    expect({ name, answer: await answer() }).toEqual({ name, answer: undefined });
  }
});

test('all in all: enough was sent, nothing failed, memory is bounded, nobody noticed', {
  timeout: 60_000,
}, async () => {
  const report = await beside.stop();
  const { nowMb, peakMb } = memoryMb(broker.pid);
  console.log(
    `${tally.total} requests and frames: ${JSON.stringify(Object.fromEntries(tally.counts))}\n` +
      `ends: ${JSON.stringify(Object.fromEntries(tally.ends))}\n` +
      `broker: ${nowMb.toFixed()} MB, at most ${peakMb.toFixed()} MB; beside: ${JSON.stringify(report)}`,
  );
  expect(tally.wrong).toEqual([]);
  expect(tally.total).toBeGreaterThanOrEqual(AT_LEAST);
  for (const { path } of rpcs) expect(tally.counts.get(path)).toBeGreaterThanOrEqual(REQUESTS_PER_RPC);

  expect(report).toMatchObject({ problems: [], received: report.published });
  expect(report.published).toBeGreaterThan(1_000);
  expect(report.p99Ms).toBeLessThan(BESIDE_P99_MS);
  expect(report.maxMs).toBeLessThan(BESIDE_MAX_MS);

  expect(peakMb).toBeLessThan(PEAK_MB);
  expect(nowMb).toBeLessThan(SETTLED_MB);
  expect(await broker.stop()).toEqual({ code: 0, signal: null });
  // Nothing failed unexpectedly, and no stream is left over that would keep it from stopping.
  expect(unexpectedLines(broker)).toEqual([]);
});

async function backlogOf(subscription: string) {
  await using client = broker.connect({ project: 'fuzz' });
  return (await client.admin.getBacklog([subscription]))[0]!;
}
