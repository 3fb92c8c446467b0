// Frames as a client sees them: decoded by protobuf-es, so that the engine's own walking and cutting is held
// against something else.
import { fromBinary } from '@bufbuild/protobuf';
import { PullResponseSchema } from '../../services/gen/fanfare/v1/subscriber_pb.ts';

export interface Received {
  readonly logEpoch: number;
  readonly partition: number;
  readonly offset: number;
  readonly attempt: number;
  /** "{publisher}/{n}", from the payload. */
  readonly identity: string;
  readonly key: string;
  /** Everything that the publisher gave, in one string that is equal exactly if all of it is. */
  readonly content: string;
}

const ACK_ID = /^(\d+)\.(\d+)-(\d+)(?:-(\d+))?$/;

/** Throws if an ack id, message id or attempt contradicts another. */
export function decodeFrames(frames: Uint8Array): Received[] {
  return fromBinary(PullResponseSchema, frames).receivedMessages.map(
    ({ ackId, message, deliveryAttempt }) => {
      const [, logEpoch, partition, offset, attempt] = ACK_ID.exec(ackId) ?? [];
      if (message === undefined || offset === undefined)
        throw new Error(`a frame with the ack id "${ackId}"`);
      const place = `${logEpoch}.${partition}-${offset}`;
      if (message.messageId !== place) throw new Error(`${ackId} has the message id ${message.messageId}`);
      if (deliveryAttempt !== Number(attempt ?? 0))
        throw new Error(`${ackId} has the attempt ${deliveryAttempt}`);
      if (message.publishTime === undefined) throw new Error(`${ackId} has no publish time`);
      const { data, attributes, orderingKey } = message;
      return {
        logEpoch: Number(logEpoch),
        partition: Number(partition),
        offset: Number(offset),
        attempt: Number(attempt ?? 1),
        identity: identityOf(data),
        key: orderingKey,
        content: contentOf(data, attributes, orderingKey),
      };
    },
  );
}

/** The payload's beginning, up to the bar. */
export function identityOf(data: Uint8Array): string {
  return Buffer.from(data.subarray(0, Math.max(0, data.indexOf(0x7c)))).toString('latin1');
}

export function contentOf(data: Uint8Array, attributes: Record<string, string>, key: string): string {
  const pairs = Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${Buffer.from(data).toString('latin1')}\n${JSON.stringify(pairs)}\n${key}`;
}
