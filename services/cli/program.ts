// Every command with its options and help. Nothing heavy is loaded here: what a command needs
// is imported when it runs.
import { Command } from 'commander';
import { addCluster, addDevCluster, addDoctor } from './program-cluster.ts';
import { addExplain } from './program-kube.ts';
import { addBench, addPub, addSub, addTop } from './program-messages.ts';
import { addSubscription, addTopic } from './program-resources.ts';
import { addCerts, addContext, addServe } from './program-setup.ts';

export interface ProgramOptions {
  /** Aborted on Ctrl-C: commands come to an end. */
  readonly signal: AbortSignal;
}

const EXIT_CODES = `Exit codes: 0 everything is done and printed, 1 failed, 2 usage, 3 not found, 4 denied, 5 unavailable, 6 timeout,
130 interrupted, 141 nobody reads the output any more, as behind "| head".`;

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
FANFARE_TLS_CERT, FANFARE_TLS_KEY, FANFARE_CONTEXT), then the selected context, then the nearest .fanfare/context.json.
${EXIT_CODES}

First minute ("fanfare" is ./fanfare in the repository's folder, its path elsewhere, or a link to it in your PATH):
  $ fanfare serve                                             # in another terminal: a broker
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
  addCluster(program, signal);
  addDoctor(program, signal);
  addExplain(program, signal);
  addDevCluster(program, signal);
  addCerts(program);
  addContext(program);
  return program;
}
