// SubscribeRequests on the wire, and what a broker says of the subscription. subscriber.proto has the fields.
import type { MessageRange } from './frames.ts';
import { writeText } from './message-codec.ts';
import { varintSize, WireReader, writeVarint } from './wire.ts';

/** What a broker says of a subscription on its streams: SubscriptionProperties. */
export interface SubscriptionProperties {
  readonly ordering: boolean;
  readonly ackDeadlineSeconds: number;
  /** A new one each time a subscription of this name is created. */
  readonly incarnation: number;
}

/** SubscribeResponse.subscription_properties: field 4, length-delimited. */
const PROPERTIES_TAG = 0x22;

/** Undefined: it is a response with messages. */
export function decodeProperties(response: Buffer): SubscriptionProperties | undefined {
  if (response[0] !== PROPERTIES_TAG) return undefined;
  const properties = { ordering: false, ackDeadlineSeconds: 0, incarnation: 0 };
  const outer = new WireReader(response);
  outer.next();
  const end = outer.lengthDelimitedEnd();
  const reader = new WireReader(response, outer.position, end);
  while (reader.next()) {
    if (reader.field === 2) properties.ordering = reader.varint() !== 0;
    else if (reader.field === 16) properties.ackDeadlineSeconds = reader.varint();
    else if (reader.field === 17) properties.incarnation = reader.varint();
    else reader.skip();
  }
  return properties;
}

export interface FirstRequest {
  readonly subscription: string;
  readonly clientId: string;
  /** 0: as the subscription says. */
  readonly ackDeadlineSeconds: number;
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly ownedOnly: boolean;
  /** Whether the stream before ended with its leases kept. */
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

/** AcknowledgeRequest: subscription = 1, ack_ranges = 16, as in SubscribeRequest, incarnation = 17. */
export function encodeAcknowledge(
  subscription: string,
  ranges: readonly MessageRange[],
  incarnation: number,
): Buffer {
  const nameBytes = Buffer.byteLength(subscription);
  const head = Buffer.allocUnsafe(nameBytes + 16);
  let at = writeText(head, 0, 0x0a, subscription, nameBytes);
  if (incarnation > 0) at = writeVarint(head, writeVarint(head, at, 17 * 8), incarnation);
  return Buffer.concat([head.subarray(0, at), encodeRanges(ACK_RANGES, ranges)]);
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

export interface RangesSettings {
  /** For EXTEND_RANGES: when the leases end, from now. */
  readonly extendSeconds?: number;
  /** The incarnation of the subscription that is meant; 0: whichever has the name. */
  readonly incarnation?: number;
}

/** A request with ranges of one kind. */
export function encodeRanges(
  field: number,
  ranges: readonly MessageRange[],
  { extendSeconds = 0, incarnation = 0 }: RangesSettings = {},
): Buffer {
  let size = 16;
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
    if (range.deliveryAttempt !== undefined) at = writeNumber(buffer, at, 0x28, range.deliveryAttempt);
  }
  // Tags of two bytes: 19 is extend_seconds, 22 incarnation.
  if (extendSeconds > 0) at = writeVarint(buffer, writeVarint(buffer, at, 19 * 8), extendSeconds);
  if (incarnation > 0) at = writeVarint(buffer, writeVarint(buffer, at, 22 * 8), incarnation);
  return buffer.subarray(0, at);
}

function rangeSize(range: MessageRange): number {
  const attempt = range.deliveryAttempt;
  return (
    (attempt === undefined ? 0 : 1 + varintSize(attempt)) +
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
