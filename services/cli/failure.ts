// What a command can fail with, and what people and the shell are told then.
import { printable } from '../broker/core/printable.ts';
import type { FanfareError } from '../client/errors.ts';
import { OutputError } from './standard-output.ts';

/** The exit codes, as the README lists them. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  unavailable: 5,
  timeout: 6,
  /** What a shell gives for a command that SIGPIPE has ended. */
  closedOutput: 128 + 13,
  interrupted: 130,
} as const;

/** Ends a command with a message: what, why, what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed, options?: { cause?: unknown }) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

const BY_CODE: Readonly<Record<string, { exitCode: number; hint?: string }>> = {
  NOT_FOUND: { exitCode: EXIT.notFound, hint: 'see what there is with "topic list" and "subscription list"' },
  PERMISSION_DENIED: { exitCode: EXIT.denied },
  UNAUTHENTICATED: { exitCode: EXIT.denied },
  INVALID_ARGUMENT: { exitCode: EXIT.usage },
  UNAVAILABLE: { exitCode: EXIT.unavailable },
  DEADLINE_EXCEEDED: { exitCode: EXIT.timeout, hint: 'try again, or give more time with --timeout' },
};

const NOBODY_LISTENS = 'is the broker running there? "fanfare serve" starts one';

/** The line for people and the exit code for whatever a command threw. */
export function describeFailure(error: unknown): { text: string; exitCode: number } {
  if (error instanceof CliError) return { text: error.message, exitCode: error.exitCode };
  // Nothing is to be said, as by any command in front of `| head`; but not everything was printed.
  if (error instanceof OutputError && error.isClosed) return { text: '', exitCode: EXIT.closedOutput };
  const { name, code, message, unreachable } = error as { name?: string } & Partial<
    Omit<FanfareError, 'name'>
  >;
  // Only the user cancels.
  if (name === 'AbortError' || code === 'CANCELLED')
    return { text: 'interrupted', exitCode: EXIT.interrupted };
  if (name === 'CertificateError') return { text: message ?? '', exitCode: EXIT.failed };
  if (name === 'FanfareError') {
    const known = BY_CODE[code ?? ''];
    const hint = unreachable === 'refused' ? NOBODY_LISTENS : known?.hint;
    // A broker's text is one line, whatever the broker says.
    const said = printable(`${message}`);
    const text = hint === undefined ? said : `${said}; ${hint}`;
    return { text, exitCode: known?.exitCode ?? EXIT.failed };
  }
  return { text: message ?? String(error), exitCode: EXIT.failed };
}
