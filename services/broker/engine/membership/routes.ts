// Where each partition should be: at the member that the assignment names, if that is alive. Whether that
// member owns the partition already is not known here.
import { type Assignment, targetOf } from '../../core/assignment.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Member } from '../../ports/membership-store.ts';
import type { MembershipKeeper } from './membership-keeper.ts';

export interface Route {
  readonly memberId: string;
  readonly name: string;
  /** host:port */
  readonly address: string;
  /**
   * The version of the assignment in which the partition came to this member, greater with each move; for a
   * broker that is alone its ownerEpoch.
   */
  readonly version: number;
}

export interface Routes {
  /** This broker's member id. */
  readonly selfId: string;
  /** Where the partition should be. Undefined: it is assigned to nobody, or to a member that is not alive. */
  targetOf(id: PartitionId): Route | undefined;
  /** Routes to the living members, this one included. They belong to no partition, so their version is 0. */
  members(): Route[];
  /** Calls back after every change that may concern any partition. Returns a function that ends it. */
  onChange(listener: () => void): () => void;
}

/** The routes of a cluster. They stay what they were while this member is cut off from the store. */
export class ClusterRoutes implements Routes {
  readonly selfId: string;
  readonly #membership: MembershipKeeper;
  readonly #listeners = new Set<() => void>();
  #assignment: Assignment;
  #living = new Map<string, Member>();
  /**
   * Routes by logEpoch and partition, made when first asked for and then kept, so that a publish allocates
   * nothing.
   */
  #routes = new Map<number, (Route | undefined)[]>();

  constructor(membership: MembershipKeeper) {
    this.#membership = membership;
    this.selfId = membership.self.id;
    this.#assignment = membership.known.assignment;
    this.#take();
    membership.listen({
      changed: () => {
        this.#take();
        for (const listener of [...this.#listeners]) listener();
      },
    });
  }

  targetOf({ logEpoch, partition }: PartitionId): Route | undefined {
    let routes = this.#routes.get(logEpoch);
    if (routes === undefined) {
      const count = this.#assignment.topics.get(logEpoch)?.members.length;
      if (count === undefined) return undefined;
      routes = Array.from({ length: count }, (_, index) => this.#find({ logEpoch, partition: index }));
      this.#routes.set(logEpoch, routes);
    }
    return routes[partition];
  }

  members(): Route[] {
    return [...this.#living.values()].map(({ id, name, address }) => ({
      memberId: id,
      name,
      address,
      version: 0,
    }));
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #take(): void {
    this.#assignment = this.#membership.known.assignment;
    this.#living = new Map(this.#membership.view?.members.map((member) => [member.name, member]));
    this.#routes = new Map();
  }

  #find(id: PartitionId): Route | undefined {
    const target = targetOf(this.#assignment, id);
    const member = target && this.#living.get(target.name);
    if (target === undefined || member === undefined) return undefined;
    return { memberId: member.id, name: member.name, address: member.address, version: target.version };
  }
}

export interface SoleRoutesOptions {
  readonly selfId: string;
  /** Asked at each call, as is the address: the port is known only after binding. */
  readonly name: () => string;
  readonly address: () => string;
  /** 0 while the partition is not owned (yet). */
  readonly ownerEpochOf: (id: PartitionId) => number;
}

/** The routes of a broker that is alone: everything is its own. */
export function soleRoutes({ selfId, name, address, ownerEpochOf }: SoleRoutesOptions): Routes {
  return {
    selfId,
    targetOf(id) {
      const version = ownerEpochOf(id);
      return version === 0 ? undefined : { memberId: selfId, name: name(), address: address(), version };
    },
    members: () => [{ memberId: selfId, name: name(), address: address(), version: 0 }],
    onChange: () => () => {},
  };
}
