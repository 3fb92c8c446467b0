// SubscribeRequests on the wire. Called by subscribe-stream.ts.
import type { MessageRange } from './frames.ts';
import { writeText } from './message-codec.ts';
import { varintSize, writeVarint } from './wire.ts';

export interface FirstRequest {
  readonly subscription: string;
  readonly clientId: string;
  /** 0: as the subscription says. */
  readonly ackDeadlineSeconds: number;
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly ownedOnly: boolean;
  /** The stream before ended with its leases kept. */
  readonly resumes: boolean;
}

export function encodeFirstRequest(first: FirstRequest): Buffer {
  const nameBytes = Buffer.byteLength(first.subscription);
  const idBytes = Buffer.byteLength(first.clientId);
  const buffer = Buffer.allocUnsafe(nameBytes + idBytes + 48);
  let at = writeText(buffer, 0, 0x0a, first.subscription, nameBytes);
  if (first.ackDeadlineSeconds > 0) at = writeNumber(buffer, at, 0x28, first.ackDeadlineSeconds);
  if (idBytes > 0) at = writeText(buffer, at, 0x32, first.clientId, idBytes);
  at = writeNumber(buffer, at, 0x38, first.maxOutstandingMessages);
  at = writeNumber(buffer, at, 0x40, first.maxOutstandingBytes);
  // Tags of two bytes: 20 is owned_only, 21 resumes.
  if (first.ownedOnly) at = writeVarint(buffer, writeVarint(buffer, at, 20 * 8), 1);
  if (first.resumes) at = writeVarint(buffer, writeVarint(buffer, at, 21 * 8), 1);
  return buffer.subarray(0, at);
}

/** AcknowledgeRequest: subscription = 1, ack_ranges = 16, as in SubscribeRequest. */
export function encodeAcknowledge(subscription: string, ranges: readonly MessageRange[]): Buffer {
  const nameBytes = Buffer.byteLength(subscription);
  const name = Buffer.allocUnsafe(nameBytes + 6);
  return Buffer.concat([
    name.subarray(0, writeText(name, 0, 0x0a, subscription, nameBytes)),
    encodeRanges(ACK_RANGES, ranges),
  ]);
}

/** A later request: takes_no_more, field 23, whose tag has two bytes. */
export function encodeTakesNoMore(): Buffer {
  return Buffer.from([0xb8, 0x01, 0x01]);
}

/** A later request that changes how much may be outstanding. */
export function encodeLimits(maxOutstandingMessages: number, maxOutstandingBytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(24);
  const at = writeNumber(buffer, 0, 0x38, maxOutstandingMessages);
  return buffer.subarray(0, writeNumber(buffer, at, 0x40, maxOutstandingBytes));
}

/** Fields 16 to 18 of SubscribeRequest, and the number of ranges that one request may hold of each. */
export const ACK_RANGES = 16;
export const NACK_RANGES = 17;
export const EXTEND_RANGES = 18;
export const MAX_RANGES = 3_000;

/** A request with ranges of one kind; with extendSeconds for EXTEND_RANGES. */
export function encodeRanges(field: number, ranges: readonly MessageRange[], extendSeconds = 0): Buffer {
  let size = 6;
  for (const range of ranges) size += 3 + rangeSize(range);
  const buffer = Buffer.allocUnsafe(size);
  let at = 0;
  for (const range of ranges) {
    at = writeVarint(buffer, at, field * 8 + 2);
    at = writeVarint(buffer, at, rangeSize(range));
    at = writeNumber(buffer, at, 0x08, range.logEpoch);
    at = writeNumber(buffer, at, 0x10, range.partition);
    at = writeNumber(buffer, at, 0x18, range.firstOffset);
    at = writeNumber(buffer, at, 0x20, range.lastOffset);
  }
  // Field 19, extend_seconds: a tag of two bytes.
  if (extendSeconds > 0) at = writeVarint(buffer, writeVarint(buffer, at, 19 * 8), extendSeconds);
  return buffer.subarray(0, at);
}

function rangeSize(range: MessageRange): number {
  return (
    4 +
    varintSize(range.logEpoch) +
    varintSize(range.partition) +
    varintSize(range.firstOffset) +
    varintSize(range.lastOffset)
  );
}

function writeNumber(buffer: Buffer, at: number, tag: number, value: number): number {
  buffer[at] = tag;
  return writeVarint(buffer, at + 1, value);
}
