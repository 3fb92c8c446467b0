// The help of every command of `fanfare`, 100 columns wide. `vitest run --project golden -u` writes the file
// anew; commit only a difference that you can explain.
import type { Command } from 'commander';
import { expect, test } from 'vitest';
import { createProgram } from '../../services/cli/program.ts';

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

test('the help of every command', async () => {
  const help: string[] = [];
  for (const command of allCommands(createProgram({ signal: new AbortController().signal }))) {
    command.configureOutput({
      writeOut: (text) => help.push(text),
      getOutHelpWidth: () => 100,
      getOutHasColors: () => false,
    });
    command.outputHelp();
    help.push(`${'='.repeat(100)}\n`);
  }
  await expect(help.join('\n')).toMatchFileSnapshot('cli-help.txt');
});
