// Says what is in a certificate, and whether a CA vouches for it.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { CertificateError } from './certificate-error.ts';

export interface CertificateInfo {
  readonly subject: string;
  readonly issuer: string;
  /** In node's form: "DNS:localhost", "IP Address:127.0.0.1", "URI:spiffe://fanfare/alice". */
  readonly names: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly ca: boolean;
  /** SHA-256, colon-separated. */
  readonly fingerprint: string;
  /**
   * Whether the given CA signed it, it is in force now, and the given key is its key;
   * true where none was given.
   */
  readonly chainOk: boolean;
  readonly inForce: boolean;
  readonly keyOk: boolean;
}

/** Reads the first certificate of a PEM text. CertificateError if it is not one. */
export function inspectCertificate(
  cert: string,
  against: { ca?: string; key?: string; nowMs?: number } = {},
): CertificateInfo {
  const certificate = parse(cert, 'the certificate');
  const notBefore = new Date(certificate.validFrom);
  const notAfter = new Date(certificate.validTo);
  const nowMs = against.nowMs ?? Date.now();
  return {
    subject: certificate.subject?.replaceAll('\n', ', ') ?? '',
    issuer: certificate.issuer?.replaceAll('\n', ', ') ?? '',
    names: certificate.subjectAltName?.split(', ') ?? [],
    notBefore,
    notAfter,
    ca: certificate.ca,
    fingerprint: certificate.fingerprint256,
    chainOk: against.ca === undefined || isSignedBy(certificate, parse(against.ca, 'the CA')),
    inForce: notBefore.getTime() <= nowMs && nowMs < notAfter.getTime(),
    keyOk: against.key === undefined || belongs(certificate, against.key),
  };
}

function isSignedBy(certificate: X509Certificate, ca: X509Certificate): boolean {
  return ca.ca && certificate.checkIssued(ca) && certificate.verify(ca.publicKey);
}

function belongs(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new CertificateError('the key is not a private key in PEM form', { cause });
  }
}

function parse(pem: string, what: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new CertificateError(`${what} is not a certificate in PEM form`, { cause });
  }
}
