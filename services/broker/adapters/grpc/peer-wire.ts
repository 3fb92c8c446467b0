// What requests and answers of a link have in common on the wire: partitions, operations, numbers, and
// records that hold a buffer uncopied. What can't be read is INVALID_ARGUMENT.
import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Operation_Kind,
  type OperationSchema,
  type Partition,
  type PublishSchema,
  type Operation as WireOperation,
} from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import { BrokerError } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { SettleOperation } from '../../core/settle-request.ts';
import { varintLength, writeVarint } from '../../core/wire.ts';

/** About how many bytes an object, and each operation or run in it, take encoded, at least. */
export const OBJECT_BYTES = 32;
export const OPERATION_BYTES = 20;

/** The tag of LinkRequest.requests and LinkResponse.answers: field 1, length-delimited. */
const ITEM = 0x0a;

export function wirePartition({
  logEpoch,
  partition,
}: PartitionId): MessageInitShape<typeof PublishSchema>['partition'] {
  return { logEpoch: BigInt(logEpoch), partition };
}

export function partitionOf(wire: Partition | undefined): PartitionId {
  if (wire === undefined) throw unreadable('a partition is missing');
  return { logEpoch: number(wire.logEpoch), partition: wire.partition };
}

const OPERATION_KINDS = {
  ack: Operation_Kind.ACK,
  nack: Operation_Kind.NACK,
  extend: Operation_Kind.EXTEND,
} as const;

export function wireOperation(operation: SettleOperation): MessageInitShape<typeof OperationSchema> {
  return {
    kind: OPERATION_KINDS[operation.kind],
    partition: wirePartition(operation),
    first: BigInt(operation.first),
    last: BigInt(operation.last),
    seconds: BigInt(operation.seconds),
    attempt: BigInt(operation.attempt ?? 0),
    settledBefore: operation.settledBefore ?? false,
  };
}

export function operationOf(wire: WireOperation): SettleOperation {
  const first = number(wire.first);
  const last = number(wire.last);
  const kind = (Object.keys(OPERATION_KINDS) as SettleOperation['kind'][]).find(
    (each) => OPERATION_KINDS[each] === wire.kind,
  );
  if (kind === undefined || last < first) throw unreadable('a bad operation');
  const operation = { kind, ...partitionOf(wire.partition), first, last, seconds: number(wire.seconds) };
  return {
    ...operation,
    ...(wire.attempt !== 0n && { attempt: number(wire.attempt) }),
    ...(wire.settledBefore && { settledBefore: true }),
  };
}

export function number(value: bigint): number {
  const asNumber = Number(value);
  if (!Number.isSafeInteger(asNumber)) throw unreadable(`${value} is out of range`);
  return asNumber;
}

export function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function item(record: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(1 + varintLength(record.length) + record.length);
  framed[0] = ITEM;
  framed.set(record, writeVarint(framed, 1, record.length));
  return framed;
}

/** The record item { outerTag { head, bytesTag: bytes } }, without a copy of `bytes`. */
export function nested(outerTag: number, head: Uint8Array, bytesTag: number, bytes: Buffer): Buffer[] {
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

export function unreadable(cause: unknown): BrokerError {
  if (cause instanceof BrokerError) return cause;
  return new BrokerError('INVALID_ARGUMENT', `a peer's message can't be read: ${cause}`, { cause });
}
