// ioredis clients: the one place that knows the driver's options and why they are as they are.
//
// The driver must never send a command a second time by itself: its defaults do, also after the command may
// have been carried out.
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { loadScripts } from './scripts.ts';
import type { RedisTarget } from './target.ts';
import type { TlsContent } from './tls-files.ts';

export type Client = Redis | Cluster;

export interface ClientSettings {
  readonly target: RedisTarget;
  readonly tls: TlsContent | undefined;
  /** Shown by CLIENT LIST. */
  readonly name: string;
}

const CONNECT_TIMEOUT_MS = 3_000;
/**
 * After this long without any byte while commands are under way a connection is dead, whatever TCP thinks.
 */
const SILENCE_MS = 5_000;
const MAX_RECONNECT_MS = 1_000;
/** How long a failover of the Cluster goes unnoticed by a client that meets no error. */
const SLOTS_REFRESH_MS = 2_000;
/** How many MOVED and ASK answers one command follows. */
const MAX_REDIRECTIONS = 8;

/** Makes a client that is not connected yet: connect() it. Errors come as `error` events. */
export function createClient({ target, tls, name }: ClientSettings): Client {
  const common = commonOptions(target, tls, name);
  const client = target.kind === 'cluster' ? createCluster(target, common) : createRedis(target, common);
  for (const { name: script, keys, lua, readOnly } of loadScripts().values()) {
    client.defineCommand(script, { numberOfKeys: keys, lua, readOnly });
  }
  return client;
}

type CommonOptions = Omit<RedisOptions, 'replyMapping'>;

function commonOptions(target: RedisTarget, tls: TlsContent | undefined, name: string): CommonOptions {
  return {
    ...(target.username !== undefined && { username: target.username }),
    ...(target.password !== undefined && { password: target.password }),
    ...(tls && { tls: { ...tls } }),
    connectionName: name,
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_MS,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // When a connection closes, everything under way on it fails at once.
    maxRetriesPerRequest: 0,
    // The server was the master and is a replica now: reconnecting asks Sentinel, or DNS, for the new one.
    reconnectOnError: (error) => /^(READONLY|UNBLOCKED)\b/.test(error.message),
    // CLIENT SETINFO came with Redis 7.2.
    disableClientInfo: true,
  };
}

function createRedis(target: RedisTarget, common: CommonOptions): Redis {
  const reconnect = { ...common, retryStrategy: delayBefore, db: target.database };
  if (target.kind === 'server') {
    const { host, port } = target.endpoints[0];
    return new Redis({ ...reconnect, host, port });
  }
  return new Redis({
    ...reconnect,
    sentinels: target.endpoints.map(({ host, port }) => ({ host, port })),
    name: target.masterName,
    role: 'master',
    failoverDetector: true,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    sentinelRetryStrategy: delayBefore,
    sentinelReconnectStrategy: delayBefore,
    ...(target.username !== undefined && { sentinelUsername: target.username }),
    ...(target.password !== undefined && { sentinelPassword: target.password }),
    ...(common.tls && { sentinelTLS: common.tls, enableTLSForSentinelMode: true }),
  });
}

function createCluster(target: RedisTarget, common: CommonOptions): Cluster {
  return new Cluster([...target.endpoints], {
    redisOptions: common,
    lazyConnect: true,
    // Commands may wait for a node to which no connection is open yet. One that times out while it waits may
    // still be sent: every write is made so that it does no harm then (see write-numbers.ts).
    enableOfflineQueue: true,
    scaleReads: 'master',
    maxRedirections: MAX_REDIRECTIONS,
    // 0: a command whose connection was closed, or that met a slot without a master, fails instead of being
    // sent again.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 50,
    slotsRefreshTimeout: SLOTS_REFRESH_MS,
    slotsRefreshInterval: SLOTS_REFRESH_MS,
    clusterRetryStrategy: delayBefore,
    // Certificates have the names that CLUSTER SLOTS gives, not the addresses behind them.
    dnsLookup: (address, callback) => callback(null, address),
  });
}

function delayBefore(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt - 1, 5), MAX_RECONNECT_MS);
}
