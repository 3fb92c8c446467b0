// This client's certificate and the CAs it trusts, given as PEM or as paths of files. Files are
// read anew before every handshake, so that renewed ones are used without a restart; none is read
// while a connection lasts.
//
// Invariant: what is used is a certificate with its own key, and CAs that could be read. Files that make no
// such set (half of a renewal, a file that is gone for a moment) leave the last good ones in use.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContext } from 'node:tls';
import { FanfareError } from './errors.ts';

/** Paths of PEM files, or PEM text, or PEM bytes. */
export interface TlsOptions {
  /**
   * The CAs that may vouch for the broker. A path is read anew before every handshake, as are the other two.
   */
  readonly ca: string | Buffer;
  /** This client's certificate, which says what its principal is. */
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** The name that the broker's certificate must have, if that is not the address's host. */
  readonly serverName?: string;
}

interface Pems {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

interface InUse {
  readonly pems: Pems;
  readonly context: SecureContext;
  readonly own: X509Certificate;
}

export class Certificates {
  readonly #tls: TlsOptions;
  #inUse: InUse;
  #problem: string | undefined;
  #reading: Promise<void> | undefined;

  /** INVALID_ARGUMENT if they can't be used: the first set must be good. */
  constructor(tls: TlsOptions) {
    this.#tls = tls;
    try {
      const pem = (value: string | Buffer) => (isPath(value) ? readFileSync(value) : Buffer.from(value));
      this.#inUse = usable(tls, { ca: pem(tls.ca), cert: pem(tls.cert), key: pem(tls.key) });
    } catch (cause) {
      throw new FanfareError('INVALID_ARGUMENT', `tls is not usable: ${(cause as Error).message}`, { cause });
    }
  }

  get context(): SecureContext {
    return this.#inUse.context;
  }

  /** This client's own certificate. */
  get own(): X509Certificate {
    return this.#inUse.own;
  }

  /** Why the files, as they were read last, are not in use; undefined: they are. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Where the CAs are, for people. */
  get caSource(): string {
    return sourceOf('ca', this.#tls.ca);
  }

  /** Reads the files anew. Never rejects: see `problem`. */
  refresh(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    const { ca, cert, key } = this.#tls;
    const { pems: before } = this.#inUse;
    try {
      const pems = {
        ca: isPath(ca) ? await readFile(ca) : before.ca,
        cert: isPath(cert) ? await readFile(cert) : before.cert,
        key: isPath(key) ? await readFile(key) : before.key,
      };
      if (!isSame(pems, before)) this.#inUse = usable(this.#tls, pems);
      this.#problem = undefined;
    } catch (error) {
      this.#problem = (error as Error).message;
    }
  }
}

function usable(tls: TlsOptions, pems: Pems): InUse {
  parsed('ca', tls.ca, 'certificate', () => new X509Certificate(pems.ca));
  const own = parsed('cert', tls.cert, 'certificate', () => new X509Certificate(pems.cert));
  const key = parsed('key', tls.key, 'private key', () => createPrivateKey(pems.key));
  if (!own.checkPrivateKey(key)) {
    throw new Error(`${sourceOf('key', tls.key)} is not the key of ${sourceOf('cert', tls.cert)}`);
  }
  return { pems, own, context: createSecureContext(pems) };
}

function parsed<T>(name: string, value: string | Buffer, kind: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    const { message } = cause as Error;
    throw new Error(`${sourceOf(name, value)} is not a ${kind} in PEM form: ${message}`, { cause });
  }
}

function isPath(value: string | Buffer): value is string {
  return typeof value === 'string' && !value.includes('-----BEGIN');
}

/** The option's name for people, with its path. What is not a path is not shown: it may be the key. */
function sourceOf(name: string, value: string | Buffer): string {
  return isPath(value) ? `tls.${name} (${value})` : `tls.${name}`;
}

function isSame(a: Pems, b: Pems): boolean {
  return a.ca.equals(b.ca) && a.cert.equals(b.cert) && a.key.equals(b.key);
}
