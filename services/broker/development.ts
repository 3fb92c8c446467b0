// What a developer gets who configures nothing: certificates made on the spot, a context for the command
// line, and a greeting that says what to do next. Invariant: where real certificates are given, nothing of it
// is written.
import { join, relative } from 'node:path';
import { contextPath, writeContext } from '../certs/context-file.ts';
import { ensureDevelopmentCertificates } from '../certs/development.ts';
import { fanfareCommand } from '../node/command.ts';
import type { Config } from './config.ts';
import type { Log } from './log.ts';

export type TlsFiles = NonNullable<Config['tls']>;

/** The files of the broker's certificate; undefined: plaintext. Development certificates are warned of. */
export async function tlsFiles(config: Config, log: Log): Promise<TlsFiles | undefined> {
  if (config.insecurePlaintext) return undefined;
  if (config.tls !== undefined) return config.tls;
  const made = await ensureDevelopmentCertificates(config.dataDir, { hosts: extraHosts(config) });
  log.warn(
    { folder: join(config.dataDir, 'certs'), until: made.notAfter.toISOString().slice(0, 10) },
    'development certificates: who can read the folder can do everything here; a start renews them',
  );
  return { cert: made.serverCert, key: made.serverKey, ca: made.ca };
}

/** Where the broker listens or is advertised, unless its certificate names that anyway. */
function extraHosts({ listen, advertise }: Config): string[] {
  const hosts = new Set([listen.host, ...(advertise === undefined ? [] : [advertise.host])]);
  for (const host of ['localhost', '127.0.0.1', '::1', '0.0.0.0', '::']) hosts.delete(host);
  return [...hosts];
}

/** Lets `fanfare` find this broker without flags, unless it has real certificates. */
export async function writeDevelopmentContext(config: Config, address: string): Promise<void> {
  if (config.tls !== undefined) return;
  const context = { address, project: 'default' };
  if (config.insecurePlaintext) {
    await writeContext(contextPath(config.dataDir), context);
    return;
  }
  const { ca, clientCert, clientKey } = await ensureDevelopmentCertificates(config.dataDir);
  await writeContext(contextPath(config.dataDir), {
    ...context,
    tls: { ca, cert: clientCert, key: clientKey },
  });
}

export function greeting(config: Config, address: string): string {
  const fanfare = fanfareCommand();
  return [
    '',
    `  Fanfare is ready on ${address}${config.insecurePlaintext ? ' (plaintext)' : ' (mutual TLS)'}; data in ${relative('.', config.dataDir) || '.'}`,
    '',
    '  In a second terminal, in this folder:',
    `    ${fanfare} topic create orders`,
    `    ${fanfare} subscription create audit --topic orders`,
    `    echo 'hello' | ${fanfare} pub orders`,
    `    ${fanfare} sub audit`,
    '',
    '  Ctrl-C stops it.',
    '',
    '',
  ].join('\n');
}
