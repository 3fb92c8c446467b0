// The broker's limits and defaults, each with its unit, and the relations between them, asserted when the
// module is loaded. Core is given the values as arguments. The limits of names are in core/names.ts.

import type { ConnectionLimits } from './adapters/grpc/connections.ts';
import type { OutboxLimits } from './adapters/grpc/outboxes.ts';
import type { ReceivingLimits } from './adapters/grpc/receiving.ts';
import type { WatchLimits } from './adapters/grpc/watch.ts';
import type { DefinitionDefaults, DefinitionLimits } from './core/definitions.ts';
import { assert } from './core/errors.ts';
import { MAX_HANDED_OVER } from './core/hand-over.ts';
import { MAX_NAME_LENGTH } from './core/names.ts';
import type { EngineLimits } from './engine/context.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

// --- Messages and requests ---

/** One message's data, and the keys and values of its attributes. */
export const MAX_MESSAGE_BYTES = 2 * MIB;
/** One message's tags and lengths around them, however wasteful: a client writes 908 bytes at most. */
export const MAX_MESSAGE_ENCODING_BYTES = 4 * KIB;
/** Messages in one publish. */
export const MAX_MESSAGES_PER_PUBLISH = 1_000;
/** One publish request, encoded. */
export const MAX_PUBLISH_BYTES = 3 * MIB;
/** One request of any RPC but publishing, encoded. A call with a longer one ends, and it is not read. */
export const MAX_REQUEST_BYTES = 2 * MIB;
/**
 * What the transport takes in of publishers: more than the largest valid request, so that the answer can say
 * what is wrong and streams stay open. A call with a longer request ends, and the request is not read.
 */
export const MAX_RECEIVE_BYTES = 8 * MIB;
/** One response, encoded. */
export const MAX_RESPONSE_BYTES = 3 * MIB;
/** What gRPC clients accept by default. */
export const GRPC_DEFAULT_RECEIVE_BYTES = 4 * MIB;

export const MAX_ATTRIBUTES = 100;
export const MAX_ATTRIBUTE_KEY_BYTES = 256;
export const MAX_ATTRIBUTE_VALUE_BYTES = 1_024;
export const MAX_ORDERING_KEY_BYTES = 1_024;
/** What the broker adds to a message when it cuts the frame: tags, lengths, ids, time, attempt. */
export const MAX_FRAME_OVERHEAD_BYTES = 512;
export const MAX_ACK_ID_BYTES = 164;
/** Ack ids, or ranges, in one field of one request. */
export const MAX_ACK_IDS_PER_REQUEST = 3_000;
export const MAX_CLIENT_ID_BYTES = 256;

// --- Delivery ---

export const MAX_OUTSTANDING_MESSAGES = 1_000_000;
export const DEFAULT_OUTSTANDING_MESSAGES = 1_000;
export const MAX_OUTSTANDING_BYTES = GIB;
export const DEFAULT_OUTSTANDING_BYTES = 64 * MIB;
export const MIN_ACK_DEADLINE_MS = SECOND_MS;
export const MAX_ACK_DEADLINE_MS = 600 * SECOND_MS;
export const MAX_PULL_MESSAGES = 1_000;
export const MAX_PULL_WAIT_MS = 60 * SECOND_MS;

/** Consumers of one subscription at one broker. */
export const MAX_CONSUMERS_PER_SUBSCRIPTION = 10_000;
/** Separate acknowledged runs ahead of a cursor, per subscription and partition. Full: delivery waits. */
export const MAX_HOLES_PER_CURSOR = 10_000;
/** Messages with a key that a subscription looks at ahead of time, per partition. Full: it waits for acks. */
export const MAX_QUEUED_PER_PARTITION = 50_000;
/**
 * Messages of one partition that a subscription has looked at and that are not settled: outstanding, given
 * back, or waiting by key. Full: delivery waits for acks. It bounds the leases and, with the worst acks, the
 * gaps in a cursor: to a record of 60 KB a commit.
 */
export const MAX_UNSETTLED_PER_PARTITION = 60_000;
/** Outstanding messages of one ordering key. */
export const MAX_RUN_PER_KEY = 1_000;
/** The longest time from an ack to the commit of its cursor: a crash may deliver again what came in it. */
export const CURSOR_COMMIT_MS = 50;
/** How long after its deadline a lease ends, at most. */
export const LEASE_SWEEP_MS = 100;
/** How long publishers wait while the store does not say whether it has appended their messages. */
export const UNKNOWN_OUTCOME_MS = 10 * SECOND_MS;
export const RETENTION_SWEEP_MS = 5 * SECOND_MS;
/** How long a stream whose outbox is full may take nothing before it is closed as SLOW_CONSUMER. */
export const SLOW_CONSUMER_AFTER_MS = 60 * SECOND_MS;

// --- Buffers ---

/** Messages gathered into one chunk. A larger message, up to MAX_MESSAGE_BYTES, is a chunk of its own. */
export const MAX_CHUNK_BYTES = MIB;
/** The same in messages: of small ones most of a chunk is what the frames add, at most 128 bytes each. */
export const MAX_CHUNK_MESSAGES = MAX_CHUNK_BYTES / 128;
/** Messages handed to the store in one append. The rest waits for the next. */
export const MAX_APPEND_BYTES = 4 * MIB;
/**
 * Chunks kept in memory after their append, because a Redis failover may lose them: what is published in some
 * minutes. Many of them are in the cache anyway, and count there, too.
 */
export const RECENT_BYTES = 128 * MIB;
/** Chunks read from the store at once, for subscriptions behind the log's end. */
export const READ_BYTES = MIB;
/** Publish requests received and not answered, in the whole broker, as held. Full: RESOURCE_EXHAUSTED. */
export const MAX_UNCOMMITTED_BYTES = 64 * MIB;
/** Chunks kept in memory that were appended or read lately, in the whole broker. --cache changes it. */
export const DEFAULT_CACHE_BYTES = 256 * MIB;
export const MIN_CACHE_BYTES = 8 * MIB;
/** In a container DEFAULT_CACHE_BYTES is at most this part of the memory that the container may use. */
export const CACHE_PART_OF_CONTAINER = 1 / 8;
/** Written to one consumer's stream and not yet taken by the transport. Full: nothing is leased to it. */
export const MAX_OUTBOX_BYTES = MIB;
/**
 * The same of all streams together: principals share it alike, and streams what their principal has. A stream
 * always has MIN_OUTBOX_BYTES.
 */
export const MAX_OUTBOXES_BYTES = 128 * MIB;
export const MIN_OUTBOX_BYTES = 16 * KIB;
/**
 * Received on one publish stream and not yet answered. Full, by the last request that began within it: no
 * more than one is read ahead.
 */
export const MAX_PUBLISH_STREAM_BYTES = 8 * MIB;

// --- Topics and subscriptions ---

export const MAX_TOPICS_PER_PROJECT = 10_000;
export const MAX_SUBSCRIPTIONS_PER_PROJECT = 10_000;
/** Partitions of all topics. Each costs 2.6 KB, used or not. */
export const MAX_PARTITIONS = 100_000;
/**
 * Dispatchers of all subscriptions in the whole cluster, for the last living broker runs them all. A
 * subscription has one for each partition of its topic. Each costs 1.8 KB, used or not, and 3.2 KB with
 * ordering: this many, on 1,024 partitions, took 355 MB of a heap of 1 GiB, which three times as many
 * exhausted.
 */
export const MAX_DISPATCHERS = 100_000;

export const DEFINITION_LIMITS: DefinitionLimits = Object.freeze({
  maxPartitions: 1_024,
  minRetentionMs: MINUTE_MS,
  maxRetentionMs: 366 * DAY_MS,
  minRetentionBytes: MIB,
  maxReplicas: 5,
  minAckDeadlineMs: MIN_ACK_DEADLINE_MS,
  maxAckDeadlineMs: MAX_ACK_DEADLINE_MS,
  maxLabels: 64,
  maxLabelKeyBytes: 63,
  maxLabelValueBytes: 255,
});

/** The default durability depends on the store. */
export const DEFINITION_DEFAULTS: Omit<DefinitionDefaults, 'durability'> = Object.freeze({
  partitions: 4,
  retentionMs: 7 * DAY_MS,
  ackDeadlineMs: 10 * SECOND_MS,
});

export const MAX_PAGE_SIZE = 1_000;
export const DEFAULT_PAGE_SIZE = 100;

// --- Backlog watching ---

export const MAX_BACKLOG_SUBSCRIPTIONS = 1_000;
export const MIN_WATCH_INTERVAL_MS = 100;
export const MAX_WATCH_INTERVAL_MS = 60 * SECOND_MS;
export const DEFAULT_WATCH_INTERVAL_MS = SECOND_MS;
/** How long after a first message watchers are told: several go together. admin.proto promises 100 ms. */
export const FIRST_MESSAGE_DELAY_MS = 25;
/** WatchBacklog and WatchRoutes streams in the whole broker. Full: RESOURCE_EXHAUSTED. */
export const MAX_WATCHES = 2_000;
export const MAX_WATCHES_PER_PRINCIPAL = 1_000;
/** The part of them that is for WatchBacklog alone. */
export const RESERVED_BACKLOG_WATCHES = 500;

// --- Draining consumers ---

/** Client ids and addresses in one DrainConsumers request. */
export const MAX_DRAIN_NAMES_PER_SUBSCRIPTION = 1_000;
/** Client ids and addresses that drain, over all subscriptions. */
export const MAX_DRAIN_NAMES = 10_000;
export const MIN_DRAIN_TTL_MS = SECOND_MS;
export const MAX_DRAIN_TTL_MS = 10 * MINUTE_MS;

// --- Connections ---

/**
 * Open RPCs of one connection. Full: clients wait. Node counts a call that was cancelled for a moment longer,
 * so a client that opens the next one at once, in its place, may get ENHANCE_YOUR_CALM: clients do better to
 * stay below it.
 */
export const MAX_STREAMS_PER_CONNECTION = 1_000;
/** Bytes sent to the broker on one stream and not read yet, beside MAX_PUBLISH_STREAM_BYTES. */
export const STREAM_WINDOW_BYTES = MIB;
/**
 * Bytes sent to the broker on one connection and not received yet. Streams that are not read take nothing of
 * it: node gives it back as soon as it has the bytes.
 */
export const CONNECTION_WINDOW_BYTES = 4 * MIB;
/** Connections of all clients and brokers. The process' own limit of descriptors may be lower. */
export const MAX_CONNECTIONS = 10_000;
/** Of one address, behind which there may be a gateway; of one principal, if it is no broker's. */
export const MAX_CONNECTIONS_PER_ADDRESS = 5_000;
export const MAX_CONNECTIONS_PER_PRINCIPAL = 5_000;
/** Connections on their way: full, the oldest of the address with most of them makes room. */
export const MAX_UNAUTHENTICATED_CONNECTIONS = 512;
/** How long TLS may take; after it, how long the first words of HTTP/2. */
export const TLS_HANDSHAKE_TIMEOUT_MS = 3 * SECOND_MS;
export const HTTP2_PREFACE_TIMEOUT_MS = 5 * SECOND_MS;
/** How long a connection may be without a call. Its client is told, and connects again when it needs to. */
export const MAX_CONNECTION_IDLE_MS = 30 * MINUTE_MS;
/** How long a client without a call has to go when the broker stops. */
export const CONNECTION_LINGER_MS = 500;
/** How often it is looked at what takes too long. */
export const CONNECTION_SWEEP_MS = 500;
/**
 * Requests that have not arrived whole, or that no handler has taken: of all clients, and of all brokers.
 * Full: RESOURCE_EXHAUSTED.
 */
export const MAX_RECEIVING_BYTES = 256 * MIB;
export const MAX_RECEIVING_BYTES_OF_BROKERS = 128 * MIB;
export const MAX_RECEIVING_BYTES_PER_PRINCIPAL = 128 * MIB;
/** Room for the parts of twenty large publishes that arrive side by side. */
export const MAX_RECEIVING_BYTES_PER_CONNECTION = 64 * MIB;
/** What a connection may always have under way, whatever others have. */
export const FREE_RECEIVING_BYTES_PER_CONNECTION = 16 * KIB;
/** How long a request may take from its first byte to its last. */
export const REQUEST_ARRIVAL_MS = 30 * SECOND_MS;
/** How often certificate files are looked at. */
export const TLS_RELOAD_INTERVAL_MS = 10 * SECOND_MS;

export const DEFAULT_MAX_STREAM_AGE_MS = 30 * MINUTE_MS;
export const DEFAULT_MAX_CONNECTION_AGE_MS = 12 * 60 * MINUTE_MS;
export const MIN_STREAM_AGE_MS = SECOND_MS;
/** The part of the maximum age by which streams end earlier, at random, so that they don't end together. */
export const STREAM_AGE_JITTER = 0.1;
export const DEFAULT_KEEPALIVE_MS = 30 * SECOND_MS;
export const MIN_KEEPALIVE_MS = SECOND_MS;
/** How long a peer may take to answer a keepalive ping. */
export const KEEPALIVE_TIMEOUT_MS = 20 * SECOND_MS;
export const DEFAULT_DRAIN_TIMEOUT_MS = 10 * SECOND_MS;
/**
 * Of the text of an error as it travels, percent-encoded in a header: some clients take no more than 8 KiB of
 * headers in all.
 */
export const MAX_STATUS_DETAILS_BYTES = 4 * KIB;

// --- Log and audit ---

/** Lines that wait because nobody takes them, for each of log and audit file. Full: dropped, and counted. */
export const MAX_WAITING_LOG_BYTES = MIB;
/** How soon a pipe that took no line is tried again. */
export const LOG_RETRY_MS = 20;
/** How long a process that ends waits for its last lines to be taken. */
export const LOG_EXIT_MS = 500;
/** Of the resource, and of what the caller was told, in an audit line, as written there. Longer: cut. */
export const MAX_AUDIT_TEXT_BYTES = 300;
/** Refused changes of one principal that are audited one by one, at once. Further ones: a sum. */
export const REFUSAL_BURST = 20;
/** How often one more of them is. */
export const REFUSAL_INTERVAL_MS = SECOND_MS;
/** How often sums of refused changes are written. */
export const REFUSAL_SUM_MS = 10 * SECOND_MS;
/** Principals whose refusals are counted apart from each other. Full: the others are counted as one. */
export const MAX_REFUSED_PRINCIPALS = 1_000;

// --- Health and metrics ---

/** Connections to the health port. Full: the oldest that asks nothing is closed. */
export const MAX_HEALTH_CONNECTIONS = 256;
/** A request to the health port, with its headers. */
export const MAX_HEALTH_REQUEST_BYTES = KIB;
/** How long a connection to the health or metrics port may take to ask. */
export const MAX_SILENT_MS = 2 * SECOND_MS;
/** How long the event loop may stand still until the broker is reported as not alive, to be restarted. */
export const MAX_STANDSTILL_MS = 30 * SECOND_MS;
/** How often the event loop shows that it turns. */
export const HEARTBEAT_MS = SECOND_MS;
/** Connections to the metrics port. Full: the oldest that asks nothing is closed. */
export const MAX_METRICS_CONNECTIONS = 256;
/** The same from one address. */
export const MAX_METRICS_CONNECTIONS_PER_ADDRESS = 192;
/** The headers of a request for metrics. */
export const MAX_METRICS_HEADER_BYTES = 8 * KIB;
/** How long an answer with metrics may take to be read. */
export const MAX_METRICS_ANSWER_MS = 10 * SECOND_MS;
/** For how long the text with metrics is given to others that ask. */
export const METRICS_CACHE_MS = SECOND_MS;

/** The bearer token of the metrics port: long enough not to be guessed, short enough for a header. */
export const MIN_TOKEN_BYTES = 16;
export const MAX_TOKEN_BYTES = KIB;
/** How often the file with the token is looked at, at most. */
export const TOKEN_RELOAD_MS = 10 * SECOND_MS;

// --- What the parts are given ---

export const CONNECTION_LIMITS: ConnectionLimits = Object.freeze({
  maxConnections: MAX_CONNECTIONS,
  maxPerAddress: MAX_CONNECTIONS_PER_ADDRESS,
  maxPerPrincipal: MAX_CONNECTIONS_PER_PRINCIPAL,
  maxUnauthenticated: MAX_UNAUTHENTICATED_CONNECTIONS,
  handshakeMs: TLS_HANDSHAKE_TIMEOUT_MS,
  prefaceMs: HTTP2_PREFACE_TIMEOUT_MS,
});

export const RECEIVING_LIMITS: ReceivingLimits = Object.freeze({
  maxBytes: MAX_RECEIVING_BYTES,
  maxBrokerBytes: MAX_RECEIVING_BYTES_OF_BROKERS,
  maxPrincipalBytes: MAX_RECEIVING_BYTES_PER_PRINCIPAL,
  maxConnectionBytes: MAX_RECEIVING_BYTES_PER_CONNECTION,
  freeConnectionBytes: FREE_RECEIVING_BYTES_PER_CONNECTION,
  arrivalMs: REQUEST_ARRIVAL_MS,
});

export const OUTBOX_LIMITS: OutboxLimits = Object.freeze({
  outboxesBytes: MAX_OUTBOXES_BYTES,
  outboxBytes: MAX_OUTBOX_BYTES,
  minOutboxBytes: MIN_OUTBOX_BYTES,
});

export const WATCH_LIMITS: WatchLimits = Object.freeze({
  max: MAX_WATCHES,
  maxPerPrincipal: MAX_WATCHES_PER_PRINCIPAL,
  reserved: RESERVED_BACKLOG_WATCHES,
});

export const PUBLISH_LIMITS = Object.freeze({
  maxMessages: MAX_MESSAGES_PER_PUBLISH,
  maxMessageBytes: MAX_MESSAGE_BYTES,
  maxMessageEncodingBytes: MAX_MESSAGE_ENCODING_BYTES,
  maxAttributes: MAX_ATTRIBUTES,
  maxAttributeKeyBytes: MAX_ATTRIBUTE_KEY_BYTES,
  maxAttributeValueBytes: MAX_ATTRIBUTE_VALUE_BYTES,
  maxOrderingKeyBytes: MAX_ORDERING_KEY_BYTES,
  maxRequestBytes: MAX_PUBLISH_BYTES,
  maxStreamBytes: MAX_PUBLISH_STREAM_BYTES,
});

export const SUBSCRIBE_LIMITS = Object.freeze({
  maxIds: MAX_ACK_IDS_PER_REQUEST,
  maxAckIdBytes: MAX_ACK_ID_BYTES,
  maxDeadlineSeconds: MAX_ACK_DEADLINE_MS / SECOND_MS,
  maxClientIdBytes: MAX_CLIENT_ID_BYTES,
  maxOutstandingMessages: MAX_OUTSTANDING_MESSAGES,
  defaultOutstandingMessages: DEFAULT_OUTSTANDING_MESSAGES,
  maxOutstandingBytes: MAX_OUTSTANDING_BYTES,
  defaultOutstandingBytes: DEFAULT_OUTSTANDING_BYTES,
  maxPullMessages: MAX_PULL_MESSAGES,
  maxPullWaitMs: MAX_PULL_WAIT_MS,
  slowConsumerMs: SLOW_CONSUMER_AFTER_MS,
});

/** `recentBytes` is RECENT_BYTES for a store that can go back, else 0. */
export function engineLimits(cacheBytes: number, recentBytes = 0): EngineLimits {
  return Object.freeze({
    maxChunkBytes: MAX_CHUNK_BYTES,
    maxChunkMessages: MAX_CHUNK_MESSAGES,
    maxAppendBytes: MAX_APPEND_BYTES,
    maxUncommittedBytes: MAX_UNCOMMITTED_BYTES,
    cacheBytes,
    recentBytes,
    readBytes: READ_BYTES,
    maxHoles: MAX_HOLES_PER_CURSOR,
    maxQueued: MAX_QUEUED_PER_PARTITION,
    maxUnsettled: MAX_UNSETTLED_PER_PARTITION,
    maxRun: MAX_RUN_PER_KEY,
    cursorCommitMs: CURSOR_COMMIT_MS,
    leaseSweepMs: LEASE_SWEEP_MS,
    unknownOutcomeMs: UNKNOWN_OUTCOME_MS,
    retentionSweepMs: RETENTION_SWEEP_MS,
  });
}

// --- Relations ---

/** The longest Message that the broker takes, encoded. */
const MAX_ENCODED_MESSAGE_BYTES = MAX_MESSAGE_BYTES + MAX_ORDERING_KEY_BYTES + MAX_MESSAGE_ENCODING_BYTES;
assert(
  MAX_ENCODED_MESSAGE_BYTES + MAX_FRAME_OVERHEAD_BYTES <= MAX_RESPONSE_BYTES,
  'a response holds any message',
);
assert(
  MAX_ENCODED_MESSAGE_BYTES + MAX_NAME_LENGTH + KIB <= MAX_PUBLISH_BYTES,
  'a publish request holds any message',
);
assert(
  MAX_PUBLISH_BYTES < MAX_RECEIVE_BYTES,
  'an oversize publish is refused by the broker, not the transport',
);
assert(MAX_RECEIVE_BYTES <= MAX_RECEIVING_BYTES_PER_CONNECTION, 'an idle connection takes any request');
assert(
  MAX_RECEIVING_BYTES_PER_CONNECTION <= MAX_RECEIVING_BYTES_PER_PRINCIPAL,
  'one connection may have as much as its principal',
);
assert(MAX_RECEIVING_BYTES_PER_PRINCIPAL < MAX_RECEIVING_BYTES, 'no principal keeps out all others');
assert(MIN_OUTBOX_BYTES <= MAX_OUTBOX_BYTES, 'a stream may have what it always has');
assert(
  MAX_WATCHES_PER_PRINCIPAL <= MAX_WATCHES - RESERVED_BACKLOG_WATCHES,
  'one principal may watch so much',
);
assert(MAX_CONNECTIONS_PER_PRINCIPAL < MAX_CONNECTIONS, 'no principal keeps out all others');
assert(MAX_RECEIVE_BYTES <= MAX_PUBLISH_STREAM_BYTES, 'no stream holds more than a publish stream');
assert(MAX_RESPONSE_BYTES < GRPC_DEFAULT_RECEIVE_BYTES, 'every client can take every response');
assert(2 * MAX_CHUNK_BYTES <= MAX_RESPONSE_BYTES, 'a chunk is a response, frame overhead included');
assert(MAX_MESSAGES_PER_PUBLISH <= MAX_CHUNK_MESSAGES, 'a publish is not cut for the number of its messages');
assert(MAX_ENCODED_MESSAGE_BYTES < MAX_UNCOMMITTED_BYTES, 'an idle broker takes any message');
assert(MAX_PUBLISH_BYTES <= MAX_PUBLISH_STREAM_BYTES, 'a publish stream takes any publish');
assert(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES, 'one stream does not fill the connection');
assert(MAX_PUBLISH_BYTES <= MAX_UNCOMMITTED_BYTES, 'an idle broker takes any publish');
assert(MAX_CHUNK_BYTES <= MIN_CACHE_BYTES, 'the cache holds any chunk');
assert(MIN_CACHE_BYTES <= DEFAULT_CACHE_BYTES, 'the default cache is allowed');
assert(
  MAX_ACK_IDS_PER_REQUEST * (MAX_ACK_ID_BYTES + 8) < MAX_REQUEST_BYTES,
  'all ack ids fit into a request',
);
assert(DEFAULT_OUTSTANDING_MESSAGES <= MAX_OUTSTANDING_MESSAGES, 'the default credit in messages is allowed');
assert(DEFAULT_OUTSTANDING_MESSAGES <= MAX_UNSETTLED_PER_PARTITION, 'one partition takes the default credit');
assert(4 * MAX_UNSETTLED_PER_PARTITION <= MAX_HANDED_OVER, 'four full subscriptions can be handed over');
assert(MAX_QUEUED_PER_PARTITION <= MAX_UNSETTLED_PER_PARTITION, 'what waits by key is unsettled');
assert(DEFAULT_OUTSTANDING_BYTES <= MAX_OUTSTANDING_BYTES, 'the default credit in bytes is allowed');
assert(DEFINITION_LIMITS.maxPartitions <= MAX_PARTITIONS, 'an empty broker takes any topic');
assert(
  MAX_PARTITIONS <= MAX_DISPATCHERS,
  'as many partitions as there can be have room for a subscription each',
);
assert(
  MAX_BACKLOG_SUBSCRIPTIONS * (2 * MAX_NAME_LENGTH + 256) < MAX_RESPONSE_BYTES,
  'a backlog answer for named subscriptions fits into a response',
);
assert(FIRST_MESSAGE_DELAY_MS < 100, 'admin.proto promises 100 ms');
assert(STREAM_AGE_JITTER > 0 && STREAM_AGE_JITTER < 1, 'the jitter is a part');
assert(MAX_METRICS_CONNECTIONS_PER_ADDRESS < MAX_METRICS_CONNECTIONS, 'one address leaves room for others');
assert(2 * MAX_TOKEN_BYTES <= MAX_METRICS_HEADER_BYTES, 'the headers hold any token');
assert(HEARTBEAT_MS * 10 <= MAX_STANDSTILL_MS, 'a late heartbeat is no standstill');
