// A publish request, checked and indexed where it lies: which bytes each message has, and the hash of its
// ordering key.
//
// This is the edge where publishers' bytes are checked: once for all subscribers.
import { BrokerError } from './errors.ts';
import { MAX_NAME_LENGTH } from './names.ts';
import { isUtf8, LENGTH, malformed, VARINT, WireReader } from './wire.ts';

export interface PublishLimits {
  readonly maxMessages: number;
  /** One message's data, and its attributes' keys and values. */
  readonly maxMessageBytes: number;
  /** The tags and lengths around them. */
  readonly maxMessageEncodingBytes: number;
  readonly maxAttributes: number;
  readonly maxAttributeKeyBytes: number;
  readonly maxAttributeValueBytes: number;
  readonly maxOrderingKeyBytes: number;
}

export interface PublishBatch {
  /** Empty: the request names none. */
  readonly topic: string;
  readonly requestId: number;
  readonly count: number;
  /** The request, or a copy of it without foreign fields. */
  readonly bytes: Uint8Array;
  /** Where the body of message i begins and ends in `bytes`. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** The hash of message i's ordering key (hashOfKey), 0 without one. */
  readonly keyHashes: Uint32Array;
  /** Whether any message has a key. */
  readonly keyed: boolean;
}

/** The error of a request with one message at fault. */
export class BadMessage extends BrokerError {
  /** The message's place in the request, from 0. */
  readonly index: number;

  constructor(index: number, message: string) {
    super('INVALID_ARGUMENT', message);
    this.index = index;
  }
}

/**
 * Parses PublishRequest and PublishStreamRequest: topic = 1, messages = 2, request_id = 16. INVALID_ARGUMENT
 * with the field and the limit; BadMessage if a single message is at fault.
 */
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
  /** Messages with fields that must not get into a frame: they are rewritten at the end. */
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
      const check = checkedMessage(inner, limits, count);
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
      topic = readTopic(reader);
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

/** What a request says besides its messages. */
export interface RequestHead {
  /** Empty: the request names none. NO_NAME: what it names can't be a name. */
  readonly topic: string;
  readonly requestId: number;
}

/** The head of a refused request, by which it can be answered. Undefined: the bytes are no request. */
export function requestHead(bytes: Uint8Array): RequestHead | undefined {
  const reader = new WireReader(bytes);
  let topic = '';
  let requestId = 0;
  try {
    while (reader.tag()) {
      if (reader.field === 16 && reader.wireType === VARINT) requestId = reader.uint();
      else if (reader.field === 1 && reader.wireType === LENGTH) topic = nameOrNone(reader);
      else reader.skip();
    }
  } catch (error) {
    if (error instanceof BrokerError) return undefined;
    throw error;
  }
  return Number.isFinite(requestId) ? { topic, requestId } : undefined;
}

/** Reads the topic, whose name names.ts checks; one that is too long is refused here, and not held on to. */
function readTopic(reader: WireReader): string {
  const at = reader.at;
  const length = blockLength(reader, 'topic');
  if (length > MAX_NAME_LENGTH) {
    throw invalid(`topic has ${length} bytes; at most ${MAX_NAME_LENGTH} are allowed`);
  }
  reader.at = at;
  return reader.string('topic');
}

const NO_NAME = '(no name)';

function nameOrNone(reader: WireReader): string {
  const at = reader.at;
  const length = blockLength(reader, 'topic');
  if (length > MAX_NAME_LENGTH || !isUtf8(reader.bytes, reader.at - length, reader.at)) return NO_NAME;
  reader.at = at;
  return reader.string('topic');
}

const checked = { keyHash: 0, foreign: false };

function checkedMessage(reader: WireReader, limits: PublishLimits, index: number): typeof checked {
  try {
    return checkMessage(reader, limits, index);
  } catch (error) {
    if (error instanceof BrokerError) throw new BadMessage(index, error.message);
    throw error;
  }
}

/** Checks one Message and leaves its key's hash, and whether it has fields to be removed, in `checked`. */
function checkMessage(reader: WireReader, limits: PublishLimits, index: number): typeof checked {
  const { bytes } = reader;
  // A message that is short enough as encoded needs no counting.
  if (reader.end - reader.at > limits.maxMessageBytes) checkSize(bytes, reader.at, reader.end, limits, index);
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
        // The broker gives message_id and publish_time; fields that it does not know may mean something to a
        // later one.
        reader.skip();
        checked.foreign = true;
    }
  }
  if (dataBytes === 0 && attributes === 0)
    throw invalid(`messages[${index}] is empty: it needs data or at least one attribute`);
  return checked;
}

/** Checks the size of a message that may be too large: see message.proto. */
function checkSize(bytes: Uint8Array, from: number, to: number, limits: PublishLimits, index: number): void {
  const reader = new WireReader(bytes, from, to);
  let size = 0;
  /** Bytes of fields that are taken out before the message is stored. */
  let foreign = 0;
  for (let at = from; reader.tag(); at = reader.at) {
    const { field } = reader;
    if (field === 1) size += blockLength(reader, 'data');
    else if (field === 2) size += attributeSize(reader);
    else {
      reader.skip();
      if (field !== 5) foreign += reader.at - at;
    }
  }
  if (size > limits.maxMessageBytes) {
    throw invalid(
      `messages[${index}] has ${size} bytes of data and attributes; at most ${limits.maxMessageBytes} are allowed`,
    );
  }
  const rest = to - from - size - foreign;
  const maxRest = limits.maxOrderingKeyBytes + limits.maxMessageEncodingBytes;
  if (rest > maxRest) {
    throw invalid(
      `messages[${index}] has ${rest} bytes of ordering key, tags and lengths; at most ${maxRest} are allowed`,
    );
  }
}

/** Steps over an attribute and returns the bytes of its key and value. */
function attributeSize(reader: WireReader): number {
  reader.expect(LENGTH, 'attributes');
  const end = reader.block();
  const entry = new WireReader(reader.bytes, reader.at, end);
  let size = 0;
  while (entry.tag()) size += blockLength(entry, 'an attribute');
  reader.at = end;
  return size;
}

/** Steps over a field of bytes and returns how many there are. */
function blockLength(reader: WireReader, what: string): number {
  reader.expect(LENGTH, what);
  const end = reader.block();
  const length = end - reader.at;
  reader.at = end;
  return length;
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

/** The key under which Google's clients put their trace context. */
const GOOGLE_TRACEPARENT = new TextEncoder().encode('googclient_traceparent');

function isTraceparent(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    end - at === GOOGLE_TRACEPARENT.length && GOOGLE_TRACEPARENT.every((byte, i) => bytes[at + i] === byte)
  );
}

/** The batch over a copy of the request whose `foreign` messages have only data, attributes and key. */
function withoutForeignFields(batch: PublishBatch, foreign: readonly number[]): PublishBatch {
  // Not slice(), which does not copy a Buffer.
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
 * 32 bits of an ordering key: FNV-1a, then MurmurHash3's finaliser because partitionOfKey goes by the high
 * bits. Never 0, which stands for "no key". Two keys with one hash are ordered as if they were one: safe, and
 * rare. The hash decides the partition of a key, so it can never change.
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
