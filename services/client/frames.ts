// Received responses on the wire: runs of frames. They are walked, not decoded.
import { FanfareError } from './errors.ts';
import { BYTES, WireReader } from './wire.ts';

/**
 * Where a message is. Its ack id says it: "{log_epoch}.{partition}-{offset}", on a redelivery with
 * "-{delivery_attempt}" behind.
 */
export interface MessagePlace {
  logEpoch: number;
  partition: number;
  offset: number;
  /** 1 on the first delivery. */
  deliveryAttempt: number;
}

/** Consecutive offsets of one partition, both ends included. */
export interface MessageRange {
  readonly logEpoch: number;
  readonly partition: number;
  readonly firstOffset: number;
  readonly lastOffset: number;
  /** Which delivery is to be given back or extended; absent: whichever it is. */
  readonly deliveryAttempt?: number;
}

const RECEIVED_MESSAGES = 1;
const ACK_ID = 1;

/** How many messages a response holds. */
export function countFrames(response: Uint8Array): number {
  let count = 0;
  walkFrames(response, () => count++);
  return count;
}

/** The places of a response's first and last message, and how many it has; undefined if it has none. */
export function firstAndLast(
  response: Uint8Array,
): { first: MessagePlace; last: MessagePlace; count: number } | undefined {
  let count = 0;
  let firstStart = 0;
  let firstEnd = 0;
  let lastStart = 0;
  let lastEnd = 0;
  walkFrames(response, (start, end) => {
    if (count++ === 0) {
      firstStart = start;
      firstEnd = end;
    }
    lastStart = start;
    lastEnd = end;
  });
  if (count === 0) return undefined;
  return {
    first: readPlace(response, firstStart, firstEnd),
    last: readPlace(response, lastStart, lastEnd),
    count,
  };
}

/** The messages of a response as ranges, usually one. Cheap where the offsets have no gap. */
export function rangesOf(response: Uint8Array): MessageRange[] {
  const ends = firstAndLast(response);
  if (ends === undefined) return [];
  const { first, last, count } = ends;
  const sameLog = first.logEpoch === last.logEpoch && first.partition === last.partition;
  if (sameLog && last.offset - first.offset + 1 === count) return [rangeOf(first, last.offset)];
  const ranges: MessageRange[] = [];
  let begin: MessagePlace | undefined;
  let previous = first;
  walkFrames(response, (start, end) => {
    const place = readPlace(response, start, end);
    const continues =
      place.offset === previous.offset + 1 &&
      place.partition === previous.partition &&
      place.logEpoch === previous.logEpoch;
    if (!continues) {
      if (begin !== undefined) ranges.push(rangeOf(begin, previous.offset));
      begin = place;
    }
    previous = place;
  });
  ranges.push(rangeOf(begin ?? first, previous.offset));
  return ranges;
}

/** Calls `visit` with where each frame's body begins and ends. */
export function walkFrames(response: Uint8Array, visit: (start: number, end: number) => void): void {
  const reader = new WireReader(response);
  while (reader.next()) {
    if (reader.field === RECEIVED_MESSAGES && reader.wireType === BYTES) {
      const end = reader.lengthDelimitedEnd();
      visit(reader.position, end);
      reader.position = end;
    } else reader.skip();
  }
}

/** Reads the ack id of a frame's body. */
export function readPlace(bytes: Uint8Array, start: number, end: number): MessagePlace {
  const place = { logEpoch: 0, partition: 0, offset: 0, deliveryAttempt: 1 };
  const reader = new WireReader(bytes, start, end);
  while (reader.next()) {
    if (reader.field === ACK_ID && reader.wireType === BYTES) {
      const ackIdEnd = reader.lengthDelimitedEnd();
      parseAckId(bytes, reader.position, ackIdEnd, place);
      return place;
    }
    reader.skip();
  }
  throw new FanfareError('INTERNAL', 'the broker sent a message without an ack id');
}

/** Parses the ack id between start and end into `into`. */
export function parseAckId(bytes: Uint8Array, start: number, end: number, into: MessagePlace): void {
  into.deliveryAttempt = 1;
  let index = 0;
  let value = 0;
  let digits = 0;
  for (let at = start; at <= end; at++) {
    const byte = at < end ? bytes[at]! : 0;
    if (byte >= 0x30 && byte <= 0x39) {
      value = value * 10 + byte - 0x30;
      digits++;
      continue;
    }
    // A dot stands between epoch and partition, dashes between the others.
    const separates = at === end ? index >= 2 : byte === (index === 0 ? 0x2e : 0x2d) && index < 3;
    if (!separates || digits === 0 || value > Number.MAX_SAFE_INTEGER) {
      throw new FanfareError(
        'INTERNAL',
        `the broker sent an ack id that is none: ${Buffer.from(bytes.subarray(start, Math.min(end, start + 164))).toString('latin1')}`,
      );
    }
    if (index === 0) into.logEpoch = value;
    else if (index === 1) into.partition = value;
    else if (index === 2) into.offset = value;
    else into.deliveryAttempt = value;
    index++;
    value = 0;
    digits = 0;
  }
}

function rangeOf(first: MessagePlace, lastOffset: number): MessageRange {
  return { logEpoch: first.logEpoch, partition: first.partition, firstOffset: first.offset, lastOffset };
}
