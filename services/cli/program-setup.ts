// The options and help of `fanfare serve`, `certs` and `context`.
import { Argument, type Command, Option } from 'commander';
import type { CommonFlags } from './config.ts';
import { examples, withBroker, withOutput } from './program-options.ts';
import { parseCount } from './units.ts';

/**
 * Adds the command for the help only: what stands behind "serve" goes to the broker, whose flags are its own.
 */
export function addServe(program: Command): void {
  program.command('serve').summary('run a broker ("fanfare serve --help" shows its flags)');
}

export function addCerts(program: Command): void {
  const certs = program.command('certs').description('Make and look at certificates.');
  const run = () => import('./commands/certs.ts');
  const dataDir = () =>
    new Option('--data-dir <folder>', 'its certs folder holds the CA').default('.fanfare');
  const gather = (host: string, earlier: string[] = []) => [...earlier, host];

  examples(
    withOutput(certs.command('init'))
      .description(
        'Make a development CA, a server and a client certificate, or renew what is close to its end.',
      )
      .addOption(dataDir())
      .option('--host <name>', 'a name or address of the broker besides localhost; may be repeated', gather)
      .action(async (flags) => (await run()).initCertificates(flags)),
    '$ fanfare certs init --host broker.example.org',
  );
  examples(
    withOutput(certs.command('issue'))
      .description('Issue a certificate with the development CA.')
      .addOption(dataDir())
      .option('--principal <name>', 'a client certificate for spiffe://fanfare/{name}')
      .option('--server', 'a server certificate')
      .option('--broker <name>', 'with --server: of a broker of a cluster, spiffe://fanfare/broker/{name}')
      .option('--host <name>', 'with --server: a name or address besides localhost; may be repeated', gather)
      .option('--days <count>', 'how long it is in force, 1 to 36,500 (default: 397)', parseCount(1, 36_500))
      .option('--ca <file>', 'another CA')
      .option('--ca-key <file>', "the other CA's key")
      .option('--out <path>', 'where to write {path}.crt and {path}.key')
      .action(async (flags) => (await run()).issueCertificate(flags)),
    `$ fanfare certs issue --principal team/billing --out billing
$ fanfare certs issue --server --broker broker-1 --host broker-1.internal --out broker-1`,
  );
  examples(
    withOutput(
      certs.command('inspect').description('Show a certificate, and whether it is good.').argument('<file>'),
    )
      .option('--ca <file>', 'check that this CA signed it')
      .option('--key <file>', 'check that this is its key')
      .action(async (path, flags) => (await run()).inspectFile(path, flags)),
    '$ fanfare certs inspect .fanfare/certs/server.crt --ca .fanfare/certs/ca.crt',
  );
}

export function addContext(program: Command): void {
  const context = program.command('context').description('Name brokers and choose between them.');
  const run = () => import('./commands/context.ts');
  const name = () => new Argument('<name>', 'letters, digits and ._-');

  examples(
    withBroker(
      context
        .command('add')
        .description('Remember the broker given by flags, environment or folder under a name.')
        .addArgument(name()),
    )
      .option('--select', 'and select it')
      .action(async (given, flags: CommonFlags) => (await run()).addContext(given, flags)),
    `$ fanfare context add staging --address broker:7443 --tls-ca ca.crt --tls-cert me.crt --tls-key me.key --select
$ fanfare context add local --context .                       # the one of this folder, to be used anywhere`,
  );
  examples(
    context
      .command('select')
      .description('Use a context wherever no other is named.')
      .addArgument(name())
      .action(async (given) => (await run()).select(given)),
    '$ fanfare context select staging',
  );
  examples(
    withOutput(context.command('list').description('List the contexts.')).action(async (flags) =>
      (await run()).list(flags),
    ),
    '$ fanfare context list',
  );
  examples(
    withBroker(
      context.command('show').description('Show the context in force and where it comes from.'),
    ).action(async (flags) => (await run()).show(flags)),
    '$ fanfare context show',
  );
  examples(
    context
      .command('remove')
      .description('Forget a context.')
      .addArgument(name())
      .action(async (given) => (await run()).remove(given)),
    '$ fanfare context remove staging',
  );
}
