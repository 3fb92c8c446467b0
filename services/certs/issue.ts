// Makes certificates: a development CA, and server and client certificates signed by it. EC P-256 throughout.
// The library takes 100 ms to load, so this file is for import() when something has to be issued.
import './reflect-metadata.ts';
import { webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';
import { CertificateError } from './certificate-error.ts';
import type { CertificatePair } from './pem-files.ts';

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
/** Certificates begin a little in the past, for machines whose clocks lag. */
const CLOCK_SKEW_MS = 5 * 60_000;
const ALWAYS_HOSTS = ['localhost', '127.0.0.1', '::1'];

x509.cryptoProvider.set(webcrypto);

/** A new CA, self-signed. */
export async function createCa(options: { name?: string; days?: number } = {}): Promise<CertificatePair> {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [options.name ?? 'Fanfare development CA'] }],
    keys,
    signingAlgorithm: SIGNING_ALGORITHM,
    ...validity(options.days ?? 3650),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { cert: pem(certificate), key: await exportKey(keys.privateKey) };
}

/**
 * A certificate for a broker: for localhost, 127.0.0.1, ::1 and the given host names and addresses. It may
 * also be shown as a client's, since brokers call each other: with `broker` (its name) it says that it is
 * one, `spiffe://fanfare/broker/{name}`.
 */
export async function issueServer(
  ca: CertificatePair,
  options: { hosts?: readonly string[]; broker?: string; days?: number } = {},
): Promise<CertificatePair> {
  const { broker } = options;
  if (broker !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(broker)) {
    throw new CertificateError(
      `broker name "${broker}" is not valid: 1 to 128 letters, digits and ._-, beginning with a letter or digit`,
    );
  }
  const hosts = [...new Set([...ALWAYS_HOSTS, ...(options.hosts ?? [])])];
  const names = hosts.map((host): x509.JsonGeneralName => ({ type: isIP(host) ? 'ip' : 'dns', value: host }));
  if (broker !== undefined) names.push({ type: 'url', value: `spiffe://fanfare/broker/${broker}` });
  return issue(ca, 'fanfare-broker', names, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'], options.days);
}

/** A certificate for a client: the broker takes `spiffe://fanfare/{principal}` for its principal. */
export async function issueClient(
  ca: CertificatePair,
  options: { principal: string; days?: number },
): Promise<CertificatePair> {
  checkPrincipal(options.principal);
  if (options.principal.startsWith('broker/')) {
    throw new CertificateError(
      `principal "${options.principal}" is not for clients: names that begin with "broker/" are brokers', who may act for everybody`,
    );
  }
  const name: x509.JsonGeneralName = { type: 'url', value: `spiffe://fanfare/${options.principal}` };
  // A common name holds at most 64 characters; the SAN is what counts.
  return issue(ca, options.principal.slice(0, 64), [name], ['1.3.6.1.5.5.7.3.2'], options.days);
}

function checkPrincipal(principal: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/.test(principal)) return principal;
  throw new CertificateError(
    `principal "${principal}" is not valid: 1 to 200 letters, digits and ._/-, beginning with a letter or digit`,
  );
}

async function issue(
  ca: CertificatePair,
  commonName: string,
  names: x509.JsonGeneralName[],
  usages: string[],
  days = 397,
): Promise<CertificatePair> {
  const issuer = new x509.X509Certificate(ca.cert);
  const keys = await generateKeys();
  const { notBefore, notAfter } = validity(days);
  const certificate = await x509.X509CertificateGenerator.create({
    // Data, not text: a principal may contain what a distinguished name would read as syntax.
    subject: [{ CN: [commonName] }],
    issuer: issuer.subjectName,
    publicKey: keys.publicKey,
    signingKey: await importKey(ca.key),
    signingAlgorithm: SIGNING_ALGORITHM,
    notBefore,
    notAfter: new Date(Math.min(notAfter.getTime(), issuer.notAfter.getTime())),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      new x509.SubjectAlternativeNameExtension(names),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
    ],
  });
  return { cert: pem(certificate), key: await exportKey(keys.privateKey) };
}

function validity(days: number): { notBefore: Date; notAfter: Date } {
  if (!(days > 0 && days <= 36_500)) {
    throw new CertificateError(`${days} days is not valid: give 1 to 36500`);
  }
  const nowMs = Date.now();
  return { notBefore: new Date(nowMs - CLOCK_SKEW_MS), notAfter: new Date(nowMs + days * DAY_MS) };
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, [
    'sign',
    'verify',
  ]) as Promise<webcrypto.CryptoKeyPair>;
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key as webcrypto.CryptoKey);
  return `${x509.PemConverter.encode(der, x509.PemConverter.PrivateKeyTag)}\n`;
}

async function importKey(text: string): Promise<webcrypto.CryptoKey> {
  try {
    const der = x509.PemConverter.decodeFirst(text);
    return (await webcrypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, false, [
      'sign',
    ])) as webcrypto.CryptoKey;
  } catch (cause) {
    throw new CertificateError("the CA's key is not an EC P-256 key in PKCS #8 PEM form", { cause });
  }
}
