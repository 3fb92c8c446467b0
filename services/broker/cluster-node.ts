// What makes a broker a member of a cluster: composed here, started and stopped by main.ts.
//
//   membership-keeper ─assignment─▶ ownership-keeper ─own, hand over─▶ Broker.partitions
//          └──────────▶ routes ──▶ relay ─links─▶ other brokers' peer-server;  ours answers theirs
//   definition-watcher ─refresh─▶ definitions        cursor-teller: what former owners know, by way of the relay
import { randomUUID } from 'node:crypto';
import { clusterService } from './adapters/grpc/cluster.ts';
import type { Authorize } from './adapters/grpc/identity.ts';
import { peerService } from './adapters/grpc/peer.ts';
import { peerConnector } from './adapters/grpc/peer-connector.ts';
import type { GrpcService, RpcBorder } from './adapters/grpc/rpc.ts';
import type { ClusterFigures } from './adapters/otel/metric-catalog.ts';
import type { RedisStore } from './adapters/redis/store.ts';
import { principalMatcher, type StoreConfig } from './config.ts';
import { BrokerError } from './core/errors.ts';
import type { Broker } from './engine/broker.ts';
import { DefinitionWatcher } from './engine/definitions/definition-watcher.ts';
import type { Definitions } from './engine/definitions/definitions.ts';
import type { BacklogReporter } from './engine/delivery/backlog-types.ts';
import type { ConsumerDrain } from './engine/delivery/draining-consumers.ts';
import { OwnerLinks } from './engine/links/owner/owner-links.ts';
import { ClusterBacklog } from './engine/links/relay/cluster-backlog.ts';
import { ClusterDrain } from './engine/links/relay/cluster-drain.ts';
import { CursorTeller } from './engine/links/relay/cursor-teller.ts';
import { Relay } from './engine/links/relay/relay.ts';
import type { TopicSource } from './engine/membership/coordinator.ts';
import { CutOffWatch } from './engine/membership/cut-off.ts';
import { memberLoad } from './engine/membership/member-load.ts';
import { MembershipKeeper } from './engine/membership/membership-keeper.ts';
import { OwnershipKeeper } from './engine/membership/ownership-keeper.ts';
import { ClusterRoutes, type Routes } from './engine/membership/routes.ts';
import { MAX_CONSUMERS_PER_SUBSCRIPTION } from './limits.ts';
import type { Log } from './log.ts';
import type { Clock } from './ports/clock.ts';
import type { MembershipStore } from './ports/membership-store.ts';

export type SharedStoreConfig = Extract<StoreConfig, { kind: 'redis' }>;

export interface ClusterNodeOptions {
  readonly config: SharedStoreConfig;
  readonly store: RedisStore;
  /** From joinedCluster. */
  readonly identity: string;
  readonly memberId: string;
  /** Asked once the server listens, at the earliest. */
  readonly name: () => string;
  /** host:port at which clients and other brokers reach this one; as name. */
  readonly address: () => string;
  readonly version: string;
  /** Of this broker's certificate. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly broker: Broker;
  readonly definitions: Definitions;
  readonly clock: Clock;
  readonly log: Log;
  /** The store has been out of reach for so long that clients should go to other brokers; or it is back. */
  readonly onCutOff: (isCutOff: boolean) => void;
}

/**
 * The identity of the cluster that the store holds; with `initialize` an empty store is given one. FAILED_PRECONDITION: the
 * store is empty, or holds another cluster than the configured one.
 */
export async function joinedCluster(
  store: Pick<MembershipStore, 'identity' | 'initialize'>,
  { url, initialize, clusterId }: SharedStoreConfig,
): Promise<string> {
  let identity = await store.identity();
  if (identity === undefined && initialize) identity = await store.initialize(clusterId ?? randomUUID());
  if (identity === undefined) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${url} holds no Fanfare cluster. If it should, it was emptied or is the wrong one: restore it, or correct --store. To make a new cluster of it, start one broker with --init-cluster`,
    );
  }
  if (clusterId === undefined || clusterId === identity) return identity;
  throw new BrokerError(
    'FAILED_PRECONDITION',
    `${url} holds the cluster ${identity}, and --cluster-id is ${clusterId}: correct one of the two`,
  );
}

export class ClusterNode {
  readonly routes: Routes;
  readonly backlog: BacklogReporter;
  readonly draining: ConsumerDrain;
  readonly #options: ClusterNodeOptions;
  readonly #membership: MembershipKeeper;
  readonly #ownership: OwnershipKeeper;
  readonly #relay: Relay;
  readonly #peers: OwnerLinks;
  readonly #watcher: DefinitionWatcher;
  readonly #teller: CursorTeller;
  readonly #cutOff: CutOffWatch;

  constructor(options: ClusterNodeOptions) {
    const { config, store, identity, memberId, broker, definitions, clock, log } = options;
    this.#options = options;
    const { context } = broker;
    this.#membership = new MembershipKeeper({
      store: store.membership,
      signals: store.signals,
      clock,
      logger: log,
      identity,
      leaseMs: config.leaseMs,
      topics: topicSource(definitions),
      self: {
        id: memberId,
        get name() {
          return options.name();
        },
        address: options.address,
        version: options.version,
        load: memberLoad(broker.stats, () => this.#ownership.owned, clock),
      },
    });
    this.#cutOff = new CutOffWatch({
      membership: this.#membership,
      clock,
      afterMs: config.leaseMs,
      onChange: options.onCutOff,
    });
    this.#ownership = new OwnershipKeeper({
      store: store.ownership,
      signals: store.signals,
      host: broker.partitions,
      membership: this.#membership,
      clock,
      logger: log,
      handOverMs: config.handOverMs,
    });
    this.routes = new ClusterRoutes(this.#membership);
    const topics = () => definitions.topics();
    this.#relay = new Relay({
      connector: peerConnector({
        selfId: memberId,
        clock,
        tls: options.tls,
        isBroker: principalMatcher(config.brokerPrincipals),
      }),
      routes: this.routes,
      host: broker,
      context,
      topics,
    });
    this.#teller = new CursorTeller({
      remembered: broker.partitions.remembered,
      routes: this.routes,
      remote: this.#relay,
      context,
    });
    this.#peers = new OwnerLinks({
      host: broker,
      routes: this.routes,
      context,
      remote: this.#relay,
      backlog: broker.backlog,
      topics,
      maxConsumersPerSubscription: MAX_CONSUMERS_PER_SUBSCRIPTION,
    });
    this.backlog = new ClusterBacklog(broker.backlog, this.#relay);
    this.draining = new ClusterDrain(broker.draining, this.#relay);
    this.#watcher = new DefinitionWatcher({
      definitions,
      signals: store.signals,
      clock,
      logger: log,
    });
  }

  /** What it serves beside the services of every broker. */
  services(border: RpcBorder, authorize: Authorize): GrpcService[] {
    const { config, memberId, clock, log, store, definitions } = this.#options;
    return [
      peerService({
        border,
        clock,
        selfId: memberId,
        isBroker: principalMatcher(config.brokerPrincipals),
        onRefused: (caller) =>
          log.warn({ audit: { ...caller, verb: 'link', result: 'PERMISSION_DENIED' } }, 'audit'),
        accept: (link, relay) => this.#peers.accept(link, relay),
      }),
      clusterService({
        border,
        authorize,
        audit: (record) => log.info({ audit: record }, 'audit'),
        cluster: this.#membership,
        routes: this.routes,
        ownership: store.ownership,
        definitions,
      }),
    ];
  }

  /** Joins, takes up the definitions and begins to take partitions. The server must listen already: others come at once. */
  async start(): Promise<void> {
    const { broker } = this.#options;
    await this.#membership.start();
    await broker.start(this.#relay);
    this.#watcher.start();
    this.#ownership.start();
    this.#teller.start();
  }

  /** Gives all partitions away; resolves when they are gone, at the latest after timeoutMs. */
  async handOver(timeoutMs: number): Promise<void> {
    await this.#ownership.handOverAll(timeoutMs);
  }

  /** This very moment. */
  get holdsLease(): boolean {
    return this.#membership.holds;
  }

  /** All partitions have been handed over, or none ever came. */
  get ownsNothing(): boolean {
    return this.#ownership.owned === 0;
  }

  /** Ends the links of other brokers, once what they sent to former partitions of this one has been sent back. */
  async endLinks(): Promise<void> {
    await new Promise<void>((resolve) => this.#options.clock.setTimer(LINGER_MS, resolve));
    this.#peers.close();
  }

  /** Leaves the cluster; what was not handed over is abandoned. Streams must have ended. Idempotent. */
  async stop(): Promise<void> {
    this.#cutOff.stop();
    await this.#teller.stop();
    await this.#ownership.stop();
    await this.#watcher.stop();
    this.#peers.close();
    await this.#membership.stop();
  }

  /** For metrics. */
  figures(): ClusterFigures {
    const { acquisitions, handOvers, abandons, staleClaims } = this.#ownership.counts;
    const { data, control, lostSignals, staleWrites } = this.#options.store.stats();
    return {
      members: this.#membership.view?.members.length ?? 0,
      ownedPartitions: this.#ownership.owned,
      acquisitions,
      handOvers,
      abandons,
      staleClaims,
      staleWrites,
      fenced: this.#membership.fencedTimes,
      storeConnects: data.connects + control.connects,
      storeFailures: data.failures + control.failures,
      storeTimeouts: data.timeouts + control.timeouts,
      lostSignals,
    };
  }

  /** Whether the store is still the cluster's: UNAVAILABLE if not, or if it does not say. See LogWriterOptions. */
  static async checkStore(store: Pick<MembershipStore, 'identity'>, identity: string): Promise<void> {
    const found = await store.identity();
    if (found === identity) return;
    throw new BrokerError('UNAVAILABLE', `the store holds ${found ?? 'no cluster'} instead of ${identity}`);
  }
}

/** What is on its way on a link when a partition moves arrives within this, on any network that brokers should share. */
const LINGER_MS = 200;

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
