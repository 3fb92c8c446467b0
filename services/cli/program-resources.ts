// The options and help of `fanfare topic` and `fanfare subscription`.
import { type Command, Option } from 'commander';
import { examples, PARTITIONS, withBroker } from './program-options.ts';
import { parseCount, parseDuration, parsePair, parseSize } from './units.ts';

/** admin.proto's limits. */
const RETENTION = { min: 60_000, max: 366 * 24 * 3_600_000 };
const RETENTION_BYTES = { min: 1024 ** 2, max: 1024 ** 5, orZero: true };
const ACK_DEADLINE = { min: 1_000, max: 600_000 };

export function addTopic(program: Command, signal: AbortSignal): void {
  const topic = program.command('topic').description('Create, show, change and delete topics.');
  const run = () => import('./commands/topic.ts');
  const withSettings = (command: Command) =>
    withBroker(command)
      .option(
        '--retention <duration>',
        'how long messages are kept, 1m to 366d (default: 7d)',
        parseDuration(RETENTION),
      )
      .option(
        '--retention-bytes <size>',
        'how much a partition keeps at most, from 1 MiB on; 0: no limit (default)',
        parseSize(RETENTION_BYTES),
      )
      .option('--label <key=value>', 'a label; may be repeated', parsePair);

  examples(
    withSettings(topic.command('create').description('Create a topic.').argument('<name>'))
      .option(
        '--partitions <count>',
        '1 to 1,024; can only grow (default: 4)',
        parseCount(PARTITIONS.min, PARTITIONS.max),
      )
      .addOption(
        new Option(
          '--durability <level>',
          'what an acknowledged message has survived (default: the best there is)',
        ).choices(['memory', 'stored', 'replicated', 'fsync']),
      )
      .option(
        '--min-replicas <count>',
        'with --durability replicated: how many replicas have confirmed it, 1 to 5 (default: 1)',
        parseCount(1, 5),
      )
      .action(async (name, flags) => (await run()).createTopic(name, flags)),
    `$ fanfare topic create orders --partitions 8
$ fanfare topic create clicks --retention 1h --retention-bytes 1GiB --label team=web
$ fanfare topic create payments --durability replicated --min-replicas 2`,
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
      .option(
        '--partitions <count>',
        'more than there are; keys then move and keep their order: with ordering, what is new waits for what was before',
        parseCount(PARTITIONS.min, PARTITIONS.max),
      )
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

export function addSubscription(program: Command, signal: AbortSignal): void {
  const subscription = program
    .command('subscription')
    .description('Create, show, change and delete subscriptions.');
  const run = () => import('./commands/subscription.ts');
  const withSettings = (command: Command) =>
    withBroker(command)
      .option(
        '--ack-deadline <duration>',
        'length of a lease, 1s to 600s (default: 10s)',
        parseDuration(ACK_DEADLINE),
      )
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
