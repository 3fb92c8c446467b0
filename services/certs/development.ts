// The certificates of a broker on a developer's machine: a CA of its own, one server and one client
// certificate, in {data folder}/certs. Whatever is there and good is kept.
//
// They are in force for 90 days and renewed in the last third, by a start. The CA vouches for localhost and
// for the hosts that were asked for, so that its key, which lies beside them, is of no use against others. It
// is renewed with its key: who trusts the former one trusts what the new one signs.
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { CertificateError } from './certificate-error.ts';
import { type CertificateInfo, inspectCertificate } from './inspect.ts';
import { ALWAYS_HOSTS, DEVELOPMENT_CA, permits } from './name-constraints.ts';
import { type CertificatePair, readPem, writePair } from './pem-files.ts';

/** Certificates with less life than this left are made again: a third of what they had. */
const RENEW_BEFORE_MS = 30 * 86_400_000;

/** Paths of PEM files. */
export interface DevelopmentCertificates {
  readonly ca: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
  /** Whether anything was made or renewed. */
  readonly created: boolean;
  /** When the first of them ends. */
  readonly notAfter: Date;
}

export interface DevelopmentOptions {
  /** Host names and addresses that the server's certificate names besides localhost. */
  readonly hosts?: readonly string[];
  /** The client certificate's principal. Default "developer". */
  readonly principal?: string;
  readonly nowMs?: number;
}

/**
 * Makes sure that `{dir}/certs` holds a CA, and a server and a client certificate from it that stay in force
 * for 30 days. CertificateError if one of the two has to be issued and the CA's key is gone: another CA would
 * be one that nobody trusts.
 */
export async function ensureDevelopmentCertificates(
  dir: string,
  options: DevelopmentOptions = {},
): Promise<DevelopmentCertificates> {
  const at = (file: string) => join(dir, 'certs', file);
  const paths = {
    ca: at('ca.crt'),
    serverCert: at('server.crt'),
    serverKey: at('server.key'),
    clientCert: at('client.crt'),
    clientKey: at('client.key'),
  };
  const nowMs = options.nowMs ?? Date.now();
  // What a certificate has named it goes on naming when it is renewed.
  const hosts = [...new Set([...(options.hosts ?? []), ...(await hostsOf(paths.serverCert))])];
  const ca = await ensureCa(paths.ca, at('ca.key'), hosts, nowMs);
  let { created } = ca;
  const signer = (): CertificatePair => {
    if (ca.key !== undefined) return { cert: ca.cert, key: ca.key };
    throw new CertificateError(
      `a certificate has to be issued but ${at('ca.key')} is missing: put it back, or delete ${join(dir, 'certs')} to begin with a new CA`,
    );
  };

  // Server certificates made before there were clusters name hosts only.
  const names = { hosts, uriPrefix: 'spiffe://fanfare/broker/' };
  if (!(await isGood(paths.serverCert, paths.serverKey, ca.cert, names, nowMs))) {
    const { issueServer } = await import('./issue.ts');
    const pair = await issueServer(signer(), { hosts, broker: 'development', nowMs });
    await writePair(paths.serverCert, paths.serverKey, pair);
    created = true;
  }
  const noNames = { hosts: [], uriPrefix: '' };
  if (!(await isGood(paths.clientCert, paths.clientKey, ca.cert, noNames, nowMs))) {
    const { issueClient } = await import('./issue.ts');
    const principal = options.principal ?? 'developer';
    await writePair(paths.clientCert, paths.clientKey, await issueClient(signer(), { principal, nowMs }));
    created = true;
  }
  return { ...paths, created, notAfter: await firstEnd([paths.ca, paths.serverCert, paths.clientCert]) };
}

interface Ca {
  readonly cert: string;
  /** Undefined: it is not here. */
  readonly key: string | undefined;
  readonly created: boolean;
}

/** A CA that was made elsewhere, or whose key is gone, stays as it is. */
async function ensureCa(path: string, keyPath: string, hosts: readonly string[], nowMs: number): Promise<Ca> {
  const [cert, key] = await Promise.all([readPem(path), readPem(keyPath)]);
  if (cert !== undefined) {
    const info = assertCa(cert, path);
    const isOurs =
      info.subject === `CN=${DEVELOPMENT_CA}` && key !== undefined && inspectIfReadable(cert, { key })?.keyOk;
    const isInForce = nowMs < info.notAfter.getTime() - RENEW_BEFORE_MS;
    if (!isOurs || (isInForce && permits(cert, [...ALWAYS_HOSTS, ...hosts])))
      return { cert, key, created: false };
  }
  const { createCa } = await import('./issue.ts');
  const made = await createCa({
    hosts: [...new Set([...ALWAYS_HOSTS, ...hosts])],
    nowMs,
    ...(cert !== undefined && key !== undefined && { key }),
  });
  await writePair(path, keyPath, made);
  return { ...made, created: true };
}

/** The hosts that a certificate names; none if it can't be read. */
async function hostsOf(path: string): Promise<string[]> {
  const pem = await readPem(path);
  const names = (pem !== undefined && inspectIfReadable(pem, {})?.names) || [];
  return names.flatMap((name) => {
    const host = /^(?:DNS|IP Address):(.*)$/.exec(name)?.[1];
    return host === undefined ? [] : [isIPv6(host) ? shortIPv6(host) : host];
  });
}

/** Node writes ::1 as 0:0:0:0:0:0:0:1. */
function shortIPv6(host: string): string {
  return new URL(`http://[${host}]`).hostname.slice(1, -1);
}

async function firstEnd(paths: readonly string[]): Promise<Date> {
  const pems = await Promise.all(paths.map((path) => readPem(path)));
  const endsMs = pems.map((pem) => inspectCertificate(pem ?? '').notAfter.getTime());
  return new Date(Math.min(...endsMs));
}

/**
 * Whether the certificate is readable, from this CA, has this key, stays in force for RENEW_BEFORE_MS, names
 * all hosts and has a URI that begins with the prefix.
 */
async function isGood(
  certPath: string,
  keyPath: string,
  ca: string,
  { hosts, uriPrefix }: { readonly hosts: readonly string[]; readonly uriPrefix: string },
  nowMs: number,
): Promise<boolean> {
  const [cert, key] = await Promise.all([readPem(certPath), readPem(keyPath)]);
  if (cert === undefined || key === undefined) return false;
  const info = inspectIfReadable(cert, { ca, key, nowMs: nowMs + RENEW_BEFORE_MS });
  if (info === undefined) return false;
  const named = new Set(await hostsOf(certPath));
  const isNamed =
    hosts.every((host) => named.has(host)) && info.names.some((name) => name.startsWith(`URI:${uriPrefix}`));
  return info.chainOk && info.keyOk && info.inForce && isNamed;
}

function assertCa(pem: string, path: string): CertificateInfo {
  const info = inspectIfReadable(pem, {});
  if (info?.ca === true) return info;
  throw new CertificateError(
    `${path} is not a CA certificate in PEM form: put it back, or delete its folder to begin with a new CA`,
  );
}

/** A damaged leaf is as good as none: it is issued again. */
function inspectIfReadable(
  ...parameters: Parameters<typeof inspectCertificate>
): CertificateInfo | undefined {
  try {
    return inspectCertificate(...parameters);
  } catch (error) {
    if (error instanceof CertificateError) return undefined;
    throw error;
  }
}
