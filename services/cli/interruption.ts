// Ctrl-C, and SIGTERM: the first one ends a command gently, the second at once, with what the command has to say for itself then.
import { EXIT } from './failure.ts';

/** What comes so soon is the same one again, from a parent that passes on what the terminal has sent to both, as npx and timeout do. */
const ECHO_MS = 300;

const controller = new AbortController();
let words: () => string = () => '';
let firstMs = 0;

/** Aborted by the first one: commands come to an end. */
export const interrupted: AbortSignal = controller.signal;

/** What is said when the second one comes before the command's end: what was done, and what nobody knows. */
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
  if (text !== '') console.error(`fanfare: ${text}`);
  process.exit(EXIT.interrupted);
}
