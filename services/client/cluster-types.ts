// A cluster of brokers as plain data. Units are in the names.

export interface ClusterInfo {
  /** Given once, when the cluster's store was initialized; empty: a broker on the embedded store, alone. */
  readonly clusterId: string;
  /** The living brokers, by name. */
  readonly brokers: readonly BrokerInfo[];
  /** The name of the broker that computes the assignment; empty: none just now. */
  readonly coordinator: string;
  readonly coordinatorTerm: number;
  readonly assignmentVersion: number;
  /** Sorted by topic, then partition; empty unless asked for. */
  readonly partitions: readonly PartitionInfo[];
  /** The newest first, at most 100, as the broker that answered saw them. */
  readonly recentMoves: readonly PartitionMoveInfo[];
}

export interface BrokerInfo {
  /** The same over restarts. */
  readonly name: string;
  /** New with each start. */
  readonly id: string;
  /** host:port */
  readonly address: string;
  readonly version: string;
  /** Whether it gives its partitions away. */
  readonly draining: boolean;
  readonly assignedPartitions: number;
  readonly ownedPartitions: number;
  readonly consumers: number;
  readonly publishedPerSecond: number;
  readonly deliveredPerSecond: number;
}

export interface PartitionInfo {
  /** The topic's full name. */
  readonly topic: string;
  readonly partition: number;
  /** The name of the broker that should own it; empty: none is alive. */
  readonly assigned: string;
  /** The name of the broker that owns it; empty: none. */
  readonly owner: string;
  readonly ownerEpoch: number;
}

export interface PartitionMoveInfo {
  /** The topic's full name. */
  readonly topic: string;
  readonly partition: number;
  /** Names of brokers; empty: none. */
  readonly from: string;
  readonly to: string;
  readonly time: Date | undefined;
  readonly reason: string;
}
