// The certificates of a broker on a developer's machine: a CA of its own, one server and one client
// certificate, in {data folder}/certs. Whatever is there and good is kept.
import { join } from 'node:path';
import { CertificateError } from './certificate-error.ts';
import { type CertificateInfo, inspectCertificate } from './inspect.ts';
import { type CertificatePair, readPem, writePair } from './pem-files.ts';

/** Leaf certificates with less life than this left are issued again. */
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
 * for 30 days. CertificateError if one of the two has to be issued and the CA's key is gone: a CA that others
 * may trust is never replaced.
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
  const caKeyPath = at('ca.key');

  let caCert = await readPem(paths.ca);
  let created = false;
  const signer = async (): Promise<CertificatePair> => {
    const key = await readPem(caKeyPath);
    if (caCert === undefined || key === undefined) {
      throw new CertificateError(
        `a certificate has to be issued but ${caKeyPath} is missing: put it back, or delete ${join(dir, 'certs')} to begin with a new CA`,
      );
    }
    return { cert: caCert, key };
  };

  if (caCert === undefined) {
    const { createCa } = await import('./issue.ts');
    const ca = await createCa();
    await writePair(paths.ca, caKeyPath, ca);
    caCert = ca.cert;
    created = true;
  }
  assertCa(caCert, paths.ca);
  const hosts = options.hosts ?? [];
  // Server certificates made before there were clusters name hosts only.
  const names = { hosts, uriPrefix: 'spiffe://fanfare/broker/' };
  if (!(await isGood(paths.serverCert, paths.serverKey, caCert, names, options.nowMs))) {
    const { issueServer } = await import('./issue.ts');
    await writePair(
      paths.serverCert,
      paths.serverKey,
      await issueServer(await signer(), { hosts, broker: 'development' }),
    );
    created = true;
  }
  if (
    !(await isGood(paths.clientCert, paths.clientKey, caCert, { hosts: [], uriPrefix: '' }, options.nowMs))
  ) {
    const { issueClient } = await import('./issue.ts');
    const principal = options.principal ?? 'developer';
    await writePair(paths.clientCert, paths.clientKey, await issueClient(await signer(), { principal }));
    created = true;
  }
  return { ...paths, created };
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
  nowMs = Date.now(),
): Promise<boolean> {
  const [cert, key] = await Promise.all([readPem(certPath), readPem(keyPath)]);
  if (cert === undefined || key === undefined) return false;
  const info = inspectIfReadable(cert, { ca, key, nowMs: nowMs + RENEW_BEFORE_MS });
  if (info === undefined) return false;
  const named = (host: string) =>
    info.names.includes(`DNS:${host}`) || info.names.includes(`IP Address:${host}`);
  const isNamed = hosts.every(named) && info.names.some((name) => name.startsWith(`URI:${uriPrefix}`));
  return info.chainOk && info.keyOk && info.inForce && isNamed;
}

function assertCa(pem: string, path: string): void {
  if (inspectIfReadable(pem, {})?.ca !== true) {
    throw new CertificateError(
      `${path} is not a CA certificate in PEM form: put it back, or delete its folder to begin with a new CA`,
    );
  }
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
