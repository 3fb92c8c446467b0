// Topics, subscriptions, backlogs and what is wrong in the store, as plain data. Units are in the names.

/** What an acknowledged publish has survived (message.proto). `default`: the best that the store has. */
export type Durability = 'default' | 'memory' | 'stored' | 'replicated' | 'fsync';

export interface TopicSettings {
  /** 1 to 1,024; default 4. Can only grow later. */
  readonly partitions?: number;
  /** 1 minute to 366 days; default 7 days. */
  readonly retentionMs?: number;
  /** At least 1 MiB; 0 (default): no limit. */
  readonly retentionBytesPerPartition?: number;
  /** It can't be changed later. */
  readonly durability?: Durability;
  /**
   * With `replicated`: how many replicas have confirmed an acknowledged publish, 1 to 5; default 1.
   * It can't be changed later.
   */
  readonly minReplicas?: number;
  /** At most 64. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface TopicInfo extends Required<TopicSettings> {
  /** The short name. */
  readonly id: string;
  /** projects/{project}/topics/{id} */
  readonly name: string;
  /** A new number each time a topic of this name is created. */
  readonly logEpoch: number;
  readonly createTime: Date | undefined;
}

export interface SubscriptionSettings {
  /** Length of a lease, 1 to 600; default 10. */
  readonly ackDeadlineSeconds?: number;
  /** Whether the messages of an ordering key are delivered in order. It can't be changed later. */
  readonly ordering?: boolean;
  /** Where it begins: with what is published from now on (default), or with the oldest message there is. */
  readonly start?: 'latest' | 'earliest';
  /** At most 64. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface SubscriptionInfo extends Required<SubscriptionSettings> {
  readonly id: string;
  /** projects/{project}/subscriptions/{id} */
  readonly name: string;
  /** The topic's full name. */
  readonly topic: string;
  readonly incarnation: number;
  readonly createTime: Date | undefined;
}

/** How far behind a subscription is. Totals are counters that begin at 0 whenever a broker takes over. */
export interface Backlog {
  /** Full names. */
  readonly subscription: string;
  readonly topic: string;
  /** Messages that are appended and not settled, outstanding ones included. */
  readonly messages: number;
  readonly bytes: number;
  readonly outstandingMessages: number;
  /** Undefined without a backlog. */
  readonly oldestUnackedAgeMs: number | undefined;
  /** How many streams are open. */
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly deliveredTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  readonly expiredByRetentionTotal: number;
  readonly measureTime: Date | undefined;
  /** How many of the consumers hold as much as they accept, and are not draining. */
  readonly consumersWithoutCredit: number;
  /** How many of the messages more consumers would not speed up; an estimate. */
  readonly blockedMessages: number;
  /** How many ordering keys have messages that are not settled. Undefined: not known, or without ordering. */
  readonly activeKeys: number | undefined;
}

export interface PartitionQuestion {
  /**
   * The client id of the consumer that asks: what others have is elsewhere. Without it, all that is
   * outstanding is elsewhere.
   */
  readonly clientId?: string;
  /**
   * Offsets by partition: only messages before them are counted. Partitions beyond the list are counted to
   * their end. At most 1,024.
   */
  readonly beforeOffsets?: readonly number[];
}

/** How far behind one partition of a subscription is, as one of its consumers sees it. */
export interface PartitionBacklog {
  readonly partition: number;
  /** The offset that the next published message gets. */
  readonly endOffset: number;
  /** Messages before the offset that was given, or before the end, that are not settled. */
  readonly messages: number;
  /** How many of these are outstanding at other consumers, or wait for those. */
  readonly elsewhereMessages: number;
}

export interface DrainSettings {
  /** At most 1,000 together with peerAddresses. */
  readonly clientIds?: readonly string[];
  /** IP addresses without ports. */
  readonly peerAddresses?: readonly string[];
  /** How long they drain: 1,000 to 600,000; 0 ends it. */
  readonly ttlMs: number;
}

export interface DrainingConsumer {
  readonly clientId: string;
  readonly peerAddress: string;
  readonly streams: number;
  readonly outstandingMessages: number;
}

/** What draining consumers hold. */
export interface DrainReport {
  /** Those with the most outstanding messages first; at most 1,000. */
  readonly consumers: readonly DrainingConsumer[];
  /** Sums over all of them, listed or not. */
  readonly streams: number;
  readonly outstandingMessages: number;
}

/** One answer of checkStorage(): the first is about the store, each later one about a partition. */
export interface StorageReport {
  /** What is wrong with the store itself, each with what to do about it. */
  readonly conditions: readonly string[];
  readonly partition?: PartitionCheck;
}

export interface PartitionCheck {
  /** The topic's full name. */
  readonly topic: string;
  readonly partition: number;
  readonly headOffset: number;
  readonly endOffset: number;
  readonly damages: readonly StorageDamage[];
}

/** Messages from firstOffset to below endOffset that are not as they were written. */
export interface StorageDamage extends SkippedMessages {
  readonly reason: string;
  /** Whether they were given up: delivery passes them. */
  readonly skipped: boolean;
}

export interface SkippedMessages {
  readonly firstOffset: number;
  readonly endOffset: number;
}
