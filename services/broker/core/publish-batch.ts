// A publish request, checked and indexed where it lies: which bytes each message has, and the hash of its ordering key.
// Made by adapters/grpc/publisher from the raw request; its ranges are copied into frames by chunk.ts.
//
// This is the edge where publishers' bytes are checked: once for all subscribers.
import { BrokerError } from './errors.ts';
import { isUtf8, LENGTH, malformed, VARINT, WireReader } from './wire.ts';

export interface PublishLimits {
  readonly maxMessages: number;
  /** Of one message's fields, frame overhead not included. */
  readonly maxMessageBytes: number;
  readonly maxAttributes: number;
  readonly maxAttributeKeyBytes: number;
  readonly maxAttributeValueBytes: number;
  readonly maxOrderingKeyBytes: number;
}

export interface PublishBatch {
  /** '' where the request names none. */
  readonly topic: string;
  readonly requestId: number;
  readonly count: number;
  /** The request. */
  readonly bytes: Uint8Array;
  /** Where the body of message i begins and ends in bytes. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** hashOfKey of the ordering key of message i; 0 without one. */
  readonly keyHashes: Uint32Array;
  /** Whether any message has a key. */
  readonly keyed: boolean;
}

/** PublishRequest and PublishStreamRequest: topic = 1, messages = 2, request_id = 16. */
export function parsePublish(bytes: Uint8Array, limits: PublishLimits): PublishBatch {
  const reader = new WireReader(bytes);
  const inner = new WireReader(bytes);
  let topic = '';
  let requestId = 0;
  let count = 0;
  let capacity = 64;
  let starts = new Uint32Array(capacity);
  let ends = new Uint32Array(capacity);
  let keyHashes = new Uint32Array(capacity);
  let keyed = false;
  /** Messages with fields that must not get into a frame: rewritten at the end. */
  let foreign: number[] | undefined;
  while (reader.tag()) {
    if (reader.field === 2) {
      reader.expect(LENGTH, 'messages');
      const end = reader.block();
      if (count === limits.maxMessages)
        throw invalid(`a request has at most ${limits.maxMessages} messages: send several requests`);
      if (count === capacity) {
        capacity *= 4;
        starts = grown(starts, capacity);
        ends = grown(ends, capacity);
        keyHashes = grown(keyHashes, capacity);
      }
      starts[count] = reader.at;
      ends[count] = end;
      inner.reset(bytes, reader.at, end);
      const check = checkMessage(inner, limits, count);
      keyHashes[count] = check.keyHash;
      if (check.keyHash !== 0) keyed = true;
      if (check.foreign) {
        foreign ??= [];
        foreign.push(count);
      }
      count += 1;
      reader.at = end;
    } else if (reader.field === 1) {
      reader.expect(LENGTH, 'topic');
      topic = reader.string('topic');
    } else if (reader.field === 16) {
      reader.expect(VARINT, 'request_id');
      requestId = reader.uint();
      if (requestId === Number.POSITIVE_INFINITY) throw invalid('request_id must be below 2^53');
    } else reader.skip();
  }
  if (count === 0) throw invalid('messages is empty: a request needs at least one message');
  const batch = { topic, requestId, count, bytes, starts, ends, keyHashes, keyed };
  return foreign === undefined ? batch : withoutForeignFields(batch, foreign);
}

/** The request_id of a request that was refused, to say which it was; undefined if the bytes are no request at all. */
export function requestIdOf(bytes: Uint8Array): number | undefined {
  const reader = new WireReader(bytes);
  let requestId = 0;
  try {
    while (reader.tag()) {
      if (reader.field === 16 && reader.wireType === VARINT) requestId = reader.uint();
      else reader.skip();
    }
  } catch (error) {
    if (error instanceof BrokerError) return undefined;
    throw error;
  }
  return Number.isFinite(requestId) ? requestId : undefined;
}

const checked = { keyHash: 0, foreign: false };

/** Checks one Message and leaves its key's hash, and whether it has fields to be removed, in `checked`. */
function checkMessage(reader: WireReader, limits: PublishLimits, index: number): typeof checked {
  const { bytes } = reader;
  if (reader.end - reader.at > limits.maxMessageBytes) {
    throw invalid(
      `messages[${index}] has ${reader.end - reader.at} bytes; at most ${limits.maxMessageBytes} are allowed`,
    );
  }
  checked.keyHash = 0;
  checked.foreign = false;
  let dataBytes = 0;
  let attributes = 0;
  while (reader.tag()) {
    switch (reader.field) {
      case 1: {
        reader.expect(LENGTH, 'data');
        const end = reader.block();
        dataBytes = end - reader.at;
        reader.at = end;
        break;
      }
      case 2: {
        reader.expect(LENGTH, 'attributes');
        attributes += 1;
        if (attributes > limits.maxAttributes)
          throw invalid(`messages[${index}] has more than ${limits.maxAttributes} attributes`);
        const end = reader.block();
        checkAttribute(bytes, reader.at, end, limits, index);
        reader.at = end;
        break;
      }
      case 5: {
        reader.expect(LENGTH, 'ordering_key');
        const end = reader.block();
        const length = end - reader.at;
        if (length > limits.maxOrderingKeyBytes) {
          throw invalid(
            `messages[${index}].ordering_key has ${length} bytes; at most ${limits.maxOrderingKeyBytes} are allowed`,
          );
        }
        if (!isUtf8(bytes, reader.at, end)) throw invalid(`messages[${index}].ordering_key is not UTF-8`);
        checked.keyHash = length === 0 ? 0 : hashOfKey(bytes, reader.at, end);
        reader.at = end;
        break;
      }
      default:
        // message_id and publish_time are the broker's to give; numbers that it does not know may mean something to a
        // later one.
        reader.skip();
        checked.foreign = true;
    }
  }
  if (dataBytes === 0 && attributes === 0)
    throw invalid(`messages[${index}] is empty: it needs data or at least one attribute`);
  return checked;
}

function checkAttribute(
  bytes: Uint8Array,
  from: number,
  to: number,
  limits: PublishLimits,
  index: number,
): void {
  const reader = new WireReader(bytes, from, to);
  let keyBytes = 0;
  while (reader.tag()) {
    if (reader.field > 2) throw malformed(`messages[${index}].attributes has an unknown field`);
    reader.expect(LENGTH, 'an attribute');
    const end = reader.block();
    const length = end - reader.at;
    const isKey = reader.field === 1;
    const limit = isKey ? limits.maxAttributeKeyBytes : limits.maxAttributeValueBytes;
    const what = isKey ? 'key' : 'value';
    if (length > limit)
      throw invalid(
        `messages[${index}] has an attribute ${what} of ${length} bytes; at most ${limit} are allowed`,
      );
    if (!isUtf8(bytes, reader.at, end))
      throw invalid(`messages[${index}] has an attribute ${what} that is not UTF-8`);
    if (isKey) {
      keyBytes = length;
      if (length >= 4 && isReserved(bytes, reader.at) && !isTraceparent(bytes, reader.at, end))
        throw invalid(
          `messages[${index}] has an attribute key that begins with "goog": such keys are reserved`,
        );
    }
    reader.at = end;
  }
  if (keyBytes === 0) throw invalid(`messages[${index}] has an attribute with an empty key`);
}

function isReserved(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0x67 && bytes[at + 1] === 0x6f && bytes[at + 2] === 0x6f && bytes[at + 3] === 0x67;
}

/** Google's clients put their trace context there. */
const GOOGLE_TRACEPARENT = new TextEncoder().encode('googclient_traceparent');

function isTraceparent(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    end - at === GOOGLE_TRACEPARENT.length && GOOGLE_TRACEPARENT.every((byte, i) => bytes[at + i] === byte)
  );
}

/** The same batch over a copy of the request in which the given messages have only data, attributes and key. */
function withoutForeignFields(batch: PublishBatch, foreign: readonly number[]): PublishBatch {
  // Not slice(): of a Buffer that is no copy.
  const bytes = new Uint8Array(batch.bytes);
  const ends = batch.ends.slice();
  const reader = new WireReader(bytes);
  for (const index of foreign) {
    reader.reset(bytes, batch.starts[index]!, batch.ends[index]!);
    let to = reader.at;
    for (let from = reader.at; reader.tag(); from = reader.at) {
      reader.skip();
      if (reader.field === 1 || reader.field === 2 || reader.field === 5) {
        bytes.copyWithin(to, from, reader.at);
        to += reader.at - from;
      }
    }
    ends[index] = to;
  }
  return { ...batch, bytes, ends };
}

/**
 * 32 bits of an ordering key: FNV-1a, then murmur3's finaliser because partitionOfKey looks at the high bits. Never 0,
 * which stands for "no key". Two keys with one hash are ordered as if they were one: safe, and rare. It decides the
 * partition of a key, so it can never change.
 */
export function hashOfKey(bytes: Uint8Array, from: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = from; at < end; at += 1) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash = (hash ^ (hash >>> 16)) >>> 0;
  return hash === 0 ? 1 : hash;
}

function grown(array: Uint32Array<ArrayBuffer>, capacity: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(capacity);
  larger.set(array);
  return larger;
}

function invalid(message: string): BrokerError {
  return new BrokerError('INVALID_ARGUMENT', message);
}
