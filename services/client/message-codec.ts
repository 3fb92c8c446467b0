// Publish requests and answers on the wire. Messages are checked by the broker's rules and encoded once, when
// they are published, straight into the request that will carry them.
import { types } from 'node:util';
import { FanfareError } from './errors.ts';
import { BYTES, varintSize, WireReader, writeVarint } from './wire.ts';

/**
 * A message to publish: data or at least one attribute. Data, attribute keys and
 * values: 2 MiB together at most.
 */
export interface OutgoingMessage {
  /** A string is sent as UTF-8. */
  readonly data?: Uint8Array | string;
  /** At most 100; keys of 1 to 256 bytes that don't begin with "goog", values of at most 1,024 bytes. */
  readonly attributes?: Readonly<Record<string, string>>;
  /**
   * At most 1,024 bytes. Subscriptions with ordering deliver the messages of one key as they were published.
   */
  readonly orderingKey?: string;
}

/** message.proto's limits. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
const MAX_ATTRIBUTES = 100;
const MAX_ATTRIBUTE_KEY_BYTES = 256;
const MAX_ATTRIBUTE_VALUE_BYTES = 1024;
const MAX_ORDERING_KEY_BYTES = 1024;

/** The one reserved attribute key that is let through: Google's clients put their trace context there. */
const GOOGLE_TRACEPARENT = 'googclient_traceparent';
const MAX_SHOWN_CHARS = 60;

/** A message whose parts are measured and checked, ready to be written. */
export interface MeasuredMessage {
  readonly message: OutgoingMessage;
  readonly dataBytes: number;
  readonly keyBytes: number;
  /** The length of the encoded Message. */
  readonly bodyBytes: number;
  /** The length of the whole field in a request: tag, length, body. */
  readonly fieldBytes: number;
}

/**
 * Checks a message and measures it. FanfareError INVALID_ARGUMENT says what is wrong: exactly what the broker
 * would refuse, and what is of a wrong type.
 */
export function measure(message: OutgoingMessage): MeasuredMessage {
  if (typeof message !== 'object' || message === null) throw invalid('the message is not an object');
  const { data, attributes, orderingKey } = message;
  const dataBytes = measureData(data);
  const { count, contentBytes, encodedBytes } =
    attributes === undefined ? NO_ATTRIBUTES : measureAttributes(attributes);
  if (dataBytes === 0 && count === 0) throw invalid('the message is empty: give data or an attribute');
  const size = dataBytes + contentBytes;
  if (size > MAX_MESSAGE_BYTES) {
    throw invalid(`data and attributes have ${size} bytes: at most ${MAX_MESSAGE_BYTES} (2 MiB) are allowed`);
  }
  const keyBytes = measureKey(orderingKey);
  const bodyBytes =
    (dataBytes > 0 ? lengthDelimitedSize(dataBytes) : 0) +
    encodedBytes +
    (keyBytes > 0 ? lengthDelimitedSize(keyBytes) : 0);
  return { message, dataBytes, keyBytes, bodyBytes, fieldBytes: lengthDelimitedSize(bodyBytes) };
}

/** Whether messages can have it as their ordering key. */
export function isOrderingKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= MAX_ORDERING_KEY_BYTES;
}

/** Writes a message as field 2 (`messages`) of a request and returns the place after it. */
export function writeMessage(buffer: Buffer, at: number, measured: MeasuredMessage): number {
  const { message, dataBytes, keyBytes } = measured;
  buffer[at] = 0x12;
  let position = writeVarint(buffer, at + 1, measured.bodyBytes);
  if (dataBytes > 0) {
    buffer[position] = 0x0a;
    position = writeVarint(buffer, position + 1, dataBytes);
    if (typeof message.data === 'string') buffer.write(message.data, position, dataBytes, 'utf8');
    else buffer.set(message.data!, position);
    position += dataBytes;
  }
  for (const key in message.attributes)
    position = writeAttribute(buffer, position, key, message.attributes[key]!);
  if (keyBytes > 0) position = writeText(buffer, position, 0x2a, message.orderingKey!, keyBytes);
  return position;
}

/** Writes a text field, short or long, with the given tag byte; returns the place after it. */
export function writeText(buffer: Buffer, at: number, tag: number, text: string, bytes: number): number {
  buffer[at] = tag;
  const position = writeVarint(buffer, at + 1, bytes);
  buffer.write(text, position, bytes, 'utf8');
  return position + bytes;
}

/** Consecutive messages of a batch that were stored at consecutive offsets. */
export interface PublishedRun {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
}

export interface PublishRefusal {
  /** A google.rpc.Code. */
  code: number;
  message: string;
  /** Which message is at fault, if it is one and the broker says so. */
  messageIndex: number | undefined;
}

export interface PublishAnswer {
  requestId: number;
  readonly runs: PublishedRun[];
  logEpoch: number;
  error: PublishRefusal | undefined;
}

/** Decodes a PublishStreamResponse. */
export function decodePublishAnswer(bytes: Uint8Array): PublishAnswer {
  const reader = new WireReader(bytes);
  const answer: PublishAnswer = { requestId: 0, runs: [], logEpoch: 0, error: undefined };
  while (reader.next()) {
    if (reader.field === 1) answer.requestId = reader.varint();
    else if (reader.field === 3) answer.logEpoch = reader.varint();
    else if (reader.field === 2 && reader.wireType === BYTES) {
      const run = { partition: 0, firstOffset: 0, count: 0 };
      eachField(reader, (inner) => {
        if (inner.field === 1) run.partition = inner.varint();
        else if (inner.field === 2) run.firstOffset = inner.varint();
        else if (inner.field === 3) run.count = inner.varint();
        else inner.skip();
      });
      answer.runs.push(run);
    } else if (reader.field === 5 && reader.wireType === BYTES) {
      const error: PublishRefusal = { code: 0, message: '', messageIndex: undefined };
      eachField(reader, (inner) => {
        if (inner.field === 1) error.code = inner.varint();
        else if (inner.field === 3) error.messageIndex = inner.varint();
        else if (inner.field === 2 && inner.wireType === BYTES) {
          const end = inner.lengthDelimitedEnd();
          error.message = Buffer.from(inner.buffer.subarray(inner.position, end)).toString('utf8');
          inner.position = end;
        } else inner.skip();
      });
      answer.error = error;
    } else reader.skip();
  }
  return answer;
}

function eachField(reader: WireReader, visit: (inner: WireReader) => void): void {
  const end = reader.lengthDelimitedEnd();
  const inner = new WireReader(reader.buffer, reader.position, end);
  while (inner.next()) visit(inner);
  reader.position = end;
}

function measureData(data: OutgoingMessage['data']): number {
  if (data === undefined) return 0;
  if (typeof data === 'string') return Buffer.byteLength(data);
  if (types.isUint8Array(data)) return data.length;
  throw invalid('data is neither a string nor a Uint8Array');
}

function measureKey(orderingKey: string | undefined): number {
  if (orderingKey === undefined) return 0;
  if (typeof orderingKey !== 'string') throw invalid('orderingKey is not a string');
  const bytes = Buffer.byteLength(orderingKey);
  if (bytes <= MAX_ORDERING_KEY_BYTES) return bytes;
  throw invalid(`orderingKey has ${bytes} bytes: at most ${MAX_ORDERING_KEY_BYTES} are allowed`);
}

const NO_ATTRIBUTES = { count: 0, contentBytes: 0, encodedBytes: 0 };

/**
 * Checks and measures attributes. `contentBytes`: keys and values; `encodedBytes`:
 * entries as fields of a Message.
 */
function measureAttributes(attributes: Readonly<Record<string, string>>): typeof NO_ATTRIBUTES {
  if (typeof attributes !== 'object' || attributes === null)
    throw invalid('attributes is not an object of strings');
  let count = 0;
  let contentBytes = 0;
  let encodedBytes = 0;
  for (const key in attributes) {
    const keyBytes = Buffer.byteLength(key);
    const valueBytes = measureValue(key, attributes[key]!);
    checkAttribute(key, keyBytes, valueBytes);
    count++;
    contentBytes += keyBytes + valueBytes;
    encodedBytes += lengthDelimitedSize(lengthDelimitedSize(keyBytes) + lengthDelimitedSize(valueBytes));
  }
  if (count > MAX_ATTRIBUTES) throw invalid(`${count} attributes: at most ${MAX_ATTRIBUTES} are allowed`);
  return { count, contentBytes, encodedBytes };
}

function measureValue(key: string, value: string): number {
  if (typeof value === 'string') return Buffer.byteLength(value);
  throw invalid(`the value of attribute "${key}" is not a string`);
}

function checkAttribute(key: string, keyBytes: number, valueBytes: number): void {
  if (keyBytes < 1 || keyBytes > MAX_ATTRIBUTE_KEY_BYTES) {
    throw invalid(
      `attribute key "${shown(key)}" has ${keyBytes} bytes: 1 to ${MAX_ATTRIBUTE_KEY_BYTES} are allowed`,
    );
  }
  if (key.startsWith('goog') && key !== GOOGLE_TRACEPARENT)
    throw invalid(`attribute key "${key}": keys that begin with "goog" are reserved`);
  if (valueBytes > MAX_ATTRIBUTE_VALUE_BYTES) {
    throw invalid(
      `the value of attribute "${key}" has ${valueBytes} bytes: at most ${MAX_ATTRIBUTE_VALUE_BYTES} are allowed`,
    );
  }
}

function writeAttribute(buffer: Buffer, at: number, key: string, value: string): number {
  const keyBytes = Buffer.byteLength(key);
  const valueBytes = Buffer.byteLength(value);
  buffer[at] = 0x12;
  const position = writeVarint(
    buffer,
    at + 1,
    lengthDelimitedSize(keyBytes) + lengthDelimitedSize(valueBytes),
  );
  return writeText(buffer, writeText(buffer, position, 0x0a, key, keyBytes), 0x12, value, valueBytes);
}

/** The size of a field with a one-byte tag. */
function lengthDelimitedSize(bytes: number): number {
  return 1 + varintSize(bytes) + bytes;
}

function shown(key: string): string {
  return key.length > MAX_SHOWN_CHARS ? `${key.slice(0, MAX_SHOWN_CHARS)}…` : key;
}

function invalid(message: string): FanfareError {
  return new FanfareError('INVALID_ARGUMENT', message);
}
