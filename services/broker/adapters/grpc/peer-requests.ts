// What a relay says on a link: PeerRequest ↔ peer.proto's Request.
//
// The bytes of publishes are not copied: objects become a list of buffers, some of which are the engine's
// own, and what is decoded are views of the message that was received.

import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  LinkRequestSchema,
  PublishSchema,
  type Request,
  RequestSchema,
} from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import { assertNever } from '../../core/errors.ts';
import type { PeerRequest } from '../../ports/peer.ts';
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

/** The tags of Request.publish and Publish.messages. */
const PUBLISH = 0x0a;

const PUBLISH_MESSAGES = 0x2a;

/** A LinkRequest, in parts. */
export function encodeRequests(requests: readonly PeerRequest[]): Buffer[] {
  return requests.flatMap(encodeRequest);
}

/** Reads a LinkRequest. INVALID_ARGUMENT if it is none. */
export function decodeRequests(bytes: Buffer): PeerRequest[] {
  try {
    return fromBinary(LinkRequestSchema, bytes).requests.map(requestOf);
  } catch (cause) {
    throw unreadable(cause);
  }
}

/** About how many bytes a client id or an address takes. */
const NAME_BYTES = 48;

/** About how many bytes a request takes encoded. */
export function requestBytes(request: PeerRequest): number {
  if (request.kind === 'publish') return OBJECT_BYTES + request.messages.length;
  if (request.kind === 'drain')
    return (
      OBJECT_BYTES + (request.request.clientIds.length + request.request.peerAddresses.length) * NAME_BYTES
    );
  if (request.kind === 'settle' || request.kind === 'settleUnary')
    return OBJECT_BYTES + request.operations.length * OPERATION_BYTES;
  return OBJECT_BYTES;
}

function encodeRequest(request: PeerRequest): Buffer[] {
  if (request.kind === 'publish') {
    const { call, topic, partition, attempt, messages } = request;
    const head = { call: BigInt(call), topic, partition: wirePartition(partition), attempt: BigInt(attempt) };
    return nested(PUBLISH, toBinary(PublishSchema, create(PublishSchema, head)), PUBLISH_MESSAGES, messages);
  }
  return [item(toBinary(RequestSchema, create(RequestSchema, { kind: requestKind(request) })))];
}

function requestKind(
  request: Exclude<PeerRequest, { kind: 'publish' }>,
): NonNullable<MessageInitShape<typeof RequestSchema>['kind']> {
  switch (request.kind) {
    case 'attach': {
      const { consumer, subscription, incarnation, client, resumes, fresh } = request;
      const value = {
        consumer: BigInt(consumer),
        subscription,
        incarnation: BigInt(incarnation),
        hash: client.hash,
        stream: client.stream,
        resumes,
        fresh,
        clientId: client.id,
        pulls: client.kind === 'pull',
      };
      return { case: 'attach', value };
    }
    case 'credit': {
      const value = {
        consumer: BigInt(request.consumer),
        sequence: BigInt(request.sequence),
        maxOutstandingMessages: BigInt(request.maxOutstandingMessages),
        maxOutstandingBytes: BigInt(request.maxOutstandingBytes),
        ackDeadlineMs: BigInt(request.ackDeadlineMs),
        draining: request.draining ?? false,
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
      const { consumer, leases } = request;
      const value = { consumer: BigInt(consumer), keepLeases: leases !== 'end', wait: leases === 'wait' };
      return { case: 'detach', value };
    }
    case 'settleUnary': {
      const { call, subscription, incarnation } = request;
      const operations = request.operations.map(wireOperation);
      const value = { call: BigInt(call), subscription, incarnation: BigInt(incarnation), operations };
      return { case: 'settleUnary', value };
    }
    case 'backlog': {
      const { call, parent, names, question } = request;
      const partitions = question && {
        consumerHash: question.consumerHash,
        beforeOffsets: question.beforeOffsets.map(BigInt),
      };
      const value = { call: BigInt(call), parent, names: [...names], ...(partitions && { partitions }) };
      return { case: 'askBacklog', value };
    }
    case 'drain': {
      const { subscription, clientIds, peerAddresses, ttlMs } = request.request;
      const value = {
        call: BigInt(request.call),
        subscription,
        clientIds: [...clientIds],
        peerAddresses: [...peerAddresses],
        ttlMs: BigInt(ttlMs),
      };
      return { case: 'drainConsumers', value };
    }
    case 'watchFirstMessages':
      return { case: 'watchFirstMessages', value: {} };
    default:
      return assertNever(request);
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
      const { subscription, hash, stream, resumes, fresh, clientId: id, pulls } = value;
      return {
        kind,
        consumer: number(value.consumer),
        subscription,
        incarnation: number(value.incarnation),
        client: { kind: pulls ? 'pull' : 'stream', id, hash, stream },
        resumes,
        fresh,
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
        ...(value.draining && { draining: true }),
      };
    case 'taken':
      return { kind, consumer: number(value.consumer), bytes: number(value.bytes) };
    case 'settle':
      return { kind, consumer: number(value.consumer), operations: value.operations.map(operationOf) };
    case 'detach':
      return {
        kind,
        consumer: number(value.consumer),
        leases: value.keepLeases ? (value.wait ? 'wait' : 'stay') : 'end',
      };
    case 'settleUnary': {
      const operations = value.operations.map(operationOf);
      const { subscription } = value;
      return {
        kind,
        call: number(value.call),
        subscription,
        incarnation: number(value.incarnation),
        operations,
      };
    }
    case 'askBacklog': {
      const { parent, names, partitions } = value;
      const question = partitions && {
        consumerHash: partitions.consumerHash,
        beforeOffsets: partitions.beforeOffsets.map(number),
      };
      return { kind: 'backlog', call: number(value.call), parent, names, question };
    }
    case 'watchFirstMessages':
      return { kind };
    case 'drainConsumers': {
      const { subscription, clientIds, peerAddresses } = value;
      const request = { subscription, clientIds, peerAddresses, ttlMs: number(value.ttlMs) };
      return { kind: 'drain', call: number(value.call), request };
    }
    default:
      throw unreadable('an unknown request');
  }
}
