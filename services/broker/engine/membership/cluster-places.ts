// What a member knows of the cluster, and does about its own part of it, put together: the lease and the
// assignment, the partitions that it takes and hands over, and where all others are.
//
// Invariant: ownership and routes go by one membership.
import type { Clock } from '../../ports/clock.ts';
import type { MembershipStore } from '../../ports/membership-store.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import type { EngineLogger } from '../context.ts';
import type { PartitionHost } from '../partition-host.ts';
import type { TopicSource } from './coordinator.ts';
import { MembershipKeeper, type SelfMember } from './membership-keeper.ts';
import { OwnershipKeeper } from './ownership-keeper.ts';
import { ClusterRoutes } from './routes.ts';

export interface ClusterPlacesOptions {
  readonly stores: {
    readonly membership: MembershipStore;
    readonly ownership: OwnershipStore;
    readonly signals: Signals;
  };
  readonly clock: Clock;
  readonly logger: EngineLogger;
  /** The broker's partitions, or what stands before them. */
  readonly host: PartitionHost;
  readonly topics: TopicSource;
  /** The cluster's, which the store holds. */
  readonly identity: string;
  readonly self: SelfMember;
  readonly leaseMs: number;
  /** How long a partition that is to move has for its hand-over. */
  readonly handOverMs: number;
}

export class ClusterPlaces {
  readonly membership: MembershipKeeper;
  readonly ownership: OwnershipKeeper;
  readonly routes: ClusterRoutes;

  constructor(options: ClusterPlacesOptions) {
    const { stores, clock, logger, host, topics, identity, self, leaseMs, handOverMs } = options;
    const { signals } = stores;
    const store = stores.membership;
    this.membership = new MembershipKeeper({
      store,
      signals,
      clock,
      logger,
      identity,
      self,
      topics,
      leaseMs,
    });
    const { membership } = this;
    this.ownership = new OwnershipKeeper({
      store: stores.ownership,
      signals,
      host,
      membership,
      clock,
      logger,
      handOverMs,
    });
    this.routes = new ClusterRoutes(membership);
  }
}
