// The membership port in memory, for tests and simulations of clusters. `nowMs` is the store's clock, by
// which leases end.
import { BrokerError } from '../../services/broker/core/errors.ts';
import type {
  ClusterView,
  Member,
  MembershipStore,
  StoredAssignment,
} from '../../services/broker/ports/membership-store.ts';
import type { Take } from './memory-store.ts';

interface Lease {
  readonly member: Member;
  readonly untilMs: number;
}

/** Versions left out by a store that went back: it may have given those numbers before. */
const SKIPPED_VERSIONS = 1_000;
const NOBODY = { id: '', term: 0, untilMs: 0 };

export class MemoryMembership implements MembershipStore {
  readonly #take: Take;
  readonly #nowMs: () => number;
  #identity: string | undefined;
  /** Leases by name. */
  readonly #leases = new Map<string, Lease>();
  #coordinator = NOBODY;
  /** The store's time at the last heartbeat. */
  #heardMs = 0;
  #assignment: StoredAssignment = { version: 0, body: '' };
  /** The step to the next version. */
  #step = 1;
  #returns = 0;
  readonly #drained = new Set<string>();
  /** Ids of those who have had a lease. */
  readonly #joined = new Set<string>();

  constructor(take: Take, nowMs: () => number) {
    this.#take = take;
    this.#nowMs = nowMs;
  }

  identity(): Promise<string | undefined> {
    return this.#take(() => this.#identity);
  }

  initialize(identity: string): Promise<string> {
    return this.#take(() => {
      this.#identity ??= identity;
      return this.#identity;
    });
  }

  heartbeat(identity: string, member: Member, leaseMs: number): Promise<ClusterView> {
    return this.#take(() => {
      if (this.#identity !== identity) {
        const found = this.#identity === undefined ? 'no cluster' : `the cluster ${this.#identity}`;
        throw new BrokerError('FAILED_PRECONDITION', `the store holds ${found}, not ${identity}`);
      }
      const nowMs = this.#nowMs();
      this.#setBack(this.#heardMs - nowMs);
      this.#heardMs = nowMs;
      const own = this.#leases.get(member.name);
      const missed = this.#joined.has(member.id) && own?.member.id !== member.id;
      const held = own?.member.id === member.id && own.untilMs > nowMs;
      for (const [name, { member: former, untilMs }] of this.#leases) {
        if (untilMs > nowMs) continue;
        if (held || !this.#joined.has(member.id) || name === member.name) this.#leases.delete(name);
        else this.#leases.set(name, { member: former, untilMs: nowMs + leaseMs });
      }
      const namesake = this.#leases.get(member.name);
      if (namesake && namesake.member.id !== member.id) {
        throw new BrokerError(
          'ABORTED',
          `the member ${namesake.member.id} is alive under the name ${member.name}`,
        );
      }
      this.#leases.set(member.name, { member, untilMs: nowMs + leaseMs });
      this.#joined.add(member.id);
      this.#coordinate(member, nowMs, leaseMs);
      return this.#view(nowMs, missed);
    });
  }

  leave(memberId: string): Promise<void> {
    return this.#take(() => {
      this.#joined.delete(memberId);
      for (const [name, { member }] of this.#leases) if (member.id === memberId) this.#leases.delete(name);
      if (this.#coordinator.id === memberId) this.#coordinator = { ...this.#coordinator, id: '', untilMs: 0 };
    });
  }

  assignment(): Promise<StoredAssignment> {
    return this.#take(() => this.#assignment);
  }

  assign(memberId: string, term: number, expectedVersion: number, body: string): Promise<number> {
    return this.#take(() => {
      const { id, term: current, untilMs } = this.#coordinator;
      if (id !== memberId || current !== term || untilMs <= this.#nowMs()) {
        throw new BrokerError('ABORTED', `${memberId} does not coordinate in term ${term}`);
      }
      const { version } = this.#assignment;
      if (version !== expectedVersion) {
        throw new BrokerError('ABORTED', `the assignment is at version ${version}, not ${expectedVersion}`);
      }
      this.#assignment = { version: version + this.#step, body };
      this.#step = 1;
      return this.#assignment.version;
    });
  }

  setDrained(name: string, drained: boolean): Promise<void> {
    return this.#take(() => {
      if (drained) this.#drained.add(name);
      else this.#drained.delete(name);
    });
  }

  /** Returns a function that brings leases, coordinator and assignment back as they are now. */
  checkpoint(): () => void {
    const leases = new Map(this.#leases);
    const coordinator = this.#coordinator;
    const assignment = this.#assignment;
    const heardMs = this.#heardMs;
    return () => {
      this.#leases.clear();
      for (const [name, lease] of leases) this.#leases.set(name, lease);
      this.#coordinator = coordinator;
      this.#assignment = assignment;
      this.#heardMs = heardMs;
      this.#returns += 1;
      this.#step = SKIPPED_VERSIONS * this.#returns;
    };
  }

  /** If the clock went back, leases go back with it, or the dead would live so much longer. */
  #setBack(byMs: number): void {
    if (byMs <= 0) return;
    for (const [name, { member, untilMs }] of this.#leases)
      this.#leases.set(name, { member, untilMs: untilMs - byMs });
    this.#coordinator = { ...this.#coordinator, untilMs: this.#coordinator.untilMs - byMs };
  }

  #coordinate(member: Member, nowMs: number, leaseMs: number): void {
    const { id, term, untilMs } = this.#coordinator;
    const own = id === member.id;
    if (member.draining) {
      if (own) this.#coordinator = { id: '', term, untilMs: 0 };
    } else if (own && untilMs > nowMs) {
      this.#coordinator = { id, term, untilMs: nowMs + leaseMs };
    } else if (untilMs <= nowMs) {
      this.#coordinator = { id: member.id, term: term + 1, untilMs: nowMs + leaseMs };
    }
  }

  #view(nowMs: number, missed: boolean): ClusterView {
    const { id, term, untilMs } = this.#coordinator;
    return {
      members: [...this.#leases.values()]
        .map(({ member }) => member)
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      coordinator: { id: untilMs > nowMs ? id : '', term },
      assignmentVersion: this.#assignment.version,
      drained: [...this.#drained].sort(),
      missed,
    };
  }
}
