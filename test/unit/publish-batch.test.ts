// core/publish-batch.ts: what protobuf-es writes is understood, every limit has its message, and any bytes
// whatever are either taken or refused.
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { MAX_NAME_LENGTH } from '../../services/broker/core/names.ts';
import {
  BadMessage,
  hashOfKey,
  type PublishBatch,
  parsePublish,
  requestHead,
} from '../../services/broker/core/publish-batch.ts';
import { MessageSchema } from '../../services/gen/fanfare/v1/message_pb.ts';
import { cases } from '../support/property.ts';
import {
  LIMITS,
  messageBytes,
  messages,
  requestBytes,
  requestOf,
  type TestMessage,
} from '../support/publish-requests.ts';

const encoder = new TextEncoder();
const hello = { data: encoder.encode('hello') };

function bodyOf(batch: PublishBatch, index: number): Uint8Array {
  return batch.bytes.subarray(batch.starts[index]!, batch.ends[index]!);
}

function decoded(body: Uint8Array): TestMessage {
  const { data, attributes, orderingKey } = fromBinary(MessageSchema, body);
  return { data: Uint8Array.from(data), attributes, orderingKey };
}

function keyHash(key: string): number {
  const bytes = encoder.encode(key);
  return bytes.length === 0 ? 0 : hashOfKey(bytes, 0, bytes.length);
}

/** The batch, or the refusal; anything else that is thrown is a failure of the test. */
function attempt(bytes: Uint8Array): PublishBatch | BrokerError {
  try {
    return parsePublish(bytes, LIMITS);
  } catch (error) {
    if (error instanceof BrokerError && error.code === 'INVALID_ARGUMENT') return error;
    throw error;
  }
}

test('a request is indexed where it lies', () => {
  const request = fc.record({
    topic: fc.string({ unit: 'grapheme', maxLength: 30 }),
    list: fc.array(messages, { minLength: 1, maxLength: 8 }),
    requestId: fc.maxSafeNat(),
  });
  fc.assert(
    fc.property(request, ({ topic, list, requestId }) => {
      const bytes = requestBytes(topic, list, BigInt(requestId));
      const batch = parsePublish(bytes, LIMITS);
      expect(batch.topic).toBe(topic);
      expect(batch.requestId).toBe(requestId);
      expect(batch.count).toBe(list.length);
      expect(batch.bytes).toBe(bytes);
      expect(batch.keyed).toBe(list.some((message) => message.orderingKey !== ''));
      for (const [i, message] of list.entries()) {
        expect(Buffer.from(bodyOf(batch, i))).toEqual(Buffer.from(messageBytes(message)));
        expect(batch.keyHashes[i]).toBe(keyHash(message.orderingKey));
      }
    }),
    cases(300),
  );
});

test('more messages than the first arrays hold are indexed too', () => {
  const list = Array.from({ length: 1_000 }, (_, i) => ({
    data: encoder.encode(`${i}`),
    orderingKey: `k${i % 7}`,
  }));
  const batch = parsePublish(requestBytes('t', list), LIMITS);
  for (const [i, { data, orderingKey }] of list.entries()) {
    expect(decoded(bodyOf(batch, i))).toEqual({ data: Uint8Array.from(data), attributes: {}, orderingKey });
    expect(batch.keyHashes[i]).toBe(keyHash(orderingKey));
  }
});

describe('fields that a publisher may not give', () => {
  /** A message with message_id, publish_time and unknown fields strewn among its own. */
  function withForeignFields(message: TestMessage, places: readonly number[]): Uint8Array {
    const parts: Uint8Array[] = [];
    if (message.data.length > 0) parts.push(messageBytes({ data: message.data }));
    for (const [key, value] of Object.entries(message.attributes))
      parts.push(messageBytes({ attributes: { [key]: value } }));
    if (message.orderingKey !== '') parts.push(messageBytes({ orderingKey: message.orderingKey }));
    const foreign = [
      new BinaryWriter().tag(3, 2).string('9.9-999').finish(),
      new BinaryWriter().tag(4, 2).bytes(Uint8Array.of(8, 1)).finish(),
      new BinaryWriter().tag(17, 0).int64(-5n).finish(),
      new BinaryWriter().tag(1_000, 1).fixed64(7).finish(),
      new BinaryWriter().tag(18, 5).fixed32(7).finish(),
      // Known field numbers with a type they never have.
      new BinaryWriter().tag(3, 0).uint32(300).finish(),
    ];
    for (const [i, place] of places.entries())
      parts.splice(place % (parts.length + 1), 0, foreign[i % foreign.length]!);
    return Buffer.concat(parts);
  }

  test('are taken out, and the request itself stays as it was', () => {
    const message = fc.tuple(messages, fc.array(fc.nat(20), { maxLength: 8 }));
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 5 }), fc.boolean(), (list, asBuffer) => {
        const request = requestOf(list.map(([own, places]) => withForeignFields(own, places)));
        const bytes = asBuffer ? Buffer.from(request) : request;
        const before = Buffer.from(bytes).toString('hex');
        const batch = parsePublish(bytes, LIMITS);
        expect(Buffer.from(bytes).toString('hex')).toBe(before);
        for (const [i, [own]] of list.entries()) {
          const received = fromBinary(MessageSchema, bodyOf(batch, i));
          expect(received.messageId).toBe('');
          expect(received.publishTime).toBeUndefined();
          expect(received.$unknown).toBeUndefined();
          expect(decoded(bodyOf(batch, i))).toEqual({ ...own, data: Uint8Array.from(own.data) });
          expect(batch.keyHashes[i]).toBe(keyHash(own.orderingKey));
        }
      }),
      cases(200),
    );
  });
});

describe('limits', () => {
  const of = (message: Partial<TestMessage>): Uint8Array => requestBytes('t', [hello, message]);
  const attributes = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${i}`, 'v']));
  const data = (length: number): Uint8Array => new Uint8Array(length).fill(1);
  test.each([
    ['1,000 messages', requestBytes('t', new Array<TestMessage>(1_000).fill(hello as TestMessage))],
    ['2 MiB', of({ data: data(2 * 1024 * 1024) })],
    ['100 attributes', of({ attributes: attributes(100) })],
    ['an attribute key of 256 bytes', of({ attributes: { ['k'.repeat(256)]: '' } })],
    ['an attribute value of 1,024 bytes', of({ attributes: { k: 'v'.repeat(1_024) } })],
    ['a key of 1,024 bytes', of({ ...hello, orderingKey: 'ü'.repeat(512) })],
    ["Google's trace context", of({ attributes: { googclient_traceparent: '00-1-2-01' } })],
    ['attributes and no data', of({ attributes: { a: '' } })],
    ['a request id of 2^53 - 1', requestBytes('t', [hello], 2n ** 53n - 1n)],
  ])('%s are allowed', (_, bytes) => {
    expect(attempt(bytes)).not.toBeInstanceOf(BrokerError);
  });

  test.each([
    ['no message', requestBytes('t', []), 'messages is empty: a request needs at least one message'],
    ['nothing at all', new Uint8Array(0), 'messages is empty: a request needs at least one message'],
    [
      '1,001 messages',
      requestBytes('t', new Array<TestMessage>(1_001).fill(hello as TestMessage)),
      'a request has at most 1000 messages: send several requests',
    ],
    [
      '2 MiB and a byte',
      of({ data: data(2 * 1024 * 1024 + 1) }),
      'messages[1] has 2097153 bytes of data and attributes; at most 2097152 are allowed',
    ],
    ['101 attributes', of({ attributes: attributes(101) }), 'messages[1] has more than 100 attributes'],
    [
      'an attribute key of 257 bytes',
      of({ attributes: { ['k'.repeat(257)]: '' } }),
      'messages[1] has an attribute key of 257 bytes; at most 256 are allowed',
    ],
    [
      'an attribute value of 1,025 bytes',
      of({ attributes: { k: 'v'.repeat(1_025) } }),
      'messages[1] has an attribute value of 1025 bytes; at most 1024 are allowed',
    ],
    [
      'an empty attribute key',
      of({ attributes: { '': 'v' } }),
      'messages[1] has an attribute with an empty key',
    ],
    [
      'an attribute without a key',
      requestOf([Uint8Array.of(0x12, 2, 0x12, 0)]),
      'messages[0] has an attribute with an empty key',
    ],
    [
      'a reserved attribute key',
      of({ attributes: { google: 'v' } }),
      'messages[1] has an attribute key that begins with "goog": such keys are reserved',
    ],
    [
      'a key that only begins like the trace context',
      of({ attributes: { googclient_traceparent2: 'v' } }),
      'messages[1] has an attribute key that begins with "goog": such keys are reserved',
    ],
    [
      'a key of 1,025 bytes',
      of({ ...hello, orderingKey: `${'ü'.repeat(512)}x` }),
      'messages[1].ordering_key has 1025 bytes; at most 1024 are allowed',
    ],
    ['a message of nothing', of({}), 'messages[1] is empty: it needs data or at least one attribute'],
    [
      'a key alone',
      of({ orderingKey: 'k' }),
      'messages[1] is empty: it needs data or at least one attribute',
    ],
    // The last of a repeated single field counts, and it is empty.
    [
      'data taken back',
      requestOf([Uint8Array.of(0x0a, 1, 65, 0x0a, 0)]),
      'messages[0] is empty: it needs data or at least one attribute',
    ],
    ['a request id of 2^53', requestBytes('t', [hello], 2n ** 53n), 'request_id must be below 2^53'],
    [
      'a key that is not UTF-8',
      requestOf([Uint8Array.of(0x0a, 1, 65, 0x2a, 1, 0xff)]),
      'messages[0].ordering_key is not UTF-8',
    ],
    [
      'an attribute key that is not UTF-8',
      requestOf([Uint8Array.of(0x12, 3, 0x0a, 1, 0xff)]),
      'messages[0] has an attribute key that is not UTF-8',
    ],
    [
      'an attribute value that is not UTF-8',
      requestOf([Uint8Array.of(0x12, 6, 0x0a, 1, 65, 0x12, 1, 0xff)]),
      'messages[0] has an attribute value that is not UTF-8',
    ],
    [
      'a field in an attribute that maps do not have',
      requestOf([Uint8Array.of(0x12, 5, 0x0a, 1, 65, 0x18, 0)]),
      'the request is not valid protobuf: messages[0].attributes has an unknown field',
    ],
    [
      'a topic that is longer than any name',
      requestBytes('t'.repeat(MAX_NAME_LENGTH + 1), [hello]),
      `topic has ${MAX_NAME_LENGTH + 1} bytes; at most ${MAX_NAME_LENGTH} are allowed`,
    ],
    [
      'a topic that is not UTF-8',
      Uint8Array.of(0x0a, 1, 0xff),
      'the request is not valid protobuf: topic is not UTF-8',
    ],
    [
      'messages as a number',
      Uint8Array.of(0x10, 1),
      'the request is not valid protobuf: messages has wire type 0, not 2',
    ],
    [
      'data as a number',
      requestOf([Uint8Array.of(0x08, 1)]),
      'the request is not valid protobuf: data has wire type 0, not 2',
    ],
    [
      'a group in a message',
      requestOf([Uint8Array.of(0x0a, 1, 65, 0x33, 0x34)]),
      'the request is not valid protobuf: wire type 3 is not in use',
    ],
  ])('%s: refused with a message that says so', (_, bytes, message) => {
    const refusal = attempt(bytes);
    expect(refusal).toBeInstanceOf(BrokerError);
    expect((refusal as BrokerError).message).toBe(message);
  });
});

describe('a request that was refused', () => {
  const bad = { data: new Uint8Array(0) };

  test('names the first message that is at fault, wherever it is', () => {
    const list = fc.array(fc.boolean(), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(list, (areGood) => {
        const first = areGood.indexOf(false);
        const outcome = attempt(
          requestBytes(
            't',
            areGood.map((good) => (good ? hello : bad)),
          ),
        );
        expect(outcome instanceof BadMessage ? outcome.index : -1).toBe(first);
      }),
      cases(100),
    );
    // So it does if its bytes are no message.
    expect(attempt(requestOf([messageBytes(hello), Uint8Array.of(0x0a, 9)]))).toMatchObject({ index: 1 });
    expect(attempt(requestBytes('t', new Array(1_001).fill(hello)))).not.toBeInstanceOf(BadMessage);
  });

  test('still says which it was and what its topic is, unless it is no request at all', () => {
    expect(requestHead(requestBytes('projects/p/topics/t', [bad], 7n))).toEqual({
      topic: 'projects/p/topics/t',
      requestId: 7,
    });
    expect(requestHead(requestBytes('', [bad]))).toEqual({ topic: '', requestId: 0 });
    expect(requestHead(requestBytes('t', [bad], 2n ** 53n))).toBeUndefined();
    // It is not the topic before it, and nothing long to hold on to.
    const noName = { topic: '(no name)', requestId: 0 };
    expect(requestHead(requestBytes('t'.repeat(MAX_NAME_LENGTH + 1), [bad]))).toEqual(noName);
    expect(requestHead(Uint8Array.of(0x0a, 1, 0xff))).toEqual(noName);
    expect(requestHead(Uint8Array.of(0x0a, 9))).toBeUndefined();
  });
});

describe('hostile bytes', () => {
  /** Checks what a batch promises, whatever it was made of. */
  function checkBatch(batch: PublishBatch): void {
    expect(batch.count).toBeGreaterThan(0);
    for (let i = 0; i < batch.count; i += 1) {
      expect(batch.starts[i]! <= batch.ends[i]! && batch.ends[i]! <= batch.bytes.length).toBe(true);
      // It goes into every subscriber's stream, so it must be a message to everybody else's parser, too.
      const received = fromBinary(MessageSchema, bodyOf(batch, i));
      expect(received.messageId).toBe('');
      expect(batch.keyHashes[i]).toBe(keyHash(received.orderingKey));
    }
  }

  const requests = fc
    .array(messages, { minLength: 1, maxLength: 4 })
    .map((list) => requestBytes('projects/p/topics/t', list, 7n));

  test('a request cut off anywhere is refused, or is a shorter request', () => {
    fc.assert(
      fc.property(requests, (bytes) => {
        for (let end = 0; end < bytes.length; end += 1 + (end >> 5)) {
          // A parser that reads past the end would find the rest of the request there.
          const outcome = attempt(bytes.subarray(0, end));
          if (!(outcome instanceof BrokerError)) checkBatch(outcome);
        }
      }),
      cases(50),
    );
  });

  test('a request with bytes changed, put in or taken out is taken or refused', () => {
    const change = fc.record({
      at: fc.nat(),
      kind: fc.nat(2),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0xff)),
    });
    fc.assert(
      fc.property(requests, fc.array(change, { minLength: 1, maxLength: 4 }), (bytes, changes) => {
        const mutated = [...bytes];
        for (const { at, kind, byte } of changes) {
          if (kind === 0) mutated[at % mutated.length] = byte;
          else if (kind === 1) mutated.splice(at % mutated.length, 0, byte);
          else mutated.splice(at % mutated.length, 1);
        }
        const outcome = attempt(Uint8Array.from(mutated));
        if (!(outcome instanceof BrokerError)) checkBatch(outcome);
      }),
      cases(2_000),
    );
  });

  test('bytes at random are taken or refused', () => {
    const bytes = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(bytes, fc.boolean(), (random, asMessage) => {
        const outcome = attempt(asMessage ? requestOf([random]) : random);
        if (!(outcome instanceof BrokerError)) checkBatch(outcome);
      }),
      cases(3_000),
    );
  });
});
