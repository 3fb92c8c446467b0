// Where Redis is, as a URL says it:
//
//   redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]               one server, or what stands before it
//   redis+sentinel://[…@]HOST[:PORT],HOST[:PORT]…/NAME       Sentinels, and what they call the master
//   redis+cluster://[…@]HOST[:PORT],HOST[:PORT]…             any nodes of a Redis Cluster
//
// each with "rediss" for TLS, to Sentinels, too. User and password are percent-encoded, and are the servers';
// Sentinels that want a password get the same. Ports are 6379, Sentinels' 26379.
import { BrokerError } from '../../core/errors.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface RedisTarget {
  readonly kind: 'server' | 'sentinel' | 'cluster';
  /** Just one for a server. */
  readonly endpoints: readonly [Endpoint, ...Endpoint[]];
  /** What Sentinels call the master; empty otherwise. */
  readonly masterName: string;
  readonly database: number;
  readonly tls: boolean;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** The URL without user and password, for messages. */
  readonly shown: string;
}

const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26379;
const MAX_ENDPOINTS = 64;
const FORMS =
  'redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT, or these with rediss for TLS';

/** INVALID_ARGUMENT if the URL is none of these. The message does not quote a password. */
export function parseTarget(url: string, credentials: RedisCredentials = {}): RedisTarget {
  const match = /^(rediss?)(?:\+(sentinel|cluster))?:\/\/(?:([^/]*)@)?([^/?#\s@]+)(?:\/([^/?#\s]*))?$/.exec(
    url,
  );
  if (match === null) throw refuse(url, `is not of a known form: write ${FORMS}`);
  const [, scheme, flavour, userInfo = '', hosts = '', path = ''] = match;
  if (path.includes('@')) throw refuse(url, 'has a / in its user or password: write it as %2F');
  const kind = flavour === undefined ? 'server' : (flavour as 'sentinel' | 'cluster');
  const endpoints = hosts.split(',').map((text) => endpointOf(url, text, kind));
  if (endpoints.length > MAX_ENDPOINTS)
    throw refuse(url, `names more than ${MAX_ENDPOINTS} nodes: a few are enough`);
  if (kind === 'server' && endpoints.length > 1) {
    throw refuse(url, 'names several servers: that is for redis+sentinel:// and redis+cluster://');
  }
  if (kind === 'sentinel' && path === '') {
    throw refuse(url, 'does not say what the Sentinels call the master: end it with /NAME, often /mymaster');
  }
  if (kind === 'cluster' && path !== '' && path !== '0') {
    throw refuse(url, 'ends with a path: a Redis Cluster has only database 0');
  }
  const database = kind === 'server' && path !== '' ? Number(path) : 0;
  if (!Number.isInteger(database) || database < 0) {
    throw refuse(url, 'ends with something other than the number of a database, such as /0');
  }
  const [user, password] = userInfoOf(url, userInfo);
  return {
    kind,
    endpoints: endpoints as [Endpoint, ...Endpoint[]],
    masterName: kind === 'sentinel' ? decode(url, path) : '',
    database,
    tls: scheme === 'rediss',
    username: credentials.username ?? user,
    password: credentials.password ?? password,
    shown: url.replace(/\/\/[^/]*@/, '//'),
  };
}

/** Credentials from elsewhere, which win over what the URL says. */
export interface RedisCredentials {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

function endpointOf(url: string, text: string, kind: RedisTarget['kind']): Endpoint {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  const port = Number(match?.[3] ?? (kind === 'sentinel' ? DEFAULT_SENTINEL_PORT : DEFAULT_PORT));
  if (match === null || port < 1 || port > 65_535) {
    throw refuse(url, `has what is no HOST or HOST:PORT with a port of 1 to 65535`);
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

function userInfoOf(url: string, userInfo: string): [string | undefined, string | undefined] {
  const colon = userInfo.indexOf(':');
  const user = colon < 0 ? userInfo : userInfo.slice(0, colon);
  const password = colon < 0 ? '' : userInfo.slice(colon + 1);
  return [user === '' ? undefined : decode(url, user), password === '' ? undefined : decode(url, password)];
}

function decode(url: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw refuse(url, 'is not percent-encoded as it must be: write % as %25, @ as %40', cause);
  }
}

function refuse(url: string, what: string, cause?: unknown): BrokerError {
  // Where in a URL that is wrong a secret stands is not known: only its scheme is shown.
  const scheme = /^rediss?(\+(sentinel|cluster))?:/.exec(url)?.[0] ?? '';
  return new BrokerError('INVALID_ARGUMENT', `the store "${scheme}…" ${what}`, { cause });
}
