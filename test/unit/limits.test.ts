// Every bound and default of limits.ts, and the test that goes to it: this does not compile while one is
// missing, and fails while the test that is named does not exist or does not name the bound. And that the
// documents have the same numbers.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MAX_HANDED_OVER } from '../../services/broker/core/hand-over.ts';
import * as limits from '../../services/broker/limits.ts';

const root = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

const core = 'unit/limits-core.test.ts';
const engine = 'unit/limits-engine.test.ts';
const requests = 'integration/limits-requests.test.ts';
const connection = 'integration/limits-connection.test.ts';
const connections = 'unit/connection-limits.test.ts';
const outboxes = 'unit/outboxes.test.ts';
const bounds = 'unit/delivery-bounds.test.ts';
const lines = 'unit/line-writer.test.ts';
const audit = 'unit/audit.test.ts';
const health = 'integration/health-port.test.ts';
const metrics = 'integration/metrics-port.test.ts';
const quotas = 'unit/definition-quotas.test.ts';

/** File below test/, and the title of the test there, or how that begins. */
const REACHED: Readonly<Record<keyof typeof limits, readonly [file: string, title: string]>> = {
  MAX_MESSAGE_BYTES: [core, 'bytes of a message'],
  MAX_MESSAGE_ENCODING_BYTES: [core, 'bytes of an ordering key, tags and lengths'],
  MAX_MESSAGES_PER_PUBLISH: [requests, 'messages of a publish'],
  MAX_PUBLISH_BYTES: [requests, 'bytes of a publish'],
  MAX_REQUEST_BYTES: [requests, 'bytes of any request'],
  MAX_RECEIVE_BYTES: [requests, 'bytes of any request'],
  MAX_RESPONSE_BYTES: [requests, 'bytes of an answer'],
  GRPC_DEFAULT_RECEIVE_BYTES: [core, 'what gRPC clients accept by default'],
  MAX_ATTRIBUTES: [core, 'attributes'],
  MAX_ATTRIBUTE_KEY_BYTES: [core, 'bytes of an attribute’s key'],
  MAX_ATTRIBUTE_VALUE_BYTES: [core, 'bytes of an attribute’s value'],
  MAX_ORDERING_KEY_BYTES: [core, 'bytes of an ordering key'],
  MAX_FRAME_OVERHEAD_BYTES: [core, 'what is added to a message'],
  MAX_ACK_ID_BYTES: [core, 'an ack id that is longer than any'],
  MAX_ACK_IDS_PER_REQUEST: [core, 'modify_deadline_ack_ids'],
  MAX_CLIENT_ID_BYTES: [requests, 'what may be outstanding on a stream'],

  MAX_OUTSTANDING_MESSAGES: [requests, 'what may be outstanding on a stream'],
  DEFAULT_OUTSTANDING_MESSAGES: [requests, 'what may be outstanding on a stream'],
  MAX_OUTSTANDING_BYTES: [requests, 'what may be outstanding on a stream'],
  DEFAULT_OUTSTANDING_BYTES: [requests, 'what may be outstanding on a stream'],
  MIN_ACK_DEADLINE_MS: [core, 'shortest ack deadline'],
  MAX_ACK_DEADLINE_MS: [core, 'longest ack deadline'],
  MAX_PULL_MESSAGES: [requests, 'messages of a pull'],
  MAX_PULL_WAIT_MS: [requests, 'messages of a pull'],
  MAX_CONSUMERS_PER_SUBSCRIPTION: ['unit/consumer-limit.test.ts', 'a subscription has so many consumers'],
  MAX_HOLES_PER_CURSOR: [bounds, 'gaps'],
  MAX_QUEUED_PER_PARTITION: [bounds, 'messages that wait behind their ordering key'],
  MAX_UNSETTLED_PER_PARTITION: [bounds, 'messages that are not settled'],
  MAX_RUN_PER_KEY: [bounds, 'messages that wait behind their ordering key'],
  CURSOR_COMMIT_MS: [engine, 'an ack is in its cursor'],
  LEASE_SWEEP_MS: [engine, 'a lease ends so soon'],
  UNKNOWN_OUTCOME_MS: [engine, 'publishers wait so long'],
  RETENTION_SWEEP_MS: [engine, 'what is older than the retention'],
  SLOW_CONSUMER_AFTER_MS: [connection, 'a consumer that reads nothing'],

  MAX_CHUNK_BYTES: [engine, 'bytes of a chunk'],
  MAX_CHUNK_MESSAGES: [engine, 'messages of a chunk'],
  MAX_APPEND_BYTES: [engine, 'bytes of an append'],
  RECENT_BYTES: [engine, 'what is kept for a store that may go back'],
  READ_BYTES: [engine, 'what is kept in memory behind the ends of logs'],
  MAX_UNCOMMITTED_BYTES: ['unit/admission.test.ts', 'a request counts with all its bytes'],
  DEFAULT_CACHE_BYTES: [core, '--cache'],
  CACHE_PART_OF_CONTAINER: [core, 'the default of --cache in a container'],
  MIN_CACHE_BYTES: [engine, 'what is kept in memory behind the ends of logs'],
  MAX_OUTBOX_BYTES: [connection, 'a consumer that reads nothing'],
  MAX_PUBLISH_STREAM_BYTES: [connection, 'a publish stream whose requests are not answered'],

  MAX_TOPICS_PER_PROJECT: [quotas, 'topics and subscriptions of a project'],
  MAX_SUBSCRIPTIONS_PER_PROJECT: [quotas, 'topics and subscriptions of a project'],
  MAX_PARTITIONS: [quotas, 'partitions of all topics'],
  MAX_DISPATCHERS: [quotas, 'partitions that all subscriptions deliver'],
  DEFINITION_LIMITS: [core, 'most partitions'],
  DEFINITION_DEFAULTS: [core, 'what is left out gets the defaults'],
  MAX_PAGE_SIZE: [requests, 'entries of a page'],
  DEFAULT_PAGE_SIZE: [requests, 'entries of a page'],

  MAX_BACKLOG_SUBSCRIPTIONS: [requests, 'subscriptions of a question for backlogs'],
  MIN_WATCH_INTERVAL_MS: [requests, 'intervals of watching'],
  MAX_WATCH_INTERVAL_MS: [requests, 'intervals of watching'],
  DEFAULT_WATCH_INTERVAL_MS: [requests, 'intervals of watching'],
  FIRST_MESSAGE_DELAY_MS: [requests, 'intervals of watching'],
  MAX_WATCHES: ['unit/watch.test.ts', 'so many streams may watch'],
  MAX_WATCHES_PER_PRINCIPAL: ['unit/watch.test.ts', 'so many streams may watch'],
  RESERVED_BACKLOG_WATCHES: ['unit/watch.test.ts', 'so many streams may watch'],
  WATCH_LIMITS: ['unit/watch.test.ts', 'so many streams may watch'],

  MAX_DRAIN_NAMES_PER_SUBSCRIPTION: [requests, 'names of a drain'],
  MAX_DRAIN_NAMES: ['unit/draining-consumers.test.ts', 'bounded: more names than a broker remembers'],
  MIN_DRAIN_TTL_MS: [requests, 'names of a drain'],
  MAX_DRAIN_TTL_MS: [requests, 'names of a drain'],

  MAX_OUTBOXES_BYTES: [outboxes, 'what may wait in all'],
  MIN_OUTBOX_BYTES: [outboxes, 'what may wait in all'],
  OUTBOX_LIMITS: [outboxes, 'what may wait in all'],

  MAX_STREAMS_PER_CONNECTION: [connection, 'a connection has so many streams'],
  STREAM_WINDOW_BYTES: ['integration/flow-control.test.ts', 'a stream may carry 1 MiB'],
  CONNECTION_WINDOW_BYTES: [connection, 'what may be sent on a connection'],
  MAX_CONNECTIONS: [connections, 'so many connections in all'],
  MAX_CONNECTIONS_PER_ADDRESS: [connections, 'so many of an address'],
  MAX_CONNECTIONS_PER_PRINCIPAL: [connections, 'so many of an address'],
  MAX_UNAUTHENTICATED_CONNECTIONS: [connections, 'so many on their way'],
  TLS_HANDSHAKE_TIMEOUT_MS: [connection, 'so long TLS may take'],
  HTTP2_PREFACE_TIMEOUT_MS: [connection, 'so long TLS may take'],
  MAX_CONNECTION_IDLE_MS: [connection, 'times that are the transport’s to keep'],
  CONNECTION_LINGER_MS: [connections, 'so long a client without a call'],
  CONNECTION_SWEEP_MS: [connection, 'so long TLS may take'],
  MAX_RECEIVING_BYTES: [connections, 'so much may be received'],
  MAX_RECEIVING_BYTES_OF_BROKERS: [connections, 'so much may be received'],
  MAX_RECEIVING_BYTES_PER_PRINCIPAL: [connections, 'so much may be received'],
  MAX_RECEIVING_BYTES_PER_CONNECTION: [connections, 'so much may be received'],
  FREE_RECEIVING_BYTES_PER_CONNECTION: [connections, 'so much may be received'],
  REQUEST_ARRIVAL_MS: [connections, 'so long a request may take'],
  TLS_RELOAD_INTERVAL_MS: [connection, 'certificates are looked at so often'],
  DEFAULT_MAX_STREAM_AGE_MS: [core, '--max-stream-age'],
  DEFAULT_MAX_CONNECTION_AGE_MS: [core, '--max-stream-age'],
  MIN_STREAM_AGE_MS: [core, '--max-stream-age'],
  STREAM_AGE_JITTER: [core, 'streams are ended at the maximum age'],
  DEFAULT_KEEPALIVE_MS: [core, '--keepalive'],
  MIN_KEEPALIVE_MS: [core, '--keepalive'],
  KEEPALIVE_TIMEOUT_MS: [connection, 'times that are the transport’s to keep'],
  DEFAULT_DRAIN_TIMEOUT_MS: [core, '--drain-timeout'],
  MAX_STATUS_DETAILS_BYTES: [requests, 'the text of an error'],

  CONNECTION_LIMITS: [connections, 'so many connections in all'],
  RECEIVING_LIMITS: [connections, 'so much may be received'],
  MAX_WAITING_LOG_BYTES: [lines, 'what a full pipe does not take'],
  LOG_RETRY_MS: [lines, 'what a full pipe does not take'],
  LOG_EXIT_MS: [lines, 'the end waits for the last lines'],
  MAX_AUDIT_TEXT_BYTES: [audit, 'whatever a caller sends, a line is short'],
  REFUSAL_BURST: [audit, '10,000 refused changes of one principal'],
  REFUSAL_INTERVAL_MS: [audit, 'one more line is written in each interval'],
  REFUSAL_SUM_MS: [audit, '10,000 refused changes of one principal'],
  MAX_REFUSED_PRINCIPALS: [audit, 'no more principals are remembered'],

  MAX_HEALTH_CONNECTIONS: [health, 'more than the bound are never open'],
  MAX_HEALTH_REQUEST_BYTES: [health, 'a request that is too long'],
  MAX_SILENT_MS: [health, 'a connection that asks nothing'],
  MAX_STANDSTILL_MS: [health, 'an event loop that has stood still'],
  HEARTBEAT_MS: [health, 'an event loop that has stood still'],
  MAX_METRICS_CONNECTIONS: [metrics, 'an address has so many connections'],
  MAX_METRICS_CONNECTIONS_PER_ADDRESS: [metrics, 'an address has so many connections'],
  MAX_METRICS_HEADER_BYTES: [metrics, 'headers that are too long'],
  MAX_METRICS_ANSWER_MS: [metrics, 'an answer that is not read'],
  METRICS_CACHE_MS: [metrics, 'a text is made once for all that ask'],
  MIN_TOKEN_BYTES: [metrics, 'a token has so many characters'],
  MAX_TOKEN_BYTES: [metrics, 'a token has so many characters'],
  TOKEN_RELOAD_MS: [metrics, 'a file with the token may be replaced'],

  PUBLISH_LIMITS: [core, 'bytes of a message'],
  SUBSCRIBE_LIMITS: [core, 'modify_deadline_ack_ids'],
  engineLimits: [engine, 'what is kept for a store that may go back'],
};

test('every bound has a test', () => {
  expect(Object.keys(REACHED).sort()).toEqual(Object.keys(limits).sort());
});

test.each(Object.entries(REACHED))('%s', (name, [file, title]) => {
  const text = read(join('test', file));
  expect(text).toContain(`'${title}`);
  // Beside the line that imports it.
  expect(text.match(new RegExp(`\\b${name}\\b`, 'g'))?.length).toBeGreaterThan(1);
});

describe('documents', () => {
  const n = (value: number): string => value.toLocaleString('en-US');
  const s = (ms: number): string => n(ms / 1_000);
  const size = (bytes: number): string => {
    const units = ['KiB', 'MiB', 'GiB'];
    const power = Math.floor(Math.log2(bytes) / 10);
    return power === 0 ? `${n(bytes)} bytes` : `${n(bytes / 1_024 ** power)} ${units[power - 1]}`;
  };
  const days = (ms: number): string => n(ms / 86_400_000);
  const { maxPartitions, maxRetentionMs, minRetentionMs, minRetentionBytes, maxReplicas } =
    limits.DEFINITION_LIMITS;
  const { maxLabels, maxLabelKeyBytes, maxLabelValueBytes } = limits.DEFINITION_LIMITS;
  const defaults = limits.DEFINITION_DEFAULTS;
  const deadlines = `${s(limits.MIN_ACK_DEADLINE_MS)} to ${s(limits.MAX_ACK_DEADLINE_MS)} s`;

  const SAID: Readonly<Record<string, readonly string[]>> = {
    'README.md': [
      `${size(limits.MAX_MESSAGE_BYTES)} of data, attribute keys and values; ${n(limits.MAX_ATTRIBUTES)} attributes; an ordering key of ${size(limits.MAX_ORDERING_KEY_BYTES)}`,
      `a publish request ${n(limits.MAX_MESSAGES_PER_PUBLISH)} messages, ${size(limits.MAX_PUBLISH_BYTES)} as encoded`,
      `partitions ${n(maxPartitions)} a topic, ${n(limits.MAX_PARTITIONS)} in all`,
      `topics, subscriptions ${n(limits.MAX_TOPICS_PER_PROJECT)} each in a project; all subscriptions together deliver ${n(limits.MAX_DISPATCHERS)} partitions`,
      `consumers ${n(limits.MAX_CONSUMERS_PER_SUBSCRIPTION)} a subscription; ${n(limits.MAX_STREAMS_PER_CONNECTION)} streams a connection`,
      `unsettled messages ${n(limits.MAX_UNSETTLED_PER_PARTITION)} a subscription and partition; ${n(limits.MAX_OUTSTANDING_MESSAGES)} a stream; ${n(MAX_HANDED_OVER)} a partition are told to its next owner`,
      `an owner can tell the next one of ${n(MAX_HANDED_OVER)} outstanding messages`,
      `ack deadline ${deadlines}`,
      `retention ${s(minRetentionMs / 60)} minute to ${days(maxRetentionMs)} days`,
      `acks are written within ${n(limits.CURSOR_COMMIT_MS)} ms`,
    ],
    'services/DESIGN.md': [
      `${n(limits.MAX_DISPATCHERS)} in a cluster`,
      `a publish request ${size(limits.MAX_PUBLISH_BYTES)}, ${n(limits.MAX_MESSAGES_PER_PUBLISH)} messages`,
      `any other request ${size(limits.MAX_REQUEST_BYTES)} INVALID_ARGUMENT; it is not read`,
      `received and not taken by a handler ${size(limits.MAX_RECEIVING_BYTES)} of clients, ${size(limits.MAX_RECEIVING_BYTES_OF_BROKERS)} of brokers`,
      `received on a publish stream and unanswered ${size(limits.MAX_PUBLISH_STREAM_BYTES)}`,
      `published and not stored, whole broker ${size(limits.MAX_UNCOMMITTED_BYTES)}`,
      `\`--cache\`, ${size(limits.DEFAULT_CACHE_BYTES)}`,
      `written and not taken by a stream ${size(limits.MAX_OUTBOX_BYTES)}`,
      `after ${s(limits.SLOW_CONSUMER_AFTER_MS)} s without progress SLOW_CONSUMER`,
      `holes in a cursor ${n(limits.MAX_HOLES_PER_CURSOR)}`,
      `acks may make ${n(limits.MAX_UNSETTLED_PER_PARTITION / 2)}`,
      `unsettled messages that were looked at ${n(limits.MAX_UNSETTLED_PER_PARTITION)} a partition`,
      `messages looked at ahead, by key ${n(limits.MAX_QUEUED_PER_PARTITION)} a partition`,
      `one key's run ${n(limits.MAX_RUN_PER_KEY)}`,
      `publishers wait up to ${s(limits.UNKNOWN_OUTCOME_MS)} s`,
      `of the broker's ${n(limits.MAX_STREAMS_PER_CONNECTION)}`,
      `lines of the log that nobody takes ${size(limits.MAX_WAITING_LOG_BYTES)}`,
      `each principal ${n(limits.REFUSAL_BURST)}, then 1 a second a sum every ${s(limits.REFUSAL_SUM_MS)} s`,
      `for health, and for metrics ${n(limits.MAX_HEALTH_CONNECTIONS)} each`,
    ],
    'services/TELEMETRY.md': [
      `${n(limits.MIN_TOKEN_BYTES)} to ${n(limits.MAX_TOKEN_BYTES)} characters`,
      `${n(limits.MAX_METRICS_CONNECTIONS_PER_ADDRESS)} connections an address, ${n(limits.MAX_METRICS_CONNECTIONS)} in all; one that asks nothing for ${s(limits.MAX_SILENT_MS)} s`,
      `has turned within ${s(limits.MAX_STANDSTILL_MS)} s`,
      `${n(limits.MAX_HEALTH_CONNECTIONS)} connections; one that asks nothing for ${s(limits.MAX_SILENT_MS)} s`,
      `up to ${size(limits.MAX_WAITING_LOG_BYTES)}; beyond it`,
      `waits up to ${n(limits.LOG_EXIT_MS)} ms`,
      `${n(limits.REFUSAL_BURST)} lines of a principal at once, then one a second; the others are a sum every ${s(limits.REFUSAL_SUM_MS)} s`,
      `${n(limits.MAX_REFUSED_PRINCIPALS)} principals are told apart`,
      `at most ${n(limits.MAX_AUDIT_TEXT_BYTES)} bytes each`,
    ],
    'services/CLUSTER.md': [
      `${size(limits.RECENT_BYTES)} a broker in all`,
      `\`--cache\`), ${size(limits.RECENT_BYTES)} for failovers`,
      `There can be ${n(limits.MAX_DISPATCHERS)} of them`,
    ],
    'proto/fanfare/v1/message.proto': [
      `at most ${size(limits.MAX_MESSAGE_BYTES)} (${n(limits.MAX_MESSAGE_BYTES)} bytes)`,
      `At most ${n(limits.MAX_ATTRIBUTES)} entries. A key has 1 to ${n(limits.MAX_ATTRIBUTE_KEY_BYTES)} bytes, a value at most ${n(limits.MAX_ATTRIBUTE_VALUE_BYTES)} bytes`,
      `At most ${n(limits.MAX_ORDERING_KEY_BYTES)} bytes, UTF-8. Empty: no order`,
      `at most ${n(limits.MAX_ACK_ID_BYTES)} bytes. Give it back in Acknowledge`,
    ],
    'proto/fanfare/v1/publisher.proto': [
      `1 to ${n(limits.MAX_MESSAGES_PER_PUBLISH)} messages; the request has at most ${size(limits.MAX_PUBLISH_BYTES)} as encoded`,
      `a request of more than ${size(limits.MAX_RECEIVE_BYTES)}, which are not read`,
    ],
    'proto/fanfare/v1/subscriber.proto': [
      `to acknowledge, by ack id. At most ${n(limits.MAX_ACK_IDS_PER_REQUEST)} in a request`,
      `to acknowledge, by range: the cheap way. At most ${n(limits.MAX_ACK_IDS_PER_REQUEST)} ranges`,
      `0 to ${s(limits.MAX_ACK_DEADLINE_MS)} s; 0 gives the message back`,
      `this consumer's leases, ${deadlines}`,
      `The length of leases, ${deadlines}`,
      `ordering keys stay with it. At most ${n(limits.MAX_CLIENT_ID_BYTES)} bytes`,
      `1 to ${n(limits.MAX_OUTSTANDING_MESSAGES)}. 0 in the first request: ${n(limits.DEFAULT_OUTSTANDING_MESSAGES)}`,
      `at most ${n(limits.MAX_UNSETTLED_PER_PARTITION)} unsettled`,
      `have left ${n(limits.MAX_HOLES_PER_CURSOR)} gaps`,
      `at most ${size(limits.MAX_OUTSTANDING_BYTES)}. 0 in the first request: ${size(limits.DEFAULT_OUTSTANDING_BYTES)}`,
      `order of their offsets. At most ${size(limits.MAX_RESPONSE_BYTES)}`,
      `1 to ${n(limits.MAX_PULL_MESSAGES)}.`,
      `At most ${s(limits.MAX_PULL_WAIT_MS)} s; absent: 0`,
      `At most ${size(limits.MAX_RESPONSE_BYTES)}. May be empty`,
    ],
    'proto/fanfare/v1/admin.proto': [
      `whole project would exceed ${size(limits.MAX_RESPONSE_BYTES)}`,
      `1 to ${n(maxPartitions)}; default ${n(defaults.partitions)}`,
      `1 minute to ${days(maxRetentionMs)} days. Absent: ${days(defaults.retentionMs)} days`,
      `oldest deleted first; at least ${size(minRetentionBytes)}`,
      `1 to ${n(maxReplicas)}; default 1`,
      `At most ${n(maxLabels)}; key 1 to ${n(maxLabelKeyBytes)} bytes, value at most ${n(maxLabelValueBytes)} bytes`,
      `${deadlines}. 0 at creation: ${s(defaults.ackDeadlineMs)} s`,
      `At most ${n(limits.MAX_PAGE_SIZE)}; 0: ${n(limits.DEFAULT_PAGE_SIZE)}`,
      `Full names; at most ${n(limits.MAX_BACKLOG_SUBSCRIPTIONS)}. Empty: all of the project`,
      `${n(limits.MIN_WATCH_INTERVAL_MS)} ms to ${s(limits.MAX_WATCH_INTERVAL_MS)} s; absent: ${s(limits.DEFAULT_WATCH_INTERVAL_MS)} s`,
      `by the client_id of its SubscribeRequest: at most ${n(limits.MAX_CLIENT_ID_BYTES)} bytes`,
      `to their end. At most ${n(maxPartitions)}`,
      `At most ${n(limits.MAX_DRAIN_NAMES_PER_SUBSCRIPTION)} together with peer_addresses`,
      `${s(limits.MIN_DRAIN_TTL_MS)} s to ${s(limits.MAX_DRAIN_TTL_MS / 60)} min; 0 or absent ends it`,
      `projects/{project}/topics/{topic}, at most ${n(limits.MAX_PAGE_SIZE)}; none`,
    ],
  };

  test.each(Object.keys(SAID))('%s has the numbers of limits.ts', (path) => {
    // A sentence or a row of a table as one line.
    const text = read(path)
      .replaceAll(/\n\s*\/\/|\|/g, ' ')
      .replaceAll(/\s+/g, ' ');
    expect(SAID[path]!.filter((phrase) => !text.includes(phrase))).toEqual([]);
  });
});
