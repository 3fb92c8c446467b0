// Floods of one kind each: many requests on few streams, consumers that give everything back, clients that
// don't read, don't finish or are gone at once. They report to the tally; what else they return is for
// assertions.
import { type ClientHttp2Stream, constants } from 'node:http2';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { Random } from '../../services/broker/ports/clock.ts';
import { PublishStreamResponseSchema } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import {
  PullRequestSchema,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
} from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import type { BrokerProcess } from './broker.ts';
import { FuzzConnection, type FuzzPool, inFlight, outcomeOf } from './fuzz-connection.ts';
import { between, framed, pick } from './fuzz-mutate.ts';
import { type FuzzedRpc, fuzzedMessage } from './fuzz-requests.ts';
import type { Tally } from './fuzz-tally.ts';

export const PUBLISH_STREAM = '/fanfare.v1.Publisher/PublishStream';
export const SUBSCRIBE = '/fanfare.v1.Subscriber/Subscribe';
export const PULL = '/fanfare.v1.Subscriber/Pull';

export interface Flood {
  readonly broker: BrokerProcess;
  readonly pool: FuzzPool;
  readonly tally: Tally;
  readonly random: Random;
}

export type Settle = Omit<MessageInitShape<typeof SubscribeRequestSchema>, '$typeName' | '$unknown'>;

export function subscribeRequest(request: Settle): Buffer {
  return framed(toBinary(SubscribeRequestSchema, create(SubscribeRequestSchema, request)));
}

export function pullRequest(subscription: string, waitSeconds: bigint): Buffer {
  const request = { subscription, maxMessages: 1, maxWait: { seconds: waitSeconds } };
  return framed(toBinary(PullRequestSchema, create(PullRequestSchema, request)));
}

/**
 * Streams with many requests each. With `wellFormed`, none of a publish stream's requests is reason to end
 * it: each must be answered, with an error or not.
 */
export async function manyRequestsAStream(
  { pool, tally, random }: Flood,
  rpc: FuzzedRpc,
  options: { streams: number; requests: number; wellFormed?: boolean },
): Promise<void> {
  await inFlight(options.streams, 20, async () => {
    const requests = Array.from({ length: options.requests }, () =>
      framed(options.wellFormed ? rpc.request(random) : fuzzedMessage(rpc, random)),
    );
    tally.count(rpc.path, requests.length);
    const sent = Buffer.concat(requests);
    const outcome = await pool.call(rpc.path, sent);
    tally.judge(rpc.path, sent, outcome);
    for (const answer of outcome.messages) fromBinary(rpc.output, answer);
    if (rpc.path !== PUBLISH_STREAM) return;
    for (const answer of outcome.messages) {
      const { error } = fromBinary(PublishStreamResponseSchema, answer);
      if (error !== undefined && ![3, 5, 8].includes(error.code)) {
        tally.complain(`a batch was answered with ${error.code} (${error.message})`);
      }
    }
    const { length } = outcome.messages;
    if (outcome.end === 'OK' ? length !== requests.length : options.wellFormed) {
      tally.complain(
        `${length} of ${requests.length} batches answered, then ${outcome.end} ${outcome.details}`,
        sent,
      );
    }
  });
}

/**
 * A consumer that gives back whatever it gets, at once, and extends what it no longer has: `rounds` requests.
 */
export async function giveEverythingBack(
  { broker, tally, random }: Flood,
  subscription: string,
  rounds: number,
): Promise<void> {
  await using connection = await FuzzConnection.open(broker.address, broker.tls);
  const stream = connection.start(SUBSCRIBE);
  const outcome = outcomeOf(stream, {
    onMessage: (bytes) => {
      if (rounds <= 0) return;
      rounds -= 1;
      tally.count(SUBSCRIBE, 1);
      const { receivedMessages } = fromBinary(SubscribeResponseSchema, bytes);
      const ids = receivedMessages.map(({ ackId }) => ackId);
      const [logEpoch = '0', partition = '0'] = (ids[0] ?? '').split(/[.-]/);
      const all = { logEpoch: BigInt(logEpoch), partition: Number(partition), lastOffset: 2n ** 53n - 1n };
      const nack = pick<Settle>(random, [
        { nackRanges: [all] },
        { modifyDeadlineAckIds: ids, modifyDeadlineSeconds: ids.map(() => 0) },
        { nackRanges: [all, all, all], extendRanges: [all], extendSeconds: 600 },
      ]);
      stream.write(subscribeRequest(nack));
      if (rounds === 0) stream.end();
    },
  });
  stream.write(subscribeRequest({ subscription, maxOutstandingMessages: 50n }));
  tally.judge(SUBSCRIBE, Buffer.alloc(0), await outcome);
  if (rounds > 0)
    tally.complain(`a consumer that gives everything back was left with ${rounds} rounds to go`);
}

/**
 * Settles, extends and changes credit without waiting for anything, about messages that the consumer mostly
 * does not have.
 */
export async function settleBlindly(
  { pool, tally, random }: Flood,
  subscription: string,
  logEpoch: bigint,
  requests: number,
): Promise<void> {
  const sent = [subscribeRequest({ subscription, maxOutstandingMessages: 5n })];
  while (sent.length < requests) {
    const range = () => {
      const firstOffset = BigInt(pick(random, [0, 1, between(random, 0, 1_000), 2 ** 52]));
      const lastOffset = firstOffset + BigInt(pick(random, [0, 0, 10, 2 ** 52]));
      const epoch = random() < 0.8 ? logEpoch : pick(random, [0n, 2n ** 53n, 2n ** 64n - 1n]);
      return { logEpoch: epoch, partition: between(random, 0, 5), firstOffset, lastOffset };
    };
    const ranges = Array.from({ length: random() < 0.01 ? 3_000 : between(random, 1, 4) }, range);
    sent.push(
      subscribeRequest(
        pick<Settle>(random, [
          { nackRanges: ranges },
          { extendRanges: ranges, extendSeconds: between(random, 1, 600) },
          { maxOutstandingMessages: BigInt(between(random, 1, 1_000_000)) },
          {
            maxOutstandingBytes: BigInt(between(random, 1, 2 ** 30)),
            streamAckDeadlineSeconds: between(random, 0, 600),
          },
        ]),
      ),
    );
  }
  tally.count(SUBSCRIBE, sent.length);
  const outcome = await pool.call(SUBSCRIBE, Buffer.concat(sent));
  tally.judge(SUBSCRIBE, Buffer.alloc(0), outcome);
  if (outcome.end !== 'OK') tally.complain(`blind settling ended with ${outcome.end} (${outcome.details})`);
}

/** Calls that are dropped as soon as they are made, some with a request, some after the first answer. */
export async function dropAtOnce(
  { broker, tally, random }: Flood,
  rpcs: readonly FuzzedRpc[],
  calls: number,
): Promise<void> {
  const perConnection = 500;
  for (let left = calls; left > 0; left -= perConnection) {
    await using connection = await FuzzConnection.open(broker.address, broker.tls);
    await inFlight(Math.min(left, perConnection), 100, async () => {
      const rpc = pick(random, rpcs);
      const stream = connection.start(rpc.path);
      const over = outcomeOf(stream);
      tally.count(rpc.path, 1);
      if (random() < 0.7) stream.write(framed(rpc.request(random)));
      if (random() < 0.3) stream.end();
      if (random() < 0.5) await connection.ping();
      stream.close(constants.NGHTTP2_CANCEL);
      const { end } = await over;
      if (end === 'HUNG' || end === 'INTERNAL' || end === 'UNKNOWN')
        tally.complain(`${rpc.path}, dropped: ${end}`);
    });
  }
}

/** Pulls that would wait for a minute, each dropped when the broker has it. */
export async function pullAndGo(
  { broker, tally }: Flood,
  subscription: string,
  calls: number,
): Promise<void> {
  await using connection = await FuzzConnection.open(broker.address, broker.tls);
  for (let at = 0; at < calls; at += 1) {
    const stream = connection.start(PULL);
    const over = outcomeOf(stream);
    stream.end(pullRequest(subscription, 60n));
    await connection.ping();
    stream.close(constants.NGHTTP2_CANCEL);
    await over;
  }
  // The answer shows that the last Pull is gone, too.
  await connection.ping();
  tally.count(PULL, calls);
}

/** Requests that announce more than they send, and stay so until the connection goes. */
export async function neverFinish({ broker, tally }: Flood, path: string, calls: number): Promise<void> {
  await using connection = await FuzzConnection.open(broker.address, broker.tls);
  const part = framed(Buffer.alloc(32 * 1024), 0, 3 * 1024 * 1024);
  const streams = Array.from({ length: calls }, () => connection.start(path));
  tally.count(path, calls);
  await Promise.all(streams.map((stream) => write(stream, part, connection)));
}

/**
 * A publish stream that asks for refusals and reads none. Resolves with how many bytes the broker took before
 * it stopped reading, or limitBytes if it did not.
 */
export async function askWithoutReading(
  { tally }: Flood,
  connection: FuzzConnection,
  limitBytes: number,
): Promise<number> {
  const stream = connection.start(PUBLISH_STREAM);
  stream.on('error', () => {});
  // request_id 5, no messages: answered with an error.
  const refused = framed(Buffer.from([0x80, 0x01, 0x05]));
  const chunk = Buffer.concat(Array<Buffer>(2_000).fill(refused));
  for (let taken = 0; taken < limitBytes; taken += chunk.length) {
    tally.count(PUBLISH_STREAM, 2_000);
    if (!(await write(stream, chunk, connection))) return taken;
  }
  return limitBytes;
}

/** Calls of all kinds on a connection that lets the broker send nothing; they stay open. */
export function callWithoutReading(
  { tally, random }: Flood,
  connection: FuzzConnection,
  rpcs: readonly FuzzedRpc[],
  calls: number,
): void {
  for (let at = 0; at < calls; at += 1) {
    const rpc = rpcs[at % rpcs.length]!;
    const stream = connection.start(rpc.path);
    stream.on('error', () => {});
    stream.end(framed(rpc.request(random)));
    tally.count(rpc.path, 1);
  }
}

/**
 * Resolves with whether the transport took it before the broker had answered many pings; if not, the broker
 * does not read any more.
 */
async function write(stream: ClientHttp2Stream, bytes: Buffer, connection: FuzzConnection): Promise<boolean> {
  let taken = false;
  stream.write(bytes, () => {
    taken = true;
  });
  for (let pings = 0; pings < 50 && !taken; pings += 1) await connection.ping();
  return taken;
}

/** Publishes messages of `bytes` each for a flood to work with. */
export async function fill(
  broker: BrokerProcess,
  name: string,
  count: number,
  bytes: number,
): Promise<bigint> {
  await using client = broker.connect({ project: 'fuzz' });
  const { logEpoch } = await client.admin.createTopic(name, { partitions: 2 });
  await client.admin.createSubscription(name, { topic: name });
  const publisher = client.publisher(name);
  await Promise.all(
    Array.from({ length: count }, () => publisher.publish({ data: Buffer.alloc(bytes, name) })),
  );
  return BigInt(logEpoch);
}
