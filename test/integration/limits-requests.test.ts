// Requests at each bound of limits.ts that the services enforce, and one beyond it: what is taken, what is
// said, and that nothing was changed. At the real server, over an engine on virtual time.
// test/unit/limits.test.ts has the list of all bounds.
import { type DescMethod, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import {
  DEFAULT_OUTSTANDING_BYTES,
  DEFAULT_OUTSTANDING_MESSAGES,
  DEFAULT_PAGE_SIZE,
  DEFAULT_WATCH_INTERVAL_MS,
  DEFINITION_LIMITS,
  FIRST_MESSAGE_DELAY_MS,
  MAX_ACK_DEADLINE_MS,
  MAX_BACKLOG_SUBSCRIPTIONS,
  MAX_CLIENT_ID_BYTES,
  MAX_DRAIN_NAMES_PER_SUBSCRIPTION,
  MAX_DRAIN_TTL_MS,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGES_PER_PUBLISH,
  MAX_OUTSTANDING_BYTES,
  MAX_OUTSTANDING_MESSAGES,
  MAX_PAGE_SIZE,
  MAX_PUBLISH_BYTES,
  MAX_PULL_MESSAGES,
  MAX_PULL_WAIT_MS,
  MAX_RECEIVE_BYTES,
  MAX_REQUEST_BYTES,
  MAX_RESPONSE_BYTES,
  MAX_STATUS_DETAILS_BYTES,
  MAX_WATCH_INTERVAL_MS,
  MIN_DRAIN_TTL_MS,
  MIN_WATCH_INTERVAL_MS,
} from '../../services/broker/limits.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { Publisher } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { PullResponseSchema, Subscriber } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { SUBSCRIPTION, TOPIC } from '../support/engine-rig.ts';
import { outcomeOf } from '../support/fuzz-connection.ts';
import { padding } from '../support/fuzz-requests.ts';
import { type Authority, createAuthority, pathOf, type TestClient } from '../support/grpc-rig.ts';
import { frameOf, type LimitsRig, PlainConnection, startLimitsRig } from '../support/limits-rig.ts';
import { requestBytes } from '../support/publish-requests.ts';
import { untilPasses } from '../support/until.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const SECOND_MS = 1_000;
const parent = 'projects/p';
const AUDIT = 'projects/p/subscriptions/audit';
const ORDERS = 'projects/p/topics/orders';
const { publish } = Publisher.method;
const { pull } = Subscriber.method;
const { method } = Admin;

let authority: Authority;
let watchClock: VirtualClock;
let rig: LimitsRig;
let client: TestClient;

beforeAll(async () => {
  authority = await createAuthority();
});
beforeEach(async () => {
  watchClock = new VirtualClock();
  rig = await startLimitsRig(authority, { clock: watchClock });
  client = rig.grpc.connect();
});
afterEach(async () => {
  expect(rig.grpc.unexpected).toEqual([]);
  await rig[Symbol.asyncDispose]();
});

const times = <T>(count: number, value: T): T[] => Array<T>(count).fill(value);
const duration = (ms: number) => ({
  seconds: BigInt(Math.floor(ms / 1_000)),
  nanos: (ms % 1_000) * 1_000_000,
});
const call = <M extends DescMethod>(of: M, request: MessageInitShape<M['input']>) =>
  rig.during(client.call(of, request));
const refused = (details: string, code = status.INVALID_ARGUMENT) => ({ code, details });

const publishedMessages = () => rig.engine.broker.stats.publishedMessages;

test('messages of a publish', async () => {
  const messages = (count: number) => times(count, { data: Buffer.from('x') });
  await call(publish, { topic: TOPIC, messages: messages(MAX_MESSAGES_PER_PUBLISH) });
  expect(publishedMessages()).toBe(1_000);
  await expect(
    call(publish, { topic: TOPIC, messages: messages(MAX_MESSAGES_PER_PUBLISH + 1) }),
  ).rejects.toMatchObject(refused('a request has at most 1000 messages: send several requests'));
  expect(publishedMessages()).toBe(1_000);
});

test('bytes of a publish', async () => {
  const ofSize = (bytes: number): Uint8Array => {
    const first = { data: Buffer.alloc(MAX_MESSAGE_BYTES) };
    const second = (size: number) => ({ data: Buffer.alloc(size) });
    const probe = requestBytes(TOPIC, [first, second(1_000_000)]).length;
    return requestBytes(TOPIC, [first, second(1_000_000 + bytes - probe)]);
  };
  const [largest, beyond] = [ofSize(MAX_PUBLISH_BYTES), ofSize(MAX_PUBLISH_BYTES + 1)];
  expect([largest.length, beyond.length]).toEqual([3_145_728, 3_145_729]);
  await rig.during(client.callRaw(pathOf(publish), largest));
  expect(publishedMessages()).toBe(2);
  await expect(rig.during(client.callRaw(pathOf(publish), beyond))).rejects.toMatchObject(
    refused('the request has 3145729 bytes; at most 3145728 are allowed: send several'),
  );
  expect(publishedMessages()).toBe(2);
});

test('bytes of any request, and those beyond which it is not read', async () => {
  const ofSize = (bytes: number): Uint8Array => {
    const request = frameOf(method.listTopics, { parent }).subarray(5);
    return Buffer.concat([request, padding(bytes - request.length)]);
  };
  const ask = (bytes: number) => client.callRaw(pathOf(method.listTopics), ofSize(bytes));
  await ask(MAX_REQUEST_BYTES);
  await expect(ask(MAX_REQUEST_BYTES + 1)).rejects.toMatchObject(
    refused('the request has 2097153 bytes; at most 2097152 are read'),
  );
  // A publish is read though it is too large, so that the answer says why.
  const publishing = (bytes: number) => rig.during(client.callRaw(pathOf(publish), Buffer.alloc(bytes)));
  await expect(publishing(MAX_RECEIVE_BYTES)).rejects.toMatchObject(
    refused('the request has 8388608 bytes; at most 3145728 are allowed: send several'),
  );
  await expect(publishing(MAX_RECEIVE_BYTES + 1)).rejects.toMatchObject(
    refused('the request has 8388609 bytes; at most 8388608 are read'),
  );
});

test('what may be outstanding on a stream, and what is if it says nothing; its ack deadline and client id', async () => {
  const { broker } = rig.engine;
  const join = vi.spyOn(broker, 'subscribe');
  await using connection = await PlainConnection.open(authority, rig.grpc.address);
  const { subscribe } = Subscriber.method;
  const end = async (request: MessageInitShape<typeof subscribe.input>) => {
    const stream = connection.start(subscribe);
    stream.end(frameOf(subscribe, { subscription: SUBSCRIPTION, ...request }));
    return rig.during(outcomeOf(stream));
  };
  const credit = () => join.mock.lastCall?.[2];
  expect(await end({})).toMatchObject({ end: 'OK' });
  expect(credit()).toEqual({
    maxOutstandingMessages: DEFAULT_OUTSTANDING_MESSAGES,
    maxOutstandingBytes: DEFAULT_OUTSTANDING_BYTES,
    ackDeadlineMs: undefined,
  });
  const most = {
    maxOutstandingMessages: BigInt(MAX_OUTSTANDING_MESSAGES),
    maxOutstandingBytes: BigInt(MAX_OUTSTANDING_BYTES),
    streamAckDeadlineSeconds: MAX_ACK_DEADLINE_MS / SECOND_MS,
    clientId: 'c'.repeat(MAX_CLIENT_ID_BYTES),
  };
  expect(await end(most)).toMatchObject({ end: 'OK' });
  expect(credit()).toEqual({
    maxOutstandingMessages: MAX_OUTSTANDING_MESSAGES,
    maxOutstandingBytes: MAX_OUTSTANDING_BYTES,
    ackDeadlineMs: MAX_ACK_DEADLINE_MS,
  });
  expect(join).toHaveBeenCalledTimes(2);
  for (const [beyond, details] of [
    [
      { maxOutstandingMessages: most.maxOutstandingMessages + 1n },
      'max_outstanding_messages must be from 1 to 1000000',
    ],
    [
      { maxOutstandingBytes: most.maxOutstandingBytes + 1n },
      'max_outstanding_bytes must be from 1 to 1073741824',
    ],
    [
      { streamAckDeadlineSeconds: most.streamAckDeadlineSeconds + 1 },
      'stream_ack_deadline_seconds must be from 0 to 600 seconds',
    ],
    [{ clientId: `${most.clientId}c` }, 'client_id has 257 bytes; at most 256 are allowed'],
  ] as const)
    expect(await end({ ...most, ...beyond })).toMatchObject({ end: 'INVALID_ARGUMENT', details });
  expect(join).toHaveBeenCalledTimes(2);
});

test('messages of a pull, and how long it waits', async () => {
  const { broker, clock } = rig.engine;
  const subscription = SUBSCRIPTION;
  const patient = { subscription, maxMessages: 1, maxWait: duration(MAX_PULL_WAIT_MS) };
  await expect(call(pull, { ...patient, maxWait: duration(MAX_PULL_WAIT_MS + 1) })).rejects.toMatchObject(
    refused('max_wait must be at most 60 s'),
  );
  let over = false;
  const waiting = client.call(pull, patient).finally(() => {
    over = true;
  });
  await untilPasses(() => expect(broker.stats.consumers).toBe(1));
  await clock.advance(MAX_PULL_WAIT_MS - 1);
  // What had been answered before would have come before this.
  await client.call(method.listTopics, { parent });
  expect(over).toBe(false);
  await clock.advance(1);
  expect((await rig.during(waiting)).receivedMessages).toEqual([]);

  for (let nth = 0; nth < 3; nth += 1)
    await call(publish, { topic: TOPIC, messages: times(500, { data: Buffer.from('x') }) });
  for (const beyond of [MAX_PULL_MESSAGES + 1, 0])
    await expect(call(pull, { subscription, maxMessages: beyond })).rejects.toMatchObject(
      refused('max_messages must be from 1 to 1000'),
    );
  expect(broker.stats.deliveredMessages).toBe(0);
  const received = await call(pull, { subscription, maxMessages: MAX_PULL_MESSAGES });
  expect(received.receivedMessages).toHaveLength(1_000);
});

test('bytes of an answer: of a pull, of a page', async () => {
  const size = 500_000;
  for (let nth = 0; nth < 7; nth += 1)
    await call(publish, { topic: TOPIC, messages: [{ data: Buffer.alloc(size) }] });
  const request = frameOf(pull, { subscription: SUBSCRIPTION, maxMessages: 1_000 }).subarray(5);
  const answer = await rig.during(client.callRaw(pathOf(pull), request));
  expect(fromBinary(PullResponseSchema, answer).receivedMessages).toHaveLength(6);
  expect(answer.length).toBeLessThanOrEqual(MAX_RESPONSE_BYTES);

  const { definitions } = rig.grpc;
  const { maxLabels, maxLabelKeyBytes, maxLabelValueBytes } = DEFINITION_LIMITS;
  const labels = Object.fromEntries(
    times(maxLabels, 0).map((_, at) => [
      `${at}`.padEnd(maxLabelKeyBytes, 'k'),
      'v'.repeat(maxLabelValueBytes),
    ]),
  );
  for (let at = 0; at < 160; at += 1)
    await definitions.createTopic('test', { name: `projects/p/topics/topic-${at}`, partitions: 1, labels });
  const page = await client.call(method.listTopics, { parent, pageSize: MAX_PAGE_SIZE });
  const { listTopics } = method;
  expect(toBinary(listTopics.output, page).length).toBeLessThanOrEqual(MAX_RESPONSE_BYTES);
  expect(page.topics.length).toBeGreaterThan(100);
  expect(page.topics.length).toBeLessThan(160);
  const rest = await client.call(listTopics, { parent, pageSize: 1_000, pageToken: page.nextPageToken });
  expect(page.topics.length + rest.topics.length).toBe(160);
});

test('entries of a page, and topics of one check of the storage', async () => {
  const names = Array.from({ length: MAX_PAGE_SIZE + 1 }, (_, at) => `projects/p/topics/topic-${at}`);
  for (const name of names) await rig.grpc.definitions.createTopic('test', { name, partitions: 1 });
  const page = async (pageSize: number) =>
    (await client.call(method.listTopics, { parent, pageSize })).topics.length;
  expect(await page(MAX_PAGE_SIZE)).toBe(1_000);
  expect(await page(0)).toBe(DEFAULT_PAGE_SIZE);
  await expect(page(MAX_PAGE_SIZE + 1)).rejects.toMatchObject(
    refused('page_size is 1001: must be 0 (100) to 1000'),
  );
  const check = (topics: readonly string[]) =>
    client.stream(method.checkStorage, { parent, topics: [...topics] });
  const most = check(names.slice(1));
  let partitions = 0;
  for await (const bytes of most.call)
    if (fromBinary(method.checkStorage.output, bytes).partition !== undefined) partitions += 1;
  expect(partitions).toBe(1_000);
  expect(await check(names).status).toMatchObject(refused('topics has 1001 names: at most 1000'));
});

test('subscriptions of a question for backlogs', async () => {
  const ask = (count: number) => ({ parent, subscriptions: times(count, AUDIT) });
  const details = 'subscriptions has 1001 names: at most 1000, or none for all';
  await client.call(method.getBacklog, ask(MAX_BACKLOG_SUBSCRIPTIONS));
  await expect(client.call(method.getBacklog, ask(MAX_BACKLOG_SUBSCRIPTIONS + 1))).rejects.toMatchObject(
    refused(details),
  );
  await client.stream(method.watchBacklog, ask(MAX_BACKLOG_SUBSCRIPTIONS)).next();
  const beyond = client.stream(method.watchBacklog, ask(MAX_BACKLOG_SUBSCRIPTIONS + 1));
  expect(await beyond.status).toMatchObject(refused(details));
  expect(rig.grpc.backlog.calls).toBe(2);
});

test('intervals of watching, the one of who names none, and how soon a first message is told', async () => {
  const { backlog } = rig.grpc;
  const watch = (intervalMs?: number) =>
    client.stream(method.watchBacklog, {
      parent,
      ...(intervalMs !== undefined && { interval: duration(intervalMs) }),
    });
  for (const intervalMs of [MIN_WATCH_INTERVAL_MS - 1, MAX_WATCH_INTERVAL_MS + 1])
    expect(await watch(intervalMs).status).toMatchObject(
      refused(`interval is ${intervalMs} ms: must be 100 to 60000 ms`),
    );
  expect(backlog.calls).toBe(0);
  /** Lets the time pass up to the answer, and sees that there was none before. */
  const answeredAfter = async (stream: ReturnType<typeof watch>, ms: number): Promise<void> => {
    const before = backlog.calls;
    await untilPasses(() => expect(watchClock.timerCount).toBe(1));
    await watchClock.advance(ms - 1);
    expect(backlog.calls).toBe(before);
    await watchClock.advance(1);
    await stream.next();
    expect(backlog.calls).toBe(before + 1);
  };
  for (const [given, intervalMs] of [
    [MIN_WATCH_INTERVAL_MS, MIN_WATCH_INTERVAL_MS],
    [MAX_WATCH_INTERVAL_MS, MAX_WATCH_INTERVAL_MS],
    [undefined, DEFAULT_WATCH_INTERVAL_MS],
  ] as const) {
    const stream = watch(given);
    await stream.next();
    await answeredAfter(stream, intervalMs);
    await untilPasses(() => expect(watchClock.timerCount).toBe(1));
    for (const listener of backlog.listeners) listener(AUDIT);
    await answeredAfter(stream, FIRST_MESSAGE_DELAY_MS);
    stream.call.cancel();
    await stream.status;
    await untilPasses(() => expect(backlog.listeners.size).toBe(0));
  }
});

test('names of a drain, their length, and for how long', async () => {
  const { definitions, draining } = rig.grpc;
  await definitions.createTopic('test', { name: ORDERS });
  await definitions.createSubscription('test', { name: AUDIT, topic: ORDERS });
  const half = MAX_DRAIN_NAMES_PER_SUBSCRIPTION / 2;
  const ids = Array.from({ length: half }, (_, at) => `${at}`.padEnd(MAX_CLIENT_ID_BYTES, 'c'));
  const addresses = Array.from({ length: half }, (_, at) => `10.0.${at >> 8}.${at & 255}`);
  const drain = (request: Omit<MessageInitShape<typeof method.drainConsumers.input>, '$typeName'>) =>
    client.call(method.drainConsumers, { subscription: AUDIT, ttl: duration(MIN_DRAIN_TTL_MS), ...request });
  await drain({ clientIds: ids, peerAddresses: addresses });
  await drain({ clientIds: ['one'], ttl: duration(MAX_DRAIN_TTL_MS) });
  expect(
    draining.requests.map(({ clientIds, peerAddresses, ttlMs }) => [
      clientIds.length,
      peerAddresses.length,
      ttlMs,
    ]),
  ).toEqual([
    [500, 500, 1_000],
    [1, 0, 600_000],
  ]);
  const tooMany = 'client_ids and peer_addresses have 1001 names: at most 1000 together';
  for (const [beyond, details] of [
    [{ clientIds: [...ids, 'one'], peerAddresses: addresses }, tooMany],
    [{ clientIds: ids, peerAddresses: [...addresses, '10.1.0.0'] }, tooMany],
    [{ clientIds: [`${ids[0]}c`] }, 'client_ids[0] has 257 bytes: must have 1 to 256'],
    [{ ttl: duration(MIN_DRAIN_TTL_MS - 1) }, 'ttl is 999 ms: must be 1000 to 600000 ms, or 0 to end it'],
    [{ ttl: duration(MAX_DRAIN_TTL_MS + 1) }, 'ttl is 600001 ms: must be 1000 to 600000 ms, or 0 to end it'],
  ] as const)
    await expect(drain({ ...beyond } as Parameters<typeof drain>[0])).rejects.toMatchObject(refused(details));
  expect(draining.requests).toHaveLength(2);
});

test('the client id and the offsets of a question for one subscription’s partitions', async () => {
  const { definitions, backlog } = rig.grpc;
  const { maxPartitions } = DEFINITION_LIMITS;
  await definitions.createTopic('test', { name: ORDERS, partitions: maxPartitions });
  await definitions.createSubscription('test', { name: AUDIT, topic: ORDERS });
  const ask = (clientIdBytes: number, offsets: number) =>
    client.call(method.getPartitionBacklog, {
      subscription: AUDIT,
      clientId: 'c'.repeat(clientIdBytes),
      beforeOffsets: times(offsets, 1n),
    });
  await expect(ask(MAX_CLIENT_ID_BYTES, maxPartitions)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  expect(backlog.calls).toBe(1);
  await expect(ask(MAX_CLIENT_ID_BYTES + 1, 0)).rejects.toMatchObject(
    refused('client_id has 257 bytes: at most 256 are allowed'),
  );
  await expect(ask(0, maxPartitions + 1)).rejects.toMatchObject(
    refused('before_offsets has 1025 offsets: at most 1024, one for each partition'),
  );
  expect(backlog.calls).toBe(1);
});

test('the text of an error, as it travels in a header', async () => {
  const refusal = async (paths: readonly string[]): Promise<string> => {
    const error = await client
      .call(method.updateTopic, { topic: { name: ORDERS }, updateMask: { paths: [...paths] } })
      .catch((caught: ServiceError) => caught);
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT });
    return (error as ServiceError).details;
  };
  await rig.grpc.definitions.createTopic('test', { name: ORDERS });
  for (const character of ['x', 'ü', '世', '🗝']) {
    const details = await refusal(times(32, character.repeat(80)));
    const bytes = encodeURI(details.replace(/…$/, '')).length;
    expect(details).toMatch(/^update_mask has ".*…$/s);
    expect(bytes).toBeGreaterThan(MAX_STATUS_DETAILS_BYTES - 12);
    expect(bytes).toBeLessThanOrEqual(MAX_STATUS_DETAILS_BYTES);
  }
  // What fits is whole.
  expect(await refusal(times(10, 'x'.repeat(80)))).toMatch(/must be of partitions, retention[^…]*$/);
});
