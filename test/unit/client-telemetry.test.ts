// Traces of the client, with an SDK and without one.
import { context, propagation, SpanKind, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import { FakeBroker } from '../support/fake-broker.ts';

const exporter = new InMemorySpanExporter();
let broker: FakeBroker;
let client: Client;

beforeAll(async () => {
  broker = await FakeBroker.start();
  broker.createTopic('orders');
  broker.createSubscription('audit', 'orders');
  client = connect(broker.connectOptions);
});

afterAll(async () => {
  await client.close();
  await broker.stop();
  trace.disable();
  propagation.disable();
  context.disable();
});

beforeEach(() => exporter.reset());

test('without an SDK there are no spans and nothing is added to messages', async () => {
  await client.publisher('orders').publish({ data: 'plain' });
  expect(broker.publishRequests.at(-1)!.messages[0]!.attributes).toEqual({});
});

test('a trace is not worth a message: without room its context is left out', async () => {
  trace.setGlobalTracerProvider(
    new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
  );
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const publisher = client.publisher('orders');
  const attributes = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`k${n}`, '']));
  for (const message of [{ attributes }, { data: Buffer.alloc(2 * 1024 ** 2) }]) {
    await publisher.publish(message);
    const [stored] = broker.publishRequests.at(-1)!.messages;
    expect(stored!.attributes).toEqual(message.attributes ?? {});
  }
  await publisher.publish({ data: 'room' });
  expect(broker.publishRequests.at(-1)!.messages[0]!.attributes).toHaveProperty('traceparent');
  await expect(publisher.publish(null as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(publisher.publish({ attributes: 'ab' } as never)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  trace.disable();
  propagation.disable();
});

test('publish and process spans are linked through the message', async () => {
  const processor = new SimpleSpanProcessor({ exporter });
  trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors: [processor] }));
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  const { messageId } = await client
    .publisher('orders')
    .publish({ data: 'traced ü', attributes: { a: 'b' } });
  await expect(client.publisher('orders').publish({})).rejects.toThrow();
  const { promise: handled, resolve } = Promise.withResolvers<void>();
  const subscriber = client.subscriber('audit', (message) => {
    if (message.text !== 'traced ü') return;
    resolve();
    if (message.deliveryAttempt === 1) throw new Error('at first');
  });
  await handled;
  await subscriber.stop();
  const spans = exporter.getFinishedSpans();
  const sent = spans.find((span) => span.attributes['messaging.message.id'] === messageId)!;
  expect(sent).toMatchObject({ name: 'send projects/default/topics/orders', kind: SpanKind.PRODUCER });
  expect(sent.attributes).toMatchObject({
    'messaging.operation.type': 'send',
    'messaging.system': 'fanfare',
    'messaging.message.body.size': 9,
  });
  const failedSend = spans.find((span) => span.kind === SpanKind.PRODUCER && span !== sent)!;
  expect(failedSend.attributes['error.type']).toBe('INVALID_ARGUMENT');
  const processed = spans.find(
    (span) => span.kind === SpanKind.CONSUMER && span.attributes['messaging.message.id'] === messageId,
  )!;
  expect(processed).toMatchObject({ name: 'process projects/default/subscriptions/audit' });
  expect(processed.links.map((link) => link.context.spanId)).toEqual([sent.spanContext().spanId]);
  expect(processed.spanContext().traceId).not.toBe(sent.spanContext().traceId);
  expect(processed.attributes['error.type']).toBe('Error');
});
