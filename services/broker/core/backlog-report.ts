// How far behind one subscription is, in plain numbers: measured for the partitions of one broker, or summed
// over several.

/** Asks how far the subscription has come in each partition; see admin.proto's GetPartitionBacklogRequest. */
export interface PartitionQuestion {
  /** The hash of the client id of the consumer that asks; 0: it gave none. */
  readonly consumerHash: number;
  /** Only messages before these offsets count, by partition; beyond the list, those before the end. */
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
  /** Undefined: there is no backlog. */
  readonly oldestUnackedAgeMs?: number | undefined;
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly deliveredTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  readonly expiredByRetentionTotal: number;
  readonly measureTimeMs: number;
  /** How many of `consumers` hold as much as they accept. */
  readonly consumersWithoutCredit: number;
  /** How many of `messages` more consumers would not speed up. */
  readonly blockedMessages: number;
  /** Undefined: not known, or the subscription has no ordering. */
  readonly activeKeys?: number | undefined;
  /** The answer to a PartitionQuestion, in no order. Undefined: there was none. */
  readonly partitions?: readonly PartitionBacklog[] | undefined;
}
