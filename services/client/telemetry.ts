// Spans of publishing and processing, by the messaging conventions of OpenTelemetry, and the W3C context in message
// attributes that links them. Called by publisher.ts and subscriber.ts. Without an SDK in the process nothing of it costs
// more than one look a batch.
import {
  type Attributes,
  context,
  ProxyTracerProvider,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import type { FanfareError } from './errors.ts';
import type { OutgoingMessage } from './message-codec.ts';
import type { ReceivedMessage } from './received-message.ts';

const NAME = 'fanfare-client';

/** The tracer, or undefined while no SDK is there. */
export function activeTracer(): Tracer | undefined {
  const provider = trace.getTracerProvider();
  return provider instanceof ProxyTracerProvider
    ? provider.getDelegateTracer(NAME)
    : provider.getTracer(NAME);
}

/** Starts the span of one publish and puts its context into the message's attributes, if the span is recorded. */
export function startPublishSpan(
  tracer: Tracer,
  topic: string,
  message: OutgoingMessage,
): { span: Span; message: OutgoingMessage } {
  const span = tracer.startSpan(`send ${topic}`, {
    kind: SpanKind.PRODUCER,
    attributes: {
      ...messagingAttributes('send', 'send', topic),
      'messaging.message.body.size': message.data?.length ?? 0,
    },
  });
  if (!span.isRecording()) return { span, message };
  const attributes: Record<string, string> = { ...message.attributes };
  propagation.inject(trace.setSpan(context.active(), span), attributes);
  return { span, message: { ...message, attributes } };
}

export function endPublishSpan(span: Span, outcome: { messageId: string } | FanfareError): void {
  if ('messageId' in outcome) span.setAttribute('messaging.message.id', outcome.messageId);
  else fail(span, outcome, outcome.code);
  span.end();
}

/** Runs a handler in a span that is linked to, not nested in, the span that published the message. */
export async function processInSpan(
  tracer: Tracer | undefined,
  subscription: string,
  message: ReceivedMessage,
  handle: () => Promise<void>,
): Promise<void> {
  if (tracer === undefined) return handle();
  const publisher = trace.getSpanContext(propagation.extract(context.active(), message.attributes));
  const span = tracer.startSpan(`process ${subscription}`, {
    kind: SpanKind.CONSUMER,
    attributes: {
      ...messagingAttributes('process', 'process', subscription),
      'messaging.destination.subscription.name': subscription,
      'messaging.destination.partition.id': String(message.partition),
      'messaging.message.id': message.messageId,
      'messaging.message.body.size': message.data.length,
    },
    ...(publisher !== undefined && { links: [{ context: publisher }] }),
  });
  try {
    await context.with(trace.setSpan(context.active(), span), handle);
  } catch (error) {
    fail(span, error as Error, (error as Error)?.name ?? 'Error');
    throw error;
  } finally {
    span.end();
  }
}

function messagingAttributes(name: string, type: string, destination: string): Attributes {
  return {
    'messaging.system': 'fanfare',
    'messaging.operation.name': name,
    'messaging.operation.type': type,
    'messaging.destination.name': destination,
  };
}

function fail(span: Span, error: Error, type: string): void {
  span.recordException(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message: String(error?.message ?? error) });
  span.setAttribute('error.type', type);
}
