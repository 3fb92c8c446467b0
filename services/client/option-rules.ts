// What every option of the client may be: a table for each object of options, made of the rules of
// options.ts. Defaults stand where the options are used. Limits of what is sent to brokers are those of
// the .proto files; the others keep a mistake (a unit, a sign, Infinity) from becoming a client that
// waits or gathers for ever.
import type { DrainSettings, PartitionQuestion, SubscriptionInfo, TopicInfo } from './admin-types.ts';
import type { BackoffOptions } from './backoff.ts';
import type { TlsOptions } from './certificates.ts';
import type { CallSettings, ConnectOptions } from './connection.ts';
import type { ConsumerOptions } from './consumer-stream.ts';
import type { SubscribeOptions } from './message-source.ts';
import {
  durationMs,
  durationMsOrZero,
  flag,
  func,
  group,
  integer,
  integerOrZero,
  listOf,
  oneOf,
  optional,
  outputOnly,
  pem,
  type Rule,
  type Rules,
  signal,
  text,
  textsByName,
} from './options.ts';
import type { CloseOptions, PublisherOptions, WaitOptions } from './publisher.ts';
import type { RawSubscribeOptions } from './raw-subscriber.ts';
import type { StopOptions, SubscriberOptions } from './subscriber.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const DAY_MS = 24 * 3_600_000;

/** publisher.proto */
const MAX_BATCH_BYTES = 3 * MIB;
const MAX_BATCH_MESSAGES = 1_000;
const MAX_LINGER_MS = 60_000;
const MAX_ORDERING_KEY_BYTES = 1_024;
/** Bounds of what is kept here until it is acknowledged: more than any process has room for. */
const MAX_UNACKNOWLEDGED_MESSAGES = 1_000_000_000;
const MAX_UNACKNOWLEDGED_BYTES = 1024 * GIB;
/** subscriber.proto */
const MAX_OUTSTANDING_MESSAGES = 1_000_000;
const MAX_OUTSTANDING_BYTES = GIB;
const MAX_ACK_DEADLINE_SECONDS = 600;
const MAX_CLIENT_ID_BYTES = 256;
/** admin.proto */
const MAX_PARTITIONS = 1_024;
const MAX_BACKLOG_SUBSCRIPTIONS = 1_000;
const MAX_DRAIN_NAMES = 1_000;

/** The name of a topic, a subscription, a project or a broker. The broker knows the other rules for names. */
export const resourceName: Rule = text();
export const maxOutstandingMessages: Rule = integer(1, MAX_OUTSTANDING_MESSAGES);
export const orderingKey: Rule = text(MAX_ORDERING_KEY_BYTES);
export const partitionNumber: Rule = integerOrZero(1, MAX_PARTITIONS - 1);
export const offsetNumber: Rule = integerOrZero(1, Number.MAX_SAFE_INTEGER);
export const ackDeadlineSeconds: Rule = integer(1, MAX_ACK_DEADLINE_SECONDS, 's');
const labels = textsByName(64, 63, 255);

export const BACKOFF: Rules<BackoffOptions> = {
  initialMs: optional(durationMs(1)),
  maxMs: optional(durationMs(1)),
  random: optional(func),
};

const TLS: Rules<TlsOptions> = {
  ca: pem,
  cert: pem,
  key: pem,
  serverName: optional(text()),
};

export const CONNECT: Rules<ConnectOptions> = {
  address: text(),
  tls: optional(group(TLS)),
  insecure: optional(flag),
  project: optional(resourceName),
  direct: optional(flag),
  callTimeoutMs: optional(durationMs(1)),
  keepaliveMs: optional(durationMs(10)),
};

export const CALL: Rules<CallSettings> = {
  signal: optional(signal),
  timeoutMs: optional(durationMs(1)),
};

export const PUBLISHER: Rules<PublisherOptions> = {
  batch: optional(
    group<NonNullable<PublisherOptions['batch']>>({
      maxMessages: optional(integer(1, MAX_BATCH_MESSAGES)),
      maxBytes: optional(integer(1, MAX_BATCH_BYTES, 'bytes')),
      lingerMs: optional(durationMs(0, MAX_LINGER_MS)),
    }),
  ),
  maxOutstandingBytes: optional(integer(1, MAX_UNACKNOWLEDGED_BYTES, 'bytes')),
  maxOutstandingMessages: optional(integer(1, MAX_UNACKNOWLEDGED_MESSAGES)),
  retryDeadlineMs: optional(durationMs(1)),
  backoff: optional(group(BACKOFF)),
  signal: optional(signal),
  onRetry: optional(func),
};

/** The options of ready() and flush(). */
export const WAIT: Rules<WaitOptions> = { signal: optional(signal) };

export const CLOSE: Rules<CloseOptions> = {
  timeoutMs: optional(durationMs(0)),
  signal: optional(signal),
};

const CONSUMER: Rules<ConsumerOptions> = {
  maxOutstandingMessages: optional(maxOutstandingMessages),
  maxOutstandingBytes: optional(integer(1, MAX_OUTSTANDING_BYTES, 'bytes')),
  ackDeadlineSeconds: optional(ackDeadlineSeconds),
  clientId: optional(text(MAX_CLIENT_ID_BYTES)),
  backoff: optional(group(BACKOFF)),
  signal: optional(signal),
  onRetry: optional(func),
};

export const SUBSCRIBE: Rules<SubscribeOptions> = {
  ...CONSUMER,
  maxExtensionMs: optional(durationMs(0)),
};

export const SUBSCRIBER: Rules<SubscriberOptions> = {
  ...SUBSCRIBE,
  concurrency: optional(integer(1, MAX_OUTSTANDING_MESSAGES)),
  onHandlerError: optional(func),
};

export const STOP: Rules<StopOptions> = {
  timeoutMs: optional(durationMs(0)),
  signal: optional(signal),
};

export const SUBSCRIBE_RAW: Rules<RawSubscribeOptions> = { ...CONSUMER, onChunk: func };

export const TOPIC_SETTINGS: Rules<TopicInfo> = {
  partitions: optional(integer(1, MAX_PARTITIONS)),
  retentionMs: optional(durationMs(60_000, 366 * DAY_MS)),
  retentionBytesPerPartition: optional(integerOrZero(MIB, Number.MAX_SAFE_INTEGER, 'bytes')),
  durability: optional(oneOf('default', 'memory', 'stored', 'replicated', 'fsync')),
  minReplicas: optional(integerOrZero(1, 5)),
  labels: optional(labels),
  id: outputOnly,
  name: outputOnly,
  logEpoch: outputOnly,
  createTime: outputOnly,
};

export const SUBSCRIPTION_SETTINGS: Rules<SubscriptionInfo> = {
  topic: resourceName,
  ackDeadlineSeconds: optional(ackDeadlineSeconds),
  ordering: optional(flag),
  start: optional(oneOf('latest', 'earliest')),
  labels: optional(labels),
  id: outputOnly,
  name: outputOnly,
  incarnation: outputOnly,
  createTime: outputOnly,
};

export const SUBSCRIPTION_CHANGES: Rules<Pick<SubscriptionInfo, 'ackDeadlineSeconds' | 'labels'>> = {
  ackDeadlineSeconds: optional(ackDeadlineSeconds),
  labels: optional(labels),
};

/** At most 1,000 names in each list; the broker counts both together. */
export const DRAIN: Rules<DrainSettings> = {
  clientIds: optional(listOf(text(MAX_CLIENT_ID_BYTES), MAX_DRAIN_NAMES)),
  peerAddresses: optional(listOf(text(), MAX_DRAIN_NAMES)),
  ttlMs: durationMsOrZero(1_000, 600_000),
};

export const PARTITION_QUESTION: Rules<PartitionQuestion> = {
  clientId: optional(text(MAX_CLIENT_ID_BYTES)),
  beforeOffsets: optional(listOf(integer(0, Number.MAX_SAFE_INTEGER), MAX_PARTITIONS)),
};

export const backlogNames: Rule = listOf(resourceName, MAX_BACKLOG_SUBSCRIPTIONS);

export const WATCH_BACKLOG: Rules<{
  subscriptions?: readonly string[];
  intervalMs?: number;
  signal?: AbortSignal;
}> = {
  subscriptions: optional(backlogNames),
  intervalMs: optional(durationMs(100, 60_000)),
  signal: optional(signal),
};

/** The topics that checkStorage() is given. */
export const topicNames: Rule = listOf(resourceName, MAX_BACKLOG_SUBSCRIPTIONS);

export const CHECK_STORAGE: Rules<{ topics?: readonly string[]; signal?: AbortSignal }> = {
  topics: optional(topicNames),
  signal: optional(signal),
};
