// Traces of messages on their way through the broker. Called by engine/broker (publish) and engine/dispatcher (deliver);
// adapters/otel implements it. The engine holds undefined while tracing is off, and asks before it does anything for it.
import type { BrokerError } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { PublishBatch } from '../core/publish-batch.ts';

export interface DeliveryWrite {
  readonly subscription: string;
  readonly topic: string;
  readonly partition: PartitionId;
  readonly messages: number;
  /** As written to the consumer. */
  readonly frames: Uint8Array;
}

/** Both methods return at once, never throw, and keep nothing of the bytes. */
export interface MessageTracing {
  /**
   * A publish begins. Returns what is called with its outcome, once; undefined if no message of it belongs to a trace that is
   * recorded.
   */
  publishing(topic: string, batch: PublishBatch): ((failure?: BrokerError) => void) | undefined;

  /** Frames were handed to a consumer's stream, or to a Pull. */
  delivered(write: DeliveryWrite): void;
}
