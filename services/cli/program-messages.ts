// The options and help of `fanfare pub`, `sub`, `top` and `bench`. Called by program.ts.
import { type Command, Option } from 'commander';
import { examples, withBroker } from './program-options.ts';
import { parseCount, parseDuration, parsePair, parseSize } from './units.ts';

export function addPub(program: Command, signal: AbortSignal): void {
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

export function addSub(program: Command, signal: AbortSignal): void {
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

export function addTop(program: Command, signal: AbortSignal): void {
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

export function addBench(program: Command, signal: AbortSignal): void {
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
