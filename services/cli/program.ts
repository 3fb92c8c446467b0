// Every command with its options and help. Nothing heavy is loaded here: each command's code is imported when it runs.
// Called by main.ts.
import { Argument, Command, Option } from 'commander';
import type { CommonFlags } from './config.ts';
import { parseCount, parseDuration, parsePair, parseSize } from './units.ts';

export interface ProgramOptions {
  /** Aborted on Ctrl-C: commands come to an end. */
  readonly signal: AbortSignal;
}

const EXIT_CODES =
  'Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 timeout, 130 interrupted.';

export function createProgram({ signal }: ProgramOptions): Command {
  const program = new Command('fanfare')
    .description(
      'Publish once, deliver to every subscription: the command line of the Fanfare message broker.',
    )
    .version('0.1.0')
    .helpCommand('help [command]', 'show help for a command')
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Commands find the broker by flags, then FANFARE_ variables (FANFARE_ADDRESS, FANFARE_PROJECT, FANFARE_TLS_CA,
FANFARE_TLS_CERT, FANFARE_TLS_KEY, FANFARE_CONTEXT), then the nearest .fanfare/context.json, then the selected context.
${EXIT_CODES}

First minute:
  $ npm start                                                 # in another terminal: a broker
  $ fanfare topic create orders
  $ fanfare subscription create audit --topic orders --ordering
  $ seq 1000 | fanfare pub orders
  $ fanfare sub audit --exit-at-end`,
    );
  addServe(program);
  addTopic(program, signal);
  addSubscription(program, signal);
  addPub(program, signal);
  addSub(program, signal);
  addTop(program, signal);
  addBench(program, signal);
  addCerts(program);
  addContext(program);
  return program;
}

/** The options of every command that talks to a broker. */
function withBroker(command: Command): Command {
  return withOutput(command)
    .option('--context <name>', 'use a named context (see "fanfare context")')
    .option('--address <host:port>', 'the broker')
    .option('--project <name>', 'the project of short names (default: "default")')
    .option('--tls-ca <file>', 'CA certificates that may vouch for the broker, PEM')
    .option('--tls-cert <file>', 'certificate to show, PEM')
    .option('--tls-key <file>', 'its private key, PEM')
    .option('--insecure', 'plaintext, for a broker that runs with it')
    .addOption(
      new Option('--timeout <duration>', 'how long to connect, and how long a call may take')
        .argParser(parseDuration)
        .default(10_000, '10s'),
    );
}

function withOutput(command: Command): Command {
  return command.addOption(
    new Option(
      '-o, --output <format>',
      'lists are JSON arrays, single things objects, streams an object a line',
    )
      .choices(['table', 'json'])
      .default('table'),
  );
}

function examples(command: Command, text: string): Command {
  return command.addHelpText('after', `\nExamples:\n${text.replace(/^/gm, '  ')}`);
}

/** Only for the help: main.ts hands everything behind "serve" to the broker, whose flags are its own. */
function addServe(program: Command): void {
  program.command('serve').summary('run a broker ("fanfare serve --help" shows its flags)');
}

function addTopic(program: Command, signal: AbortSignal): void {
  const topic = program.command('topic').description('Create, show, change and delete topics.');
  const run = () => import('./commands/topic.ts');
  const withSettings = (command: Command) =>
    withBroker(command)
      .option('--retention <duration>', 'how long messages are kept, 1m to 366d (default: 7d)', parseDuration)
      .option('--retention-bytes <size>', 'how much a partition keeps at most (default: no limit)', parseSize)
      .option('--label <key=value>', 'a label; may be repeated', parsePair);

  examples(
    withSettings(topic.command('create').description('Create a topic.').argument('<name>'))
      .option('--partitions <count>', '1 to 1,024; can only grow (default: 4)', parseCount(1))
      .addOption(
        new Option(
          '--durability <level>',
          'what an acknowledged message has survived (default: the best there is)',
        ).choices(['memory', 'stored', 'replicated', 'fsync']),
      )
      .action(async (name, flags) => (await run()).createTopic(name, flags)),
    `$ fanfare topic create orders --partitions 8
$ fanfare topic create clicks --retention 1h --retention-bytes 1GiB --label team=web`,
  );
  examples(
    withBroker(topic.command('list').description('List the topics of the project.')).action(async (flags) =>
      (await run()).listTopics(flags),
    ),
    `$ fanfare topic list
$ fanfare topic list -o json | jq -r '.[].name'`,
  );
  examples(
    withBroker(topic.command('describe').description('Show a topic.').argument('<name>')).action(
      async (name, flags) => (await run()).describeTopic(name, flags),
    ),
    '$ fanfare topic describe orders',
  );
  examples(
    withSettings(
      topic
        .command('update')
        .description('Change a topic: what is given, and nothing else.')
        .argument('<name>'),
    )
      .option('--partitions <count>', 'more than there are; keys may then move', parseCount(1))
      .action(async (name, flags) => (await run()).updateTopic(name, flags)),
    '$ fanfare topic update orders --partitions 16 --retention 30d',
  );
  examples(
    withBroker(topic.command('delete').description('Delete a topic and its messages.').argument('<name>'))
      .option('--force', 'its subscriptions too')
      .option('-y, --yes', "don't ask")
      .action(async (name, flags) => (await run()).deleteTopic(name, flags, signal)),
    '$ fanfare topic delete clicks --force --yes',
  );
}

function addSubscription(program: Command, signal: AbortSignal): void {
  const subscription = program
    .command('subscription')
    .description('Create, show, change and delete subscriptions.');
  const run = () => import('./commands/subscription.ts');
  const withSettings = (command: Command) =>
    withBroker(command)
      .option('--ack-deadline <duration>', 'length of a lease, 1s to 600s (default: 10s)', parseDuration)
      .option('--label <key=value>', 'a label; may be repeated', parsePair);

  examples(
    withSettings(
      subscription.command('create').description('Create a subscription to a topic.').argument('<name>'),
    )
      .requiredOption('--topic <name>', 'the topic')
      .option('--ordering', 'deliver the messages of an ordering key in order')
      .addOption(
        new Option('--from <position>', 'begin with new messages, or with the oldest there is')
          .choices(['latest', 'earliest'])
          .default('latest'),
      )
      .action(async (name, flags) => (await run()).createSubscription(name, flags)),
    `$ fanfare subscription create audit --topic orders --ordering
$ fanfare subscription create replay --topic orders --from earliest --ack-deadline 60s`,
  );
  examples(
    withBroker(subscription.command('list').description('List the subscriptions of the project.'))
      .option('--topic <name>', 'only those of this topic')
      .action(async (flags) => (await run()).listSubscriptions(flags)),
    '$ fanfare subscription list --topic orders',
  );
  examples(
    withBroker(
      subscription.command('describe').description('Show a subscription and its backlog.').argument('<name>'),
    ).action(async (name, flags) => (await run()).describeSubscription(name, flags)),
    '$ fanfare subscription describe audit',
  );
  examples(
    withSettings(
      subscription
        .command('update')
        .description('Change a subscription: what is given, and nothing else.')
        .argument('<name>'),
    ).action(async (name, flags) => (await run()).updateSubscription(name, flags)),
    '$ fanfare subscription update audit --ack-deadline 30s',
  );
  examples(
    withBroker(subscription.command('delete').description('Delete a subscription.').argument('<name>'))
      .option('-y, --yes', "don't ask")
      .action(async (name, flags) => (await run()).deleteSubscription(name, flags, signal)),
    '$ fanfare subscription delete replay --yes',
  );
}

function addPub(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('pub')
        .summary('publish standard input, a line a message')
        .description(
          'Publish standard input: a line is a message. What could not be published is named on stderr by its line.\nWith -o json, {"line":n,"messageId":"..."} for each acknowledged message, in the order of acknowledgement.',
        )
        .argument('<topic>'),
    )
      .option('--key <key>', 'the ordering key of all messages')
      .option(
        '--key-field <number>',
        'the field of each line that is its ordering key, from 1',
        parseCount(1),
      )
      .option('--delimiter <text>', 'what separates fields: text, or a /pattern/ (default: white space)')
      .option(
        '--key-match <pattern>',
        'the ordering key is the first group of this pattern, or what it matches',
      )
      .option('--attr <key=value>', 'an attribute of all messages; may be repeated', parsePair)
      .option('-f, --file <path>', 'read this file instead of standard input')
      .option('-0, --null', 'messages end with a NUL byte instead of a newline')
      .addOption(
        new Option('--retry <duration>', 'how long each message is tried to be published')
          .argParser(parseDuration)
          .default(60_000, '60s'),
      )
      .action(async (topic, flags) => (await import('./commands/pub.ts')).pub(topic, flags, signal)),
    `$ echo '{"total":12}' | fanfare pub orders
$ fanfare pub orders --key-field 1 < events.txt
$ fanfare pub orders --key-field 2 --delimiter , --attr source=import -f orders.csv -o json
$ apt-cache dumpavail | awk -v RS= -v ORS='\\0' 1 | fanfare pub packages -0 --key-match '^Section: (.*)$'`,
  );
}

function addSub(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('sub')
        .summary('print the messages of a subscription')
        .description(
          'Print the messages of a subscription, each followed by a newline, and acknowledge each after it is written.',
        )
        .argument('<subscription>'),
    )
      .option('-n, --count <number>', 'end after so many messages', parseCount(1))
      .option('--exit-at-end', 'end when the backlog is empty')
      .option('-0, --null', 'end messages with a NUL byte instead of a newline')
      .addOption(
        new Option(
          '--max-outstanding <number>',
          'how many messages may be delivered here and not acknowledged',
        )
          .argParser(parseCount(1))
          .default(1_000, '1,000'),
      )
      .option('--client-id <id>', 'keep the ordering keys of an earlier run (default: a new id)')
      .action(async (name, flags) => (await import('./commands/sub.ts')).sub(name, flags, signal)),
    `$ fanfare sub audit
$ fanfare sub audit --count 1 -o json | jq .
$ fanfare sub audit --exit-at-end > everything.txt`,
  );
}

function addTop(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('top')
        .summary('live rates, backlog and oldest unacked age of subscriptions')
        .description('Show rates, backlog and oldest unacked age of subscriptions, live.')
        .argument('[subscriptions...]', 'only these; default: all of the project'),
    )
      .addOption(
        new Option('--interval <duration>', '100ms to 60s').argParser(parseDuration).default(1_000, '1s'),
      )
      .option('--once', 'print once and end')
      .action(async (names, flags) => (await import('./commands/top.ts')).top(names, flags, signal)),
    `$ fanfare top
$ fanfare top audit billing --once -o json`,
  );
}

function addBench(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('bench')
        .summary('a load test over a topic of its own')
        .description(
          'Publish messages to a new topic, receive them by some subscriptions, and delete it all again.',
        ),
    )
      .addOption(
        new Option('--messages <count>', 'how many').argParser(parseCount(1)).default(100_000, '100,000'),
      )
      .addOption(new Option('--size <size>', 'of each').argParser(parseSize).default(256, '256'))
      .addOption(new Option('--subscriptions <count>', 'each gets all').argParser(parseCount(1)).default(8))
      .addOption(new Option('--partitions <count>', 'of the topic').argParser(parseCount(1)).default(4))
      .option('--rate <count>', 'messages a second (default: as fast as it goes)', parseCount(1))
      .action(async (flags) => (await import('./commands/bench.ts')).bench(flags, signal)),
    `$ fanfare bench
$ fanfare bench --messages 10000 --rate 1000 -o json`,
  );
}

function addCerts(program: Command): void {
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
      .option('--host <name>', 'with --server: a name or address besides localhost; may be repeated', gather)
      .option('--days <count>', 'how long it is in force (default: 397)', parseCount(1))
      .option('--ca <file>', 'another CA')
      .option('--ca-key <file>', "the other CA's key")
      .option('--out <path>', 'where to write {path}.crt and {path}.key')
      .action(async (flags) => (await run()).issueCertificate(flags)),
    `$ fanfare certs issue --principal team/billing --out billing
$ fanfare certs issue --server --host broker-1.internal --out broker-1`,
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

function addContext(program: Command): void {
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
$ fanfare context add local                                   # the one of this folder, to be used anywhere`,
  );
  examples(
    context
      .command('select')
      .description('Use a context wherever no other is nearer.')
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
