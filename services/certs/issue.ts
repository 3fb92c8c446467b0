// Makes certificates: a development CA, and server and client certificates signed by it. EC P-256 throughout.
// The library takes 100 ms to load, so this file is for import() when something has to be issued.
import './reflect-metadata.ts';
import { createPublicKey, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';
import { CertificateError } from './certificate-error.ts';
import {
  ALWAYS_HOSTS,
  DEVELOPMENT_CA,
  forbidden,
  NAME_CONSTRAINTS_OID,
  nameConstraints,
} from './name-constraints.ts';
import type { CertificatePair } from './pem-files.ts';

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
/** Certificates begin a little in the past, for machines whose clocks lag. */
const CLOCK_SKEW_MS = 5 * 60_000;
/** How long a CA is in force, and so whatever it signs, unless it is said. */
export const CA_DAYS = 90;

x509.cryptoProvider.set(webcrypto);

export interface CaOptions {
  readonly name?: string;
  readonly days?: number;
  /** The only hosts that it may vouch for; URIs are then those of our principals. Absent: any names. */
  readonly hosts?: readonly string[];
  /** The private key of the CA that this one follows: who trusts that one trusts what this one signs. */
  readonly key?: string;
  readonly nowMs?: number;
}

/** A new CA, self-signed. */
export async function createCa(options: CaOptions = {}): Promise<CertificatePair> {
  const keys = options.key === undefined ? await generateKeys() : await keysOf(options.key);
  const { hosts } = options;
  const constraints =
    hosts && new x509.Extension(NAME_CONSTRAINTS_OID, true, Uint8Array.from(nameConstraints(hosts)));
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [options.name ?? DEVELOPMENT_CA] }],
    keys,
    signingAlgorithm: SIGNING_ALGORITHM,
    ...validity(options.days ?? CA_DAYS, options.nowMs),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(constraints ? [constraints] : []),
    ],
  });
  return { cert: pem(certificate), key: options.key ?? (await exportKey(keys.privateKey)) };
}

/**
 * A certificate for a broker: for localhost, 127.0.0.1, ::1 and the given host names and addresses. It may
 * also be shown as a client's, since brokers call each other: with `broker` (its name) it says that it is
 * one, `spiffe://fanfare/broker/{name}`.
 */
export async function issueServer(
  ca: CertificatePair,
  options: { hosts?: readonly string[]; broker?: string; days?: number; nowMs?: number } = {},
): Promise<CertificatePair> {
  const { broker } = options;
  if (broker !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(broker)) {
    throw new CertificateError(
      `broker name "${broker}" is not valid: 1 to 128 letters, digits and ._-, beginning with a letter or digit`,
    );
  }
  const hosts = [...new Set([...ALWAYS_HOSTS, ...(options.hosts ?? [])])];
  const others = forbidden(ca.cert, hosts);
  if (others.length > 0) {
    throw new CertificateError(
      `this CA may not vouch for ${others.join(', ')}: "fanfare certs init${others.map((host) => ` --host ${host}`).join('')}" makes it one that may`,
    );
  }
  const names = hosts.map((host): x509.JsonGeneralName => ({ type: isIP(host) ? 'ip' : 'dns', value: host }));
  if (broker !== undefined) names.push({ type: 'url', value: `spiffe://fanfare/broker/${broker}` });
  return issue(ca, 'fanfare-broker', names, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'], options);
}

/** A certificate for a client: the broker takes `spiffe://fanfare/{principal}` for its principal. */
export async function issueClient(
  ca: CertificatePair,
  options: { principal: string; days?: number; nowMs?: number },
): Promise<CertificatePair> {
  checkPrincipal(options.principal);
  if (options.principal.startsWith('broker/')) {
    throw new CertificateError(
      `principal "${options.principal}" is not for clients: names that begin with "broker/" are brokers', who may act for everybody`,
    );
  }
  const name: x509.JsonGeneralName = { type: 'url', value: `spiffe://fanfare/${options.principal}` };
  // The SAN is what counts. A common name holds at most 64 characters; and with a dot OpenSSL takes it for a
  // host, for which the CA may not vouch.
  const commonName = options.principal.slice(0, 64).replaceAll('.', ' ');
  return issue(ca, commonName, [name], ['1.3.6.1.5.5.7.3.2'], options);
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
  { days = 397, nowMs }: { readonly days?: number; readonly nowMs?: number },
): Promise<CertificatePair> {
  const issuer = new x509.X509Certificate(ca.cert);
  const keys = await generateKeys();
  const { notBefore, notAfter } = validity(days, nowMs);
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

function validity(days: number, nowMs = Date.now()): { notBefore: Date; notAfter: Date } {
  if (!(days > 0 && days <= 36_500)) {
    throw new CertificateError(`${days} days is not valid: give 1 to 36500`);
  }
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

/** The pair of a private key. */
async function keysOf(text: string): Promise<webcrypto.CryptoKeyPair> {
  const privateKey = await importKey(text);
  const spki = createPublicKey(text).export({ type: 'spki', format: 'der' });
  const publicKey = await webcrypto.subtle.importKey('spki', spki, KEY_ALGORITHM, true, ['verify']);
  return { privateKey, publicKey } as webcrypto.CryptoKeyPair;
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
