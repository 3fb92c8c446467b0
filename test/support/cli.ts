// Runs the real `fanfare` command as a process of its own, as a shell would.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const BIN = fileURLToPath(new URL('../../services/cli/fanfare.js', import.meta.url));

export interface CliRun {
  readonly child: ChildProcessWithoutNullStreams;
  readonly finished: Promise<CliResult>;
}

export interface CliResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface CliOptions {
  /** The folder it runs in: contexts are looked for from here upward. */
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a command; the caller writes to its standard input and ends it. */
export function startCli(args: readonly string[], { cwd, env = {} }: CliOptions): CliRun {
  const child = spawn(process.execPath, [BIN, ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? '', HOME: cwd, XDG_CONFIG_HOME: `${cwd}/config`, ...env },
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => stderr.push(bytes));
  // A command may end without reading what it was given.
  child.stdin.on('error', () => {});
  const finished = new Promise<CliResult>((resolve) => {
    child.on('close', (code) => {
      resolve({ code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() });
    });
  });
  return { child, finished };
}

/** Runs a command to its end. */
export function runCli(
  args: readonly string[],
  options: CliOptions & { readonly input?: string | Buffer },
): Promise<CliResult> {
  const { child, finished } = startCli(args, options);
  child.stdin.end(options.input ?? '');
  return finished;
}

/**
 * Runs a command to its end on a terminal, which script(1) makes. `stdout` is all that reached the terminal,
 * standard error included.
 */
export function runOnTerminal(args: readonly string[], { cwd, env = {} }: CliOptions): Promise<CliResult> {
  const line = [process.execPath, BIN, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const child = spawn('script', ['--quiet', '--return', '--flush', '--command', line, '/dev/null'], {
    cwd,
    env: {
      ...{ PATH: process.env.PATH ?? '', HOME: cwd, XDG_CONFIG_HOME: `${cwd}/config` },
      ...{ SHELL: '/bin/sh', ...env },
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const parts: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => parts.push(bytes));
  return new Promise((resolve, reject) => {
    child.once('error', (cause) => reject(new Error(`script: ${cause.message}`, { cause })));
    child.once('close', (code) => resolve({ code, stdout: Buffer.concat(parts), stderr: '' }));
  });
}

export interface PipelineResult extends CliResult {
  /** Exit codes of the commands of the last pipeline. */
  readonly codes: readonly number[];
}

/** Runs a script of bash, in which `fanfare` is the command, with real pipes between commands. */
export function runPipeline(script: string, { cwd, env = {} }: CliOptions): Promise<PipelineResult> {
  const whole = `fanfare() { "$NODE" "$FANFARE" "$@"; }\n${script}\necho "\${PIPESTATUS[*]}" >&3`;
  const child = spawn('/bin/bash', ['-c', whole], {
    cwd,
    env: {
      ...{ PATH: process.env.PATH ?? '', HOME: cwd, XDG_CONFIG_HOME: `${cwd}/config` },
      ...{ NODE: process.execPath, FANFARE: BIN, ...env },
    },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const [, stdout, stderr, codes] = [0, 1, 2, 3].map((fd) => {
    const parts: Buffer[] = [];
    child.stdio[fd]?.on('data', (bytes: Buffer) => parts.push(bytes));
    return parts;
  });
  return new Promise((resolve) => {
    child.on('close', (code) => {
      resolve({
        code,
        stdout: Buffer.concat(stdout!),
        stderr: Buffer.concat(stderr!).toString(),
        codes: Buffer.concat(codes!).toString().trim().split(' ').map(Number),
      });
    });
  });
}
