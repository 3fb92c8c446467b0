// The `fanfare` command: parses, runs, and turns whatever happened into a line on stderr and an exit code.
// The code is 0 only if everything was done, and everything that was to be printed is printed.
import { type Command, CommanderError } from 'commander';
import { describeFailure, EXIT } from './failure.ts';
import { interrupted, listenToSignals } from './interruption.ts';
import { notice, shownOnError } from './notice.ts';
import { createProgram } from './program.ts';
import { standardOutput } from './standard-output.ts';

const argv = process.argv.slice(2);

if (argv[0] === 'serve') {
  // A broker looks after signals itself, and every flag behind "serve" is the broker's.
  const { serve } = await import('./commands/serve.ts');
  process.exitCode = await printed(await serve(argv.slice(1)));
} else {
  listenToSignals();
  // If nobody reads stderr, there is nobody to tell.
  process.stderr.on('error', () => {});
  const exitCode = await printed(await run());
  await new Promise((resolve) => process.stderr.write('', resolve));
  // The client is closed by now; what may still hold the process, such as a read of stdin, is of no use.
  process.exit(exitCode);
}

/** Resolves to the exit code when everything is printed, or never will be. */
async function printed(exitCode: number): Promise<number> {
  const output = standardOutput();
  await output.flushed(interrupted);
  if (exitCode !== EXIT.ok) return exitCode;
  if (output.failure !== undefined) return say(output.failure);
  return output.isFlushed ? EXIT.ok : EXIT.interrupted;
}

async function run(): Promise<number> {
  const program = createProgram({ signal: interrupted });
  forAll(program, (command) => {
    command.exitOverride();
    command.configureOutput({
      writeOut: (text) => standardOutput().write(text),
      outputError: (text, write) => write(shownOnError(text.replace(/^error: /, 'fanfare: '))),
    });
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    return say(error);
  }
}

/** Says on stderr what there is to say. Returns the exit code. */
function say(error: unknown): number {
  const { text, exitCode } = describeFailure(error);
  if (text !== '') notice(`fanfare: ${text}`);
  return exitCode;
}

function forAll(command: Command, visit: (command: Command) => void): void {
  visit(command);
  for (const child of command.commands) forAll(child, visit);
}
