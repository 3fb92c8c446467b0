// Asks before something is destroyed, if there is somebody to ask.
import { createInterface } from 'node:readline/promises';
import { printable } from '../broker/core/printable.ts';
import { CliError, EXIT } from './failure.ts';

/**
 * Returns if it may be done: with --yes, without a terminal, or if the answer was
 * yes. Else throws a CliError.
 */
export async function confirm(
  question: string,
  yes: boolean | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (yes || !process.stdin.isTTY) return;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`${printable(question)} [y/N] `, { signal });
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    lines.close();
  }
  throw new CliError('nothing was deleted', EXIT.failed);
}
