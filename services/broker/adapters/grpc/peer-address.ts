// The IP address that a call comes from, in one form for each address: consumers are named by it (DrainConsumers). Used by
// subscriber.ts and admin-drain.ts.
import { isIP, SocketAddress } from 'node:net';

const IPV4_IN_IPV6 = '::ffff:';

/** Of a call whose getPeer() says address:port, without brackets. Empty: the connection has gone. */
export function peerAddressOf(call: { getPeer(): string }): string {
  const peer = call.getPeer();
  return canonicalAddress(peer.slice(0, Math.max(0, peer.lastIndexOf(':')))) ?? '';
}

/** "FD00:0::1" is "fd00::1", and an IPv4 address that a dual-stack socket writes as IPv6 is itself. Undefined: no IP address. */
export function canonicalAddress(text: string): string | undefined {
  const family = isIP(text);
  if (family === 0) return undefined;
  if (family === 4) return text;
  const { address } = new SocketAddress({ address: text, family: 'ipv6' });
  return address.startsWith(IPV4_IN_IPV6) && isIP(address.slice(IPV4_IN_IPV6.length)) === 4
    ? address.slice(IPV4_IN_IPV6.length)
    : address;
}
