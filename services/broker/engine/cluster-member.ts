// What makes a broker a member of a cluster, put together in one place, of ports alone.
//
//   membership ─assignment─▶ ownership ─own, hand over─▶ host: the broker's partitions
//        ├──────▶ cut-off
//        └──────▶ routes ─▶ relay ─links─▶ owners elsewhere; owner links: relays elsewhere
//
// Invariant: nothing is served before membership has started, and membership is the last to stop.
import { type Clock, sleep } from '../ports/clock.ts';
import type { MembershipStore } from '../ports/membership-store.ts';
import type { OwnershipStore } from '../ports/ownership-store.ts';
import type { PeerConnector, PeerLinkHandler, PeerLinkServer } from '../ports/peer.ts';
import type { Signals } from '../ports/signals.ts';
import type { Broker } from './broker.ts';
import { DefinitionWatcher } from './definitions/definition-watcher.ts';
import type { Definitions } from './definitions/definitions.ts';
import type { BacklogReporter } from './delivery/backlog-types.ts';
import type { ConsumerDrain } from './delivery/draining-consumers.ts';
import { ClusterLinks } from './links/cluster-links.ts';
import { CursorTeller } from './links/relay/cursor-teller.ts';
import { ClusterPlaces } from './membership/cluster-places.ts';
import type { TopicSource } from './membership/coordinator.ts';
import { CutOffWatch } from './membership/cut-off.ts';
import { memberLoad } from './membership/member-load.ts';
import type { MembershipKeeper, SelfMember } from './membership/membership-keeper.ts';
import type { OwnershipKeeper } from './membership/ownership-keeper.ts';
import type { Routes } from './membership/routes.ts';
import type { PartitionHost } from './partition-host.ts';

export interface ClusterMemberOptions {
  readonly stores: {
    readonly membership: MembershipStore;
    readonly ownership: OwnershipStore;
    readonly signals: Signals;
  };
  readonly connector: PeerConnector;
  readonly clock: Clock;
  readonly broker: Broker;
  readonly definitions: Definitions;
  /** The broker's partitions, or what stands before them. */
  readonly host: PartitionHost;
  /** The cluster's, which the store holds. */
  readonly identity: string;
  readonly self: Omit<SelfMember, 'load'>;
  readonly leaseMs: number;
  /** How long a partition that is to move has for its hand-over. */
  readonly handOverMs: number;
  readonly maxConsumersPerSubscription: number;
  /** The store has been out of reach for so long that clients should go to other brokers; or it is back. */
  readonly onCutOff: (isCutOff: boolean) => void;
}

/**
 * What is on its way on a link when a partition moves arrives within this, on any network that brokers should
 * share.
 */
const LINGER_MS = 200;

export class ClusterMember {
  readonly membership: MembershipKeeper;
  readonly ownership: OwnershipKeeper;
  readonly routes: Routes;
  /** Of the whole cluster, as are the consumers that drain. */
  readonly backlog: BacklogReporter;
  readonly draining: ConsumerDrain;
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #cutOff: CutOffWatch;
  readonly #links: ClusterLinks;
  readonly #watcher: DefinitionWatcher;
  readonly #teller: CursorTeller;

  constructor(options: ClusterMemberOptions) {
    const { stores, clock, broker, definitions, leaseMs, handOverMs } = options;
    const { context } = broker;
    const { logger } = context;
    this.#broker = broker;
    this.#clock = clock;
    const places: ClusterPlaces = new ClusterPlaces({
      stores,
      clock,
      logger,
      host: options.host,
      topics: topicSource(definitions),
      identity: options.identity,
      self: withLoad(
        options.self,
        memberLoad(broker.stats, () => places.ownership.owned, clock),
      ),
      leaseMs,
      handOverMs,
    });
    const { membership, routes } = places;
    this.membership = membership;
    this.ownership = places.ownership;
    this.routes = routes;
    this.#cutOff = new CutOffWatch({ membership, clock, afterMs: leaseMs, onChange: options.onCutOff });
    const topics = () => definitions.topics();
    const { connector, maxConsumersPerSubscription } = options;
    this.#links = new ClusterLinks({ connector, routes, host: broker, topics, maxConsumersPerSubscription });
    this.backlog = this.#links.backlog;
    this.draining = this.#links.draining;
    const { remembered } = broker.partitions;
    this.#teller = new CursorTeller({ remembered, routes, remote: this.#links.relay, context });
    this.#watcher = new DefinitionWatcher({ definitions, signals: stores.signals, clock, logger });
  }

  /** Another broker has opened a link, to be told of what arrives on it. */
  accept(link: PeerLinkServer, relayId: string): PeerLinkHandler {
    return this.#links.owner.accept(link, relayId);
  }

  /**
   * Joins, takes up the definitions and begins to take partitions. Others must be able to reach this broker
   * already.
   */
  async start(): Promise<void> {
    await this.membership.start();
    await this.#broker.start(this.#links.relay);
    this.#watcher.start();
    this.ownership.start();
    this.#teller.start();
  }

  /**
   * Gives all partitions away, at the latest after timeoutMs, and then ends the links of other brokers, once
   * what they sent to former partitions of this one has been sent back. Streams of clients go on meanwhile,
   * by way of the new owners.
   */
  async handOver(timeoutMs: number): Promise<void> {
    await this.ownership.handOverAll(timeoutMs);
    await sleep(this.#clock, LINGER_MS);
    this.#links.owner.close();
  }

  /** Leaves the cluster; what was not handed over is abandoned. Streams must have ended. Idempotent. */
  async stop(): Promise<void> {
    this.#cutOff.stop();
    await this.#teller.stop();
    await this.ownership.stop();
    await this.#watcher.stop();
    this.#links.owner.close();
    await this.membership.stop();
  }
}

/** Not a copy: the name may be known only later. */
function withLoad(self: Omit<SelfMember, 'load'>, load: SelfMember['load']): SelfMember {
  return {
    id: self.id,
    get name() {
      return self.name;
    },
    version: self.version,
    address: self.address,
    load,
  };
}

function topicSource(definitions: Definitions): TopicSource {
  return {
    *topics() {
      for (const { logEpoch, partitions } of definitions.topics()) yield { logEpoch, partitions };
    },
    onChange: (listener) =>
      definitions.onChange((change) => {
        if ('topic' in change) listener();
      }),
  };
}
