// A terminal as a person has it: a command runs in it on a pseudo-terminal, what it prints can be awaited,
// and Ctrl-C is typed. script(1), which every Linux has, makes the pseudo-terminal.
import { type ChildProcess, spawn } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';

/** What runs a line of shell in a certain place. */
export interface Shell {
  readonly argv: (line: string) => readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Characters of a transcript in an error. */
const TAIL_CHARS = 6_000;

export class Terminal implements AsyncDisposable {
  readonly line: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<number>;
  #hasExited = false;
  #output = '';
  #wake: () => void = () => undefined;

  constructor(shell: Shell, line: string) {
    this.line = line;
    const command = shell.argv(line).map(quoted).join(' ');
    this.#child = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
      cwd: shell.cwd,
      env: shell.env,
      detached: true,
      stdio: 'pipe',
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text;
        this.#wake();
      });
    }
    this.#exited = new Promise((resolve, reject) => {
      this.#child.once('error', (cause) => reject(new Error(`script: ${cause.message}`, { cause })));
      this.#child.once('close', (code) => {
        this.#hasExited = true;
        this.#wake();
        resolve(code ?? 128);
      });
    });
  }

  /** All that was printed so far, without colours and without what was printed over. */
  get text(): string {
    const lines = stripVTControlCharacters(this.#output).replaceAll('\r\n', '\n').split('\n');
    return lines.map((line) => line.slice(line.lastIndexOf('\r') + 1)).join('\n');
  }

  /** Resolves once the command has printed `pattern`. Rejects if it ends first, or when the time is over. */
  async until(pattern: RegExp, timeoutMs: number): Promise<void> {
    const late = AbortSignal.timeout(timeoutMs);
    late.addEventListener('abort', () => this.#wake());
    while (!pattern.test(this.text)) {
      if (this.#hasExited) throw this.failure(`ended without printing ${pattern}`);
      if (late.aborted) throw this.failure(`did not print ${pattern} within ${timeoutMs / 1_000} s`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Resolves with the command's exit code. Rejects when the time is over. */
  async ended(timeoutMs: number): Promise<number> {
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    const code = await Promise.race([this.#exited, late]);
    clearTimeout(timer);
    if (code === undefined) throw this.failure(`did not end within ${timeoutMs / 1_000} s`);
    return code;
  }

  ctrlC(): void {
    this.#child.stdin!.write('\x03');
  }

  failure(what: string): Error {
    return new Error(`\`${this.line}\` ${what}. It printed:\n${this.text.slice(-TAIL_CHARS)}`);
  }

  /** Closes the terminal like a window: what still runs in it is hung up. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasExited) process.kill(-this.#child.pid!, 'SIGKILL');
    await this.#exited;
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
