// Which HTTP proxy a connection goes through, by the environment, with the names that
// gRPC's clients read. Pure.
//
//   grpc_proxy, https_proxy, http_proxy      the first that is set: http://[user[:password]@]host[:port]
//   no_grpc_proxy, or no_proxy and NO_PROXY  who is reached without it, with commas or spaces between: *,
//                                            host (and names below it), .suffix, IP address, CIDR; host,
//                                            suffix and address may have a port
//
// Invariant: a broker on loopback is never proxied, whatever the environment says.
import { BlockList, isIP, isIPv6 } from 'node:net';
import { type Address, isLoopback } from './address.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HttpProxy {
  readonly kind: 'proxy';
  readonly host: string;
  readonly port: number;
  /** user:password, as HTTP's Basic authentication takes it. */
  readonly credentials: string | undefined;
  /** The variable that named it. */
  readonly variable: string;
}

/** A proxy that a variable names and that can't be used, with the reason for people. */
export interface UnusableProxy {
  readonly kind: 'unusable';
  readonly problem: string;
}

const VARIABLES = ['grpc_proxy', 'https_proxy', 'http_proxy'];

/** The proxy to the address; undefined: none, connect directly. */
export function proxyFor(address: Address, env: Environment): HttpProxy | UnusableProxy | undefined {
  const variable = VARIABLES.find((name) => env[name]);
  if (variable === undefined || isLoopback(address.host)) return undefined;
  const direct = env.no_grpc_proxy || `${env.no_proxy ?? ''},${env.NO_PROXY ?? ''}`;
  const entries = direct.split(/[\s,]+/).filter((entry) => entry !== '');
  return entries.some((entry) => matches(entry.toLowerCase(), address))
    ? undefined
    : parseProxy(variable, env[variable]!);
}

function parseProxy(variable: string, value: string): HttpProxy | UnusableProxy {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  if (url?.protocol !== 'http:' || url.hostname === '') {
    // The value may have a password in it.
    const what = url === null ? 'no URL' : `of the kind ${url.protocol}//`;
    return {
      kind: 'unusable',
      problem: `${variable} is ${what}: only http://host:port can be used; unset it, or name the broker in no_proxy`,
    };
  }
  const user = decodeURIComponent(url.username);
  const password = url.password === '' ? '' : `:${decodeURIComponent(url.password)}`;
  return {
    kind: 'proxy',
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || 80),
    credentials: user === '' ? undefined : user + password,
    variable,
  };
}

/** Whether an entry, in lower case, means the address. */
function matches(entry: string, { host, port }: Address): boolean {
  if (entry === '*') return true;
  if (entry.includes('/')) return isInNetwork(host, entry);
  const [, bracketed, plain, itsPort] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  if (itsPort !== undefined && Number(itsPort) !== port) return false;
  const named = bracketed ?? plain ?? entry;
  if (isIP(named) !== 0 && isIP(host) !== 0) return isInNetwork(host, `${named}/${isIPv6(named) ? 128 : 32}`);
  const suffix = named.replace(/^\*?\./, '').replace(/\.$/, '');
  const name = host.replace(/\.$/, '');
  return suffix !== '' && (name === suffix || name.endsWith(`.${suffix}`));
}

function isInNetwork(host: string, cidr: string): boolean {
  const [network = '', bits = ''] = cidr.split('/');
  const family = isIP(network);
  const most = family === 6 ? 128 : 32;
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(bits) || Number(bits) > most) return false;
  const networks = new BlockList();
  const name = family === 6 ? 'ipv6' : 'ipv4';
  networks.addSubnet(network, Number(bits), name);
  return networks.check(host, name);
}
