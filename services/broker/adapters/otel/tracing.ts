// Spans of the broker's part in a message's way: `publish {topic}` for a publish request,
// `deliver {subscription}` for a write to a consumer. Both are roots, linked to the spans that published the
// messages: a request has messages of many spans, a message many deliveries. No span lives as long as a
// stream.
//
// Publishers decide what is recorded: without a sampled context in any message there is no span here either.
import {
  type Attributes,
  context,
  type Link,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import type { BrokerError } from '../../core/errors.ts';
import type { PublishBatch } from '../../core/publish-batch.ts';
import type { DeliveryWrite, MessageTracing } from '../../ports/telemetry.ts';
import { contextsOfBatch, contextsOfFrames } from './message-contexts.ts';

/** Once a span has this many links, further messages are not looked at. */
export const MAX_LINKS = 32;

export class OtelTracing implements MessageTracing {
  readonly #tracer: Tracer;
  readonly #onFailure: (topic: string, failure: BrokerError) => void;
  #lastFrames: WeakRef<Uint8Array> | undefined;
  #lastLinks: Link[] = [];

  /** `onFailure` is called for each failed publish that has a span, while that span is the active one. */
  constructor(tracer: Tracer, onFailure: (topic: string, failure: BrokerError) => void) {
    this.#tracer = tracer;
    this.#onFailure = onFailure;
  }

  publishing(topic: string, batch: PublishBatch): ((failure?: BrokerError) => void) | undefined {
    const links = linksTo(contextsOfBatch(batch, MAX_LINKS));
    if (links.length === 0) return undefined;
    const span = this.#tracer.startSpan(`publish ${topic}`, {
      kind: SpanKind.SERVER,
      root: true,
      links,
      attributes: {
        // This is the broker's half of what the client calls sending.
        ...messaging('publish', 'send', topic, batch.count),
        'messaging.message.envelope.size': batch.bytes.length,
      },
    });
    return (failure) => {
      if (failure !== undefined) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: failure.message });
        span.setAttribute('error.type', failure.code);
        context.with(trace.setSpan(context.active(), span), () => this.#onFailure(topic, failure));
      }
      span.end();
    };
  }

  delivered({ subscription, topic, partition, messages, frames }: DeliveryWrite): void {
    const links = this.#linksOfFrames(frames);
    if (links.length === 0) return;
    const attributes = {
      ...messaging('deliver', 'receive', topic, messages),
      'messaging.destination.subscription.name': subscription,
      'messaging.destination.partition.id': String(partition.partition),
      'messaging.message.envelope.size': frames.length,
    };
    this.#tracer
      .startSpan(`deliver ${subscription}`, { kind: SpanKind.SERVER, root: true, links, attributes })
      .end();
  }

  /** Walks a chunk once: all subscriptions are given the same one, one right after the other. */
  #linksOfFrames(frames: Uint8Array): Link[] {
    if (this.#lastFrames?.deref() !== frames) {
      this.#lastFrames = new WeakRef(frames);
      this.#lastLinks = linksTo(contextsOfFrames(frames, MAX_LINKS));
    }
    return this.#lastLinks;
  }
}

function linksTo(contexts: ReturnType<typeof contextsOfFrames>): Link[] {
  return contexts.map((context) => ({ context }));
}

function messaging(name: string, type: string, destination: string, messages: number): Attributes {
  return {
    'messaging.system': 'fanfare',
    'messaging.operation.name': name,
    'messaging.operation.type': type,
    'messaging.destination.name': destination,
    'messaging.batch.message_count': messages,
  };
}
