// The broker's composition root: reads the configuration, wires the parts, starts them in order and stops
// them in reverse.
//
//   config ─▶ store ─▶ definitions ─▶ engine ─▶ gRPC services ─▶ gRPC server (mutual TLS)
//       (LMDB or Redis)                 ├── telemetry (OTLP, Prometheus)
//                                       └── cluster-node.ts, on Redis
import { randomUUID } from 'node:crypto';
import { relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ServerCredentials } from '@grpc/grpc-js';
import { contextPath, writeContext } from '../certs/context-file.ts';
import { ensureDevelopmentCertificates } from '../certs/development.ts';
import { fanfareCommand } from '../node/command.ts';
import type { StoreStats } from './adapters/embedded/durable-kv.ts';
import { openEmbeddedStore } from './adapters/embedded/store.ts';
import { adminService } from './adapters/grpc/admin.ts';
import { clusterService, soleCluster } from './adapters/grpc/cluster.ts';
import { authorizeAll, Identity } from './adapters/grpc/identity.ts';
import { publisherService } from './adapters/grpc/publisher.ts';
import { routingService } from './adapters/grpc/routing.ts';
import { RpcBorder } from './adapters/grpc/rpc.ts';
import { GrpcServer, onGrpcLog } from './adapters/grpc/server.ts';
import { subscriberService } from './adapters/grpc/subscriber.ts';
import { openServerTls, type ServerTls } from './adapters/grpc/tls.ts';
import { WatchSlots } from './adapters/grpc/watch.ts';
import { nodeClock } from './adapters/node/clock.ts';
import { countBuffersWithHeap } from './adapters/node/garbage-collection.ts';
import { type TelemetrySettings, telemetrySettings } from './adapters/otel/settings.ts';
import type { Telemetry } from './adapters/otel/telemetry.ts';
import type { RedisStore } from './adapters/redis/store.ts';
import { ClusterNode, joinedCluster, type SharedStoreConfig } from './cluster-node.ts';
import { advertisedAddress, brokerName, type Config, formatHostPort, parseConfig } from './config.ts';
import { BrokerError } from './core/errors.ts';
import { Broker, type BrokerOptions } from './engine/broker.ts';
import { Definitions, type DefinitionsOptions } from './engine/definitions/definitions.ts';
import { memberLoad } from './engine/membership/member-load.ts';
import { soleRoutes } from './engine/membership/routes.ts';
import * as limits from './limits.ts';
import { createLog, type Log } from './log.ts';
import type { DefinitionStore } from './ports/definition-store.ts';
import { VERSION } from './version.ts';

export interface RunningBroker {
  /** host:port at which clients reach the broker. */
  readonly address: string;
  stop(): Promise<void>;
}

/**
 * Starts a broker, and stops it on SIGTERM and SIGINT. Resolves to the exit code when it has stopped. `print`
 * gets what belongs on standard output: the help.
 */
export async function serve(
  argv: readonly string[],
  print: (text: string) => void = (text) => process.stdout.write(text),
): Promise<number> {
  let config: Config;
  let settings: TelemetrySettings | undefined;
  try {
    const parsed = parseConfig({ argv, env: process.env, terminal: process.stderr.isTTY === true });
    if ('help' in parsed) {
      print(parsed.help);
      return 0;
    }
    config = parsed.config;
    settings = telemetrySettings(process.env, config.metricsListen);
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    process.stderr.write(`fanfare: ${error.message}\n`);
    return 2;
  }
  countBuffersWithHeap(config.cacheBytes + limits.RECENT_BYTES + limits.MAX_UNCOMMITTED_BYTES);
  let telemetry: Telemetry | undefined;
  const log = createLog({
    traceIds: () => telemetry?.activeSpanIds(),
    level: config.logLevel,
    format: config.logFormat,
    color: process.stderr.isTTY === true && process.env.NO_COLOR === undefined,
  });
  try {
    telemetry = await loadTelemetry(settings, log);
    // A signal during the start is heard, too: it stops the broker in order once it has started.
    const stopped = stopSignal();
    const broker = await startBroker(config, log, telemetry);
    if (config.logFormat === 'pretty') process.stderr.write(greeting(config, broker.address));
    const signal = await stopped;
    log.info({ signal }, 'stopping');
    await broker.stop();
    log.info('stopped');
    return 0;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // An expected failure is one sentence. Anything else needs its stack.
    if (error instanceof BrokerError || error.name === 'CertificateError') log.fatal(error.message);
    else log.fatal({ error }, 'the broker failed');
    return 1;
  } finally {
    await telemetry?.close();
  }
}

/** OpenTelemetry takes longer to load than the rest of the broker, so it is loaded only if it is used. */
async function loadTelemetry(
  settings: TelemetrySettings | undefined,
  log: Log,
): Promise<Telemetry | undefined> {
  if (settings === undefined) return undefined;
  const { openTelemetry } = await import('./adapters/otel/telemetry.ts');
  return openTelemetry({ settings, logger: log, clock: nodeClock });
}

export async function startBroker(config: Config, log: Log, telemetry?: Telemetry): Promise<RunningBroker> {
  const clock = nodeClock;
  onGrpcLog((message) => log.debug(message));
  // Closed if the start fails half-way, so that the process ends; the running broker takes it over.
  await using opened = new AsyncDisposableStack();
  const memberId = randomUUID();
  const store = await openStore(config, memberId, log);
  opened.defer(() => store.close());
  const files = await tlsFiles(config);
  const tls = await serverTls(files, log);
  opened.defer(() => tls?.close());

  const { shared } = store;
  const checkStore = shared && (() => ClusterNode.checkStore(shared.redis.membership, shared.identity));
  const definitions = new Definitions({
    store: store.definitions,
    clock,
    durability: store.durability,
    currentEnds: (topic) => broker.currentEnds(topic),
    audit: (record) => log.info({ audit: record }, 'audit'),
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
      log,
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
  const watches = new WatchSlots(limits.MAX_WATCHES);
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
    credentials: tls?.credentials ?? ServerCredentials.createInsecure(),
    services: [
      publisherService({ broker, border, authorize, limits: limits.PUBLISH_LIMITS }),
      subscriberService({
        broker,
        border,
        authorize,
        clock,
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
        audit: (record) => log.info({ audit: record }, 'audit'),
        clock,
        watches,
      }),
      routingService({ border, definitions, authorize, watches, routes }),
      ...(node?.services(border, authorize) ?? [
        clusterService({
          border,
          authorize,
          audit: (record) => log.info({ audit: record }, 'audit'),
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
  const metrics = telemetry?.metricsListen;
  log.info(
    {
      address,
      ...(shared
        ? { name, cluster: shared.identity, store: shared.config.url }
        : { dataDir: config.dataDir }),
      pid: process.pid,
      ...(metrics && { metrics: `http://${formatHostPort(metrics)}/metrics` }),
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

type TlsFiles = NonNullable<Config['tls']>;

interface OpenStore extends Pick<BrokerOptions, 'log' | 'cursors' | 'ownership'> {
  readonly definitions: DefinitionStore;
  readonly durability: DefinitionsOptions['durability'];
  /** The store as a cluster's; undefined: it is this broker's alone. */
  readonly shared:
    | { readonly redis: RedisStore; readonly config: SharedStoreConfig; readonly identity: string }
    | undefined;
  stats(): StoreStats | undefined;
  conditions(): readonly string[];
  close(): Promise<void>;
}

async function openStore(config: Config, memberId: string, log: Log): Promise<OpenStore> {
  const onWarning = (message: string, fields: object): void => log.warn(fields, message);
  if (config.store.kind === 'embedded') {
    const store = await openEmbeddedStore({ dir: config.dataDir, memberId, onWarning });
    const durability = { supported: ['memory', 'stored', 'fsync'], default: 'fsync' } as const;
    return { ...store, durability, shared: undefined };
  }
  const { url, password, tls } = config.store;
  // Loaded only if it is used.
  const { openRedisStore } = await import('./adapters/redis/store.ts');
  const redis = await openRedisStore({
    url,
    ...(password !== undefined && { credentials: { password } }),
    ...(tls && { tls }),
    memberId,
    onWarning,
    clock: nodeClock,
  });
  try {
    const identity = await joinedCluster(redis.membership, config.store);
    return { ...redis, stats: () => undefined, shared: { redis, config: config.store, identity } };
  } catch (error) {
    await redis.close();
    throw error;
  }
}

/** The files of the broker's certificate; undefined: plaintext. */
async function tlsFiles(config: Config): Promise<TlsFiles | undefined> {
  if (config.insecurePlaintext) return undefined;
  if (config.tls !== undefined) return config.tls;
  const made = await ensureDevelopmentCertificates(config.dataDir, { hosts: extraHosts(config) });
  return { cert: made.serverCert, key: made.serverKey, ca: made.ca };
}

async function serverTls(files: TlsFiles | undefined, log: Log): Promise<ServerTls | undefined> {
  if (files === undefined) return undefined;
  return openServerTls({
    files,
    clock: nodeClock,
    onReload: (certificate) => log.info({ validTo: certificate.validTo }, 'certificates reloaded'),
    onProblem: (error) => log.error(error.message),
  });
}

/** Where the broker listens or is advertised, unless its certificate names that anyway. */
function extraHosts({ listen, advertise }: Config): string[] {
  const hosts = new Set([listen.host, ...(advertise === undefined ? [] : [advertise.host])]);
  for (const host of ['localhost', '127.0.0.1', '::1', '0.0.0.0', '::']) hosts.delete(host);
  return [...hosts];
}

/** Lets `fanfare` find this broker without flags, unless it has real certificates. */
async function writeDevelopmentContext(config: Config, address: string): Promise<void> {
  if (config.tls !== undefined) return;
  const context = { address, project: 'default' };
  if (config.insecurePlaintext) {
    await writeContext(contextPath(config.dataDir), context);
    return;
  }
  const { ca, clientCert, clientKey } = await ensureDevelopmentCertificates(config.dataDir);
  await writeContext(contextPath(config.dataDir), {
    ...context,
    tls: { ca, cert: clientCert, key: clientKey },
  });
}

function greeting(config: Config, address: string): string {
  const fanfare = fanfareCommand();
  return [
    '',
    `  Fanfare is ready on ${address}${config.insecurePlaintext ? ' (plaintext)' : ' (mutual TLS)'}; data in ${relative('.', config.dataDir) || '.'}`,
    '',
    '  In a second terminal, in this folder:',
    `    ${fanfare} topic create orders`,
    `    ${fanfare} subscription create audit --topic orders`,
    `    echo 'hello' | ${fanfare} pub orders`,
    `    ${fanfare} sub audit`,
    '',
    '  Ctrl-C stops it.',
    '',
    '',
  ].join('\n');
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await serve(process.argv.slice(2));
}
