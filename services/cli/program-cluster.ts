// The options and help of `fanfare cluster`, `fanfare doctor` and `fanfare dev-cluster`.
import { type Command, Option } from 'commander';
import { examples, withBroker } from './program-options.ts';
import { parseCount, parseDamagedPlace } from './units.ts';

export function addCluster(program: Command, signal: AbortSignal): void {
  const run = () => import('./commands/cluster.ts');
  // `show` has the options, not `cluster`: a command with options of its own would take those behind `drain`.
  const cluster = program.command('cluster').description('Show the brokers of a cluster and drain one.');
  examples(
    withBroker(
      cluster
        .command('show', { isDefault: true })
        .description('Show brokers, what they own, and which partitions have moved.'),
    )
      .option('--partitions', 'every partition with its owner and epoch, too')
      .option('--watch', 'again every second')
      .action(async (flags) => (await run()).showCluster(flags, signal)),
    `$ fanfare cluster
$ fanfare cluster --watch
$ fanfare cluster --partitions -o json | jq '.partitions[] | select(.owner != .assigned)'`,
  );
  examples(
    withBroker(
      cluster
        .command('drain')
        .description(
          'Ask a broker to give its partitions to the others and to take no new ones, until revoked.\nKept over its restarts.',
        )
        .argument('<broker>', 'its name'),
    )
      .option('--revoke', 'let it take partitions again')
      .option('--wait', 'until it is done')
      .action(async (name, flags) => (await run()).drainBroker(name, flags, signal)),
    `$ fanfare cluster drain broker-2 --wait
$ fanfare cluster drain broker-2 --revoke`,
  );
}

export function addDoctor(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('doctor')
        .summary('what is wrong with the store and with what is in it')
        .description(
          'Say what is wrong with the store, read every stored message, and say which are damaged and what to do.\nAny broker does it for all. Exit code 1 if something is wrong.',
        )
        .argument('[topics...]', 'only these; default: all of the project'),
    )
      .option(
        '--skip <topic/partition@offset>',
        'give up the damaged messages there, for good: subscriptions pass them',
        parseDamagedPlace,
      )
      .action(async (topics, flags) => (await import('./commands/doctor.ts')).doctor(topics, flags, signal)),
    `$ fanfare doctor
$ fanfare doctor orders
$ fanfare doctor --skip orders/2@1041300`,
  );
}

export function addDevCluster(program: Command, signal: AbortSignal): void {
  examples(
    program
      .command('dev-cluster')
      .summary('Redis and three brokers on this machine, to look at')
      .description(
        'Start Redis and brokers on this machine with development certificates, and stop them on Ctrl-C.\nNeeds redis-server (7.0 or newer) in PATH.',
      )
      .addOption(
        new Option(
          '--data-dir <folder>',
          'holds the context, and dev-cluster with certificates and the data of Redis',
        ).default('.fanfare'),
      )
      .addOption(new Option('--brokers <count>', '1 to 16').argParser(parseCount(1, 16)).default(3))
      .addOption(
        new Option('--port <port>', 'of the first broker; the others get the next ones')
          .argParser(parseCount(1, 65_535))
          .default(7443),
      )
      .action(async (flags) => (await import('./commands/dev-cluster.ts')).devCluster(flags, signal)),
    `$ fanfare dev-cluster
$ fanfare dev-cluster --brokers 5`,
  );
}
