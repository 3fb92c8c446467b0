// A member of a cluster (engine/cluster-member.ts) over gRPC and Redis: the services that it has beside every
// broker's, its figures for metrics, and the identity of the cluster that its store holds.
import { randomUUID } from 'node:crypto';
import { clusterService } from './adapters/grpc/cluster.ts';
import type { Authorize } from './adapters/grpc/identity.ts';
import { peerService } from './adapters/grpc/peer.ts';
import { peerConnector } from './adapters/grpc/peer-connector.ts';
import type { GrpcService, RpcBorder } from './adapters/grpc/rpc.ts';
import type { ClusterFigures } from './adapters/otel/metric-catalog.ts';
import type { RedisStore } from './adapters/redis/store.ts';
import type { AuditEntry } from './audit.ts';
import { principalMatcher, type StoreConfig } from './config.ts';
import { BrokerError } from './core/errors.ts';
import type { Broker } from './engine/broker.ts';
import { ClusterMember } from './engine/cluster-member.ts';
import type { Definitions } from './engine/definitions/definitions.ts';
import { MAX_CONSUMERS_PER_SUBSCRIPTION } from './limits.ts';
import type { Clock } from './ports/clock.ts';
import type { MembershipStore } from './ports/membership-store.ts';

export type SharedStoreConfig = Extract<StoreConfig, { kind: 'redis' }>;

export interface ClusterNodeOptions {
  readonly config: SharedStoreConfig;
  readonly store: RedisStore;
  /** The cluster's, as joinedCluster returned it. */
  readonly identity: string;
  readonly memberId: string;
  /** The broker's name; known, and asked for, once the server listens. */
  readonly name: () => string;
  /** host:port at which clients and other brokers reach this one; known as late as the name. */
  readonly address: () => string;
  readonly version: string;
  /** PEM files of this broker's certificate; undefined: plaintext. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly broker: Broker;
  readonly definitions: Definitions;
  readonly clock: Clock;
  readonly audit: (entry: AuditEntry) => void;
  /** Called when the store is out of reach so long that clients should go elsewhere, and when it is back. */
  readonly onCutOff: (isCutOff: boolean) => void;
}

/**
 * The identity of the cluster that the store holds; with `initialize` an empty store is given one.
 * FAILED_PRECONDITION: the store holds no cluster, or another than the configured one.
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
  readonly member: ClusterMember;
  readonly #options: ClusterNodeOptions;

  constructor(options: ClusterNodeOptions) {
    const { config, store, broker, clock, memberId } = options;
    this.#options = options;
    this.member = new ClusterMember({
      stores: store,
      connector: peerConnector({
        selfId: memberId,
        clock,
        tls: options.tls,
        isBroker: principalMatcher(config.brokerPrincipals),
      }),
      clock,
      broker,
      definitions: options.definitions,
      host: broker.partitions,
      identity: options.identity,
      self: {
        id: memberId,
        get name() {
          return options.name();
        },
        address: options.address,
        version: options.version,
      },
      leaseMs: config.leaseMs,
      handOverMs: config.handOverMs,
      maxConsumersPerSubscription: MAX_CONSUMERS_PER_SUBSCRIPTION,
      onCutOff: options.onCutOff,
    });
  }

  /** The services beside those of every broker. */
  services(border: RpcBorder, authorize: Authorize): GrpcService[] {
    const { config, memberId, clock, audit, store, definitions } = this.#options;
    return [
      peerService({
        border,
        clock,
        selfId: memberId,
        isBroker: principalMatcher(config.brokerPrincipals),
        onRefused: (caller) => audit({ ...caller, verb: 'link', result: 'PERMISSION_DENIED' }),
        accept: (link, relay) => this.member.accept(link, relay),
      }),
      clusterService({
        border,
        authorize,
        audit,
        cluster: this.member.membership,
        routes: this.member.routes,
        ownership: store.ownership,
        definitions,
      }),
    ];
  }

  /** Whether the member's lease holds this very moment. */
  get holdsLease(): boolean {
    return this.member.membership.holds;
  }

  /** Whether all partitions have gone, or none ever came. */
  get ownsNothing(): boolean {
    return this.member.ownership.owned === 0;
  }

  figures(): ClusterFigures {
    const { membership, ownership } = this.member;
    const { acquisitions, handOvers, abandons, staleClaims } = ownership.counts;
    const { data, control, lostSignals, staleWrites } = this.#options.store.stats();
    return {
      members: membership.view?.members.length ?? 0,
      ownedPartitions: ownership.owned,
      acquisitions,
      handOvers,
      abandons,
      staleClaims,
      staleWrites,
      fenced: membership.fencedTimes,
      storeConnects: data.connects + control.connects,
      storeFailures: data.failures + control.failures,
      storeTimeouts: data.timeouts + control.timeouts,
      lostSignals,
    };
  }

  /** Resolves if the store still holds the cluster, else rejects with UNAVAILABLE. See LogWriterOptions. */
  static async checkStore(store: Pick<MembershipStore, 'identity'>, identity: string): Promise<void> {
    const found = await store.identity();
    if (found === identity) return;
    throw new BrokerError('UNAVAILABLE', `the store holds ${found ?? 'no cluster'} instead of ${identity}`);
  }
}
