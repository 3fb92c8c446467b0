// Publish requests and answers on the wire. Called by batch.ts and publish-stream.ts. Messages are encoded once, when they
// are published, straight into the request that will carry them.
import { FanfareError } from './errors.ts';
import { BYTES, varintSize, WireReader, writeVarint } from './wire.ts';

/** A message to publish: data or at least one attribute. */
export interface OutgoingMessage {
  /** A string is sent as UTF-8. With the attributes at most 2 MiB. */
  readonly data?: Uint8Array | string;
  /** At most 100; keys of 1 to 256 bytes, values of at most 1,024 bytes. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** At most 1,024 bytes. Messages of one key are delivered in the order in which they were published. */
  readonly orderingKey?: string;
}

/** message.proto's limits. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;
const MAX_ATTRIBUTES = 100;
const MAX_ATTRIBUTE_KEY_BYTES = 256;
const MAX_ATTRIBUTE_VALUE_BYTES = 1024;
const MAX_ORDERING_KEY_BYTES = 1024;

/** A message whose parts are measured and checked, ready to be written. */
export interface MeasuredMessage {
  readonly message: OutgoingMessage;
  readonly dataBytes: number;
  readonly keyBytes: number;
  /** Of the encoded Message. */
  readonly bodyBytes: number;
  /** Of the whole field in a request: tag, length, body. */
  readonly fieldBytes: number;
}

/** Checks a message against the limits and measures it. FanfareError INVALID_ARGUMENT says what is wrong. */
export function measure(message: OutgoingMessage): MeasuredMessage {
  const { data, attributes, orderingKey } = message;
  const dataBytes = data === undefined ? 0 : typeof data === 'string' ? Buffer.byteLength(data) : data.length;
  let bodyBytes = dataBytes === 0 ? 0 : lengthDelimitedSize(dataBytes);
  let sized = dataBytes;
  let count = 0;
  if (attributes !== undefined) {
    for (const key in attributes) {
      const entryBytes = measureAttribute(key, attributes[key]!);
      bodyBytes += lengthDelimitedSize(entryBytes);
      sized += entryBytes;
      count++;
    }
    if (count > MAX_ATTRIBUTES) throw invalid(`${count} attributes: at most ${MAX_ATTRIBUTES} are allowed`);
  }
  if (dataBytes === 0 && count === 0) throw invalid('the message is empty: give data or an attribute');
  if (sized > MAX_MESSAGE_BYTES) {
    throw invalid(
      `data and attributes have ${sized} bytes: at most ${MAX_MESSAGE_BYTES} (2 MiB) are allowed`,
    );
  }
  const keyBytes = orderingKey ? Buffer.byteLength(orderingKey) : 0;
  if (keyBytes > MAX_ORDERING_KEY_BYTES) {
    throw invalid(`orderingKey has ${keyBytes} bytes: at most ${MAX_ORDERING_KEY_BYTES} are allowed`);
  }
  if (keyBytes > 0) bodyBytes += lengthDelimitedSize(keyBytes);
  return { message, dataBytes, keyBytes, bodyBytes, fieldBytes: lengthDelimitedSize(bodyBytes) };
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

/** Writes a short or long text field with the given tag byte. */
export function writeText(buffer: Buffer, at: number, tag: number, text: string, bytes: number): number {
  buffer[at] = tag;
  const position = writeVarint(buffer, at + 1, bytes);
  buffer.write(text, position, bytes, 'utf8');
  return position + bytes;
}

/** Consecutive messages of a batch at consecutive offsets. */
export interface PublishedRun {
  readonly partition: number;
  readonly firstOffset: number;
  readonly count: number;
}

export interface PublishAnswer {
  requestId: number;
  readonly runs: PublishedRun[];
  logEpoch: number;
  error: { code: number; message: string } | undefined;
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
      const error = { code: 0, message: '' };
      eachField(reader, (inner) => {
        if (inner.field === 1) error.code = inner.varint();
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

function measureAttribute(key: string, value: string): number {
  const keyBytes = Buffer.byteLength(key);
  const valueBytes = Buffer.byteLength(value);
  if (keyBytes < 1 || keyBytes > MAX_ATTRIBUTE_KEY_BYTES) {
    throw invalid(
      `attribute key "${key}" has ${keyBytes} bytes: 1 to ${MAX_ATTRIBUTE_KEY_BYTES} are allowed`,
    );
  }
  if (key.startsWith('goog'))
    throw invalid(`attribute key "${key}": keys that begin with "goog" are reserved`);
  if (valueBytes > MAX_ATTRIBUTE_VALUE_BYTES) {
    throw invalid(
      `the value of attribute "${key}" has ${valueBytes} bytes: at most ${MAX_ATTRIBUTE_VALUE_BYTES} are allowed`,
    );
  }
  return lengthDelimitedSize(keyBytes) + lengthDelimitedSize(valueBytes);
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

/** Of a field with a one-byte tag. */
function lengthDelimitedSize(bytes: number): number {
  return 1 + varintSize(bytes) + bytes;
}

function invalid(message: string): FanfareError {
  return new FanfareError('INVALID_ARGUMENT', message);
}
