// The IP address that a call comes from, in one form for each address: consumers can be named by it
// (DrainConsumers).
import { isIP, SocketAddress } from 'node:net';

const IPV4_IN_IPV6 = '::ffff:';

/**
 * The address of a call whose getPeer() says address:port, without brackets. Empty: the connection has gone.
 */
export function peerAddressOf(call: { getPeer(): string }): string {
  const peer = call.getPeer();
  return canonicalAddress(peer.slice(0, Math.max(0, peer.lastIndexOf(':')))) ?? '';
}

/**
 * One form for each address: "FD00:0::1" becomes "fd00::1", and an IPv4 address that a dual-stack socket
 * writes as IPv6 becomes itself. Undefined: it is no IP address.
 */
export function canonicalAddress(text: string): string | undefined {
  const family = isIP(text);
  if (family === 0) return undefined;
  if (family === 4) return text;
  const { address } = new SocketAddress({ address: text, family: 'ipv6' });
  return address.startsWith(IPV4_IN_IPV6) && isIP(address.slice(IPV4_IN_IPV6.length)) === 4
    ? address.slice(IPV4_IN_IPV6.length)
    : address;
}
