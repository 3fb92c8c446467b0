// What an owner says on a link: PeerAnswer ↔ peer.proto's Answer.
//
// The bytes of chunks are not copied: objects become a list of buffers, some of which are the engine's own,
// and what is decoded are views of the message that was received.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type Answer,
  AnswerSchema,
  type BacklogReport as BacklogMessage,
  type BacklogReportSchema,
  ChunkSchema,
  type Draining,
  type DrainingSchema,
  LinkResponseSchema,
  type PartitionBacklog as PartitionMessage,
} from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import type { BacklogReport, PartitionBacklog } from '../../core/backlog-report.ts';
import { assertNever, type ErrorCode } from '../../core/errors.ts';
import type { PeerAnswer } from '../../ports/peer.ts';
import {
  item,
  nested,
  number,
  OBJECT_BYTES,
  OPERATION_BYTES,
  operationOf,
  partitionOf,
  unreadable,
  view,
  wireOperation,
  wirePartition,
} from './peer-wire.ts';

/** The tags of Answer.chunk and Chunk.bytes. */
const CHUNK = 0x1a;

const CHUNK_BYTES = 0x42;

/** About how many bytes a report of backlog, or a draining consumer, takes encoded. */
const REPORT_BYTES = 200;

/** A LinkResponse, in parts. What several consumers get alike is said once. */
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

/** Reads a LinkResponse. INVALID_ARGUMENT if it is none. */
export function decodeAnswers(bytes: Buffer): PeerAnswer[] {
  try {
    return fromBinary(LinkResponseSchema, bytes).answers.flatMap(answersOf);
  } catch (cause) {
    throw unreadable(cause);
  }
}

/** About how many bytes an answer takes encoded. */
export function answerBytes(answer: PeerAnswer): number {
  if (answer.kind === 'chunk') return OBJECT_BYTES + answer.bytes.length;
  if (answer.kind === 'deliver') return OBJECT_BYTES + answer.runs.length * OPERATION_BYTES;
  if (answer.kind === 'draining') return OBJECT_BYTES + answer.report.consumers.length * REPORT_BYTES;
  if (answer.kind === 'backlogs') return OBJECT_BYTES + answer.reports.length * REPORT_BYTES;
  return OBJECT_BYTES;
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

/** Whether both say the same, but for the consumer. */
function isSame(a: Deliver, b: Deliver): boolean {
  return (
    a.chunk === b.chunk &&
    a.messages === b.messages &&
    a.bytes === b.bytes &&
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
    case 'draining':
      return { case: 'draining', value: wireDraining(answer) };
    case 'firstMessage':
      return { case: 'firstMessage', value: { subscription: answer.subscription } };
    default:
      return assertNever(answer);
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
    case 'draining':
      return drainingOf(value);
    default:
      throw unreadable('an unknown answer');
  }
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
    consumersWithoutCredit: report.consumersWithoutCredit,
    blockedMessages: BigInt(report.blockedMessages),
    ...(report.activeKeys !== undefined && { activeKeys: report.activeKeys }),
    ...(report.partitions !== undefined && {
      partitions: report.partitions.map(({ partition, endOffset, messages, elsewhereMessages }) => ({
        partition,
        endOffset: BigInt(endOffset),
        messages: BigInt(messages),
        elsewhereMessages: BigInt(elsewhereMessages),
      })),
    }),
  };
}

type DrainingAnswer = PeerAnswer & { kind: 'draining' };

function wireDraining({ call, report, failed }: DrainingAnswer): MessageInitShape<typeof DrainingSchema> {
  return {
    call: BigInt(call),
    consumers: report.consumers.map(({ clientId, peerAddress, streams, outstandingMessages }) => ({
      clientId,
      peerAddress,
      streams,
      outstandingMessages: BigInt(outstandingMessages),
    })),
    streams: report.streams,
    outstandingMessages: BigInt(report.outstandingMessages),
    code: failed?.code ?? '',
    message: failed?.message ?? '',
  };
}

function drainingOf(wire: Draining): DrainingAnswer {
  const report = {
    consumers: wire.consumers.map(({ clientId, peerAddress, streams, outstandingMessages }) => ({
      clientId,
      peerAddress,
      streams,
      outstandingMessages: number(outstandingMessages),
    })),
    streams: wire.streams,
    outstandingMessages: number(wire.outstandingMessages),
  };
  const failed = wire.code === '' ? undefined : { code: errorCode(wire.code), message: wire.message };
  return { kind: 'draining', call: number(wire.call), report, ...(failed && { failed }) };
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
    consumersWithoutCredit: wire.consumersWithoutCredit,
    blockedMessages: number(wire.blockedMessages),
    activeKeys: wire.activeKeys,
    ...(wire.partitions.length > 0 && { partitions: wire.partitions.map(partitionOfReport) }),
  };
}

function partitionOfReport(wire: PartitionMessage): PartitionBacklog {
  return {
    partition: wire.partition,
    endOffset: number(wire.endOffset),
    messages: number(wire.messages),
    elsewhereMessages: number(wire.elsewhereMessages),
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

/** A code that this version does not know is INTERNAL. */
function errorCode(name: string): ErrorCode {
  return Object.hasOwn(ERROR_CODES, name) ? (name as ErrorCode) : 'INTERNAL';
}
