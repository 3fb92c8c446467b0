// Ctrl-C and SIGTERM: the first one ends a command gently; the second ends it at once, with what the
// command has to say then.
import { EXIT } from './failure.ts';
import { notice } from './notice.ts';

/**
 * A signal that follows so soon is the same one again: npx and timeout pass on what
 * the terminal sent to both.
 */
const ECHO_MS = 300;

const controller = new AbortController();
let words: () => string = () => '';
let firstMs = 0;

/** Aborted by the first signal: commands come to an end. */
export const interrupted: AbortSignal = controller.signal;

/**
 * Sets what is said if the second signal comes before the command's end: what was done, what nobody knows.
 */
export function sayWhenCutOff(lastWords: () => string): void {
  words = lastWords;
}

export function listenToSignals(): void {
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
}

function onSignal(): void {
  if (!interrupted.aborted) {
    firstMs = performance.now();
    controller.abort();
    return;
  }
  if (performance.now() - firstMs < ECHO_MS) return;
  const text = words();
  if (text !== '') notice(`fanfare: ${text}`);
  process.exit(EXIT.interrupted);
}
