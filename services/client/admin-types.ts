// Topics, subscriptions and backlogs as plain data: what admin.ts takes and gives. Units are in the names.

/** What an acknowledged publish has survived (message.proto); default: the best that the broker's store has. */
export type Durability = 'default' | 'memory' | 'stored' | 'replicated' | 'fsync';

export interface TopicSettings {
  /** 1 to 1,024; default 4. Can only grow later. */
  readonly partitions?: number;
  /** 1 minute to 366 days; default 7 days. */
  readonly retentionMs?: number;
  /** At least 1 MiB; 0 (default): no limit. */
  readonly retentionBytesPerPartition?: number;
  /** Can't be changed later. */
  readonly durability?: Durability;
  /** With `replicated`: how many replicas have confirmed an acknowledged publish, 1 to 5; default 1. Can't be changed later. */
  readonly minReplicas?: number;
  /** At most 64. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface TopicInfo extends Required<TopicSettings> {
  /** Short name. */
  readonly id: string;
  /** projects/{project}/topics/{id} */
  readonly name: string;
  /** A new one each time a topic of this name is created. */
  readonly logEpoch: number;
  readonly createTime: Date | undefined;
}

export interface SubscriptionSettings {
  /** Length of a lease, 1 to 600; default 10. */
  readonly ackDeadlineSeconds?: number;
  /** Deliver the messages of an ordering key in order. Can't be changed later. */
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
  /** Full name. */
  readonly topic: string;
  readonly incarnation: number;
  readonly createTime: Date | undefined;
}

/** How far behind a subscription is. Totals are counters that begin at 0 whenever a broker takes over. */
export interface Backlog {
  /** Full names. */
  readonly subscription: string;
  readonly topic: string;
  /** Appended and not settled, outstanding ones included. */
  readonly messages: number;
  readonly bytes: number;
  readonly outstandingMessages: number;
  /** Undefined without backlog. */
  readonly oldestUnackedAgeMs: number | undefined;
  /** Open streams. */
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly deliveredTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  readonly expiredByRetentionTotal: number;
  readonly measureTime: Date | undefined;
  /** Of consumers: those that hold as much as they accept. */
  readonly consumersWithoutCredit: number;
  /** Of messages: those that more consumers would not speed up; an estimate. */
  readonly blockedMessages: number;
  /** Ordering keys with messages that are not settled. Undefined: not known, or without ordering. */
  readonly activeKeys: number | undefined;
}

export interface PartitionQuestion {
  /** Of the consumer that asks: what others have is elsewhere. Default: all that is outstanding is elsewhere. */
  readonly clientId?: string;
  /** By partition: only what lies before them is counted. Partitions beyond the list: to their end. At most 1,024. */
  readonly beforeOffsets?: readonly number[];
}

/** How far behind one partition of a subscription is, as one of its consumers sees it. */
export interface PartitionBacklog {
  readonly partition: number;
  /** What the next published message gets. */
  readonly endOffset: number;
  /** Before the offset that was given, or the end, and not settled. */
  readonly messages: number;
  /** Of these: outstanding at other consumers, or waiting for them. */
  readonly elsewhereMessages: number;
}

export interface DrainSettings {
  /** At most 1,000 together with peerAddresses. */
  readonly clientIds?: readonly string[];
  /** IP addresses without ports. */
  readonly peerAddresses?: readonly string[];
  /** 1,000 to 600,000; 0 ends it. */
  readonly ttlMs: number;
}

export interface DrainingConsumer {
  readonly clientId: string;
  readonly peerAddress: string;
  readonly streams: number;
  readonly outstandingMessages: number;
}

/** What consumers that drain hold. */
export interface DrainReport {
  /** Most outstanding first; at most 1,000. */
  readonly consumers: readonly DrainingConsumer[];
  /** Over all of them, listed or not. */
  readonly streams: number;
  readonly outstandingMessages: number;
}

/** What one answer of checkStorage() says: first of the store, then of each partition. */
export interface StorageReport {
  /** What is the matter with the store itself, with what to do about it. */
  readonly conditions: readonly string[];
  readonly partition?: PartitionCheck;
}

export interface PartitionCheck {
  /** The full name. */
  readonly topic: string;
  readonly partition: number;
  readonly headOffset: number;
  readonly endOffset: number;
  readonly damages: readonly StorageDamage[];
}

/** Messages from firstOffset to below endOffset that are not as they were written. */
export interface StorageDamage extends SkippedMessages {
  readonly reason: string;
  /** They were given up: delivery passes them. */
  readonly skipped: boolean;
}

export interface SkippedMessages {
  readonly firstOffset: number;
  readonly endOffset: number;
}
