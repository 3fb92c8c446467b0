// Frames and chunks: cut once when the owner gives offsets, the same bytes in the store, in the cache and on
// every stream. Only the frame of a redelivery is cut again, around the same message.
//
// frame   = 0A len ReceivedMessage    field 1 of PullResponse and SubscribeResponse
//   0A len ack_id                     "logEpoch.partition-offset", on a redelivery "-attempt" behind it
//   12 len Message                    data, attributes and ordering_key as published, then
//     1A len message_id               the same text as the first ack_id
//     22 len publish_time             08 seconds, 10 nanos
//   18 delivery_attempt               on a redelivery only
// chunk   = consecutive frames of one partition: the valid body of a response by itself
import { AssertionError, assert, BrokerError } from './errors.ts';
import { formatPartitionId, type PartitionId } from './partition.ts';
import { hashOfKey, type PublishBatch } from './publish-batch.ts';
import { LENGTH, varintLength, WireReader, writeVarint } from './wire.ts';

const FRAME = 0x0a;
const ACK_ID = 0x0a;
const MESSAGE = 0x12;
const MESSAGE_ID = 0x1a;
const PUBLISH_TIME = 0x22;
const DELIVERY_ATTEMPT = 0x18;
const ORDERING_KEY_FIELD = 5;

/** Messages of one batch that go to one partition: those at `indexes`, or all. */
export interface Slice {
  readonly batch: PublishBatch;
  readonly indexes: Uint32Array | undefined;
}

export function sliceLength(slice: Slice): number {
  return slice.indexes === undefined ? slice.batch.count : slice.indexes.length;
}

/** The bytes of the messages as published, which bound chunks and appends. */
export function sliceBytes(slice: Slice): number {
  const { starts, ends } = slice.batch;
  let bytes = 0;
  const count = sliceLength(slice);
  for (let i = 0; i < count; i += 1) {
    const index = slice.indexes === undefined ? i : slice.indexes[i]!;
    bytes += ends[index]! - starts[index]!;
  }
  return bytes;
}

/** The slice in parts of at most maxBytes, or of one message: so that no chunk outgrows a response. */
export function splitSlice(slice: Slice, maxBytes: number): Slice[] {
  const { batch, indexes } = slice;
  const parts: Slice[] = [];
  const count = sliceLength(slice);
  let from = 0;
  let bytes = 0;
  const part = (to: number): void => {
    parts.push({
      batch,
      indexes:
        indexes === undefined
          ? Uint32Array.from({ length: to - from }, (_, i) => from + i)
          : indexes.subarray(from, to),
    });
  };
  for (let i = 0; i < count; i += 1) {
    const index = indexes === undefined ? i : indexes[i]!;
    const size = batch.ends[index]! - batch.starts[index]!;
    if (i > from && bytes + size > maxBytes) {
      part(i);
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  part(count);
  return parts;
}

export interface CutChunk {
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Where each frame ends in `bytes`. */
  readonly ends: Uint32Array;
  /** The hash of each frame's ordering key (hashOfKey), 0 without one. */
  readonly keyHashes: Uint32Array;
}

/**
 * Cuts frames for the messages of the slices, in order, with offsets from firstOffset on. The chunk keeps the
 * memory that `allocate` gives.
 */
export function cutChunk(
  slices: readonly Slice[],
  id: PartitionId,
  firstOffset: number,
  publishTimeMs: number,
  allocate: (bytes: number) => Uint8Array,
): CutChunk {
  let count = 0;
  for (const slice of slices) count += sliceLength(slice);
  const prefix = asciiBytes(`${formatPartitionId(id)}-`);
  const time = encodeTime(publishTimeMs);
  const ends = new Uint32Array(count);
  const keyHashes = new Uint32Array(count);

  // First the sizes, so that the chunk is one exact allocation.
  let total = 0;
  let position = 0;
  for (const { batch, indexes } of slices) {
    const length = indexes === undefined ? batch.count : indexes.length;
    for (let i = 0; i < length; i += 1) {
      const index = indexes === undefined ? i : indexes[i]!;
      const idLength = prefix.length + decimalLength(firstOffset + position);
      const message = batch.ends[index]! - batch.starts[index]! + 2 + idLength + time.length;
      const received = 2 + idLength + 1 + varintLength(message) + message;
      total += 1 + varintLength(received) + received;
      keyHashes[position] = batch.keyHashes[index]!;
      ends[position] = total;
      position += 1;
    }
  }

  const bytes = allocate(total);
  let to = 0;
  position = 0;
  for (const { batch, indexes } of slices) {
    const length = indexes === undefined ? batch.count : indexes.length;
    for (let i = 0; i < length; i += 1) {
      const index = indexes === undefined ? i : indexes[i]!;
      const offset = firstOffset + position;
      const idLength = prefix.length + decimalLength(offset);
      const bodyStart = batch.starts[index]!;
      const bodyEnd = batch.ends[index]!;
      const message = bodyEnd - bodyStart + 2 + idLength + time.length;
      const received = 2 + idLength + 1 + varintLength(message) + message;
      bytes[to] = FRAME;
      to = writeVarint(bytes, to + 1, received);
      bytes[to] = ACK_ID;
      bytes[to + 1] = idLength;
      const idAt = to + 2;
      writeId(bytes, idAt, prefix, offset, idLength);
      to = idAt + idLength;
      bytes[to] = MESSAGE;
      to = writeVarint(bytes, to + 1, message);
      to = copyRange(bytes, to, batch.bytes, bodyStart, bodyEnd);
      bytes[to] = MESSAGE_ID;
      bytes[to + 1] = idLength;
      bytes.copyWithin(to + 2, idAt, idAt + idLength);
      to += 2 + idLength;
      bytes.set(time, to);
      to += time.length;
      position += 1;
    }
  }
  assert(to === total, `cut ${to} bytes, computed ${total}`);
  return { bytes, count, ends, keyHashes };
}

/** Where each of `count` frames ends: CutChunk.ends for a chunk that was read from the store. */
export function frameEnds(bytes: Uint8Array, count: number): Uint32Array {
  const ends = new Uint32Array(count);
  const reader = new WireReader(bytes);
  for (let i = 0; i < count; i += 1) {
    assert(
      reader.tag() && reader.field === 1 && reader.wireType === LENGTH,
      'a stored chunk has a bad frame',
    );
    reader.at = reader.block();
    ends[i] = reader.at;
  }
  assert(reader.at === bytes.length, 'a stored chunk has bytes behind its last frame');
  return ends;
}

/** Whether the bytes are `count` frames: all that can be said of a chunk without a checksum. */
export function areFrames(bytes: Uint8Array, count: number): boolean {
  try {
    const ends = frameEnds(bytes, count);
    frameKeyHashes(bytes, ends);
    return true;
  } catch (error) {
    if (error instanceof AssertionError || error instanceof BrokerError) return false;
    throw error;
  }
}

/** The hash of each frame's ordering key, 0 without one: CutChunk.keyHashes for a chunk from the store. */
export function frameKeyHashes(bytes: Uint8Array, ends: Uint32Array): Uint32Array {
  const hashes = new Uint32Array(ends.length);
  const reader = new WireReader(bytes);
  for (let i = 0; i < ends.length; i += 1) {
    const message = messageOf(reader, bytes, i === 0 ? 0 : ends[i - 1]!, ends[i]!);
    reader.reset(bytes, message.start, message.end);
    while (reader.tag()) {
      if (reader.field !== ORDERING_KEY_FIELD) {
        reader.skip();
        continue;
      }
      const end = reader.block();
      hashes[i] = end === reader.at ? 0 : hashOfKey(bytes, reader.at, end);
      reader.at = end;
    }
  }
  return hashes;
}

/**
 * The frame at start..end as of its `attempt`-th delivery (2 or more): the same message bytes, with the
 * attempt behind the ack id and in delivery_attempt.
 */
export function recutFrame(bytes: Uint8Array, start: number, end: number, attempt: number): Uint8Array {
  const reader = new WireReader(bytes);
  const message = messageOf(reader, bytes, start, end);
  const suffix = asciiBytes(`-${attempt}`);
  const ackIdLength = message.ackIdEnd - message.ackIdStart + suffix.length;
  const messageLength = message.end - message.start;
  const received =
    2 + ackIdLength + 1 + varintLength(messageLength) + messageLength + 1 + varintLength(attempt);
  const frame = new Uint8Array(1 + varintLength(received) + received);
  frame[0] = FRAME;
  let to = writeVarint(frame, 1, received);
  frame[to] = ACK_ID;
  frame[to + 1] = ackIdLength;
  to = copyRange(frame, to + 2, bytes, message.ackIdStart, message.ackIdEnd);
  frame.set(suffix, to);
  to += suffix.length;
  frame[to] = MESSAGE;
  to = writeVarint(frame, to + 1, messageLength);
  to = copyRange(frame, to, bytes, message.start, message.end);
  frame[to] = DELIVERY_ATTEMPT;
  to = writeVarint(frame, to + 1, attempt);
  assert(to === frame.length, 'a recut frame has the wrong length');
  return frame;
}

/** Where the ack id and the Message of a frame are. Only for frames that cutChunk made. */
function messageOf(
  reader: WireReader,
  bytes: Uint8Array,
  start: number,
  end: number,
): { ackIdStart: number; ackIdEnd: number; start: number; end: number } {
  reader.reset(bytes, start, end);
  reader.tag();
  reader.block();
  reader.tag();
  const ackIdEnd = reader.block();
  const ackIdStart = reader.at;
  reader.at = ackIdEnd;
  reader.tag();
  assert(reader.field === 2 && reader.wireType === LENGTH, 'a stored frame has no message');
  const messageEnd = reader.block();
  return { ackIdStart, ackIdEnd, start: reader.at, end: messageEnd };
}

/** Field 4 of Message, publish_time, with its Timestamp. */
function encodeTime(timeMs: number): Uint8Array {
  const seconds = Math.floor(timeMs / 1000);
  const nanos = (timeMs - seconds * 1000) * 1_000_000;
  const length = 1 + varintLength(seconds) + (nanos === 0 ? 0 : 1 + varintLength(nanos));
  const bytes = new Uint8Array(2 + length);
  bytes[0] = PUBLISH_TIME;
  bytes[1] = length;
  bytes[2] = 0x08;
  const to = writeVarint(bytes, 3, seconds);
  if (nanos !== 0) {
    bytes[to] = 0x10;
    writeVarint(bytes, to + 1, nanos);
  }
  return bytes;
}

function writeId(target: Uint8Array, at: number, prefix: Uint8Array, offset: number, length: number): void {
  for (let i = 0; i < prefix.length; i += 1) target[at + i] = prefix[i]!;
  let rest = offset;
  for (let to = at + length - 1; to >= at + prefix.length; to -= 1) {
    const next = rest > 0x7fff_ffff ? Math.floor(rest / 10) : (rest / 10) | 0;
    target[to] = 0x30 + (rest - next * 10);
    rest = next;
  }
}

function decimalLength(value: number): number {
  let length = 1;
  for (let bound = 10; value >= bound; bound *= 10) length += 1;
  return length;
}

function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** For short ranges a loop beats the call behind set(). */
function copyRange(target: Uint8Array, at: number, from: Uint8Array, start: number, end: number): number {
  if (end - start < 32) for (let i = start; i < end; i += 1) target[at + i - start] = from[i]!;
  else target.set(from.subarray(start, end), at);
  return at + end - start;
}
