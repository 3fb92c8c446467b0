// Whom the broker trusts: the authorities of clients, and which of their certificates they have revoked.
// Invariant: what is trusted here is what a new handshake would take, so that connections that were made
// before can be held to it. Node looks at a certificate once, and has no reader of revocation lists.
import { X509Certificate } from 'node:crypto';
import { BrokerError } from '../../core/errors.ts';

export interface Trust {
  readonly authorities: readonly Authority[];
}

interface Authority {
  readonly certificate: X509Certificate;
  /** Serial numbers. */
  readonly revoked: ReadonlySet<string>;
}

interface TrustFiles {
  readonly ca: string;
  readonly crl?: string | undefined;
}

/** More intermediate authorities are not followed. */
const MAX_CHAIN = 8;

/** FAILED_PRECONDITION, with what is wrong, if the files can't be used. */
export async function readTrust(
  { ca, crl }: { readonly ca: Buffer; readonly crl: Buffer | undefined },
  files: TrustFiles,
  nowMs: number,
): Promise<Trust> {
  const certificates = blocksOf(ca, 'CERTIFICATE').map((pem) => new X509Certificate(pem));
  const revokedBy = crl && (await readLists(crl, certificates, files, nowMs));
  return {
    authorities: certificates.map((certificate) => ({
      certificate,
      revoked: revokedBy?.get(certificate) ?? new Set(),
    })),
  };
}

/** Why the client's certificate would not be taken now; undefined: it would. */
export function problemOf(leaf: X509Certificate, trust: Trust, nowMs: number): string | undefined {
  if (leaf.validToDate.getTime() <= nowMs) return 'its certificate has expired';
  let certificate = leaf;
  for (let depth = 0; depth < MAX_CHAIN; depth += 1) {
    const issuer = trust.authorities.find(
      (each) => certificate.checkIssued(each.certificate) && certificate.verify(each.certificate.publicKey),
    );
    if (issuer !== undefined)
      return issuer.revoked.has(serialOf(certificate.serialNumber))
        ? 'its certificate was revoked'
        : undefined;
    const next = certificate.issuerCertificate;
    if (next === undefined || next.fingerprint256 === certificate.fingerprint256) break;
    certificate = next;
  }
  return 'its certificate is of no authority that is trusted now';
}

async function readLists(
  crl: Buffer,
  authorities: readonly X509Certificate[],
  { ca, crl: path = '' }: TrustFiles,
  nowMs: number,
): Promise<Map<X509Certificate, Set<string>>> {
  const { parseRevocationList } = await import('../../../certs/revocation-list.ts');
  const revoked = new Map<X509Certificate, Set<string>>();
  for (const pem of revocationLists(crl)) {
    const list = understood(path, () => parseRevocationList(pem));
    const checks = await Promise.all(authorities.map((each) => list.isSignedBy(each)));
    const signer = authorities[checks.indexOf(true)];
    if (signer === undefined)
      throw refused(`${path}: no authority in ${ca} has signed the list of ${list.issuer}`);
    const { nextUpdate } = list;
    if (nextUpdate !== undefined && nextUpdate.getTime() <= nowMs)
      throw refused(
        `${path}: the list of ${list.issuer} was to be renewed by ${nextUpdate.toISOString()}: fetch a new one`,
      );
    revoked.set(signer, new Set(list.serialNumbers.map(serialOf)));
  }
  // OpenSSL takes no client of an authority without a list.
  const without = authorities.find((each) => !revoked.has(each));
  if (without !== undefined)
    throw refused(
      `${path} has no list of revoked certificates (PEM, X509 CRL) of ${without.subject}, in ${ca}`,
    );
  return revoked;
}

/** The lists in a PEM text, each by itself. */
export function revocationLists(crl: Buffer): string[] {
  return blocksOf(crl, 'X509 CRL');
}

/** Serial numbers are written in several ways: with zeros in front, in either case. */
function serialOf(serialNumber: string): string {
  return serialNumber.toLowerCase().replace(/^0+/, '');
}

function blocksOf(pem: Buffer, label: string): string[] {
  const block = new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----`, 'g');
  return pem.toString('latin1').match(block) ?? [];
}

function understood<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new BrokerError('FAILED_PRECONDITION', `${path} is no list of revoked certificates`, { cause });
  }
}

function refused(message: string): BrokerError {
  return new BrokerError('FAILED_PRECONDITION', message);
}
