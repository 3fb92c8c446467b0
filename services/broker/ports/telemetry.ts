// Traces of messages on their way through the broker. While tracing is off there is no MessageTracing at all,
// and nothing is done for it.
import type { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';

export interface DeliveryWrite {
  readonly subscription: string;
  readonly topic: string;
  readonly partition: PartitionId;
  readonly messages: number;
  /** The messages as the consumer gets them. */
  readonly frames: Uint8Array;
}

/** Both methods return at once, never throw, and keep nothing of the bytes. */
export interface MessageTracing {
  /**
   * A publish begins. Returns a function to be called once, with the failure if there is one; undefined if no
   * message of the publish belongs to a recorded trace.
   */
  publishing(topic: string, batch: PublishBatch): ((failure?: BrokerError) => void) | undefined;

  /** Messages were given out: to a consumer's stream, a Pull call, or the relay that has the consumer. */
  delivered(write: DeliveryWrite): void;
}
