// What a development CA may vouch for: host names that were asked for and our own URIs, as the extension
// NameConstraints of RFC 5280 (4.2.1.10) says it in DER. Invariant: a certificate permits a host name exactly
// if permits() says so, for certificates whose constraints were made here.
//
// IP addresses are not constrained, since BoringSSL, on which gRPC for C++ and Python stands, takes no
// certificate of a CA that has constraints for them: "unsupported name constraint type". OpenSSL (Node), Go
// and Java would.
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';

/** The common name of a CA that was made here. */
export const DEVELOPMENT_CA = 'Fanfare development CA';
/** What each server certificate names. */
export const ALWAYS_HOSTS: readonly string[] = ['localhost', '127.0.0.1', '::1'];
export const NAME_CONSTRAINTS_OID = '2.5.29.30';
/** The same in DER. */
const DER_OID = Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x1e]);
/** The authority of our principals, spiffe://fanfare/… */
const TRUST_DOMAIN = 'fanfare';

const SEQUENCE = 0x30;
const PERMITTED_SUBTREES = 0xa0;
/** Tags of GeneralName: [2] dNSName, [6] uniformResourceIdentifier. */
const DNS_NAME = 0x82;
const URI = 0x86;

/** The extension's value: these host names, and URIs of our trust domain, and nothing else of these kinds. */
export function nameConstraints(hosts: readonly string[]): Uint8Array {
  const names = hosts.filter((host) => isIP(host) === 0);
  return der(SEQUENCE, der(PERMITTED_SUBTREES, ...names.map(hostSubtree), subtree(URI, TRUST_DOMAIN)));
}

/** The hosts for which a development CA may not vouch; none for a CA that was made otherwise. */
export function forbidden(ca: string, hosts: readonly string[]): string[] {
  const { raw, subject } = new X509Certificate(ca);
  if (subject !== `CN=${DEVELOPMENT_CA}` || !raw.includes(DER_OID)) return [];
  return hosts.filter((host) => !permits(ca, [host]));
}

/** Whether the CA's constraints have all these host names; one without constraints permits none. */
export function permits(ca: string, hosts: readonly string[]): boolean {
  const { raw } = new X509Certificate(ca);
  return hosts.every((host) => isIP(host) !== 0 || raw.includes(hostSubtree(host)));
}

function hostSubtree(host: string): Buffer {
  return subtree(DNS_NAME, host.toLowerCase());
}

/** GeneralSubtree: its base alone, as minimum and maximum are not used. */
function subtree(tag: number, base: string): Buffer {
  return der(SEQUENCE, der(tag, Buffer.from(base)));
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const long =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...long]), content]);
}
