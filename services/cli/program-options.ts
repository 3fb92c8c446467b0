// Options and help that many commands share.
import { type Command, Option } from 'commander';
import { type Bounds, parseDuration } from './units.ts';

/** How long somebody may want to wait, in ms: at most 24 days, what a timer of Node can. */
export const WAITING: Bounds = { min: 1, max: 24 * 24 * 3_600_000 };
/** admin.proto's limits. */
export const PARTITIONS: Bounds = { min: 1, max: 1_024 };

/** The options of every command that talks to a broker. */
export function withBroker(command: Command): Command {
  return withOutput(command)
    .option('--context <name>', 'use a named context (see "fanfare context"), or with "." the folder\'s')
    .option('--address <host:port>', 'the broker, or several of a cluster with commas between them')
    .option('--project <name>', 'the project of short names (default: "default")')
    .option('--tls-ca <file>', 'CA certificates that may vouch for the broker, PEM')
    .option('--tls-cert <file>', 'certificate to show, PEM')
    .option('--tls-key <file>', 'its private key, PEM')
    .option('--insecure', 'plaintext, for a broker that runs with it')
    .addOption(
      new Option('--timeout <duration>', 'how long to connect, and how long a call may take')
        .argParser(parseDuration(WAITING))
        .default(10_000, '10s'),
    );
}

export function withOutput(command: Command): Command {
  return command.addOption(
    new Option(
      '-o, --output <format>',
      'lists are JSON arrays, single things objects, streams an object a line',
    )
      .choices(['table', 'json'])
      .default('table'),
  );
}

export function examples(command: Command, text: string): Command {
  return command.addHelpText('after', `\nExamples:\n${text.replace(/^/gm, '  ')}`);
}
