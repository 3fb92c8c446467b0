// Spans of publishing and processing, by the messaging conventions of OpenTelemetry, and the W3C context in
// message attributes that links them. Without an SDK in the process not even the API is loaded: it costs a
// look at a global, for publishers every 100 messages at most, for handlers at each message.
import { createRequire } from 'node:module';
import type * as Api from '@opentelemetry/api';
import type { FanfareError } from './errors.ts';
import type { OutgoingMessage } from './message-codec.ts';
import type { ReceivedMessage } from './received-message.ts';

const NAME = 'fanfare-client';

/** Where every copy of the API, of major version 1, keeps what an SDK has registered. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');

let api: typeof Api | undefined;

/** What the functions below need; undefined while no SDK is there. */
export interface Tracing {
  readonly api: typeof Api;
  readonly tracer: Api.Tracer;
}

export function activeTracing(): Tracing | undefined {
  if (api === undefined) {
    if (!(REGISTERED in globalThis)) return undefined;
    // It is loaded at once, not by import(): the first message is to have its span, too.
    api = createRequire(import.meta.url)('@opentelemetry/api') as typeof Api;
  }
  return { api, tracer: api.trace.getTracer(NAME) };
}

/**
 * Starts the span of one publish and puts its context into the message's attributes, if the span is recorded.
 */
export function startPublishSpan(
  { api, tracer }: Tracing,
  topic: string,
  message: OutgoingMessage,
): { span: Api.Span; message: OutgoingMessage } {
  const span = tracer.startSpan(`send ${topic}`, {
    kind: api.SpanKind.PRODUCER,
    attributes: {
      ...messagingAttributes('send', 'send', topic),
      'messaging.message.body.size': bodySize(message?.data),
    },
  });
  if (!span.isRecording()) return { span, message };
  const attributes: Record<string, string> = { ...message?.attributes };
  api.propagation.inject(api.trace.setSpan(api.context.active(), span), attributes);
  return { span, message: { ...message, attributes } };
}

function bodySize(data: OutgoingMessage['data'] | undefined): number {
  return typeof data === 'string' ? Buffer.byteLength(data) : (data?.length ?? 0);
}

export function endPublishSpan(
  { api }: Tracing,
  span: Api.Span,
  outcome: { messageId: string } | FanfareError,
): void {
  if ('messageId' in outcome) span.setAttribute('messaging.message.id', outcome.messageId);
  else fail(api, span, outcome, outcome.code);
  span.end();
}

/** Runs a handler in a span that is linked to, not nested in, the span that published the message. */
export async function processInSpan(
  tracing: Tracing | undefined,
  subscription: string,
  message: ReceivedMessage,
  handle: () => Promise<void>,
): Promise<void> {
  if (tracing === undefined) return handle();
  const { api, tracer } = tracing;
  const publisher = api.trace.getSpanContext(api.propagation.extract(api.ROOT_CONTEXT, message.attributes));
  const span = tracer.startSpan(`process ${subscription}`, {
    kind: api.SpanKind.CONSUMER,
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
    await api.context.with(api.trace.setSpan(api.context.active(), span), handle);
  } catch (error) {
    fail(api, span, error as Error, (error as Error)?.name ?? 'Error');
    throw error;
  } finally {
    span.end();
  }
}

function messagingAttributes(name: string, type: string, destination: string): Api.Attributes {
  return {
    'messaging.system': 'fanfare',
    'messaging.operation.name': name,
    'messaging.operation.type': type,
    'messaging.destination.name': destination,
  };
}

function fail(api: typeof Api, span: Api.Span, error: Error, type: string): void {
  span.recordException(error);
  span.setStatus({ code: api.SpanStatusCode.ERROR, message: String(error?.message ?? error) });
  span.setAttribute('error.type', type);
}
