// fanfare certs init | issue | inspect: makes certificates and shows what is in them.
// "issue" overwrites no file.
import { join, resolve } from 'node:path';
import { ensureDevelopmentCertificates } from '../../certs/development.ts';
import { inspectCertificate } from '../../certs/inspect.ts';
import { readPem, writePair } from '../../certs/pem-files.ts';
import { CliError, EXIT } from '../failure.ts';
import { notice } from '../notice.ts';
import { type OutputFormat, printDone, printOne } from '../output.ts';

interface IssueFlags {
  readonly dataDir: string;
  readonly principal?: string;
  readonly server?: boolean;
  readonly broker?: string;
  readonly host?: readonly string[];
  readonly days?: number;
  readonly ca?: string;
  readonly caKey?: string;
  readonly out?: string;
  readonly output: OutputFormat;
}

export async function initCertificates(flags: {
  readonly dataDir: string;
  readonly host?: readonly string[];
  readonly output: OutputFormat;
}): Promise<void> {
  const paths = await ensureDevelopmentCertificates(flags.dataDir, { hosts: flags.host ?? [] });
  if (flags.output === 'table') notice(paths.created ? 'made certificates' : 'all certificates are good');
  await printDone(
    paths.created ? 'certificates were made' : 'all certificates are good',
    flags.output,
    paths,
    {
      CA: ({ ca }) => ca,
      server: ({ serverCert, serverKey }) => `${serverCert}, ${serverKey}`,
      client: ({ clientCert, clientKey }) => `${clientCert}, ${clientKey}`,
    },
  );
}

export async function issueCertificate(flags: IssueFlags): Promise<void> {
  if ((flags.principal !== undefined) === (flags.server === true)) {
    throw new CliError('give --principal NAME for a client, or --server for a broker', EXIT.usage);
  }
  if (flags.broker !== undefined && flags.server !== true) {
    throw new CliError('--broker goes with --server: add it', EXIT.usage);
  }
  const folder = join(flags.dataDir, 'certs');
  const ca = {
    cert: await required(flags.ca ?? join(folder, 'ca.crt')),
    key: await required(flags.caKey ?? join(folder, 'ca.key')),
  };
  const { issueClient, issueServer } = await import('../../certs/issue.ts');
  const days = flags.days === undefined ? {} : { days: flags.days };
  const pair =
    flags.principal === undefined
      ? await issueServer(ca, {
          hosts: flags.host ?? [],
          ...(flags.broker !== undefined && { broker: flags.broker }),
          ...days,
        })
      : await issueClient(ca, { principal: flags.principal, ...days });
  const base = flags.out ?? join(folder, (flags.principal ?? 'server').replaceAll('/', '-'));
  const paths = { cert: resolve(`${base}.crt`), key: resolve(`${base}.key`) };
  if ((await readPem(paths.cert)) !== undefined || (await readPem(paths.key)) !== undefined) {
    throw new CliError(`${base}.crt or .key is there already: delete them or give another --out`);
  }
  await writePair(paths.cert, paths.key, pair);
  await printDone('the certificate was issued', flags.output, paths, {
    certificate: ({ cert }) => cert,
    key: ({ key }) => key,
  });
}

export async function inspectFile(
  path: string,
  flags: { readonly ca?: string; readonly key?: string; readonly output: OutputFormat },
): Promise<void> {
  const info = inspectCertificate(await required(path), {
    ...(flags.ca !== undefined && { ca: await required(flags.ca) }),
    ...(flags.key !== undefined && { key: await required(flags.key) }),
  });
  await printOne(flags.output, info, {
    subject: ({ subject }) => subject,
    issuer: ({ issuer }) => issuer,
    names: ({ names }) => names.join(', ') || '-',
    'in force': ({ notBefore, notAfter }) => `${notBefore.toISOString()} to ${notAfter.toISOString()}`,
    CA: ({ ca }) => (ca ? 'yes' : 'no'),
    fingerprint: ({ fingerprint }) => fingerprint,
  });
  const problems = [
    ...(info.inForce ? [] : ['it is not in force now']),
    ...(info.chainOk ? [] : [`${flags.ca} did not sign it`]),
    ...(info.keyOk ? [] : [`${flags.key} is not its key`]),
  ];
  if (problems.length > 0) throw new CliError(`${path}: ${problems.join('; ')}`);
}

async function required(path: string): Promise<string> {
  const text = await readPem(path);
  if (text === undefined)
    throw new CliError(`${path} does not exist; "certs init" makes certificates`, EXIT.notFound);
  return text;
}
