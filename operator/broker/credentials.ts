// Certificates for talking to a broker: from a Secret or from files, checked before they are used, told apart
// by a fingerprint.
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** PEM. */
export interface Credentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface Checked {
  readonly fingerprint: string;
  /** When the client's certificate expires. */
  readonly expiresMs: number;
}

/** The message says what is wrong with them, for people. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsError';
}

/** Reads a Secret's data, which is base64. Throws a CredentialsError that names what is missing. */
export function credentialsOf(data: Readonly<Record<string, string>> | undefined): Credentials {
  const part = (key: string): Buffer => {
    const value = data?.[key];
    if (value === undefined || value === '') throw new CredentialsError(`the Secret has no ${key}`);
    return Buffer.from(value, 'base64');
  };
  return { ca: part('ca.crt'), cert: part('tls.crt'), key: part('tls.key') };
}

export interface CredentialFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export async function readCredentials(files: CredentialFiles): Promise<Credentials> {
  const read = async (path: string): Promise<Buffer> => {
    try {
      return await readFile(path);
    } catch (cause) {
      throw new CredentialsError(`${path} can't be read: ${(cause as Error).message}`, { cause });
    }
  };
  return { ca: await read(files.ca), cert: await read(files.cert), key: await read(files.key) };
}

/**
 * Throws CredentialsError if they are no certificates, or the key is not the certificate's. An expired one is
 * for the broker to refuse.
 */
export function checkCredentials({ ca, cert, key }: Credentials): Checked {
  let certificate: X509Certificate;
  let matches: boolean;
  try {
    new X509Certificate(ca);
    certificate = new X509Certificate(cert);
    matches = certificate.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new CredentialsError(`the certificates can't be read: ${(cause as Error).message}`, { cause });
  }
  if (!matches) throw new CredentialsError('tls.key is not the key of tls.crt');
  const fingerprint = createHash('sha256').update(ca).update(cert).update(key).digest('hex');
  return { fingerprint, expiresMs: certificate.validToDate.getTime() };
}
