// Which broker a command talks to; the only file of the CLI that reads the environment. The first that
// says so wins: flags, FANFARE_ variables, the nearest .fanfare/context.json in this folder or one
// above, the selected context.
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Context, contextPath, readContext } from '../certs/context-file.ts';
import { parseAddresses } from '../client/address.ts';
import { contextsFolder, readNamedContext, selectedContext } from './context-store.ts';
import { CliError, EXIT } from './failure.ts';
import type { OutputFormat } from './output.ts';

/** The flags that every command has which talks to a broker. */
export interface CommonFlags {
  readonly context?: string;
  readonly address?: string;
  readonly project?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly insecure?: boolean;
  readonly output: OutputFormat;
  /** Milliseconds. */
  readonly timeout: number;
}

/** A context and where it comes from. */
export interface ResolvedContext extends Context {
  readonly source: string;
}

const DATA_FOLDER = '.fanfare';

/** Where named contexts are kept. */
export function configFolder(): string {
  const base = process.env.XDG_CONFIG_HOME || join(homedir(), '.config');
  return contextsFolder(base);
}

/** The PATH variable. */
export function searchPath(): string {
  return process.env.PATH ?? '';
}

export async function resolveContext(flags: Partial<CommonFlags>): Promise<ResolvedContext> {
  const env = process.env;
  const address = flags.address ?? env.FANFARE_ADDRESS;
  const found = await findContext(flags.context ?? env.FANFARE_CONTEXT);
  if (address === undefined && found === undefined) {
    throw new CliError(
      'no broker is known here: start one in this folder ("fanfare serve"), or give --address with --tls-ca, --tls-cert and --tls-key, or "context add" one',
      EXIT.usage,
    );
  }
  const ca = flags.tlsCa ?? env.FANFARE_TLS_CA ?? found?.tls?.ca;
  const cert = flags.tlsCert ?? env.FANFARE_TLS_CERT ?? found?.tls?.cert;
  const key = flags.tlsKey ?? env.FANFARE_TLS_KEY ?? found?.tls?.key;
  // A context without TLS says that of its own broker, not of another one.
  const isPlaintextContext = address === undefined && found !== undefined && !found.tls && !ca;
  const insecure = flags.insecure || env.FANFARE_INSECURE === '1' || isPlaintextContext;
  const from =
    flags.address !== undefined
      ? '--address'
      : address !== undefined
        ? 'FANFARE_ADDRESS'
        : (found?.source ?? '');
  const base = {
    address: checkedAddress(address ?? found!.address, from),
    project: flags.project ?? env.FANFARE_PROJECT ?? found?.project ?? 'default',
    source: address === undefined ? found!.source : from,
  };
  if (insecure) return base;
  if (ca === undefined || cert === undefined || key === undefined) {
    throw new CliError(
      `${base.address} needs mutual TLS: give --tls-ca, --tls-cert and --tls-key (or --insecure for a plaintext broker)`,
      EXIT.usage,
    );
  }
  return { ...base, tls: { ca: resolve(ca), cert: resolve(cert), key: resolve(key) } };
}

/** The address in the form in which it is shown and kept. */
function checkedAddress(text: string, from: string): string {
  try {
    return parseAddresses(text).join(',');
  } catch (cause) {
    throw new CliError(`${from}: ${(cause as Error).message}`, EXIT.usage, { cause });
  }
}

async function findContext(name: string | undefined): Promise<ResolvedContext | undefined> {
  const folder = configFolder();
  if (name !== undefined) return { ...(await readNamedContext(folder, name)), source: `context ${name}` };
  for (let at = process.cwd(); ; at = dirname(at)) {
    const path = contextPath(join(at, DATA_FOLDER));
    const context = await readContext(path);
    if (context !== undefined) return { ...context, source: path };
    if (at === dirname(at)) break;
  }
  const selected = await selectedContext(folder);
  if (selected === undefined) return undefined;
  return { ...(await readNamedContext(folder, selected)), source: `context ${selected}` };
}
