// The broker's composition root: wires the parts, starts them in order and stops them in reverse.
//
//   config ─▶ store ─▶ definitions ─▶ engine ─▶ gRPC services ─▶ gRPC server (mutual TLS)
//       (LMDB or Redis)                 ├── telemetry (OTLP, Prometheus)        └─▶ health port
//                                       └── cluster-node.ts, on Redis
//
// Invariant: nobody can call before what they call is ready; what was accepted is stored before its store
// closes.
import { randomUUID } from 'node:crypto';
import { ServerCredentials } from '@grpc/grpc-js';
import { adminService } from './adapters/grpc/admin.ts';
import { clusterService, soleCluster } from './adapters/grpc/cluster.ts';
import { authorizeAll, Identity } from './adapters/grpc/identity.ts';
import { Outboxes } from './adapters/grpc/outboxes.ts';
import { publisherService } from './adapters/grpc/publisher.ts';
import { routingService } from './adapters/grpc/routing.ts';
import { RpcBorder } from './adapters/grpc/rpc.ts';
import { GrpcServer, onGrpcLog } from './adapters/grpc/server.ts';
import { subscriberService } from './adapters/grpc/subscriber.ts';
import { openServerTls, type ServerTls } from './adapters/grpc/tls.ts';
import { WatchSlots } from './adapters/grpc/watch.ts';
import type { HealthServer } from './adapters/http/health-server.ts';
import type { MetricsEndpoint } from './adapters/http/metrics-endpoint.ts';
import { nodeClock } from './adapters/node/clock.ts';
import type { LineFigures } from './adapters/otel/metric-catalog.ts';
import type { Telemetry } from './adapters/otel/telemetry.ts';
import type { AuditEntry } from './audit.ts';
import { ClusterNode } from './cluster-node.ts';
import { advertisedAddress, brokerName, type Config, formatHostPort, principalMatcher } from './config.ts';
import { BrokerError } from './core/errors.ts';
import { type TlsFiles, tlsFiles, writeDevelopmentContext } from './development.ts';
import { Broker } from './engine/broker.ts';
import { Definitions } from './engine/definitions/definitions.ts';
import { memberLoad } from './engine/membership/member-load.ts';
import { soleRoutes } from './engine/membership/routes.ts';
import * as limits from './limits.ts';
import type { Log } from './log.ts';
import { openStore } from './open-store.ts';
import { VERSION } from './version.ts';

export interface RunningBroker {
  /** host:port at which clients reach the broker. */
  readonly address: string;
  stop(): Promise<void>;
}

/** What is there before the broker, and after it. */
export interface Surroundings {
  readonly log: Log;
  readonly audit: (entry: AuditEntry) => void;
  /** What became of the lines of both. */
  readonly lines: () => LineFigures;
  readonly telemetry: Telemetry | undefined;
  readonly metrics: MetricsEndpoint | undefined;
  readonly health: HealthServer | undefined;
}

export async function startBroker(config: Config, surroundings: Surroundings): Promise<RunningBroker> {
  const { log, audit, lines, telemetry, metrics, health } = surroundings;
  const clock = nodeClock;
  onGrpcLog((message) => log.debug(message));
  // Closed if the start fails half-way, so that the process ends; the running broker takes it over.
  await using opened = new AsyncDisposableStack();
  const memberId = randomUUID();
  const store = await openStore(config, memberId, log);
  opened.defer(() => store.close());
  const files = await tlsFiles(config, log);
  const tls: ServerTls | undefined = await serverTls(files, log, () =>
    server.review((socket) => tls?.problemOf(socket)),
  );
  opened.defer(() => tls?.close());

  const { shared } = store;
  const checkStore = shared && (() => ClusterNode.checkStore(shared.redis.membership, shared.identity));
  const definitions = new Definitions({
    store: store.definitions,
    clock,
    durability: store.durability,
    currentEnds: (topic) => broker.currentEnds(topic),
    audit,
    onWarning: (message, fields) => log.warn(fields, message),
    onWritten: (kind, name) => store.shared?.redis.signals.send('definitions', `${kind} ${name}`),
    ...(checkStore && { checkStore }),
  });
  await definitions.load();
  const broker = new Broker({
    ...store,
    definitions,
    clock,
    random: Math.random,
    limits: limits.engineLimits(config.cacheBytes, shared === undefined ? 0 : limits.RECENT_BYTES),
    logger: log,
    tracing: telemetry?.tracing,
    maxPullBytes: limits.MAX_RESPONSE_BYTES,
    maxConsumersPerSubscription: limits.MAX_CONSUMERS_PER_SUBSCRIPTION,
    ...(checkStore && {
      checkStore,
      mayServe: () => node?.holdsLease === true,
    }),
  });
  opened.defer(() => broker.stop());
  let address = '';
  let name = '';
  const node =
    shared &&
    new ClusterNode({
      config: shared.config,
      store: shared.redis,
      identity: shared.identity,
      memberId,
      name: () => name,
      address: () => address,
      version: VERSION,
      tls: files,
      broker,
      definitions,
      clock,
      audit,
      onCutOff(isCutOff) {
        if (isCutOff)
          log.error({}, 'cut off from the store: clients are sent to other brokers until it answers');
        else log.info({}, 'clients are taken in again');
        void server.sendAway(isCutOff ? CUT_OFF : undefined);
      },
    });
  if (node !== undefined) opened.defer(() => node.member.stop());
  // A broker that is alone opens its partitions before anybody can call. A member takes partitions only when
  // others can reach it.
  if (node === undefined) await broker.start();
  const backlog = node?.member.backlog ?? broker.backlog;
  await telemetry?.observe({
    stats: broker.stats,
    lines,
    cachedBytes: () => broker.cachedBytes,
    store: () => store.stats(),
    ...(node && { cluster: () => node.figures() }),
    topics: () => broker.topicSizes(),
    backlog: broker.backlog,
    subscriptions: () => definitions.subscriptions(),
  });

  const border = new RpcBorder({
    identity: new Identity({ plaintext: config.insecurePlaintext }),
    clock,
    random: Math.random,
    maxStreamAgeMs: config.maxStreamAgeMs,
    onUnexpected: (error, call) => log.error({ error, ...call }, 'a call failed unexpectedly'),
  });
  const authorize = authorizeAll;
  const watches = new WatchSlots(limits.WATCH_LIMITS);
  const routes =
    node?.member.routes ??
    soleRoutes({
      selfId: memberId,
      name: () => name,
      address: () => address,
      ownerEpochOf: (partition) => broker.ownerEpochOf(partition),
    });
  const server = new GrpcServer({
    border,
    clock,
    keepaliveMs: config.keepaliveMs,
    onServing: (isServing) => health?.setServing(isServing),
    credentials: tls?.credentials ?? ServerCredentials.createInsecure(),
    maxConnectionAgeMs: config.maxConnectionAgeMs,
    ...(shared && { isBroker: principalMatcher(shared.config.brokerPrincipals) }),
    onConnectionEnded: (fields, why) => log.warn(fields, `a connection was ended: ${why}`),
    onListenProblem: ({ message }) => log.warn({ reason: message }, 'a connection could not be taken'),
    services: [
      publisherService({ broker, border, authorize, limits: limits.PUBLISH_LIMITS }),
      subscriberService({
        broker,
        border,
        authorize,
        clock,
        outboxes: new Outboxes(limits.OUTBOX_LIMITS),
        leasesOutlive: () => node?.ownsNothing ?? false,
        limits: limits.SUBSCRIBE_LIMITS,
      }),
      adminService({
        border,
        definitions,
        backlog,
        draining: node?.member.draining ?? broker.draining,
        storage: store,
        authorize,
        audit,
        clock,
        watches,
      }),
      routingService({ border, definitions, authorize, watches, routes }),
      ...(node?.services(border, authorize) ?? [
        clusterService({
          border,
          authorize,
          audit,
          cluster: soleCluster({
            id: memberId,
            get name() {
              return name;
            },
            version: VERSION,
            address: () => address,
            load: memberLoad(broker.stats, () => broker.ownedPartitions, clock),
          }),
          routes,
          ownership: store.ownership,
          definitions,
        }),
      ]),
    ],
  });
  const port = await server.bind(config.listen);
  address = advertisedAddress(config, port);
  name = brokerName(config, port);
  await node?.member.start();
  await writeDevelopmentContext(config, address);
  log.info(
    {
      address,
      ...(shared
        ? { name, cluster: shared.identity, store: shared.config.url }
        : { dataDir: config.dataDir }),
      pid: process.pid,
      ...(metrics && { metrics: `http://${formatHostPort(metrics)}/metrics` }),
      ...(health && { health: `http://${formatHostPort(health)}` }),
    },
    'listening',
  );
  const parts = opened.move();
  return {
    address,
    async stop() {
      const how = await server.drain({
        timeoutMs: config.drainTimeoutMs,
        // Partitions are handed over first: meanwhile streams go on, by way of the new owners.
        before: async () => node?.member.handOver(config.drainTimeoutMs * HAND_OVER_PART),
        after: () => broker.stop(config.drainTimeoutMs),
      });
      if (how === 'cut off') log.warn({}, 'clients did not go in time: cut off');
      await parts.disposeAsync();
    },
  };
}

const CUT_OFF = new BrokerError(
  'UNAVAILABLE',
  'this broker does not reach the store: connect to another one, or wait',
);

/** The part of the time to drain in which partitions are handed over. */
const HAND_OVER_PART = 0.6;

async function serverTls(
  files: TlsFiles | undefined,
  log: Log,
  onTrust: () => void,
): Promise<ServerTls | undefined> {
  if (files === undefined) return undefined;
  return openServerTls({
    files,
    clock: nodeClock,
    onReload: (certificate) => {
      log.info({ validTo: certificate.validTo }, 'certificates reloaded');
      onTrust();
    },
    onProblem: (error) => log.error(error.message),
  });
}
