// Which store a broker works on, as --store names it:
//
//   lmdb:                                            embedded, in --data-dir
//   redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]       one server
//   redis+sentinel://[…@]HOST:PORT,HOST:PORT/NAME    Sentinels, and what they call the master
//   redis+cluster://[…@]HOST:PORT,HOST:PORT          any nodes of a Redis Cluster
//
// and the last three with "rediss" for TLS. Invariant: `url` never holds the password, so it is fit for logs
// and messages.

const SCHEMES = ['redis', 'rediss', 'redis+sentinel', 'rediss+sentinel', 'redis+cluster', 'rediss+cluster'];

export interface RedisUrl {
  readonly kind: 'redis';
  /** The URL as given, without the password. */
  readonly url: string;
  /** The URL's password; undefined: it has none. */
  readonly password: string | undefined;
  readonly tls: boolean;
  /** HOST or HOST:PORT of each server. */
  readonly hosts: readonly string[];
}

export type StoreUrl = { readonly kind: 'embedded' } | RedisUrl;

/** The store that --store names, or a sentence on what it must be. */
export function parseStoreUrl(text: string): StoreUrl | string {
  if (text === 'lmdb:') return { kind: 'embedded' };
  const [, scheme = '', authority = '', path = ''] =
    /^([a-z+]+):\/\/([^/?#\s]+)\/?([^/?#\s]*)$/.exec(text) ?? [];
  if (!SCHEMES.includes(scheme)) {
    return `must be lmdb: or ${SCHEMES[0]}://HOST:PORT, also with ${SCHEMES.slice(1).join('://, ')}://, without anything behind the path`;
  }
  if (path.includes('@'))
    return 'has a / in its user or password: write it as %2F, or give the password as FANFARE_STORE_PASSWORD';
  const at = authority.lastIndexOf('@');
  const [, user = '', password] = /^([^:]*)(?::(.*))?$/.exec(authority.slice(0, Math.max(at, 0))) ?? [];
  const hosts = authority.slice(at + 1);
  const severalAllowed = scheme.includes('+');
  const each = hosts.split(',');
  if (each.length > (severalAllowed ? 64 : 1) || !each.every(isHost)) {
    return severalAllowed
      ? 'must name 1 to 64 nodes as HOST:PORT,HOST:PORT, each with a port up to 65535'
      : 'must name one server as HOST or HOST:PORT with a port up to 65535; several are for redis+sentinel:// and redis+cluster://';
  }
  if (scheme.endsWith('+sentinel') && path === '')
    return 'must end with what the Sentinels call the master, such as /mymaster';
  if (scheme.endsWith('+cluster') && path !== '')
    return 'must not end with a path: a Redis Cluster has only database 0';
  if (!severalAllowed && !/^\d{0,5}$/.test(path))
    return 'may end with the number of a database, such as /0, and nothing else';
  let decoded: string | undefined;
  try {
    decoded = password ? decodeURIComponent(password) : undefined;
  } catch {
    // The value is not quoted: it is the secret.
    return 'has a password that is not percent-encoded: write % as %25, or give it as FANFARE_STORE_PASSWORD';
  }
  const userInfo = user === '' ? '' : `${user}@`;
  return {
    kind: 'redis',
    url: `${scheme}://${userInfo}${hosts}${path === '' ? '' : `/${path}`}`,
    password: decoded,
    tls: scheme.startsWith('rediss'),
    hosts: each,
  };
}

/**
 * What may be shown of a --store value that is wrong: its scheme. Where in it a secret stands only a good
 * one says.
 */
export function shownStore(text: string): string {
  const scheme = [...SCHEMES, 'lmdb'].find((each) => text.startsWith(`${each}:`));
  return scheme === undefined ? '…' : `${scheme}:…`;
}

function isHost(text: string): boolean {
  const match = /^(?:\[[0-9A-Fa-f:.]+\]|[^\s:[\]@]+)(?::(\d{1,5}))?$/.exec(text);
  return match !== null && Number(match[1] ?? 1) >= 1 && Number(match[1] ?? 1) <= 65_535;
}
