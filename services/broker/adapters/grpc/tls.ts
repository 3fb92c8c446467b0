// Mutual TLS for the server: TLS 1.3, client certificates required, and certificates that are replaced while
// it runs.
//
// Invariant: what is in force is a pair that was seen to match, a CA that could be read, and revocation lists
// that this CA has signed and that are not out of date. Files that don't make that are reported once and
// otherwise ignored. Open connections keep the broker's certificate with which they were made; of their
// clients' certificates `problemOf` says whether they would be taken today.
import { constants, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { ServerCredentials } from '@grpc/grpc-js';
import { BrokerError } from '../../core/errors.ts';
import { MAX_STREAMS_PER_CONNECTION, TLS_RELOAD_INTERVAL_MS } from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import { problemOf, readTrust, revocationLists, type Trust } from './trust.ts';

/** Paths of PEM files. */
export interface ServerTlsFiles {
  readonly cert: string;
  readonly key: string;
  /** The authorities that sign clients' certificates. */
  readonly ca: string;
  /** Lists of revoked certificates, one of each authority. */
  readonly crl?: string | undefined;
}

export interface ServerTlsOptions {
  readonly files: ServerTlsFiles;
  readonly clock: Clock;
  /** Called with the broker's own certificate when there is a new one in force. */
  readonly onReload: (certificate: X509Certificate) => void;
  /**
   * Called when the files on disk can't be used; the former certificates stay in force. Once for each
   * problem.
   */
  readonly onProblem: (error: BrokerError) => void;
}

export type ReloadResult = 'reloaded' | 'unchanged' | 'refused';

/**
 * Reads the files, and looks at them again every TLS_RELOAD_INTERVAL_MS. FAILED_PRECONDITION, with what is
 * wrong, if they can't be used.
 */
export async function openServerTls(options: ServerTlsOptions): Promise<ServerTls> {
  const content = await read(options.files);
  return new ServerTls(options, content, await check(content, options));
}

export class ServerTls {
  readonly credentials: ServerCredentials;
  readonly #options: ServerTlsOptions;
  readonly #update: (context: SecureContextOptions) => void;
  /** The content that was read last, good or bad. */
  #seen: Content;
  #certificate: X509Certificate;
  #trust: Trust;
  /** The last problem, until there were new files and they were good. */
  #reported = '';
  #cancelTimer: () => void = () => {};
  #closed = false;

  /** Use openServerTls. */
  constructor(options: ServerTlsOptions, content: Content, { certificate, trust }: Checked) {
    const credentials = new ReloadingCredentials(contextOf(content));
    this.credentials = credentials;
    this.#update = (context) => credentials.update(context);
    this.#options = options;
    this.#seen = content;
    this.#certificate = certificate;
    this.#trust = trust;
    this.#schedule();
  }

  /** The broker's own certificate in force. */
  get certificate(): X509Certificate {
    return this.#certificate;
  }

  /** Why the connection's client would not be taken in any more; undefined: it would. */
  problemOf(socket: TLSSocket): string | undefined {
    const leaf = socket.getPeerX509Certificate();
    // A socket that is closed has none.
    return leaf && problemOf(leaf, this.#trust, this.#options.clock.nowMs());
  }

  /** Looks at the files now. Never rejects: problems go to onProblem. */
  async reload(): Promise<ReloadResult> {
    try {
      const content = await read(this.#options.files);
      if (equal(content, this.#seen)) return 'unchanged';
      this.#seen = content;
      const { certificate, trust } = await check(content, this.#options);
      this.#certificate = certificate;
      this.#trust = trust;
      this.#reported = '';
      this.#update(contextOf(content));
      this.#options.onReload(this.#certificate);
      return 'reloaded';
    } catch (error) {
      this.#report(error);
      return 'refused';
    }
  }

  close(): void {
    this.#closed = true;
    this.#cancelTimer();
  }

  #report(error: unknown): void {
    const problem = asProblem(error);
    // A file that is missing is missing at every look.
    if (problem.message === this.#reported) return;
    this.#reported = problem.message;
    this.#options.onProblem(problem);
  }

  #schedule(): void {
    this.#cancelTimer = this.#options.clock.setTimer(TLS_RELOAD_INTERVAL_MS, async () => {
      await this.reload();
      if (!this.#closed) this.#schedule();
    });
  }
}

interface Content {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
  readonly crl: Buffer | undefined;
}

interface Checked {
  readonly certificate: X509Certificate;
  readonly trust: Trust;
}

/**
 * Credentials whose certificates can be replaced. ServerCredentials.createSsl takes TLS 1.2, too, and can't
 * be changed; the certificate provider API drops all connections while a file is bad. This builds on members
 * of the base class that grpc-js has for its own subclasses: test/integration/tls.test.ts notices when they
 * change.
 */
class ReloadingCredentials extends ServerCredentials {
  constructor(context: SecureContextOptions) {
    super(
      {
        requestCert: true,
        rejectUnauthorized: true,
        settings: {
          maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION,
        },
      },
      context,
    );
  }

  update(context: SecureContextOptions): void {
    this.updateSecureContextOptions(context);
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf({ cert, key, ca, crl }: Content): SecureContextOptions {
  // Without tickets: whoever has one would be taken in by it though the certificate has expired since.
  return {
    ...{ cert, key, ca, minVersion: 'TLSv1.3', secureOptions: constants.SSL_OP_NO_TICKET },
    // Of several in one text OpenSSL would read the first.
    ...(crl && { crl: revocationLists(crl) }),
  };
}

async function read(files: ServerTlsFiles): Promise<Content> {
  const [cert, key, ca, crl] = await Promise.all([
    readOne('certificate', files.cert),
    readOne('private key', files.key),
    readOne('client CA', files.ca),
    files.crl === undefined ? undefined : readOne('list of revoked certificates', files.crl),
  ]);
  return { cert, key, ca, crl };
}

async function readOne(what: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new BrokerError('FAILED_PRECONDITION', `can't read the ${what}: ${reason}`, { cause });
  }
}

/** The leaf, and whom to trust, if certificate, key, CA and revocation list can be used together now. */
async function check(
  content: Content,
  { files, clock }: Pick<ServerTlsOptions, 'files' | 'clock'>,
): Promise<Checked> {
  const leaf = understood(files.cert, 'is no PEM certificate', () => new X509Certificate(content.cert));
  const key = understood(files.key, 'is no PEM private key', () => createPrivateKey(content.key));
  understood(files.ca, 'is no PEM certificate', () => new X509Certificate(content.ca));
  if (!leaf.checkPrivateKey(key)) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${files.key} is not the key of the certificate ${files.cert}`,
    );
  }
  if (leaf.validToDate.getTime() <= clock.nowMs()) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `the certificate ${files.cert} expired on ${leaf.validTo}: renew it`,
    );
  }
  const trust = await readTrust(content, files, clock.nowMs());
  understood(files.cert, 'and the other TLS files are not usable', () =>
    createSecureContext(contextOf(content)),
  );
  return { certificate: leaf, trust };
}

function understood<T>(path: string, problem: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new BrokerError('FAILED_PRECONDITION', `${path} ${problem}: ${reason}`, { cause });
  }
}

function asProblem(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  return new BrokerError('INTERNAL', 'the certificates could not be reloaded', { cause: error });
}

function equal(a: Content, b: Content): boolean {
  const isSameList = a.crl === undefined || b.crl === undefined ? a.crl === b.crl : a.crl.equals(b.crl);
  return a.cert.equals(b.cert) && a.key.equals(b.key) && a.ca.equals(b.ca) && isSameList;
}
