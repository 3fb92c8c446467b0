// A context: where a broker is, and which certificates to show it. One lies in the data folder of a broker
// that runs in plaintext or with development certificates; the CLI keeps named ones in the same format.
import { readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { CertificateError } from './certificate-error.ts';
import { replaceFile } from './pem-files.ts';

export interface Context {
  /** host:port */
  readonly address: string;
  readonly project: string;
  /** Paths of PEM files; absolute in memory, relative to the context file in it. Absent: plaintext. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** {data folder}/context.json */
export function contextPath(dataDir: string): string {
  return join(dataDir, 'context.json');
}

export async function writeContext(path: string, context: Context): Promise<void> {
  const from = dirname(resolve(path));
  const tls = context.tls && {
    ca: relative(from, resolve(context.tls.ca)),
    cert: relative(from, resolve(context.tls.cert)),
    key: relative(from, resolve(context.tls.key)),
  };
  const document = { address: context.address, project: context.project, ...(tls && { tls }) };
  await replaceFile(path, `${JSON.stringify(document, null, 2)}\n`, 0o600);
}

/** Undefined if there is no such file; CertificateError if it isn't a context. */
export async function readContext(path: string): Promise<Context | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
  return parseContext(text, path);
}

function parseContext(text: string, path: string): Context {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new CertificateError(`${path} is not a context: it is not JSON; delete it or write it again`, {
      cause,
    });
  }
  const { address, project, tls } = (document ?? {}) as Record<string, unknown>;
  const files = tls as Record<string, unknown> | undefined;
  const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
  if (!isText(address) || !isText(project)) {
    throw new CertificateError(`${path} is not a context: it needs "address" and "project"`);
  }
  if (files === undefined) return { address, project };
  const { ca, cert, key } = files;
  if (!isText(ca) || !isText(cert) || !isText(key)) {
    throw new CertificateError(`${path} is not a context: "tls" needs "ca", "cert" and "key"`);
  }
  const from = dirname(resolve(path));
  return {
    address,
    project,
    tls: { ca: resolve(from, ca), cert: resolve(from, cert), key: resolve(from, key) },
  };
}
