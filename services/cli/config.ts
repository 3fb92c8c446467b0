// Which broker a command talks to; the only file of the CLI that reads the environment. The first that
// says so wins: flags, FANFARE_ variables, the selected context, the nearest .fanfare/context.json in this
// folder or one above.
//
// A folder may be somebody else's, or a copy of one. So its context never comes before what the user has
// selected, counts only if nobody but this user has access to the file (no copy by git is like that), and
// is no reason for plaintext to another machine.
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Context, readContext } from '../certs/context-file.ts';
import { isLoopback, parseAddress, parseAddresses } from '../client/address.ts';
import { contextsFolder, readNamedContext, selectedContext } from './context-store.ts';
import { CliError, EXIT } from './failure.ts';
import { folderContext, whyUntrusted } from './folder-context.ts';
import { notice } from './notice.ts';
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

/** As a name of a context: the folder's. */
const HERE = '.';

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
  const found = await findContext(flags.context ?? env.FANFARE_CONTEXT, address === undefined);
  if (address === undefined && found === undefined) {
    throw new CliError(
      'no broker is known here: start one in this folder ("fanfare serve"), or give --address with --tls-ca, --tls-cert and --tls-key, or "context add" one',
      EXIT.usage,
    );
  }
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
  if (flags.insecure || env.FANFARE_INSECURE === '1') return base;
  const ca = flags.tlsCa ?? env.FANFARE_TLS_CA ?? found?.tls?.ca;
  const cert = flags.tlsCert ?? env.FANFARE_TLS_CERT ?? found?.tls?.cert;
  const key = flags.tlsKey ?? env.FANFARE_TLS_KEY ?? found?.tls?.key;
  // A context without TLS says that of its own broker, not of another one.
  if (address === undefined && found !== undefined && !found.tls && !ca) {
    if (found.isFolders && !isAllLoopback(base.address)) {
      throw new CliError(
        `${found.source} names ${base.address} without TLS, and that is another machine: give --insecure if all may read what is sent there`,
        EXIT.usage,
      );
    }
    return base;
  }
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

function isAllLoopback(addresses: string): boolean {
  return addresses.split(',').every((each) => isLoopback(parseAddress(each).host));
}

interface FoundContext extends ResolvedContext {
  readonly isFolders: boolean;
}

/** `isNeeded`: it is the context that says where the broker is. */
async function findContext(name: string | undefined, isNeeded: boolean): Promise<FoundContext | undefined> {
  const folder = configFolder();
  const named = async (each: string) => ({
    ...(await readNamedContext(folder, each)),
    source: `context ${each}`,
    isFolders: false,
  });
  if (name !== undefined && name !== HERE) return named(name);
  const selected = name === HERE ? undefined : await selectedContext(folder);
  if (selected === undefined) return hereContext(name === HERE || isNeeded);
  const found = await named(selected);
  if (isNeeded) await tellOfFolder(found);
  return found;
}

/** The folder's context; undefined, too, if it is not needed and can't be trusted. */
async function hereContext(isNeeded: boolean): Promise<FoundContext | undefined> {
  const here = await folderContext(process.cwd());
  if (here === undefined) return undefined;
  const problem = await whyUntrusted(here);
  if (problem === undefined) {
    const context = await readContext(here);
    return context && { ...context, source: here, isFolders: true };
  }
  if (!isNeeded) return undefined;
  throw new CliError(`${here} is not used: ${problem}; or give --context or --address`, EXIT.usage);
}

/** Who stands in a folder with a broker of its own may think of that one. */
async function tellOfFolder({ source, address }: FoundContext): Promise<void> {
  const here = await folderContext(process.cwd());
  if (here === undefined) return;
  // One that can't be read is of another broker all the same.
  const other = await readContext(here).catch(() => undefined);
  if (other?.address === address) return;
  notice(`fanfare: ${source} is used (${address}); for the broker of ${dirname(here)}: --context ${HERE}`);
}
