// Every option of every function of the client: the values at its limits that are taken, those beyond that
// are refused, and what is said. Each call goes through the public function. The tables do not compile while
// an option is missing from them, and the last test fails while a method is.
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  DEFINITION_LIMITS,
  MAX_ACK_DEADLINE_MS,
  MAX_BACKLOG_SUBSCRIPTIONS,
  MAX_CLIENT_ID_BYTES,
  MAX_DRAIN_NAMES_PER_SUBSCRIPTION,
  MAX_DRAIN_TTL_MS,
  MAX_MESSAGES_PER_PUBLISH,
  MAX_OUTSTANDING_BYTES,
  MAX_OUTSTANDING_MESSAGES,
  MAX_PUBLISH_BYTES,
  MAX_WATCH_INTERVAL_MS,
  MIN_ACK_DEADLINE_MS,
  MIN_DRAIN_TTL_MS,
  MIN_WATCH_INTERVAL_MS,
} from '../../services/broker/limits.ts';
import { Admin } from '../../services/client/admin.ts';
import type {
  DrainSettings,
  PartitionQuestion,
  SubscriptionInfo,
  SubscriptionSettings,
  TopicInfo,
  TopicSettings,
} from '../../services/client/admin-types.ts';
import type { BackoffOptions } from '../../services/client/backoff.ts';
import type { TlsOptions } from '../../services/client/certificates.ts';
import { Client, connect } from '../../services/client/client.ts';
import { Cluster } from '../../services/client/cluster.ts';
import type { CallSettings, ConnectOptions } from '../../services/client/connection.ts';
import type { SubscribeOptions } from '../../services/client/message-source.ts';
import {
  type CloseOptions,
  Publisher,
  type PublisherOptions,
  type WaitOptions,
} from '../../services/client/publisher.ts';
import { type RawSubscribeOptions, RawSubscriber } from '../../services/client/raw-subscriber.ts';
import { ReceivedMessage } from '../../services/client/received-message.ts';
import { type StopOptions, Subscriber, type SubscriberOptions } from '../../services/client/subscriber.ts';
import { Subscription } from '../../services/client/subscription.ts';
import { FakeBroker } from '../support/fake-broker.ts';
import {
  type Case,
  type Cases,
  DAY,
  deadline,
  flag,
  func,
  group,
  labels,
  labelTexts,
  many,
  ms,
  name,
  oneOf,
  pem,
  signal,
  text,
  timerMs,
  timerOrZeroMs,
  whole,
} from '../support/option-cases.ts';

/**
 * Calls a function with options of which some are wrong. It fails, at once or by its promise, or not at all.
 */
type Call = (client: Client, options: Record<string, unknown>) => unknown;

interface Row {
  /** How error messages call the function. */
  readonly of: string;
  /** What error messages put before the names of its options. */
  readonly prefix?: string;
  readonly call: Call;
  readonly cases: Readonly<Record<string, Case>>;
}

const backoff: Cases<BackoffOptions> = { initialMs: timerMs, maxMs: timerMs, random: func };
const call: Cases<CallSettings> = { signal, timeoutMs: timerMs };
const consumer = {
  maxOutstandingMessages: whole(1, 1_000_000, 'give 1 to 1,000,000'),
  maxOutstandingBytes: whole(1, 1024 ** 3, 'give 1 to 1,073,741,824 bytes'),
  ackDeadlineSeconds: deadline,
  clientId: {
    ...text('give a text of 1 to 256 bytes', ['c', 'c'.repeat(256), undefined]),
    refused: [
      ['', '"": give a text of 1 to 256 bytes'],
      ['ä'.repeat(129), `"${'ä'.repeat(60)}…": give a text of 1 to 256 bytes`],
      [7, '7: give a text of 1 to 256 bytes'],
    ],
  } satisfies Case,
  backoff: group,
  signal,
  onRetry: func,
};
const subscribe: Cases<SubscribeOptions> = { ...consumer, maxExtensionMs: timerOrZeroMs };
const subscriber: Cases<SubscriberOptions> = {
  ...subscribe,
  concurrency: whole(1, 1_000_000, 'give 1 to 1,000,000'),
  onHandlerError: func,
};
const stop: Cases<StopOptions> = { timeoutMs: timerOrZeroMs, signal };
const subscribeRaw: Cases<RawSubscribeOptions> = {
  ...consumer,
  onChunk: { taken: [() => {}], refused: [...func.refused, [undefined, 'missing: give a function']] },
};
const topic: Cases<TopicSettings> = {
  partitions: whole(1, 1_024, 'give 1 to 1,024'),
  retentionMs: ms(60_000, 366 * DAY, 'give 60,000 to 31,622,400,000 ms'),
  retentionBytesPerPartition: whole(
    1024 ** 2,
    Number.MAX_SAFE_INTEGER,
    'give 1,048,576 to 9,007,199,254,740,991 bytes, or 0',
    0,
  ),
  durability: oneOf(
    ['default', 'memory', 'stored', 'replicated', 'fsync'],
    'give "default", "memory", "stored", "replicated" or "fsync"',
  ),
  minReplicas: whole(1, 5, 'give 1 to 5, or 0', 0),
  labels,
};
const subscription: Cases<SubscriptionSettings & { topic: string }> = {
  topic: { ...name, taken: ['orders'] },
  ackDeadlineSeconds: deadline,
  ordering: flag,
  start: oneOf(['latest', 'earliest'], 'give "latest" or "earliest"'),
  labels,
};
const drain: Cases<DrainSettings> = {
  clientIds: { taken: [[], ['a'], many(1_000), undefined], refused: [['a', '"a": give an array']] },
  peerAddresses: {
    taken: [[], ['10.0.0.7'], undefined],
    refused: [['10.0.0.7', '"10.0.0.7": give an array']],
  },
  ttlMs: {
    ...ms(1_000, 600_000, 'give 1,000 to 600,000 ms, or 0', 0),
    taken: [0, 1_000, 600_000],
  },
};
const partitionQuestion: Cases<PartitionQuestion> = {
  clientId: consumer.clientId,
  beforeOffsets: {
    taken: [[], [0, Number.MAX_SAFE_INTEGER], Array(1_024).fill(7), undefined],
    refused: [[7, '7: give an array']],
  },
};
const batch: Cases<NonNullable<PublisherOptions['batch']>> = {
  maxMessages: whole(1, 1_000, 'give 1 to 1,000'),
  maxBytes: whole(1, 3 * 1024 ** 2, 'give 1 to 3,145,728 bytes'),
  lingerMs: ms(0, 60_000, 'give 0 to 60,000 ms'),
};
const waiting: Cases<WaitOptions> = { signal };
const watchBacklog: Cases<NonNullable<Parameters<Admin['watchBacklog']>[0]>> = {
  subscriptions: { taken: [[], many(1_000), undefined], refused: [['audit', '"audit": give an array']] },
  intervalMs: ms(100, 60_000, 'give 100 to 60,000 ms'),
  signal: { ...signal, taken: [AbortSignal.abort()] },
};
const checkStorage: Cases<NonNullable<Parameters<Admin['checkStorage']>[0]>> = {
  topics: { taken: [[], many(1_000), undefined], refused: [['orders', '"orders": give an array']] },
  signal: { ...signal, taken: [AbortSignal.abort()] },
};

const ROWS: readonly Row[] = [
  {
    of: 'connect()',
    call: (_client, options) => connect({ address: nobody, insecure: true, ...options }).close(),
    cases: {
      address: { ...name, taken: ['localhost:7531', 'a:1,b:2'] },
      tls: { ...group, taken: [undefined] },
      insecure: { ...flag, taken: [true] },
      project: name,
      direct: flag,
      callTimeoutMs: timerMs,
      keepaliveMs: ms(10, 2 ** 31 - 1, 'give 10 to 2,147,483,647 ms'),
    } satisfies Cases<ConnectOptions>,
  },
  {
    of: 'tls',
    prefix: 'tls.',
    call: (_client, tls) =>
      connect({ address: nobody, tls: { ...broker.connectOptions.tls!, ...tls } }).close(),
    cases: { ca: pem, cert: pem, key: pem, serverName: name } satisfies Cases<TlsOptions>,
  },
  { of: 'publisher()', call: publishing((options) => options), cases: publisherCases() },
  {
    of: 'batch',
    prefix: 'batch.',
    call: publishing((batch) => ({ batch })),
    cases: batch,
  },
  { of: 'backoff', prefix: 'backoff.', call: publishing((given) => ({ backoff: given })), cases: backoff },
  {
    of: 'ready()',
    call: (client, options) => client.publisher('orders').ready(options),
    cases: waiting,
  },
  {
    of: 'flush()',
    call: (client, options) => client.publisher('orders').flush(options),
    cases: waiting,
  },
  {
    of: 'close()',
    call: (client, options) => client.publisher('orders').close(options),
    cases: { timeoutMs: timerOrZeroMs, signal } satisfies Cases<CloseOptions>,
  },
  {
    of: 'subscribe()',
    call: (client, options) => client.subscribe('audit', options).close(),
    cases: subscribe,
  },
  {
    of: 'backoff',
    prefix: 'backoff.',
    call: (client, given) => client.subscribe('audit', { backoff: given }).close(),
    cases: backoff,
  },
  {
    of: 'subscriber()',
    call: (client, options) => client.subscriber('audit', () => {}, options).stop(),
    cases: subscriber,
  },
  {
    of: 'stop()',
    call: (client, options) => client.subscriber('audit', () => {}).stop(options),
    cases: stop,
  },
  { of: 'close()', call: (_client, options) => connect(broker.connectOptions).close(options), cases: stop },
  {
    of: 'subscribeRaw()',
    call: (client, options) => client.subscribeRaw('audit', { onChunk: () => {}, ...options }).close(),
    cases: subscribeRaw,
  },
  {
    of: 'createTopic()',
    call: (client, settings) => client.admin.createTopic('orders', settings),
    cases: topic,
  },
  {
    of: 'updateTopic()',
    call: (client, settings) => client.admin.updateTopic('orders', settings),
    cases: topic,
  },
  {
    of: 'createSubscription()',
    call: (client, settings) => client.admin.createSubscription('audit', { topic: 'orders', ...settings }),
    cases: subscription,
  },
  {
    of: 'updateSubscription()',
    call: (client, settings) => client.admin.updateSubscription('audit', settings),
    cases: { ackDeadlineSeconds: deadline, labels } satisfies Cases<
      Pick<SubscriptionSettings, 'ackDeadlineSeconds' | 'labels'>
    >,
  },
  {
    of: 'checkStorage()',
    call: (client, options) => client.admin.checkStorage({ signal: AbortSignal.abort(), ...options }).next(),
    cases: checkStorage,
  },
  {
    of: 'a call',
    call: (client, options) => client.admin.deleteTopic('orders', options),
    cases: { force: flag, ...call },
  },
  {
    of: 'a call',
    call: (client, options) => client.admin.listSubscriptions(options),
    cases: { topic: name, ...call },
  },
  {
    of: 'drainConsumers()',
    call: (client, settings) => client.admin.drainConsumers('audit', { ttlMs: 0, ...settings }),
    cases: drain,
  },
  {
    of: 'getPartitionBacklog()',
    call: (client, question) => client.admin.getPartitionBacklog('audit', question),
    cases: partitionQuestion,
  },
  {
    of: 'watchBacklog()',
    // The signal is aborted: where nobody listens the watch would go on trying.
    call: (client, options) => client.admin.watchBacklog({ signal: AbortSignal.abort(), ...options }).next(),
    cases: watchBacklog,
  },
  {
    of: 'a call',
    call: (client, options) => client.cluster.get(options),
    cases: { partitions: flag, ...call },
  },
  {
    of: 'a call',
    call: (client, options) => client.cluster.drain('broker-1', options),
    cases: { revoke: flag, ...call },
  },
  { of: 'reach()', call: (client, settings) => client.reach(settings), cases: call },
  ...callsWithSettings().map((each) => ({ of: 'a call', call: each, cases: call })),
];

/** All functions that take nothing but settings of a call behind their other arguments. */
function callsWithSettings(): Call[] {
  return [
    (client, settings) => client.admin.createTopic('orders', {}, settings),
    (client, settings) => client.admin.getTopic('orders', settings),
    (client, settings) => client.admin.listTopics(settings),
    (client, settings) => client.admin.updateTopic('orders', {}, settings),
    (client, settings) => client.admin.createSubscription('audit', { topic: 'orders' }, settings),
    (client, settings) => client.admin.getSubscription('audit', settings),
    (client, settings) => client.admin.updateSubscription('audit', {}, settings),
    (client, settings) => client.admin.deleteSubscription('audit', settings),
    (client, settings) => client.admin.drainConsumers('audit', { ttlMs: 0 }, settings),
    (client, settings) => client.admin.getBacklog([], settings),
    (client, settings) => client.admin.getPartitionBacklog('audit', {}, settings),
  ];
}

function publishing(of: (given: Record<string, unknown>) => PublisherOptions): Call {
  return (client, given) => client.publisher('orders', of(given)).close();
}

function publisherCases(): Cases<PublisherOptions> {
  return {
    batch: group,
    maxOutstandingBytes: whole(1, 1024 ** 4, 'give 1 to 1,099,511,627,776 bytes'),
    maxOutstandingMessages: whole(1, 1e9, 'give 1 to 1,000,000,000'),
    retryDeadlineMs: timerMs,
    backoff: group,
    signal,
    onRetry: func,
  };
}

/** A broker, for its certificates. */
let broker: FakeBroker;
/**
 * An address where nobody listens: a call that is not refused for its options fails as UNAVAILABLE at once.
 */
let nobody: string;
let client: Client;

beforeAll(async () => {
  broker = await FakeBroker.start();
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  nobody = `127.0.0.1:${(server.address() as { port: number }).port}`;
  await new Promise((resolve) => server.close(resolve));
  client = connect({ address: nobody, insecure: true });
});

afterAll(async () => {
  await client.close();
  await broker.stop();
});

/** The error with which the call fails; undefined if it does not. */
async function failureOf(call: () => unknown): Promise<{ code?: string; message?: string } | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return error as { code: string; message: string };
  }
}

describe.each(ROWS.map((row, at) => [`${row.of} (${at})`, row] as const))('%s', (_title, row) => {
  test.each(Object.entries(row.cases))('%s', async (option, { taken, refused }) => {
    for (const value of taken) {
      const failure = await failureOf(() => row.call(client, { [option]: value }));
      expect(failure?.code, failure?.message).not.toBe('INVALID_ARGUMENT');
      // It is neither a TypeError of ours, nor anything unforeseen.
      expect([undefined, 'UNAVAILABLE', 'CANCELLED', 'DEADLINE_EXCEEDED']).toContain(failure?.code);
    }
    for (const [value, says] of refused) {
      const failure = await failureOf(() => row.call(client, { [option]: value }));
      expect(failure).toMatchObject({
        name: 'FanfareError',
        code: 'INVALID_ARGUMENT',
        message: `${row.prefix ?? ''}${option} is ${says}`,
      });
    }
  });

  test('an option that does not exist, and options that are none', async () => {
    const failure = await failureOf(() => row.call(client, { [`${Object.keys(row.cases)[0]}s`]: 1 }));
    expect(failure?.code).toBe('INVALID_ARGUMENT');
    expect(failure?.message).toMatch(
      new RegExp(`^${row.of.replace(/[()]/g, '\\$&')} has no option "\\w+s", only `),
    );
  });
});

test.each([
  ['createTopic()', (labels: never) => client.admin.createTopic('orders', { labels })],
  ['updateTopic()', (labels: never) => client.admin.updateTopic('orders', { labels })],
  ['createSubscription()', (labels: never) => client.admin.createSubscription('a', { topic: 'o', labels })],
  ['updateSubscription()', (labels: never) => client.admin.updateSubscription('audit', { labels })],
])('labels of %s: their number, names and values', async (_of, call) => {
  for (const [value, says] of labelTexts) {
    const failure = await failureOf(() => call(value as never));
    expect(failure).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(says) });
  }
});

test('entries of lists', async () => {
  const texts: [call: () => unknown, says: string][] = [
    [
      () => client.admin.getBacklog(many(1_001)),
      'subscriptions has 1,001 entries: at most 1,000 are allowed',
    ],
    [() => client.admin.getBacklog(['a', '']), 'subscriptions[1] is "": give a text that is not empty'],
    [
      () => client.admin.getPartitionBacklog('a', { beforeOffsets: [0, -1] }),
      'beforeOffsets[1] is -1: give 0 to 9,007,199,254,740,991',
    ],
    [
      () => client.admin.getPartitionBacklog('a', { beforeOffsets: Array(1_025).fill(0) }),
      'beforeOffsets has 1,025 entries: at most 1,024 are allowed',
    ],
    [() => client.admin.getBacklog('a' as never), 'subscriptions is "a": give an array'],
    [
      () => client.admin.drainConsumers('a', { ttlMs: 0, clientIds: ['a', 'c'.repeat(257)] }),
      `clientIds[1] is "${'c'.repeat(60)}…": give a text of 1 to 256 bytes`,
    ],
    [
      () => client.admin.drainConsumers('a', { ttlMs: 0, clientIds: many(1_001) }),
      'clientIds has 1,001 entries: at most 1,000 are allowed',
    ],
    [
      () => client.admin.drainConsumers('a', { ttlMs: 0, peerAddresses: [7 as never] }),
      'peerAddresses[0] is 7: give a text that is not empty',
    ],
    [() => client.admin.drainConsumers('a', {} as never), 'ttlMs is missing: give 1,000 to 600,000 ms, or 0'],
    [() => client.admin.skipDamage('a', 1.5, 0), 'partition is 1.5: give 1 to 1,023, or 0'],
    [() => client.admin.skipDamage('a', 1_024, 0), 'partition is 1024: give 1 to 1,023, or 0'],
    [() => client.admin.skipDamage('a', 0, -1), 'offset is -1: give 1 to 9,007,199,254,740,991, or 0'],
    [
      () => client.admin.watchBacklog({ subscriptions: [''] }).next(),
      'subscriptions[0] is "": give a text that is not empty',
    ],
  ];
  for (const [call, says] of texts) {
    expect(await failureOf(call)).toMatchObject({ code: 'INVALID_ARGUMENT', message: says });
  }
});

test('names that are empty or none, handlers that are none, options that are no object', async () => {
  const texts: [call: () => unknown, says: string][] = [
    [() => client.publisher(''), 'topic is "": give a text that is not empty'],
    [() => client.publisher(undefined as never), 'topic is missing: give a text that is not empty'],
    [() => client.subscribe(''), 'subscription is "": give a text that is not empty'],
    [() => client.subscriber(5 as never, () => {}), 'subscription is 5: give a text that is not empty'],
    [() => client.subscribeRaw('', { onChunk() {} }), 'subscription is "": give a text that is not empty'],
    [() => client.subscriber('audit', undefined as never), 'handler is missing: give a function'],
    [() => client.admin.createTopic(''), 'topic is "": give a text that is not empty'],
    [() => client.admin.getSubscription(''), 'subscription is "": give a text that is not empty'],
    [() => client.admin.deleteSubscription(''), 'subscription is "": give a text that is not empty'],
    [
      () => client.admin.createSubscription('audit', {} as never),
      'topic is missing: give a text that is not empty',
    ],
    [() => client.cluster.drain(''), 'name is "": give a text that is not empty'],
    [() => connect(undefined as never), 'connect() takes its options as an object, not as undefined'],
    [
      () => connect('localhost:7531' as never),
      'connect() takes its options as an object, not as "localhost:7531"',
    ],
    [
      () => client.publisher('orders', null as never),
      'publisher() takes its options as an object, not as null',
    ],
    [
      () => client.subscribe('audit', [] as never),
      'subscribe() takes its options as an object, not as an array',
    ],
    [() => client.admin.getTopic('orders', 5 as never), 'a call takes its options as an object, not as 5'],
  ];
  for (const [call, says] of texts) {
    expect(await failureOf(call)).toMatchObject({ code: 'INVALID_ARGUMENT', message: says });
  }
});

test('what a broker answered with can be given back, changed', async () => {
  const info: TopicInfo = {
    ...{
      id: 'orders',
      name: 'projects/default/topics/orders',
      partitions: 4,
      retentionMs: 7 * DAY,
      labels: {},
    },
    ...{ retentionBytesPerPartition: 0, minReplicas: 0, logEpoch: 1, createTime: new Date() },
    durability: 'fsync',
  };
  expect(await failureOf(() => client.admin.createTopic('copy', info))).toMatchObject({
    code: 'UNAVAILABLE',
  });
  expect(await failureOf(() => client.admin.updateTopic('orders', info))).toMatchObject({
    code: 'UNAVAILABLE',
  });
  const audit: SubscriptionInfo = {
    ...{ id: 'audit', name: 'projects/default/subscriptions/audit', topic: 'orders', ackDeadlineSeconds: 10 },
    ...{ ordering: false, labels: {}, incarnation: 3, createTime: undefined },
    start: 'latest',
  };
  expect(await failureOf(() => client.admin.createSubscription('copy', audit))).toMatchObject({
    code: 'UNAVAILABLE',
  });
});

test('limits of what is sent to brokers are the brokers own', () => {
  const { maxPartitions, minRetentionMs, maxRetentionMs, minRetentionBytes, maxReplicas } = DEFINITION_LIMITS;
  const limits: [Case, taken: number][] = [
    [consumer.maxOutstandingMessages, MAX_OUTSTANDING_MESSAGES],
    [consumer.maxOutstandingBytes, MAX_OUTSTANDING_BYTES],
    [deadline, MIN_ACK_DEADLINE_MS / 1000],
    [deadline, MAX_ACK_DEADLINE_MS / 1000],
    [topic.partitions, maxPartitions],
    [topic.retentionMs, minRetentionMs],
    [topic.retentionMs, maxRetentionMs],
    [topic.retentionBytesPerPartition, minRetentionBytes],
    [topic.minReplicas, maxReplicas],
    [drain.ttlMs, MIN_DRAIN_TTL_MS],
    [drain.ttlMs, MAX_DRAIN_TTL_MS],
    [watchBacklog.intervalMs, MIN_WATCH_INTERVAL_MS],
    [watchBacklog.intervalMs, MAX_WATCH_INTERVAL_MS],
    [batch.maxMessages, MAX_MESSAGES_PER_PUBLISH],
    [batch.maxBytes, MAX_PUBLISH_BYTES],
  ];
  for (const [{ taken }, limit] of limits) expect(taken).toContain(limit);
  expect([MAX_CLIENT_ID_BYTES, MAX_BACKLOG_SUBSCRIPTIONS, MAX_DRAIN_NAMES_PER_SUBSCRIPTION]).toEqual([
    256, 1_000, 1_000,
  ]);
  const { maxLabels, maxLabelKeyBytes, maxLabelValueBytes } = DEFINITION_LIMITS;
  expect([maxLabels, maxLabelKeyBytes, maxLabelValueBytes]).toEqual([64, 63, 255]);
});

test('seconds of extend(): checked, whether it still has a lease or not', async () => {
  broker.createTopic('extended');
  broker.createSubscription('extending', 'extended');
  const connected = connect(broker.connectOptions);
  const messages = connected.subscribe('extending');
  await connected.publisher('extended').publish({ data: 'x' });
  const { value: message } = await messages.next();
  for (const [seconds, says] of deadline.refused) {
    expect(() => message.extend(seconds)).toThrow(`seconds is ${says}`);
  }
  message.extend(1);
  message.extend(600);
  message.ack();
  expect(() => message.extend(-1)).toThrow('seconds is -1: give 1 to 600 s');
  await connected.close();
});

test('the key of resumeKey()', () => {
  const publisher = client.publisher('orders');
  publisher.resumeKey('ü'.repeat(512));
  const keys: [key: unknown, says: string][] = [
    ['', '"": give a text of 1 to 1,024 bytes'],
    [`${'ü'.repeat(512)}x`, `"${'ü'.repeat(60)}…": give a text of 1 to 1,024 bytes`],
    [undefined, 'missing: give a text of 1 to 1,024 bytes'],
  ];
  for (const [key, says] of keys) expect(() => publisher.resumeKey(key as string)).toThrow(says);
});

test('messages of limitMessages(): checked, also when it is closed', async () => {
  const messages = client.subscribe('audit');
  for (const [value, says] of consumer.maxOutstandingMessages.refused)
    expect(() => messages.limitMessages(value as number)).toThrow(`maxOutstandingMessages is ${says}`);
  messages.limitMessages(1);
  messages.limitMessages(1_000_000);
  await messages.close();
  expect(() => messages.limitMessages(0)).toThrow('maxOutstandingMessages is 0: give 1 to 1,000,000');
});

/**
 * Each class's methods that take nothing that could be wrong, or what is checked elsewhere (a message by its
 * encoder).
 */
const WITHOUT_OPTIONS: readonly (readonly [
  of: { readonly prototype: object },
  methods: readonly string[],
])[] = [
  [Client, []],
  [Admin, []],
  [Cluster, []],
  [Publisher, ['publish']],
  [Subscription, ['next', 'end', 'return', 'close']],
  [Subscriber, []],
  [RawSubscriber, ['close']],
  [ReceivedMessage, ['ack', 'nack', 'discard', 'isStaleAt']],
];

/** Methods for which there are rows or tests above. */
const CHECKED = new Set([
  ...['publisher', 'subscribe', 'subscriber', 'subscribeRaw', 'reach', 'extend', 'limitMessages'],
  ...['stop', 'close'],
  ...['createTopic', 'getTopic', 'listTopics', 'updateTopic', 'deleteTopic'],
  ...[
    'createSubscription',
    'getSubscription',
    'listSubscriptions',
    'updateSubscription',
    'deleteSubscription',
  ],
  ...['drainConsumers', 'getBacklog', 'getPartitionBacklog', 'watchBacklog', 'get', 'drain'],
  ...['checkStorage', 'skipDamage'],
  ...['ready', 'flush', 'resumeKey', 'close'],
]);

test.each(WITHOUT_OPTIONS.map(([of, methods]) => [(of as { name?: string }).name, of, methods] as const))(
  'no method of %s is missing here',
  (_name, of, withoutOptions) => {
    const methods = Object.entries(Object.getOwnPropertyDescriptors(of.prototype))
      .filter(([method, { value }]) => typeof value === 'function' && method !== 'constructor')
      .map(([method]) => method);
    expect(methods.filter((method) => !withoutOptions.includes(method) && !CHECKED.has(method))).toEqual([]);
  },
);
