// Members of a cluster without an engine: real keepers over memory-cluster.ts, and a host that only remembers
// what it was told. A ledger sees all hosts and notes whatever must not be: two that serve a partition with
// the newer claim not fencing the older, and two whose leases both hold.
import {
  type Assignment,
  isAssigned,
  type TopicPartitions,
  targetOf,
} from '../../services/broker/core/assignment.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import { ClusterPlaces } from '../../services/broker/engine/membership/cluster-places.ts';
import { eligibleMembers, type TopicSource } from '../../services/broker/engine/membership/coordinator.ts';
import type { MembershipKeeper } from '../../services/broker/engine/membership/membership-keeper.ts';
import type { OwnershipKeeper } from '../../services/broker/engine/membership/ownership-keeper.ts';
import type { ClusterRoutes } from '../../services/broker/engine/membership/routes.ts';
import type { HandedOver, PartitionHost } from '../../services/broker/engine/partition-host.ts';
import type { Claim } from '../../services/broker/ports/ownership-store.ts';
import { type MemberConnection, MemoryCluster } from './memory-cluster.ts';
import { seededRandom } from './random.ts';
import { VirtualClock } from './virtual-clock.ts';

export const CLUSTER = 'cluster-1';
export const LEASE_MS = 2_000;
/** How long a member has to hand a partition over. */
const HAND_OVER_MS = 5_000;

/** The topics that exist. Listeners hear of a change at once. */
export class Topics {
  list: TopicPartitions[];
  readonly #listeners = new Set<() => void>();

  constructor(list: readonly TopicPartitions[]) {
    this.list = [...list];
  }

  change(list: readonly TopicPartitions[]): void {
    this.list = [...list];
    for (const listener of this.#listeners) listener();
  }

  source(): TopicSource {
    return {
      topics: () => this.list,
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }
}

export class Ledger {
  readonly violations: string[] = [];
  /**
   * Pairs whose leases both held, the older claim fenced by its epoch: that does no harm, but has to be rare.
   */
  readonly overlaps: string[] = [];
  /** How long nobody served a partition, in milliseconds, each time its owner changed. */
  readonly gaps: number[] = [];
  readonly #serving = new Map<string, Map<FakeHost, number>>();
  readonly #endedMs = new Map<string, number>();
  readonly #clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  began(host: FakeHost, name: string, epoch: number): void {
    const serving = this.#serving.get(name) ?? new Map<FakeHost, number>();
    this.#serving.set(name, serving);
    for (const [other, otherEpoch] of serving) {
      if (other === host) continue;
      const both = `${other.memberId}@${otherEpoch} and ${host.memberId}@${epoch} serve ${name}`;
      if (epoch === otherEpoch) this.violations.push(`${both}: not fenced by epoch`);
      else if (host.leaseHolds() && other.awake && other.leaseHolds() && !host.mayForce())
        this.overlaps.push(both);
    }
    serving.set(host, epoch);
    const endedMs = this.#endedMs.get(name);
    if (endedMs !== undefined) this.gaps.push(this.#clock.monotonicMs() - endedMs);
    this.#endedMs.delete(name);
  }

  ended(host: FakeHost, name: string): void {
    if (this.#serving.get(name)?.delete(host)) this.#endedMs.set(name, this.#clock.monotonicMs());
  }

  serving(name: string): FakeHost[] {
    return [...(this.#serving.get(name)?.keys() ?? [])].filter(({ awake }) => awake);
  }
}

export class FakeHost implements PartitionHost {
  readonly memberId: string;
  /** The partitions that it serves, with the epoch of their claim. */
  readonly owned = new Map<string, { readonly id: PartitionId; readonly epoch: number }>();
  /** The notes that came with claims, in order. */
  readonly received: (string | undefined)[] = [];
  refusedWrites = 0;
  /** What own and handOver do first; tests change them. */
  beforeOwn: (id: PartitionId) => Promise<void> = async () => {};
  beforeHandOver: (id: PartitionId) => Promise<void> = async () => {};
  readonly #ledger: Ledger;
  readonly #connection: MemberConnection;
  readonly #membership: () => MembershipKeeper;
  readonly #forced: () => number;
  #forcedBefore = 0;
  #stale: (id: PartitionId) => void = () => {};
  #topicsChanged: () => void = () => {};
  readonly #topics: Topics;

  constructor(
    memberId: string,
    ledger: Ledger,
    connection: MemberConnection,
    membership: () => MembershipKeeper,
    forced: () => number,
    topics: Topics,
  ) {
    this.#topics = topics;
    topics.source().onChange(() => {
      for (const { id } of this.owned.values()) if (!this.knows(id)) this.#end(formatPartitionId(id));
      this.#topicsChanged();
    });
    this.memberId = memberId;
    this.#ledger = ledger;
    this.#connection = connection;
    this.#membership = membership;
    this.#forced = forced;
  }

  get awake(): boolean {
    return this.#connection.clock.running;
  }

  leaseHolds(): boolean {
    return this.#membership().holds;
  }

  /** Whether this member has taken something by force since the last question. */
  mayForce(): boolean {
    const forced = this.#forced() > this.#forcedBefore;
    this.#forcedBefore = this.#forced();
    return forced;
  }

  async own(id: PartitionId, claim: Claim): Promise<void> {
    const name = formatPartitionId(id);
    if (this.owned.has(name)) this.#ledger.violations.push(`${this.memberId} is to own ${name} twice`);
    await this.beforeOwn(id);
    this.received.push(claim.handOver && Buffer.from(claim.handOver).toString());
    this.owned.set(name, { id, epoch: claim.ownerEpoch });
    this.#ledger.began(this, name, claim.ownerEpoch);
  }

  async handOver(id: PartitionId): Promise<HandedOver> {
    const name = formatPartitionId(id);
    const owned = this.owned.get(name);
    if (owned === undefined) throw new BrokerError('FAILED_PRECONDITION', `${name} is not open`);
    await this.beforeHandOver(id);
    if (this.owned.get(name) !== owned) throw new BrokerError('ABORTED', `${name} was abandoned`);
    this.#end(name);
    return { ownerEpoch: owned.epoch, note: Buffer.from(`${name} from ${this.memberId}`) };
  }

  abandon(id: PartitionId): void {
    this.#end(formatPartitionId(id));
  }

  onStale(listener: (id: PartitionId) => void): void {
    this.#stale = listener;
  }

  knows({ logEpoch }: PartitionId): boolean {
    return this.#topics.list.some((topic) => topic.logEpoch === logEpoch);
  }

  onTopics(listener: () => void): void {
    this.#topicsChanged = listener;
  }

  /** Tries one fenced write to everything it serves. */
  async writeAll(): Promise<void> {
    await Promise.all([...this.owned.values()].map(({ id, epoch }) => this.#write(id, epoch)));
  }

  async #write(id: PartitionId, epoch: number): Promise<void> {
    try {
      await this.#connection.stores.log.trim(id, epoch, 0, 1);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      if (error.code !== 'ABORTED') return;
      this.refusedWrites += 1;
      if (this.owned.get(formatPartitionId(id))?.epoch !== epoch) return;
      this.#end(formatPartitionId(id));
      this.#stale(id);
    }
  }

  #end(name: string): void {
    this.owned.delete(name);
    this.#ledger.ended(this, name);
  }
}

export interface RigMember {
  readonly id: string;
  readonly name: string;
  readonly connection: MemberConnection;
  readonly membership: MembershipKeeper;
  readonly ownership: OwnershipKeeper;
  readonly routes: ClusterRoutes;
  readonly host: FakeHost;
  readonly logged: string[];
  /** Resolves when it is a member; rejects as MembershipKeeper.start does. */
  readonly started: Promise<void>;
}

export class KeeperRig {
  readonly clock = new VirtualClock();
  readonly cluster: MemoryCluster;
  readonly topics: Topics;
  readonly ledger = new Ledger(this.clock);
  /** The living members, by name. */
  readonly members = new Map<string, RigMember>();
  /** All members that ever were. */
  readonly all: RigMember[] = [];
  #starts = 0;

  constructor(topics: readonly TopicPartitions[], seed = 1) {
    this.cluster = new MemoryCluster(this.clock, seededRandom(seed));
    this.topics = new Topics(topics);
  }

  async open(...names: string[]): Promise<RigMember[]> {
    const initialized = this.cluster.memory.open('operator').membership.initialize(CLUSTER);
    await this.clock.settle();
    await initialized;
    return this.join(...names);
  }

  /** Starts members and runs until all of them have joined. */
  async join(...names: string[]): Promise<RigMember[]> {
    const members = names.map((name) => this.begin(name));
    await this.resolved(Promise.all(members.map(({ started }) => started)));
    return members;
  }

  /** Starts a member without waiting. `rate` is its clock's; `latencyMs` is one way. */
  begin(name: string, rate = 1, latencyMs = 0.2): RigMember {
    this.#starts += 1;
    const id = `${name}#${this.#starts}`;
    const connection = this.cluster.connect(id, rate);
    connection.faults.latencyMs = () => latencyMs;
    const { clock, stores } = connection;
    const logged: string[] = [];
    const log = (_fields: object, message: string): void => void logged.push(message);
    const host = new FakeHost(
      id,
      this.ledger,
      connection,
      () => places.membership,
      () => places.ownership.counts.forcedAcquisitions,
      this.topics,
    );
    const places: ClusterPlaces = new ClusterPlaces({
      stores,
      clock,
      logger: { info: log, warn: log, error: log },
      host,
      topics: this.topics.source(),
      identity: CLUSTER,
      self: {
        id,
        name,
        version: 'test',
        address: () => `${name}:7443`,
        load: () => ({ partitions: 0, consumers: 0, publishedPerSecond: 0, deliveredPerSecond: 0 }),
      },
      leaseMs: LEASE_MS,
      handOverMs: HAND_OVER_MS,
    });
    const { membership, ownership, routes } = places;
    ownership.start();
    const started = membership.start();
    // The rejection is for whoever waits.
    started.catch(() => {});
    const member = { id, name, connection, membership, ownership, routes, host, logged, started };
    this.members.set(name, member);
    this.all.push(member);
    return member;
  }

  /** Ends it as kill -9 does. */
  crash(member: RigMember): void {
    member.connection.clock.kill();
    this.members.delete(member.name);
  }

  /** An orderly stop. */
  async stop(member: RigMember, drainMs = 10_000): Promise<void> {
    await this.resolved(this.stopping(member, drainMs));
  }

  async stopping(member: RigMember, drainMs = 10_000): Promise<void> {
    await member.ownership.handOverAll(drainMs);
    await member.ownership.stop();
    await member.membership.stop();
    member.connection.clock.kill();
    if (this.members.get(member.name) === member) this.members.delete(member.name);
  }

  /** Runs virtual time until the promise has resolved or rejected. */
  async resolved<T>(promise: Promise<T>, limitMs = 60_000): Promise<T> {
    let settled = false;
    const end = (): void => {
      settled = true;
    };
    promise.then(end, end);
    await this.clock.runUntil(() => settled, limitMs);
    return promise;
  }

  get partitions(): PartitionId[] {
    return this.topics.list.flatMap(({ logEpoch, partitions }) =>
      Array.from({ length: partitions }, (_, partition) => ({ logEpoch, partition })),
    );
  }

  /** Whether every partition is served by exactly its target, and all members agree who that is. */
  get converged(): boolean {
    const members = [...this.members.values()];
    const [first] = members;
    if (first === undefined) return false;
    const living = [...this.members.keys()].sort().join();
    const version = first.membership.known.storedVersion;
    for (const { membership } of members) {
      const { view, known } = membership;
      if (!membership.holds || known.storedVersion !== version || view === undefined) return false;
      if (view.members.map(({ name }) => name).join() !== living) return false;
      if (eligibleMembers(view).join() !== known.assignment.members.join()) return false;
    }
    const { assignment } = first.membership.known;
    return this.partitions.every((id) => {
      if (!isAssigned(assignment, id)) return false;
      const serving = this.ledger.serving(formatPartitionId(id));
      const target = this.members.get(targetOf(assignment, id)?.name ?? '');
      return serving.length === 1 && serving[0] === target?.host;
    });
  }

  /** Runs until the cluster has converged. Resolves with how long that took, in milliseconds. */
  async converge(limitMs = 30_000): Promise<number> {
    const startMs = this.clock.monotonicMs();
    await this.clock.runUntil(() => this.converged, limitMs);
    return this.clock.monotonicMs() - startMs;
  }

  get assignment(): Assignment {
    const [member] = this.members.values();
    if (member === undefined) throw new Error('nobody lives');
    return member.membership.known.assignment;
  }

  sum(count: 'acquisitions' | 'forcedAcquisitions' | 'handOvers' | 'abandons' | 'staleClaims'): number {
    return this.all.reduce((sum, { ownership }) => sum + ownership.counts[count], 0);
  }
}
