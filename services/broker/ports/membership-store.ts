// Which brokers are alive, who coordinates them, and who should own which partition.
//
// Leases are counted by the store's clock only; a member counts its own from before it asked, by its monotonic clock, so
// that it always stops before the store lets others have it. A store's clock that is set back lets nobody live longer
// for that. All of it concerns one cluster, which has an identity: a store
// that comes back empty or as another cluster is noticed by the next heartbeat.

export interface Member {
  /** New with each start of the process. */
  readonly id: string;
  /** The same over restarts (host name, pod name): the assignment goes by it. */
  readonly name: string;
  /** host:port at which clients and other brokers reach it. */
  readonly address: string;
  /** It wants no partitions any more: about to stop, or drained by an operator. */
  readonly draining: boolean;
  readonly version: string;
  /** For people: partitions owned, deliveries and publishes in the last interval, bytes in memory. */
  readonly load: MemberLoad;
}

export interface MemberLoad {
  readonly partitions: number;
  readonly consumers: number;
  readonly publishedPerSecond: number;
  readonly deliveredPerSecond: number;
}

export interface ClusterView {
  /** Those whose lease holds, by name and then id. */
  readonly members: readonly Member[];
  /** The member that coordinates, and the term of its lease: greater with each new holder. */
  readonly coordinator: { readonly id: string; readonly term: number };
  /** Of the newest assignment; 0: none yet. */
  readonly assignmentVersion: number;
  /** Names of members that an operator has asked to drain. */
  readonly drained: readonly string[];
  /** The member that asks had a lease before, and another one has seen it ended: its partitions may be others' by now. */
  readonly missed: boolean;
}

export interface StoredAssignment {
  readonly version: number;
  /** Opaque here (core/assignment.ts). */
  readonly body: string;
}

export interface MembershipStore {
  /** The cluster's identity; undefined: the store holds no cluster. */
  identity(): Promise<string | undefined>;

  /** Gives an empty store this identity and returns what it has then: someone else's if that was first. Durable. */
  initialize(identity: string): Promise<string>;

  /**
   * Registers the member or renews its lease, and takes or renews the coordinator's lease if that is free or its own (never
   * while `draining`). Atomic. A member that finds the lease gone that it has had before gives one more lease to all others
   * whose leases have ended and that nobody has missed yet: after a store was away, or went back, all are alike. FAILED_PRECONDITION: the store does not hold the cluster `identity`. ABORTED: a living
   * member with another id has this name.
   */
  heartbeat(identity: string, member: Member, leaseMs: number): Promise<ClusterView>;

  /** Ends the member's leases at once. */
  leave(memberId: string): Promise<void>;

  assignment(): Promise<StoredAssignment>;

  /**
   * Replaces the assignment and returns its new version: one that no other assignment has had. ABORTED: the member does not coordinate in this term any more,
   * or the assignment is not at expectedVersion.
   */
  assign(memberId: string, term: number, expectedVersion: number, body: string): Promise<number>;

  /** Asks the member of that name to give its partitions away (or no longer). Kept until it is revoked. */
  setDrained(name: string, drained: boolean): Promise<void>;
}
