// Addresses of brokers, in the forms that people write, and the one form that they have from then on:
// host:port, an IPv6 address in brackets. Pure.
//
//   broker.example:7443   127.0.0.1:7443   [::1]:7443                as they are
//   broker.example   ::1   [::1]                                     port 7443
//   :7443                                                            localhost
//   https://broker.example:7443/                                     without scheme and slash
//   dns:///broker.example:7443   ipv4:127.0.0.1   ipv6:[::1]:7443    as gRPC writes them
//   anything else                                                    INVALID_ARGUMENT, with what is wrong
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';
import { FanfareError } from './errors.ts';

/** The port that a broker listens on unless it is told otherwise. */
export const DEFAULT_PORT = 7443;
export const MAX_ADDRESSES = 64;
const MAX_PORT = 65_535;
/** The limit of DNS, not counting a dot at the end. */
const MAX_HOST_LENGTH = 253;

export interface Address {
  /** A name in lower case, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Reads addresses with commas between them; gives each in its one form, once. INVALID_ARGUMENT. */
export function parseAddresses(text: string): readonly string[] {
  const parts = text.split(',').map((part) => part.trim());
  // A list that was put together by a program often ends with a comma.
  const addresses = new Set(
    parts.filter((part) => part !== '').map((part) => formatAddress(parseAddress(part))),
  );
  if (addresses.size === 0) refuse(text, 'is empty');
  if (addresses.size > MAX_ADDRESSES)
    refuse(text, `are ${addresses.size} addresses: at most ${MAX_ADDRESSES} are allowed`);
  return [...addresses];
}

/** Reads one address. INVALID_ARGUMENT. */
export function parseAddress(text: string): Address {
  const { rest, family } = withoutScheme(text.trim(), text);
  // Many take a port alone for a --listen; here it says which port of this machine.
  const { host, port } =
    rest.startsWith(':') && !isIPv6(rest) ? { host: 'localhost', port: rest.slice(1) } : split(rest, text);
  const address = { host: checkedHost(host, text), port: checkedPort(port, text) };
  if (family !== undefined && !family.isFamily(address.host)) refuse(text, `names no ${family.name} address`);
  return address;
}

export function formatAddress({ host, port }: Address): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** localhost and names below it, 127.0.0.0/8, ::1; also 127.0.0.0/8 in IPv6's form. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  // An address can be written in several ways: 0:0:0:0:0:0:0:1, ::ffff:127.0.0.1.
  if (isIPv6(host) && !host.includes('%'))
    return /^\[(::1|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\]$/.test(canonicalIPv6(host));
  return /^(.+\.)?localhost\.?$/.test(host);
}

const FAMILIES = {
  ipv4: { name: 'IPv4', isFamily: isIPv4 },
  ipv6: { name: 'IPv6', isFamily: isIPv6 },
} as const;

function withoutScheme(
  trimmed: string,
  text: string,
): { rest: string; family?: (typeof FAMILIES)[keyof typeof FAMILIES] } {
  const [, scheme, slashes, after] = /^([a-z][a-z0-9+.-]*):(\/\/)?(.*)$/is.exec(trimmed) ?? [];
  // A host called dns or unix may have a port, too.
  if (scheme === undefined || (!slashes && /^\d+$/.test(after!))) return { rest: trimmed };
  switch (scheme.toLowerCase()) {
    case 'https':
      if (slashes) return { rest: after!.replace(/\/$/, '') };
      break;
    case 'http':
      if (slashes)
        refuse(
          text,
          'begins with http://: write host:port, and insecure (--insecure) beside it if that broker has no TLS',
        );
      break;
    case 'dns':
      if (slashes && !after!.startsWith('/'))
        refuse(text, "names a DNS server: only the system's own is asked");
      return { rest: after!.replace(/^\//, '') };
    case 'ipv4':
    case 'ipv6':
      return { rest: after!, family: FAMILIES[scheme.toLowerCase() as keyof typeof FAMILIES] };
    case 'unix':
    case 'unix-abstract':
      refuse(text, 'is a Unix socket: brokers listen on TCP only');
  }
  if (slashes) refuse(text, `begins with ${scheme}://`);
  return { rest: trimmed };
}

function split(rest: string, text: string): { host: string; port: string | undefined } {
  if (isIPv6(rest)) return { host: rest, port: undefined };
  const [, inBrackets, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(.*))?$/s.exec(rest) ?? [];
  if (inBrackets === undefined && plain === undefined) {
    refuse(text, 'has too many colons: an IPv6 address with a port is written in brackets, [::1]:7443');
  }
  if (inBrackets !== undefined && !isIPv6(inBrackets))
    refuse(text, 'has no IPv6 address between its brackets');
  return { host: inBrackets ?? plain!, port };
}

function checkedHost(host: string, text: string): string {
  if (host === '') refuse(text, 'names no host');
  if (host.includes('%')) refuse(text, "has a zone of an IPv6 address, which can't be used");
  if (isIPv4(host) || isIPv6(host)) return host.toLowerCase();
  const wrong = /[\s/@?#\\]/.exec(host);
  if (wrong !== null) refuse(text, `has ${JSON.stringify(wrong[0])} in its host name`);
  const name = /^[\x20-\x7e]*$/.test(host) ? host.toLowerCase() : domainToASCII(host);
  const labels = name.replace(/\.$/, '').split('.');
  // Host names have no underscores, but Docker and others put them into the names of their machines.
  if (!labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))) {
    refuse(text, 'has no valid host name: letters, digits, - and _, with dots between its parts');
  }
  if (/^\d+$/.test(labels.at(-1)!)) refuse(text, 'names neither a host nor a whole IPv4 address');
  if (name.length > MAX_HOST_LENGTH)
    refuse(text, `has a host name of more than ${MAX_HOST_LENGTH} characters`);
  return name;
}

function checkedPort(port: string | undefined, text: string): number {
  if (port === undefined) return DEFAULT_PORT;
  const number = /^\d{1,10}$/.test(port) ? Number(port) : 0;
  if (number < 1 || number > MAX_PORT)
    refuse(text, `has port ${JSON.stringify(port)}: a port is 1 to ${MAX_PORT}`);
  return number;
}

function canonicalIPv6(host: string): string {
  return new URL(`http://[${host}]`).hostname;
}

function refuse(text: string, why: string): never {
  const shown = text.length > 300 ? `${text.slice(0, 300)}…` : text;
  throw new FanfareError(
    'INVALID_ARGUMENT',
    `address ${JSON.stringify(shown)} ${why}; give host:port, or several with commas between them`,
  );
}
