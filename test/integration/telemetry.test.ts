// What the broker tells about itself: a real one, scraped as Prometheus does and sending to a collector, with
// clients over mutual TLS beside it.
import { readFileSync } from 'node:fs';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { expect, test, vi } from 'vitest';
import { METRICS } from '../../services/broker/adapters/otel/metric-catalog.ts';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, startBroker, unexpectedLines } from '../support/broker.ts';
import { type CollectedSpan, OtlpCollector } from '../support/otlp-collector.ts';
import { until } from '../support/until.ts';

// A test starts several processes, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const METRICS_ARGS = ['--metrics-listen', '127.0.0.1:0'];
const TOPIC = 'projects/default/topics/orders';
const AUDIT = 'projects/default/subscriptions/audit';
const UNSAMPLED_TRACE = '1'.repeat(32);

test('Prometheus sees what was published, delivered and acknowledged, and what waits', async () => {
  await using broker = await startBroker({ args: METRICS_ARGS });
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('audit', { topic: 'orders' });
  await client.admin.createSubscription('unread', { topic: 'orders' });
  await publish(client, 5);
  await consume(client, 'audit', 5);

  const metrics = await scrape(broker);

  const of = (name: string, subscription?: string) =>
    metrics.get(
      subscription === undefined
        ? name
        : `${name}{fanfare_subscription="projects/default/subscriptions/${subscription}",fanfare_topic="${TOPIC}"}`,
    );
  expect(of('fanfare_broker_publish_messages_total')).toBe(5);
  expect(of('fanfare_broker_delivery_messages_total')).toBe(5);
  expect(of('fanfare_broker_settle_acked_total')).toBe(5);
  expect(of('fanfare_broker_subscription_backlog_messages', 'audit')).toBe(0);
  expect(of('fanfare_broker_subscription_backlog_messages', 'unread')).toBe(5);
  expect(of('fanfare_broker_subscription_acked_total', 'audit')).toBe(5);
  expect(of('fanfare_broker_subscription_backlog_age_seconds', 'audit')).toBeUndefined();
  expect(of('fanfare_broker_subscription_backlog_age_seconds', 'unread')).toBeGreaterThan(0);
  expect(of(`fanfare_broker_topic_stored_messages{fanfare_topic="${TOPIC}"}`)).toBe(5);
  expect(of('fanfare_broker_store_commits_total')).toBeGreaterThan(0);
  expect(of('process_memory_usage_bytes')).toBeGreaterThan(2 ** 20);

  await client.admin.deleteSubscription('unread');
  // The text is kept for a second.
  await until(async () => {
    const series = [...(await scrape(broker)).keys()];
    return !series.some((each) => each.includes('subscriptions/unread'));
  });
});

test('services/TELEMETRY.md lists the metrics that the endpoint has, and no others', async () => {
  const rows = METRICS.map(
    ({ name, kind, unit, meaning }) => `| \`${name}\` | ${kind} | \`${unit}\` | ${meaning} |`,
  );
  const page = readFileSync(new URL('../../services/TELEMETRY.md', import.meta.url), 'utf8');
  // The formatter pads the cells.
  const lines = page.split('\n').map((line) => line.replace(/ +/g, ' '));
  const first = lines.indexOf('| name | kind | unit | meaning |') + 2;
  expect(lines.slice(first).join('\n').trim()).toBe(rows.join('\n'));

  await using broker = await startBroker({ args: METRICS_ARGS });
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('unread', { topic: 'orders' });
  await publish(client, 1);
  const exported = [...(await scrape(broker)).keys()].map((series) => series.replace(/\{.*/, ''));
  // A cluster's metrics are seen in test/integration/cluster-stale.test.ts.
  const alone = METRICS.filter(({ name }) => !name.startsWith('fanfare.broker.cluster.'));
  const listed = alone.map(({ name, kind, unit }) => {
    const suffix = ({ By: '_bytes', s: '_seconds' } as Record<string, string>)[unit] ?? '';
    return `${name.replaceAll('.', '_')}${suffix}${kind === 'counter' ? '_total' : ''}`;
  });
  expect(new Set(exported)).toEqual(new Set(['target_info', ...listed]));
});

test('a metrics port that is in use ends the start with a sentence', async () => {
  await using broker = await startBroker({ args: METRICS_ARGS });
  const { port } = new URL(await metricsUrl(broker));
  const second = startBroker({ args: ['--metrics-listen', `127.0.0.1:${port}`] });
  await expect(second).rejects.toThrow(
    `--metrics-listen 127.0.0.1:${port}: the port is in use: choose another one, or 0 for a free one`,
  );
});

test("publish, deliver and process spans link to the publisher's span", async () => {
  await using collector = await OtlpCollector.start();
  const otlp = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_BSP_SCHEDULE_DELAY: '20',
  };
  await using broker = await startBroker({
    args: METRICS_ARGS,
    env: { ...otlp, OTEL_METRIC_EXPORT_INTERVAL: '1000', OTEL_RESOURCE_ATTRIBUTES: 'deployment.zone=a' },
  });
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('audit', { topic: 'orders' });
  // It is published before there is a tracer here, so that the attribute stays as it is.
  await client
    .publisher('orders')
    .publish({ data: 'quiet', attributes: { traceparent: `00-${UNSAMPLED_TRACE}-${'2'.repeat(16)}-00` } });

  await using _sdk = startClientTraces(otlp);
  await publish(client, 1);
  await using _subscriber = client.subscriber('audit', () => {});

  const span = (name: string): Promise<CollectedSpan> =>
    collector.waitFor(({ spans }) =>
      spans.find((candidate) => candidate.name === name && !isOfQuietMessage(candidate)),
    );
  const send = await span(`send ${TOPIC}`);
  const publishing = await span(`publish ${TOPIC}`);
  const delivering = await span(`deliver ${AUDIT}`);
  const processing = await span(`process ${AUDIT}`);

  for (const linked of [publishing, delivering, processing]) {
    expect(linked.links).toMatchObject([{ traceId: send.traceId, spanId: send.spanId }]);
    expect(linked.traceId).not.toBe(send.traceId);
    expect(linked.parentSpanId).toBeFalsy();
  }
  expect([send.service, publishing.service, delivering.service]).toEqual([
    'shop',
    'fanfare-broker',
    'fanfare-broker',
  ]);
  expect(publishing.attributes).toMatchObject({
    'messaging.system': 'fanfare',
    'messaging.operation.name': 'publish',
    'messaging.destination.name': TOPIC,
    'messaging.batch.message_count': 1,
  });
  expect(delivering.attributes).toMatchObject({
    'messaging.operation.name': 'deliver',
    'messaging.destination.subscription.name': AUDIT,
  });

  // The same numbers go both ways at once.
  const pushed = await collector.waitFor(({ metrics }) => {
    const metric = metrics.get('fanfare-broker fanfare.broker.settle.acked');
    return metric?.values[0] === 2 ? metric : undefined;
  });
  expect(pushed.unit).toBe('{message}');
  expect((await scrape(broker)).get('fanfare_broker_settle_acked_total')).toBe(2);

  expect(await broker.stop()).toEqual({ code: 0, signal: null });
  // Everything has been exported now: the message whose publisher was not sampled has left no span in the
  // broker.
  const brokers = collector.spans.filter(({ service }) => service === 'fanfare-broker');
  expect(brokers.filter(({ links }) => links.some(({ traceId }) => traceId === UNSAMPLED_TRACE))).toEqual([]);
  expect(brokers.filter(({ name }) => name === `publish ${TOPIC}`)).toHaveLength(1);
  expect(unexpectedLines(broker)).toEqual([]);
});

test('a collector that is away costs the broker nothing but a line in its log', async () => {
  await using broker = await startBroker({
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_METRIC_EXPORT_INTERVAL: '50' },
  });
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  await client.admin.createSubscription('audit', { topic: 'orders' });
  await publish(client, 10);
  await consume(client, 'audit', 10);
  const line = await broker.logged(({ msg }) => msg.startsWith('OpenTelemetry: '), 20_000);
  expect(line).toMatchObject({ level: 'warn' });
});

function isOfQuietMessage({ links }: CollectedSpan): boolean {
  return links.some(({ traceId }) => traceId === UNSAMPLED_TRACE);
}

/** Starts traces of this process, as a program that uses the client would set them up. */
function startClientTraces(otlp: Readonly<Record<string, string>>): AsyncDisposable {
  for (const [name, value] of Object.entries(otlp)) vi.stubEnv(name, value);
  const sdk = new NodeSDK({ serviceName: 'shop', metricReaders: [], logRecordProcessors: [] });
  sdk.start();
  vi.unstubAllEnvs();
  return { [Symbol.asyncDispose]: () => sdk.shutdown() };
}

async function publish(client: Client, messages: number): Promise<void> {
  const publisher = client.publisher('orders');
  await Promise.all(Array.from({ length: messages }, (_, i) => publisher.publish({ data: `order ${i}` })));
}

async function consume(client: Client, subscription: string, messages: number): Promise<void> {
  let left = messages;
  for await (const message of client.subscribe(subscription)) {
    message.ack();
    left -= 1;
    if (left === 0) return;
  }
}

async function metricsUrl(broker: BrokerProcess): Promise<string> {
  return String((await broker.logged('listening')).metrics);
}

/** Values by series, labels included. */
async function scrape(broker: BrokerProcess): Promise<Map<string, number>> {
  const response = await fetch(await metricsUrl(broker));
  expect(response.status).toBe(200);
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}
