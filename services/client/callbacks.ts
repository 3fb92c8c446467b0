// Calls the functions that a program has given us to be told by. What one of them throws is that program's
// mistake: it becomes a warning of the process and disturbs nothing of ours.

/** `name` is what the program calls the function: "onRetry". */
export function tell<Arguments extends readonly unknown[]>(
  name: string,
  callback: ((...args: Arguments) => void) | undefined,
  ...args: Arguments
): void {
  try {
    callback?.(...args);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.emitWarning(`${name} threw ${text}`, 'FanfareWarning');
  }
}
