// The driver of the TypeScript client (services/client): carries out the protocol's operations with it.
import { type Client, connect } from '../../../services/client/client.ts';
import { toFanfareError } from '../../../services/client/errors.ts';
import type { Publisher } from '../../../services/client/publisher.ts';
import { FEATURES, type Outcome, type OutgoingMessage, PROTOCOL } from '../protocol.ts';
import { type Consumer, startConsumer } from './typescript-consumer.ts';
import { emit, serve } from './wire.ts';

const clients = new Map<string, Client>();
const publishers = new Map<string, { publisher: Publisher; abort: AbortController }>();
const consumers = new Map<string, Consumer>();

serve({
  hello: () => ({ protocol: PROTOCOL, client: 'TypeScript', features: FEATURES }),

  connect({ client, address, tls, project, keepaliveMs }) {
    const options = {
      address,
      ...(tls === undefined ? { insecure: true } : { tls }),
      ...(project !== undefined && { project }),
      ...(keepaliveMs !== undefined && { keepaliveMs }),
    };
    clients.set(client, connect(options));
  },

  async reach({ client, timeoutMs }) {
    await get(clients, client).reach({ timeoutMs });
  },

  async closeClient({ client }) {
    await get(clients, client).close();
  },

  publisher({ publisher, client, topic, lingerMs, maxOutstandingMessages, retryDeadlineMs }) {
    const abort = new AbortController();
    const made = get(clients, client).publisher(topic, {
      ...(lingerMs !== undefined && { batch: { lingerMs } }),
      ...(maxOutstandingMessages !== undefined && { maxOutstandingMessages }),
      ...(retryDeadlineMs !== undefined && { retryDeadlineMs }),
      signal: abort.signal,
      onRetry: (error) => emit({ event: 'retry', of: publisher, error: failure(error) }),
    });
    publishers.set(publisher, { publisher: made, abort });
  },

  async publish({ publisher, messages }) {
    const { publisher: to } = get(publishers, publisher);
    const published = messages.map((message) => to.publish(outgoing(message)));
    return { outcomes: await Promise.all(published.map(outcome)) };
  },

  async flush({ publisher }) {
    await get(publishers, publisher).publisher.flush();
  },

  resumeKey({ publisher, key }) {
    get(publishers, publisher).publisher.resumeKey(key);
  },

  async closePublisher({ publisher }) {
    await get(publishers, publisher).publisher.close();
  },

  abortPublisher({ publisher }) {
    get(publishers, publisher).abort.abort();
  },

  consume(request) {
    consumers.set(request.consumer, startConsumer(get(clients, request.client), request));
  },

  settle({ consumer, delivery, how }) {
    get(consumers, consumer).settle(delivery, how);
  },

  async closeConsumer({ consumer }) {
    await get(consumers, consumer).close();
  },

  abortConsumer({ consumer }) {
    get(consumers, consumer).abort();
  },
});

function outgoing({ data, bytes, key, attributes }: OutgoingMessage) {
  return {
    ...(bytes !== undefined ? { data: Buffer.alloc(bytes, 'x') } : data !== undefined && { data }),
    ...(key !== undefined && { orderingKey: key }),
    ...(attributes !== undefined && { attributes }),
  };
}

async function outcome(published: Promise<{ messageId: string }>): Promise<Outcome> {
  try {
    return { id: (await published).messageId };
  } catch (error) {
    return failure(error);
  }
}

function failure(error: unknown) {
  const { code, message } = toFanfareError(error);
  return { code, message };
}

function get<Value>(values: ReadonlyMap<string, Value>, name: string): Value {
  const value = values.get(name);
  if (value === undefined) throw new Error(`there is no "${name}"`);
  return value;
}
