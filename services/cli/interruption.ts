// Ctrl-C, and SIGTERM: the first one ends a command gently, the second at once, with what the command has to say for itself then.
import { EXIT } from './failure.ts';

const controller = new AbortController();
let words: () => string = () => '';

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
    controller.abort();
    return;
  }
  const text = words();
  if (text !== '') console.error(`fanfare: ${text}`);
  process.exit(EXIT.interrupted);
}
