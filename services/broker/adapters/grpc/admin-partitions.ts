// Admin.GetPartitionBacklog's messages ↔ core/backlog-report.ts' question and partitions. An answer has all
// partitions of the topic.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  GetPartitionBacklogRequest,
  GetPartitionBacklogResponseSchema,
} from '../../../gen/fanfare/v1/admin_pb.ts';
import type { PartitionBacklog, PartitionQuestion } from '../../core/backlog-report.ts';
import { BrokerError } from '../../core/errors.ts';
import { hashOfKey } from '../../core/publish-batch.ts';
import { DEFINITION_LIMITS, MAX_CLIENT_ID_BYTES } from '../../limits.ts';

/** INVALID_ARGUMENT with the field and the limit. Whether the subscription exists is not checked here. */
export function partitionQuestion(request: GetPartitionBacklogRequest): PartitionQuestion {
  const clientId = Buffer.from(request.clientId);
  if (clientId.length > MAX_CLIENT_ID_BYTES) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `client_id has ${clientId.length} bytes: at most ${MAX_CLIENT_ID_BYTES} are allowed`,
    );
  }
  const { maxPartitions } = DEFINITION_LIMITS;
  if (request.beforeOffsets.length > maxPartitions) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `before_offsets has ${request.beforeOffsets.length} offsets: at most ${maxPartitions}, one for each partition`,
    );
  }
  return {
    consumerHash: clientId.length === 0 ? 0 : hashOfKey(clientId, 0, clientId.length),
    beforeOffsets: request.beforeOffsets.map((offset) => Math.min(Number(offset), Number.MAX_SAFE_INTEGER)),
  };
}

/** UNAVAILABLE if a partition of the topic is missing: a part must not pass for the whole. */
export function partitionsResponse(
  partitions: readonly PartitionBacklog[],
  count: number,
): MessageInitShape<typeof GetPartitionBacklogResponseSchema> {
  const byNumber = new Map(partitions.map((partition) => [partition.partition, partition]));
  for (let partition = 0; partition < count; partition += 1) {
    if (byNumber.has(partition)) continue;
    throw new BrokerError(
      'UNAVAILABLE',
      `partition ${partition} has no owner just now that knows its backlog: try again`,
    );
  }
  const sorted = [...byNumber.values()].sort((a, b) => a.partition - b.partition);
  return {
    partitions: sorted.map(({ partition, endOffset, messages, elsewhereMessages }) => ({
      partition,
      endOffset: BigInt(endOffset),
      messages: BigInt(messages),
      elsewhereMessages: BigInt(elsewhereMessages),
    })),
  };
}
