// How far behind one subscription is, in plain numbers: what the engine measures, peers exchange and adapters/grpc/admin
// answers with.

/** Asks how far each partition has come; see admin.proto's GetPartitionBacklogRequest. */
export interface PartitionQuestion {
  /** Of the client id of the consumer that asks; 0: it gave none. */
  readonly consumerHash: number;
  /** By partition. One that is missing: its end. */
  readonly beforeOffsets: readonly number[];
}

/** See admin.proto's PartitionBacklog. */
export interface PartitionBacklog {
  readonly partition: number;
  readonly endOffset: number;
  readonly messages: number;
  readonly elsewhereMessages: number;
}

/** See admin.proto's Backlog; counters begin at 0 when the broker takes over a partition. */
export interface BacklogReport {
  readonly subscription: string;
  readonly topic: string;
  readonly messages: number;
  readonly bytes: number;
  readonly outstandingMessages: number;
  /** Undefined without backlog. */
  readonly oldestUnackedAgeMs?: number | undefined;
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly deliveredTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  readonly expiredByRetentionTotal: number;
  readonly measureTimeMs: number;
  /** Of the consumers. */
  readonly consumersWithoutCredit: number;
  /** Of the messages. */
  readonly blockedMessages: number;
  /** Undefined: not known, or without ordering. */
  readonly activeKeys?: number | undefined;
  /** Of a PartitionQuestion, in no order. Undefined: none was asked. */
  readonly partitions?: readonly PartitionBacklog[] | undefined;
}
