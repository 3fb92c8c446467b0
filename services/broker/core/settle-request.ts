// What a consumer says of its messages, read from the wire: SubscribeRequest, AcknowledgeRequest and
// ModifyAckDeadlineRequest as operations on ranges of offsets. Ranges of one field that overlap or touch
// become one, so that a request costs no more than the messages that it is about.
import { BrokerError } from './errors.ts';
import { LENGTH, VARINT, WireReader } from './wire.ts';

/** The subscription whose messages are settled. The incarnation tells it from others of the same name. */
export interface SettledSubscription {
  readonly name: string;
  readonly incarnation: number;
}

export interface SettleOperation {
  readonly kind: 'ack' | 'nack' | 'extend';
  readonly logEpoch: number;
  readonly partition: number;
  readonly first: number;
  /** At least first. */
  readonly last: number;
  /** The new deadline from now, for extend; else 0. */
  readonly seconds: number;
  /** The delivery that nack and extend mean: the messages may be under way again. Absent: whichever it is. */
  readonly attempt?: number;
  /** An ack by a former owner, which knows that they were settled: so they are, delivered or not. */
  readonly settledBefore?: true;
}

export interface SettleRequest {
  readonly operations: readonly SettleOperation[];
  /** The incarnation of the subscription that is meant; absent: whichever has the name. */
  readonly incarnation?: number;
}

/** Whether the request is about another subscription that had the name before. */
export function isOfAnother(request: SettleRequest, incarnation: number): boolean {
  return request.incarnation !== undefined && request.incarnation !== incarnation;
}

/** The fields of SubscribeRequest that are not operations; undefined or false: the request has none. */
export interface StreamSettings {
  readonly subscription: string | undefined;
  readonly clientId: string | undefined;
  readonly ackDeadlineSeconds: number | undefined;
  readonly maxOutstandingMessages: number | undefined;
  readonly maxOutstandingBytes: number | undefined;
  readonly ownedOnly: boolean;
  readonly resumes: boolean;
  readonly takesNoMore: boolean;
}

export interface SettleLimits {
  /** Ack ids or ranges in one field of a request. */
  readonly maxIds: number;
  readonly maxAckIdBytes: number;
  readonly maxDeadlineSeconds: number;
  readonly maxClientIdBytes: number;
}

export interface SubscribeMessage extends SettleRequest {
  readonly settings: StreamSettings;
}

interface Range {
  logEpoch: number;
  partition: number;
  first: number;
  last: number;
  /** The delivery that is meant; 0: whichever it is. */
  attempt: number;
}

/** Parses SubscribeRequest. INVALID_ARGUMENT with the field and the limit, as for the others. */
export function parseSubscribe(bytes: Uint8Array, limits: SettleLimits): SubscribeMessage {
  const reader = new WireReader(bytes);
  const acks: Range[] = [];
  const ackRanges: Range[] = [];
  const nackRanges: Range[] = [];
  const extendRanges: Range[] = [];
  const modifyIds: Range[] = [];
  const modifySeconds: number[] = [];
  let extendSeconds = 0;
  let subscription: string | undefined;
  let clientId: string | undefined;
  let ackDeadlineSeconds: number | undefined;
  let maxOutstandingMessages: number | undefined;
  let maxOutstandingBytes: number | undefined;
  let ownedOnly = false;
  let resumes = false;
  let incarnation = 0;
  let takesNoMore = false;
  while (reader.tag()) {
    switch (reader.field) {
      case 1:
        reader.expect(LENGTH, 'subscription');
        subscription = reader.string('subscription');
        break;
      case 2:
        addTo(acks, readAckId(reader, 'ack_ids', limits), 'ack_ids', limits);
        break;
      case 3:
        readInts(reader, modifySeconds, 'modify_deadline_seconds', limits);
        break;
      case 4:
        addTo(
          modifyIds,
          readAckId(reader, 'modify_deadline_ack_ids', limits),
          'modify_deadline_ack_ids',
          limits,
        );
        break;
      case 5:
        reader.expect(VARINT, 'stream_ack_deadline_seconds');
        ackDeadlineSeconds = seconds(reader.int(), 'stream_ack_deadline_seconds', 0, limits);
        break;
      case 6:
        reader.expect(LENGTH, 'client_id');
        clientId = readClientId(reader, limits);
        break;
      case 7:
        reader.expect(VARINT, 'max_outstanding_messages');
        maxOutstandingMessages = reader.int();
        break;
      case 8:
        reader.expect(VARINT, 'max_outstanding_bytes');
        maxOutstandingBytes = reader.int();
        break;
      case 16:
        addTo(ackRanges, readRange(reader, 'ack_ranges'), 'ack_ranges', limits);
        break;
      case 17:
        addTo(nackRanges, readRange(reader, 'nack_ranges'), 'nack_ranges', limits);
        break;
      case 18:
        addTo(extendRanges, readRange(reader, 'extend_ranges'), 'extend_ranges', limits);
        break;
      case 19:
        reader.expect(VARINT, 'extend_seconds');
        extendSeconds = seconds(reader.int(), 'extend_seconds', 0, limits);
        break;
      case 20:
        reader.expect(VARINT, 'owned_only');
        ownedOnly = reader.int() !== 0;
        break;
      case 21:
        reader.expect(VARINT, 'resumes');
        resumes = reader.int() !== 0;
        break;
      case 22:
        incarnation = readIncarnation(reader);
        break;
      case 23:
        reader.expect(VARINT, 'takes_no_more');
        takesNoMore = reader.int() !== 0;
        break;
      default:
        reader.skip();
    }
  }
  if (extendRanges.length > 0 && extendSeconds === 0)
    throw invalid(`extend_seconds must be from 1 to ${limits.maxDeadlineSeconds} with extend_ranges`);
  const operations: SettleOperation[] = [];
  addAll(operations, 'ack', acks, 0);
  addAll(operations, 'ack', ackRanges, 0);
  addModified(operations, modifyIds, modifySeconds, limits);
  addAll(operations, 'nack', nackRanges, 0);
  addAll(operations, 'extend', extendRanges, extendSeconds);
  const settings = {
    subscription,
    clientId,
    ackDeadlineSeconds,
    maxOutstandingMessages,
    maxOutstandingBytes,
    ownedOnly,
    resumes,
    takesNoMore,
  };
  return { operations, settings, ...named(incarnation) };
}

export interface UnarySettleRequest extends SettleRequest {
  readonly subscription: string;
}

/** Parses AcknowledgeRequest: subscription = 1, ack_ids = 2, ack_ranges = 16, incarnation = 17. */
export function parseAcknowledge(bytes: Uint8Array, limits: SettleLimits): UnarySettleRequest {
  const reader = new WireReader(bytes);
  const ids: Range[] = [];
  const ranges: Range[] = [];
  let subscription = '';
  let incarnation = 0;
  while (reader.tag()) {
    if (reader.field === 1) {
      reader.expect(LENGTH, 'subscription');
      subscription = reader.string('subscription');
    } else if (reader.field === 2) addTo(ids, readAckId(reader, 'ack_ids', limits), 'ack_ids', limits);
    else if (reader.field === 16) addTo(ranges, readRange(reader, 'ack_ranges'), 'ack_ranges', limits);
    else if (reader.field === 17) incarnation = readIncarnation(reader);
    else reader.skip();
  }
  const operations: SettleOperation[] = [];
  addAll(operations, 'ack', ids, 0);
  addAll(operations, 'ack', ranges, 0);
  return { subscription, operations, ...named(incarnation) };
}

/** ModifyAckDeadlineRequest: subscription = 1, ack_deadline_seconds = 3, ack_ids = 4, incarnation = 17. */
export function parseModifyAckDeadline(bytes: Uint8Array, limits: SettleLimits): UnarySettleRequest {
  const reader = new WireReader(bytes);
  const ids: Range[] = [];
  let subscription = '';
  let deadline = 0;
  let incarnation = 0;
  while (reader.tag()) {
    if (reader.field === 1) {
      reader.expect(LENGTH, 'subscription');
      subscription = reader.string('subscription');
    } else if (reader.field === 3) {
      reader.expect(VARINT, 'ack_deadline_seconds');
      deadline = seconds(reader.int(), 'ack_deadline_seconds', 0, limits);
    } else if (reader.field === 4) addTo(ids, readAckId(reader, 'ack_ids', limits), 'ack_ids', limits);
    else if (reader.field === 17) incarnation = readIncarnation(reader);
    else reader.skip();
  }
  const operations: SettleOperation[] = [];
  addAll(operations, deadline === 0 ? 'nack' : 'extend', ids, deadline);
  return { subscription, operations, ...named(incarnation) };
}

function addModified(
  operations: SettleOperation[],
  ids: readonly Range[],
  deadlines: readonly number[],
  limits: SettleLimits,
): void {
  if (ids.length !== deadlines.length) {
    throw invalid(
      `modify_deadline_seconds has ${deadlines.length} entries for ${ids.length} modify_deadline_ack_ids: one for each is needed`,
    );
  }
  for (let from = 0, to = 0; from < ids.length; from = to) {
    const deadline = seconds(deadlines[from]!, `modify_deadline_seconds[${from}]`, 0, limits);
    while (to < ids.length && deadlines[to] === deadline) to += 1;
    addAll(operations, deadline === 0 ? 'nack' : 'extend', ids.slice(from, to), deadline);
  }
}

/** Makes one operation of ranges that overlap or touch: a request with 1,000 ack ids is then mostly a few. */
function addAll(
  operations: SettleOperation[],
  kind: SettleOperation['kind'],
  ranges: readonly Range[],
  seconds: number,
): void {
  let open: Range | undefined;
  for (const range of inOrder(ranges, kind === 'ack' ? byPlace : byDelivery)) {
    const { logEpoch, partition, first, last } = range;
    // An acknowledgement counts, whichever delivery it is of.
    const attempt = kind === 'ack' ? 0 : range.attempt;
    if (
      open !== undefined &&
      open.partition === partition &&
      open.logEpoch === logEpoch &&
      open.attempt === attempt &&
      first <= open.last + 1
    ) {
      open.last = Math.max(open.last, last);
      operations[operations.length - 1] = { ...operations.at(-1)!, last: open.last };
    } else {
      open = { logEpoch, partition, first, last, attempt };
      const operation = { kind, logEpoch, partition, first, last, seconds };
      operations.push(attempt === 0 ? operation : { ...operation, attempt });
    }
  }
}

/** Sorts the ranges unless they are in order, as they mostly are: clients settle in the order of delivery. */
function inOrder(ranges: readonly Range[], compare: (a: Range, b: Range) => number): readonly Range[] {
  for (let i = 1; i < ranges.length; i += 1)
    if (compare(ranges[i - 1]!, ranges[i]!) > 0) return [...ranges].sort(compare);
  return ranges;
}

function byPlace(a: Range, b: Range): number {
  return a.logEpoch - b.logEpoch || a.partition - b.partition || a.first - b.first;
}

function byDelivery(a: Range, b: Range): number {
  return a.attempt - b.attempt || byPlace(a, b);
}

function addTo(ranges: Range[], range: Range, field: string, limits: SettleLimits): void {
  if (ranges.length === limits.maxIds) throw tooMany(field, limits);
  ranges.push(range);
}

/** MessageRange: log_epoch = 1, partition = 2, first_offset = 3, last_offset = 4, delivery_attempt = 5. */
function readRange(reader: WireReader, field: string): Range {
  reader.expect(LENGTH, field);
  const end = reader.block();
  const inner = new WireReader(reader.bytes, reader.at, end);
  reader.at = end;
  const range = { logEpoch: 0, partition: 0, first: 0, last: 0, attempt: 0 };
  while (inner.tag()) {
    if (inner.field > 5) {
      inner.skip();
      continue;
    }
    inner.expect(VARINT, field);
    const value = inner.uint();
    if (inner.field === 1) range.logEpoch = value;
    else if (inner.field === 2) range.partition = value;
    else if (inner.field === 3) range.first = value;
    else if (inner.field === 4) range.last = value;
    else range.attempt = value;
  }
  if (range.first === Number.POSITIVE_INFINITY)
    throw invalid(`${field} has a range from an offset above ${Number.MAX_SAFE_INTEGER}: no message has one`);
  if (range.last < range.first)
    throw invalid(
      `${field} has a range from ${range.first} to ${range.last}: last_offset must be at least first_offset`,
    );
  return range;
}

/**
 * Reads "logEpoch.partition-offset", perhaps with "-attempt" behind it. Anything else is no ack id of ours: a
 * mistake worth telling.
 */
function readAckId(reader: WireReader, field: string, limits: SettleLimits): Range {
  reader.expect(LENGTH, field);
  const end = reader.block();
  const { bytes } = reader;
  if (end - reader.at > limits.maxAckIdBytes)
    throw invalid(
      `${field} has an entry of ${end - reader.at} bytes; at most ${limits.maxAckIdBytes} are allowed`,
    );
  const parts = [0, 0, 0, 0];
  const separators = [0x2e, 0x2d, 0x2d];
  let part = 0;
  let digits = 0;
  for (; reader.at < end; reader.at += 1) {
    const byte = bytes[reader.at]!;
    if (byte >= 0x30 && byte <= 0x39 && digits < 16) {
      parts[part] = parts[part]! * 10 + (byte - 0x30);
      digits += 1;
    } else if (digits > 0 && part < 3 && byte === separators[part]) {
      part += 1;
      digits = 0;
    } else throw notAnAckId(field);
  }
  if (part < 2 || digits === 0 || parts[2]! > Number.MAX_SAFE_INTEGER) throw notAnAckId(field);
  return {
    logEpoch: parts[0]!,
    partition: parts[1]!,
    first: parts[2]!,
    last: parts[2]!,
    attempt: parts[3]! || 1,
  };
}

function readIncarnation(reader: WireReader): number {
  reader.expect(VARINT, 'incarnation');
  return reader.uint();
}

/** The incarnation as a field of the result: 0 stands for whichever has the name. */
function named(incarnation: number): { incarnation?: number } {
  return incarnation === 0 ? {} : { incarnation };
}

function readClientId(reader: WireReader, limits: SettleLimits): string {
  const { at } = reader;
  const end = reader.block();
  const length = end - reader.at;
  if (length > limits.maxClientIdBytes)
    throw invalid(`client_id has ${length} bytes; at most ${limits.maxClientIdBytes} are allowed`);
  reader.at = at;
  return reader.string('client_id');
}

/** Reads a repeated int32 field, packed or not. */
function readInts(reader: WireReader, into: number[], field: string, limits: SettleLimits): void {
  if (reader.wireType === VARINT) into.push(reader.int());
  else {
    reader.expect(LENGTH, field);
    const end = reader.block();
    const inner = new WireReader(reader.bytes, reader.at, end);
    while (inner.at < end && into.length <= limits.maxIds) into.push(inner.int());
    reader.at = end;
  }
  if (into.length > limits.maxIds) throw tooMany(field, limits);
}

function seconds(value: number, field: string, least: number, limits: SettleLimits): number {
  if (value < least || value > limits.maxDeadlineSeconds)
    throw invalid(`${field} must be from ${least} to ${limits.maxDeadlineSeconds} seconds`);
  return value;
}

function tooMany(field: string, { maxIds }: SettleLimits): BrokerError {
  return invalid(`${field} has more than ${maxIds} entries: send several requests`);
}

function notAnAckId(field: string): BrokerError {
  return invalid(`${field} has an entry that is not an ack id: give back what ReceivedMessage.ack_id said`);
}

function invalid(message: string): BrokerError {
  return new BrokerError('INVALID_ARGUMENT', message);
}
