// The `fanfare` command: parses, runs, and turns whatever happened into a line on stderr and an exit code.
import { type Command, CommanderError } from 'commander';
import { describeFailure, EXIT } from './failure.ts';
import { createProgram } from './program.ts';

const argv = process.argv.slice(2);
const interruption = new AbortController();

function onSignal(): void {
  // The second one is meant.
  if (interruption.signal.aborted) process.exit(EXIT.interrupted);
  interruption.abort();
}

if (argv[0] === 'serve') {
  // A broker looks after signals by itself, and every flag behind "serve" is its own.
  const { serve } = await import('./commands/serve.ts');
  process.exitCode = await serve(argv.slice(1));
} else {
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  // A reader that went away, as `head` does, ends the output and is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? EXIT.ok);
  });
  process.exitCode = await run();
  // The client is closed by now; what else may hold the process, such as a read of standard input, is of no use.
  if (process.stdout.writableLength === 0) process.exit();
  else process.stdout.end(() => process.exit());
}

async function run(): Promise<number> {
  const program = createProgram({ signal: interruption.signal });
  forAll(program, (command) => {
    command.exitOverride();
    command.configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'fanfare: ')),
    });
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { text, exitCode } = describeFailure(error);
    if (text !== '') console.error(`fanfare: ${text}`);
    return exitCode;
  }
}

function forAll(command: Command, visit: (command: Command) => void): void {
  visit(command);
  for (const child of command.commands) forAll(child, visit);
}
