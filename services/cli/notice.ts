// Standard error: what a command tells people beside its output. Invariant: on a terminal nothing of what a
// broker, a file or a log says reaches it but as text.
import { printableLines } from '../broker/core/printable.ts';

/** Prints lines; the last one gets its newline here. */
export function notice(text: string): void {
  console.error(shownOnError(text));
}

/** The text as it is to stand on standard error. */
export function shownOnError(text: string): string {
  return process.stderr.isTTY ? printableLines(text) : text;
}
