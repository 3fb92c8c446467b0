// Which brokers are alive, who coordinates them, and who should own which partition.
//
// The store counts leases by its own clock only. A member counts its own lease from before it asked, by its
// monotonic clock, so that it always stops before the store lets others have what it had. A store's clock
// that is set back makes no lease longer. A store holds one cluster, which has an identity: one that comes
// back empty, or with another cluster, is noticed by the next heartbeat.

export interface Member {
  /** New with each start of the process. */
  readonly id: string;
  /** The same over restarts (host name, pod name); no two living members share it. Assignments go by it. */
  readonly name: string;
  /** host:port at which clients and other brokers reach it. */
  readonly address: string;
  /** It wants no partitions any more, because it is about to stop. */
  readonly draining: boolean;
  readonly version: string;
  /** What it has to do, for people. */
  readonly load: MemberLoad;
}

export interface MemberLoad {
  readonly partitions: number;
  readonly consumers: number;
  readonly publishedPerSecond: number;
  readonly deliveredPerSecond: number;
}

export interface ClusterView {
  /** The members whose lease holds, in the order of their names. */
  readonly members: readonly Member[];
  /** The member that coordinates (empty: none), and the term of its lease, greater with each new holder. */
  readonly coordinator: { readonly id: string; readonly term: number };
  /** The version of the newest assignment; 0: none yet. */
  readonly assignmentVersion: number;
  /** Names of members that an operator has asked to drain. */
  readonly drained: readonly string[];
  /** The member that asks had a lease, and another saw it ended: its partitions may be others' by now. */
  readonly missed: boolean;
}

export interface StoredAssignment {
  readonly version: number;
  /** Opaque here (core/assignment.ts). */
  readonly body: string;
}

export interface MembershipStore {
  /** The identity of the cluster that the store holds; undefined: it holds none. */
  identity(): Promise<string | undefined>;

  /** Gives an empty store this identity. Returns the one it then has: another if that was first. Durable. */
  initialize(identity: string): Promise<string>;

  /**
   * Registers the member or renews its lease, and takes or renews the coordinator's lease if that is free or
   * its own; a member that is `draining` gives it up instead. Atomic. A member that had a lease and finds it
   * ended renews those of the others, too: all that have ended and that no heartbeat has cleared away yet,
   * for one lease more. For a store that was out of reach, or went back, was so for all of them.
   * FAILED_PRECONDITION: the store does not hold the cluster `identity`. ABORTED: a living member with
   * another id has this name.
   */
  heartbeat(identity: string, member: Member, leaseMs: number): Promise<ClusterView>;

  /** Ends the member's leases at once. */
  leave(memberId: string): Promise<void>;

  assignment(): Promise<StoredAssignment>;

  /**
   * Replaces the assignment and returns its new version, one that no other assignment has had. ABORTED: the
   * member does not coordinate in this term any more, or the assignment is not at expectedVersion.
   */
  assign(memberId: string, term: number, expectedVersion: number, body: string): Promise<number>;

  /** Asks the member of that name to give its partitions away, or revokes that. Kept until it is revoked. */
  setDrained(name: string, drained: boolean): Promise<void>;
}
