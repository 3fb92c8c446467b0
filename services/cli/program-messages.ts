// The options and help of `fanfare pub`, `sub`, `top` and `bench`.
import { type Command, Option } from 'commander';
import { examples, PARTITIONS, WAITING, withBroker } from './program-options.ts';
import { parseCount, parseDuration, parsePair, parseSize, parseText } from './units.ts';

/** message.proto's and subscriber.proto's limits. */
const MAX_KEY_BYTES = 1_024;
const MAX_CLIENT_ID_BYTES = 256;
/** More fields than a line has. */
const MAX_FIELD = 1_000_000;

export function addPub(program: Command, signal: AbortSignal): void {
  examples(
    withBroker(
      program
        .command('pub')
        .summary('publish standard input, a line a message')
        .description(
          `Publish standard input: a line is a message. Empty lines are left out, and a carriage return before the newline is not part of the line. What could not be published is named on stderr by its line.\nWith -o json, {"line":n,"messageId":"..."} for each acknowledged message, in the order of acknowledgement. If nobody reads that any more the rest is published all the same.`,
        )
        .argument('<topic>'),
    )
      .option('--key <key>', 'the ordering key of all messages', parseText(MAX_KEY_BYTES))
      .option(
        '--key-field <number>',
        'the field of each line that is its ordering key, from 1',
        parseCount(1, MAX_FIELD),
      )
      .option('--delimiter <text>', 'what separates fields: text, or a /pattern/ (default: white space)')
      .option(
        '--key-match <pattern>',
        'the ordering key is the first group of this pattern, or what it matches',
      )
      .option('--attr <key=value>', 'an attribute of all messages; may be repeated', parsePair)
      .option('-f, --file <path>', 'read this file instead of standard input (-)')
      .option('-0, --null', 'messages end with a NUL byte instead of a newline, and are taken byte for byte')
      .option(
        '--raw',
        'take lines byte for byte: a carriage return before the newline is kept, an empty line is refused',
      )
      .addOption(
        new Option('--retry <duration>', 'how long each message is tried to be published')
          .argParser(parseDuration(WAITING))
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
          `Print the messages of a subscription, each followed by a newline, and acknowledge each after it is printed. In a pipe it is when it counts as read: once more than a pipe holds is written behind it, or after a second with a reader that keeps up, or when this command comes to its own end. What was not acknowledged comes again. To take so many messages and no more use --count: a reader that just goes away, as "| head" does, leaves open what it had.`,
        )
        .argument('<subscription>'),
    )
      .option('-n, --count <number>', 'end after so many messages', parseCount(1))
      .option(
        '--exit-at-end',
        'end after what there is now: published later, or with other consumers, is not waited for',
      )
      .option(
        '--exit-when-empty',
        'end when the backlog is empty, whoever has it and whenever it was published',
      )
      .option('-0, --null', 'end messages with a NUL byte instead of a newline')
      .option(
        '--raw',
        'byte for byte to a terminal, too, which else is shown control characters as \\u001b or \\n',
      )
      .addOption(
        new Option(
          '--max-outstanding <number>',
          'how many messages are taken ahead of printing, 1 to 1,000,000',
        )
          .argParser(parseCount(1, 1_000_000))
          .default(1_000, '1,000'),
      )
      .option(
        '--client-id <id>',
        'keep the ordering keys of an earlier run (default: a new id)',
        parseText(MAX_CLIENT_ID_BYTES),
      )
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
        new Option('--interval <duration>', '100ms to 60s')
          .argParser(parseDuration({ min: 100, max: 60_000 }))
          .default(1_000, '1s'),
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
        new Option('--messages <count>', 'how many')
          .argParser(parseCount(1, 100_000_000))
          .default(100_000, '100,000'),
      )
      .addOption(
        new Option('--size <size>', 'of each, 8 B to 2 MiB')
          .argParser(parseSize({ min: 8, max: 2 * 1024 ** 2 }))
          .default(256, '256'),
      )
      .addOption(
        new Option('--subscriptions <count>', 'each gets all').argParser(parseCount(1, 1_000)).default(8),
      )
      .addOption(
        new Option('--partitions <count>', 'of the topic')
          .argParser(parseCount(PARTITIONS.min, PARTITIONS.max))
          .default(4),
      )
      .option('--rate <count>', 'messages a second (default: as fast as it goes)', parseCount(1, 10_000_000))
      .action(async (flags) => (await import('./commands/bench.ts')).bench(flags, signal)),
    `$ fanfare bench
$ fanfare bench --messages 10000 --rate 1000 -o json`,
  );
}
