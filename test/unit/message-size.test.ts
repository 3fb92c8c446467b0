// One idea of size: the client takes exactly the messages that the broker takes, and its requests are never
// too large.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { MAX_NAME_LENGTH } from '../../services/broker/core/names.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import {
  MAX_ATTRIBUTE_KEY_BYTES,
  MAX_ATTRIBUTE_VALUE_BYTES,
  MAX_ATTRIBUTES,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_ENCODING_BYTES,
  MAX_ORDERING_KEY_BYTES,
  MAX_PUBLISH_BYTES,
  PUBLISH_LIMITS,
} from '../../services/broker/limits.ts';
import { FanfareError } from '../../services/client/errors.ts';
import { measure, type OutgoingMessage } from '../../services/client/message-codec.ts';
import { PublishLane } from '../../services/client/publish-lane.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { messageBytes, requestBytes, requestOf } from '../support/publish-requests.ts';

const TOPIC = 'projects/p/topics/orders';
const bytesOf = (text: string | Uint8Array): number =>
  typeof text === 'string' ? Buffer.byteLength(text) : text.length;

/** A text of exactly so many bytes of UTF-8: as many of the character as fit, and ASCII. */
function textOf(bytes: number, character: string): string {
  const count = Math.floor(bytes / bytesOf(character));
  return character.repeat(count) + 'x'.repeat(bytes - count * bytesOf(character));
}

const character = fc.constantFrom('a', 'ü', '世', '🗝');
/** A number at, above or below a limit. */
const around = (limit: number) =>
  fc.oneof(fc.integer({ min: limit - 2, max: limit + 2 }), fc.integer({ min: 1, max: limit }));
const near = (limit: number) =>
  fc.tuple(around(limit), character).map(([bytes, each]) => textOf(bytes, each));

const attributes = fc
  .record({
    count: fc.oneof(
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: MAX_ATTRIBUTES - 1, max: MAX_ATTRIBUTES + 1 }),
    ),
    key: near(MAX_ATTRIBUTE_KEY_BYTES - 3),
    value: near(MAX_ATTRIBUTE_VALUE_BYTES),
  })
  .map(({ count, key, value }) =>
    Object.fromEntries(
      Array.from({ length: count }, (_, n) => [`${String(n).padStart(3, '0')}${key}`, value]),
    ),
  );

/** Messages around the limit: data fills up what the attributes leave, with a few bytes more or less. */
const messages: fc.Arbitrary<OutgoingMessage> = fc
  .record({
    attributes,
    orderingKey: fc.oneof(fc.constant(''), near(MAX_ORDERING_KEY_BYTES)),
    beyond: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -2_000, max: 2_000 })),
    asText: fc.option(character, { nil: undefined }),
  })
  .map(({ attributes: given, orderingKey, beyond, asText }) => {
    const rest = MAX_MESSAGE_BYTES + beyond - contentOf({ attributes: given });
    const data = asText === undefined ? new Uint8Array(rest) : textOf(rest, asText);
    return { data, attributes: given, orderingKey };
  });

/** The size of a message, as message.proto defines it. */
function contentOf({ data = '', attributes: given = {} }: OutgoingMessage): number {
  return Object.entries(given).reduce(
    (sum, [key, value]) => sum + bytesOf(key) + bytesOf(value),
    bytesOf(data),
  );
}

function isAllowed(message: OutgoingMessage): boolean {
  const entries = Object.entries(message.attributes ?? {});
  return (
    contentOf(message) <= MAX_MESSAGE_BYTES &&
    entries.length <= MAX_ATTRIBUTES &&
    entries.every(
      ([key, value]) =>
        bytesOf(key) <= MAX_ATTRIBUTE_KEY_BYTES && bytesOf(value) <= MAX_ATTRIBUTE_VALUE_BYTES,
    ) &&
    bytesOf(message.orderingKey ?? '') <= MAX_ORDERING_KEY_BYTES
  );
}

/** The client's refusal of the message; undefined if it takes it. */
function refusalOfClient(message: OutgoingMessage): FanfareError | undefined {
  try {
    measure(message);
    return undefined;
  } catch (error) {
    if (error instanceof FanfareError && error.code === 'INVALID_ARGUMENT') return error;
    throw error;
  }
}

function refusalOfBroker(request: Uint8Array): BrokerError | undefined {
  try {
    parsePublish(request, PUBLISH_LIMITS);
    return undefined;
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'INVALID_ARGUMENT') return error;
    throw error;
  }
}

/** The requests that the client makes of the messages. */
function requestsOf(given: readonly OutgoingMessage[], topic: string, maxBytes: number): Buffer[] {
  let requestId = 2 ** 53 - 1_000_000;
  const lane = new PublishLane(undefined, {
    topic,
    maxMessages: 1_000,
    maxBytes,
    lingerMs: 0,
    retryDeadlineMs: 60_000,
    nextRequestId: () => requestId++,
    backoff: {},
    onOpened: () => {},
    onSettled: () => {},
    onKeysFailed: () => {},
  });
  for (const message of given)
    lane.add(
      measure(message),
      () => {},
      () => {},
    );
  const requests: Buffer[] = [];
  for (let batch = lane.next(); batch !== undefined; batch = lane.next()) {
    requests.push(batch.toRequest(true));
    const runs = [{ partition: 0, firstOffset: 0, count: batch.count }];
    lane.stored(batch, { requestId: batch.requestId, runs, logEpoch: 1, error: undefined });
  }
  return requests;
}

/** The same message as protobuf-es writes it. */
function encoded({ data = '', attributes: given = {}, orderingKey = '' }: OutgoingMessage): Uint8Array {
  return requestBytes(TOPIC, [{ data: Buffer.from(data), attributes: { ...given }, orderingKey }]);
}

test(
  'the client takes a message if the broker does, and both go by the size that message.proto defines',
  () => {
    fc.assert(
      fc.property(messages, (message) => {
        const allowed = isAllowed(message);
        expect(refusalOfClient(message) === undefined).toBe(allowed);
        expect(refusalOfBroker(encoded(message)) === undefined).toBe(allowed);
        if (!allowed) return;
        const [request] = requestsOf([message], TOPIC, MAX_PUBLISH_BYTES);
        expect(refusalOfBroker(request!)).toBeUndefined();
      }),
      cases(150),
    );
  },
  TIMEOUT_MS,
);

test.each<[string, OutgoingMessage]>([
  ['data alone', { data: Buffer.alloc(MAX_MESSAGE_BYTES) }],
  ['data with a key', { data: Buffer.alloc(MAX_MESSAGE_BYTES), orderingKey: 'k'.repeat(1_024) }],
  ['text of two bytes a character', { data: 'ü'.repeat(MAX_MESSAGE_BYTES / 2) }],
  ['data with an attribute', { data: Buffer.alloc(MAX_MESSAGE_BYTES - 4), attributes: { ü: 'ü' } }],
])('%s: 2 MiB are taken, a byte more is refused with both numbers', (_, message) => {
  expect(refusalOfClient(message)).toBeUndefined();
  expect(refusalOfBroker(encoded(message))).toBeUndefined();
  const larger = { ...message, data: Buffer.concat([Buffer.from(message.data!), Buffer.alloc(1)]) };
  expect(refusalOfClient(larger)?.message).toBe(
    'data and attributes have 2097153 bytes: at most 2097152 (2 MiB) are allowed',
  );
  expect(refusalOfBroker(encoded(larger))?.message).toBe(
    'messages[0] has 2097153 bytes of data and attributes; at most 2097152 are allowed',
  );
});

test(
  'a request is never larger than allowed, whatever its topic is called, and as full as it may be',
  () => {
    const topic = `projects/${'p'.repeat(255)}/topics/${'t'.repeat(255)}`;
    expect(topic.length).toBeLessThanOrEqual(MAX_NAME_LENGTH);
    const sizes = fc.array(
      fc.oneof(
        fc.integer({ min: 1, max: 1_000 }),
        fc.integer({ min: 1_000_000, max: MAX_MESSAGE_BYTES }),
        around(MAX_PUBLISH_BYTES / 2),
      ),
      { minLength: 1, maxLength: 12 },
    );
    const data = Buffer.alloc(MAX_MESSAGE_BYTES);
    fc.assert(
      fc.property(sizes, (given) => {
        const list = given.map((size) => ({ data: data.subarray(0, Math.min(size, MAX_MESSAGE_BYTES)) }));
        const requests = requestsOf(list, topic, MAX_PUBLISH_BYTES);
        let from = 0;
        for (const request of requests) {
          expect(request.length).toBeLessThanOrEqual(MAX_PUBLISH_BYTES);
          const { count } = parsePublish(request, PUBLISH_LIMITS);
          from += count;
          // Not even the data of the next one would have fitted, except into what is reserved for the largest
          // request id.
          if (from < list.length) {
            expect(request.length + list[from]!.data.length).toBeGreaterThan(MAX_PUBLISH_BYTES - 32);
          }
        }
        expect(from).toBe(list.length);
      }),
      cases(60),
    );
  },
  TIMEOUT_MS,
);

test('what does not count is bounded, too: frames stay small enough for a response', () => {
  const repeated = (field: number[], times: number): Buffer =>
    Buffer.concat([
      Buffer.from(messageBytes({ data: Buffer.alloc(MAX_MESSAGE_BYTES) })),
      ...Array.from({ length: times }, () => Buffer.from(field)),
    ]);
  const empty = repeated([0x0a, 0], MAX_MESSAGE_ENCODING_BYTES);
  expect(refusalOfBroker(requestOf([empty]))?.message).toMatch(
    /^messages\[0\] has 8\d\d\d bytes of ordering key, tags and lengths; at most 5120/,
  );
  const keys = repeated([0x2a, 3, 65, 66, 67], 2_000);
  expect(refusalOfBroker(requestOf([keys]))?.message).toMatch(
    /^messages\[0\] has 100\d\d bytes of ordering key/,
  );
  // Fields that are taken out don't count.
  const foreign = repeated([0x1a, 3, 65, 66, 67], 2_000);
  expect(refusalOfBroker(requestOf([foreign]))).toBeUndefined();
});
