// peer.proto's messages ↔ ports/peer.ts' objects. Called by peer.ts and peer-connector.ts only.
//
// The bytes of chunks and publishes are not copied: objects become a list of buffers, some of which are the engine's own, and
// what is decoded are views of the message that was received.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type Answer,
  AnswerSchema,
  type BacklogReport as BacklogMessage,
  type BacklogReportSchema,
  ChunkSchema,
  LinkRequestSchema,
  LinkResponseSchema,
  Operation_Kind,
  type OperationSchema,
  type Partition,
  PublishSchema,
  type Request,
  RequestSchema,
  type Operation as WireOperation,
} from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import type { BacklogReport } from '../../core/backlog-report.ts';
import { BrokerError, type ErrorCode } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { SettleOperation } from '../../core/settle-request.ts';
import { varintLength, writeVarint } from '../../core/wire.ts';
import type { PeerAnswer, PeerRequest } from '../../ports/peer.ts';

/** Field 1, length-delimited: of LinkRequest.requests and LinkResponse.answers. */
const ITEM = 0x0a;
/** Request.publish and Publish.messages; Answer.chunk and Chunk.bytes. */
const PUBLISH = 0x0a;
const PUBLISH_MESSAGES = 0x2a;
const CHUNK = 0x1a;
const CHUNK_BYTES = 0x42;

/** LinkRequest, in parts. */
export function encodeRequests(requests: readonly PeerRequest[]): Buffer[] {
  return requests.flatMap(encodeRequest);
}

/** LinkResponse, in parts. What several consumers get alike is said once. */
export function encodeAnswers(answers: readonly PeerAnswer[]): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < answers.length; ) {
    const answer = answers[at]!;
    at += 1;
    if (answer.kind !== 'deliver') {
      parts.push(...encodeAnswer(answer));
      continue;
    }
    const consumers = [BigInt(answer.consumer)];
    for (let next = answers[at]; next?.kind === 'deliver' && isSame(answer, next); next = answers[at]) {
      consumers.push(BigInt(next.consumer));
      at += 1;
    }
    parts.push(encodeDeliver(consumers, answer));
  }
  return parts;
}

/** Of a request as encoded, about. */
export function requestBytes(request: PeerRequest): number {
  if (request.kind === 'publish') return OBJECT_BYTES + request.messages.length;
  if (request.kind === 'settle' || request.kind === 'settleUnary')
    return OBJECT_BYTES + request.operations.length * OPERATION_BYTES;
  return OBJECT_BYTES;
}

/** Of an answer as encoded, about. */
export function answerBytes(answer: PeerAnswer): number {
  if (answer.kind === 'chunk') return OBJECT_BYTES + answer.bytes.length;
  if (answer.kind === 'deliver') return OBJECT_BYTES + answer.runs.length * OPERATION_BYTES;
  if (answer.kind === 'backlogs') return OBJECT_BYTES + answer.reports.length * REPORT_BYTES;
  return OBJECT_BYTES;
}

const OBJECT_BYTES = 32;
const OPERATION_BYTES = 20;
const REPORT_BYTES = 200;

function encodeRequest(request: PeerRequest): Buffer[] {
  if (request.kind === 'publish') {
    const { call, topic, partition, attempt, messages } = request;
    const head = { call: BigInt(call), topic, partition: wirePartition(partition), attempt: BigInt(attempt) };
    return nested(PUBLISH, toBinary(PublishSchema, create(PublishSchema, head)), PUBLISH_MESSAGES, messages);
  }
  return [item(toBinary(RequestSchema, create(RequestSchema, { kind: requestKind(request) })))];
}

function encodeAnswer(answer: Exclude<PeerAnswer, { kind: 'deliver' }>): Buffer[] {
  if (answer.kind === 'chunk') {
    const head = create(ChunkSchema, {
      chunk: BigInt(answer.chunk),
      keepFrom: BigInt(answer.keepFrom),
      partition: wirePartition(answer.partition),
      firstOffset: BigInt(answer.firstOffset),
      count: BigInt(answer.count),
      publishTimeMs: BigInt(answer.publishTimeMs),
      startByte: BigInt(answer.startByte),
    });
    return nested(CHUNK, toBinary(ChunkSchema, head), CHUNK_BYTES, answer.bytes);
  }
  return [item(toBinary(AnswerSchema, create(AnswerSchema, { kind: answerKind(answer) })))];
}

/** LinkRequest. INVALID_ARGUMENT if it is none. */
export function decodeRequests(bytes: Buffer): PeerRequest[] {
  try {
    return fromBinary(LinkRequestSchema, bytes).requests.map(requestOf);
  } catch (cause) {
    throw unreadable(cause);
  }
}

/** LinkResponse. INVALID_ARGUMENT if it is none. */
export function decodeAnswers(bytes: Buffer): PeerAnswer[] {
  try {
    return fromBinary(LinkResponseSchema, bytes).answers.flatMap(answersOf);
  } catch (cause) {
    throw unreadable(cause);
  }
}

function requestKind(
  request: Exclude<PeerRequest, { kind: 'publish' }>,
): NonNullable<MessageInitShape<typeof RequestSchema>['kind']> {
  switch (request.kind) {
    case 'attach': {
      const { consumer, subscription, incarnation, hash } = request;
      const value = { consumer: BigInt(consumer), subscription, incarnation: BigInt(incarnation), hash };
      return { case: 'attach', value };
    }
    case 'credit': {
      const value = {
        consumer: BigInt(request.consumer),
        sequence: BigInt(request.sequence),
        maxOutstandingMessages: BigInt(request.maxOutstandingMessages),
        maxOutstandingBytes: BigInt(request.maxOutstandingBytes),
        ackDeadlineMs: BigInt(request.ackDeadlineMs),
      };
      return { case: 'credit', value };
    }
    case 'taken':
      return {
        case: 'taken',
        value: { consumer: BigInt(request.consumer), bytes: BigInt(request.bytes) },
      };
    case 'settle': {
      const operations = request.operations.map(wireOperation);
      return { case: 'settle', value: { consumer: BigInt(request.consumer), operations } };
    }
    case 'detach': {
      const { consumer, keepLeases } = request;
      return { case: 'detach', value: { consumer: BigInt(consumer), keepLeases } };
    }
    case 'settleUnary': {
      const { call, subscription } = request;
      const operations = request.operations.map(wireOperation);
      return { case: 'settleUnary', value: { call: BigInt(call), subscription, operations } };
    }
    case 'backlog': {
      const { call, parent, names } = request;
      return { case: 'askBacklog', value: { call: BigInt(call), parent, names: [...names] } };
    }
    default:
      return { case: 'watchFirstMessages', value: {} };
  }
}

function requestOf({ kind: { case: kind, value } }: Request): PeerRequest {
  switch (kind) {
    case 'publish':
      return {
        kind,
        call: number(value.call),
        topic: value.topic,
        partition: partitionOf(value.partition),
        attempt: number(value.attempt),
        messages: view(value.messages),
      };
    case 'attach': {
      const { subscription, hash } = value;
      return {
        kind,
        consumer: number(value.consumer),
        subscription,
        incarnation: number(value.incarnation),
        hash,
      };
    }
    case 'credit':
      return {
        kind,
        consumer: number(value.consumer),
        sequence: number(value.sequence),
        maxOutstandingMessages: number(value.maxOutstandingMessages),
        maxOutstandingBytes: number(value.maxOutstandingBytes),
        ackDeadlineMs: number(value.ackDeadlineMs),
      };
    case 'taken':
      return { kind, consumer: number(value.consumer), bytes: number(value.bytes) };
    case 'settle':
      return { kind, consumer: number(value.consumer), operations: value.operations.map(operationOf) };
    case 'detach':
      return { kind, consumer: number(value.consumer), keepLeases: value.keepLeases };
    case 'settleUnary': {
      const operations = value.operations.map(operationOf);
      return { kind, call: number(value.call), subscription: value.subscription, operations };
    }
    case 'askBacklog':
      return { kind: 'backlog', call: number(value.call), parent: value.parent, names: value.names };
    case 'watchFirstMessages':
      return { kind };
    default:
      throw unreadable('an unknown request');
  }
}

function encodeDeliver(consumers: bigint[], answer: Deliver): Buffer {
  const runs = answer.runs.map(({ first, last, attempt }) => ({
    first: BigInt(first),
    last: BigInt(last),
    attempt: BigInt(attempt),
  }));
  const value = {
    consumers,
    chunk: BigInt(answer.chunk),
    runs,
    messages: BigInt(answer.messages),
    bytes: BigInt(answer.bytes),
  };
  return item(toBinary(AnswerSchema, create(AnswerSchema, { kind: { case: 'deliver', value } })));
}

type Deliver = PeerAnswer & { kind: 'deliver' };

/** But for the consumer. */
function isSame(a: Deliver, b: Deliver): boolean {
  return (
    a.chunk === b.chunk &&
    a.messages === b.messages &&
    a.runs.length === b.runs.length &&
    a.runs.every(({ first, last, attempt }, at) => {
      const other = b.runs[at]!;
      return first === other.first && last === other.last && attempt === other.attempt;
    })
  );
}

function answerKind(
  answer: Exclude<PeerAnswer, { kind: 'chunk' } | { kind: 'deliver' }>,
): NonNullable<MessageInitShape<typeof AnswerSchema>['kind']> {
  switch (answer.kind) {
    case 'published': {
      const { call, firstOffset, count } = answer;
      const value = { call: BigInt(call), firstOffset: BigInt(firstOffset), count: BigInt(count) };
      return { case: 'published', value };
    }
    case 'refused': {
      const { reason, message } = answer;
      return { case: 'refused', value: { call: BigInt(answer.call), reason, message } };
    }
    case 'credited': {
      const value = {
        consumer: BigInt(answer.consumer),
        sequence: BigInt(answer.sequence),
        outstandingMessages: BigInt(answer.outstandingMessages),
      };
      return { case: 'credited', value };
    }
    case 'wants':
      return { case: 'wants', value: { consumer: BigInt(answer.consumer), more: answer.more } };
    case 'bounced': {
      const operations = answer.operations.map(wireOperation);
      return { case: 'bounced', value: { consumer: BigInt(answer.consumer), operations } };
    }
    case 'ended': {
      const { code, message } = answer;
      return { case: 'ended', value: { consumer: BigInt(answer.consumer), code, message } };
    }
    case 'settled': {
      const bounced = answer.bounced.map(wireOperation);
      return { case: 'settled', value: { call: BigInt(answer.call), bounced } };
    }
    case 'backlogs': {
      const reports = answer.reports.map(wireReport);
      return { case: 'backlogs', value: { call: BigInt(answer.call), reports } };
    }
    default:
      return { case: 'firstMessage', value: { subscription: answer.subscription } };
  }
}

function answersOf(answer: Answer): PeerAnswer[] {
  if (answer.kind.case !== 'deliver') return [answerOf(answer)];
  const { value } = answer.kind;
  const alike = {
    kind: 'deliver' as const,
    chunk: number(value.chunk),
    runs: value.runs.map(({ first, last, attempt }) => ({
      first: number(first),
      last: number(last),
      attempt: number(attempt),
    })),
    messages: number(value.messages),
    bytes: number(value.bytes),
  };
  return value.consumers.map((consumer) => ({ ...alike, consumer: number(consumer) }));
}

function answerOf({ kind: { case: kind, value } }: Answer): PeerAnswer {
  switch (kind) {
    case 'published': {
      const { call, firstOffset, count } = value;
      return { kind, call: number(call), firstOffset: number(firstOffset), count: number(count) };
    }
    case 'refused':
      return {
        kind,
        call: number(value.call),
        reason: value.reason === 'NOT_OWNER' ? 'NOT_OWNER' : errorCode(value.reason),
        message: value.message,
      };
    case 'chunk':
      return {
        kind,
        chunk: number(value.chunk),
        keepFrom: number(value.keepFrom),
        partition: partitionOf(value.partition),
        firstOffset: number(value.firstOffset),
        count: number(value.count),
        publishTimeMs: number(value.publishTimeMs),
        startByte: number(value.startByte),
        bytes: view(value.bytes),
      };
    case 'credited':
      return {
        kind,
        consumer: number(value.consumer),
        sequence: number(value.sequence),
        outstandingMessages: number(value.outstandingMessages),
      };
    case 'wants':
      return { kind, consumer: number(value.consumer), more: value.more };
    case 'bounced':
      return { kind, consumer: number(value.consumer), operations: value.operations.map(operationOf) };
    case 'ended': {
      const { code, message } = value;
      return { kind, consumer: number(value.consumer), code: errorCode(code), message };
    }
    case 'settled':
      return { kind, call: number(value.call), bounced: value.bounced.map(operationOf) };
    case 'backlogs':
      return { kind, call: number(value.call), reports: value.reports.map(reportOf) };
    case 'firstMessage':
      return { kind, subscription: value.subscription };
    default:
      throw unreadable('an unknown answer');
  }
}

function wirePartition({
  logEpoch,
  partition,
}: PartitionId): MessageInitShape<typeof PublishSchema>['partition'] {
  return { logEpoch: BigInt(logEpoch), partition };
}

function partitionOf(wire: Partition | undefined): PartitionId {
  if (wire === undefined) throw unreadable('a partition is missing');
  return { logEpoch: number(wire.logEpoch), partition: wire.partition };
}

const OPERATION_KINDS = {
  ack: Operation_Kind.ACK,
  nack: Operation_Kind.NACK,
  extend: Operation_Kind.EXTEND,
} as const;

function wireOperation(operation: SettleOperation): MessageInitShape<typeof OperationSchema> {
  return {
    kind: OPERATION_KINDS[operation.kind],
    partition: wirePartition(operation),
    first: BigInt(operation.first),
    last: BigInt(operation.last),
    seconds: BigInt(operation.seconds),
  };
}

function operationOf(wire: WireOperation): SettleOperation {
  const first = number(wire.first);
  const last = number(wire.last);
  const kind = (Object.keys(OPERATION_KINDS) as SettleOperation['kind'][]).find(
    (each) => OPERATION_KINDS[each] === wire.kind,
  );
  if (kind === undefined || last < first) throw unreadable('a bad operation');
  return { kind, ...partitionOf(wire.partition), first, last, seconds: number(wire.seconds) };
}

function wireReport(report: BacklogReport): MessageInitShape<typeof BacklogReportSchema> {
  return {
    subscription: report.subscription,
    topic: report.topic,
    messages: BigInt(report.messages),
    bytes: BigInt(Math.round(report.bytes)),
    outstandingMessages: BigInt(report.outstandingMessages),
    ...(report.oldestUnackedAgeMs !== undefined && { oldestUnackedAgeMs: report.oldestUnackedAgeMs }),
    consumers: report.consumers,
    appendedTotal: BigInt(report.appendedTotal),
    deliveredTotal: BigInt(report.deliveredTotal),
    ackedTotal: BigInt(report.ackedTotal),
    redeliveredTotal: BigInt(report.redeliveredTotal),
    expiredByRetentionTotal: BigInt(report.expiredByRetentionTotal),
    measureTimeMs: report.measureTimeMs,
  };
}

function reportOf(wire: BacklogMessage): BacklogReport {
  return {
    subscription: wire.subscription,
    topic: wire.topic,
    messages: number(wire.messages),
    bytes: number(wire.bytes),
    outstandingMessages: number(wire.outstandingMessages),
    oldestUnackedAgeMs: wire.oldestUnackedAgeMs,
    consumers: wire.consumers,
    appendedTotal: number(wire.appendedTotal),
    deliveredTotal: number(wire.deliveredTotal),
    ackedTotal: number(wire.ackedTotal),
    redeliveredTotal: number(wire.redeliveredTotal),
    expiredByRetentionTotal: number(wire.expiredByRetentionTotal),
    measureTimeMs: wire.measureTimeMs,
  };
}

const ERROR_CODES: Readonly<Record<ErrorCode, true>> = {
  INVALID_ARGUMENT: true,
  NOT_FOUND: true,
  ALREADY_EXISTS: true,
  PERMISSION_DENIED: true,
  UNAUTHENTICATED: true,
  FAILED_PRECONDITION: true,
  RESOURCE_EXHAUSTED: true,
  ABORTED: true,
  DEADLINE_EXCEEDED: true,
  UNAVAILABLE: true,
  UNIMPLEMENTED: true,
  INTERNAL: true,
};

/** One that this version does not know is INTERNAL. */
function errorCode(name: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, name) ? (name as ErrorCode) : 'INTERNAL';
}

function number(value: bigint): number {
  const asNumber = Number(value);
  if (!Number.isSafeInteger(asNumber)) throw unreadable(`${value} is out of range`);
  return asNumber;
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function item(record: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(1 + varintLength(record.length) + record.length);
  framed[0] = ITEM;
  framed.set(record, writeVarint(framed, 1, record.length));
  return framed;
}

/** item { outerTag { head, bytesTag: bytes } } */
function nested(outerTag: number, head: Uint8Array, bytesTag: number, bytes: Buffer): Buffer[] {
  const inner = head.length + 1 + varintLength(bytes.length) + bytes.length;
  const outer = 1 + varintLength(inner) + inner;
  const front = Buffer.allocUnsafe(1 + varintLength(outer) + outer - bytes.length);
  front[0] = ITEM;
  let to = writeVarint(front, 1, outer);
  front[to] = outerTag;
  to = writeVarint(front, to + 1, inner);
  front.set(head, to);
  to += head.length;
  front[to] = bytesTag;
  writeVarint(front, to + 1, bytes.length);
  return [front, bytes];
}

function unreadable(cause: unknown): BrokerError {
  if (cause instanceof BrokerError) return cause;
  return new BrokerError('INVALID_ARGUMENT', `a peer's message can't be read: ${cause}`, { cause });
}
