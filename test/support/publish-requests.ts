// Publish requests for tests: made as objects, written by protobuf-es, so that the broker's own walk over the
// bytes has something independent to be held against.
import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import type { PublishLimits } from '../../services/broker/core/publish-batch.ts';
import { MessageSchema } from '../../services/gen/fanfare/v1/message_pb.ts';
import { PublishStreamRequestSchema } from '../../services/gen/fanfare/v1/publisher_pb.ts';

export interface TestMessage {
  readonly data: Uint8Array;
  readonly attributes: Record<string, string>;
  readonly orderingKey: string;
}

export const LIMITS: PublishLimits = {
  maxMessages: 1_000,
  maxMessageBytes: 2 * 1024 * 1024,
  maxMessageEncodingBytes: 4 * 1024,
  maxAttributes: 100,
  maxAttributeKeyBytes: 256,
  maxAttributeValueBytes: 1_024,
  maxOrderingKeyBytes: 1_024,
};

const text = (minLength: number) => fc.string({ unit: 'grapheme', minLength, maxLength: 12 });

/** Messages that the broker takes. */
export const messages: fc.Arbitrary<TestMessage> = fc
  .record({
    data: fc.uint8Array({ maxLength: 300 }),
    attributes: fc.dictionary(text(1), text(0), { maxKeys: 5 }),
    orderingKey: fc.oneof(fc.constant(''), text(0)),
  })
  .filter(({ data, attributes }) => data.length > 0 || Object.keys(attributes).length > 0)
  .filter(({ attributes }) => !Object.keys(attributes).some((key) => key.startsWith('goog')));

export function messageBytes(message: Partial<TestMessage>): Uint8Array {
  return toBinary(MessageSchema, create(MessageSchema, message));
}

/** A request as the wire has it: PublishRequest and PublishStreamRequest in one. */
export function requestBytes(
  topic: string,
  list: readonly Partial<TestMessage>[],
  requestId = 0n,
): Uint8Array {
  return toBinary(
    PublishStreamRequestSchema,
    create(PublishStreamRequestSchema, {
      topic,
      messages: list.map((message) => create(MessageSchema, message)),
      requestId,
    }),
  );
}

/** A request whose messages are given as bytes, well-formed or not. */
export function requestOf(bodies: readonly Uint8Array[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const body of bodies) writer.tag(2, 2).bytes(body);
  return writer.finish();
}
