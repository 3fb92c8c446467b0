// Asks before something is destroyed, when there is somebody to ask.
import { createInterface } from 'node:readline/promises';
import { CliError, EXIT } from './failure.ts';

/** Returns if it may be done: --yes, or no terminal, or the answer was yes. */
export async function confirm(
  question: string,
  yes: boolean | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (yes || !process.stdin.isTTY) return;
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await lines.question(`${question} [y/N] `, { signal });
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    lines.close();
  }
  throw new CliError('nothing was deleted', EXIT.failed);
}
