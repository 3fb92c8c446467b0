// Processes that are run beside this one: their lines come out with their names in front, and they end with
// this process, however it ends.
//
// Each runs in a process group of its own: else Ctrl-C would reach all of them at once, and Redis would be
// gone before the brokers have handed over. A shell beside each, whose standard input ends when this
// process does, sees to its end.
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { printable } from '../broker/core/printable.ts';
import { notice } from './notice.ts';

export interface DevProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Shows only what goes wrong: standard error, not standard output. */
  readonly quiet?: boolean;
}

const STOP_MS = 15_000;
/** The status that a shell gives for a process ended by SIGKILL. */
const KILLED = 128 + 9;
/** What a shell prints when a signal ended a process; we say it ourselves, where it is news. */
const SHELLS_WORDS: ReadonlySet<string> = new Set(['Killed', 'Terminated']);
/**
 * Writes the pid of what it runs to descriptor 3, passes the output on, and ends the process with SIGTERM
 * when descriptor 4 reaches its end. Its own status is that of the process.
 */
const GUARD = `"$@" 3>&- 4<&- & pid=$!; echo "$pid" >&3; (cat >/dev/null; kill "$pid" 2>/dev/null) 3>&- <&4 & wait "$pid"`;

export class DevProcess {
  readonly name: string;
  /** The pid of the process itself; 0 before it is known. It changes when the process comes back. */
  pid = 0;
  hasEnded = false;
  ended: Promise<void>;
  readonly #options: DevProcessOptions;
  #guard: ChildProcess;
  #isStopping = false;
  /** How long an ended process stays away before it is started again; undefined: for good. */
  #comesBackMs: number | undefined;

  static start(options: DevProcessOptions): DevProcess {
    return new DevProcess(options);
  }

  private constructor(options: DevProcessOptions) {
    this.name = options.name;
    this.#options = options;
    [this.#guard, this.ended] = this.#spawn();
  }

  /**
   * From now on the process, when it ends by itself, is started again after delayMs,
   * until the signal is aborted.
   */
  comeBack(delayMs: number, signal: AbortSignal): void {
    this.#comesBackMs = delayMs;
    void this.ended.then(() => {
      if (signal.aborted || this.#isStopping) return;
      const timer = setTimeout(() => {
        [this.#guard, this.ended] = this.#spawn();
        this.comeBack(delayMs, signal);
      }, delayMs);
      signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
    });
  }

  /** Sends SIGTERM, and SIGKILL after STOP_MS (15 s); resolves when the process is gone. Idempotent. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.hasEnded) return;
    this.#guard.stdio[4]?.destroy();
    const timer = setTimeout(() => {
      show(this.name, `does not stop within ${STOP_MS / 1000} s: killed`);
      if (this.pid > 0) process.kill(this.pid, 'SIGKILL');
    }, STOP_MS);
    await this.ended;
    clearTimeout(timer);
  }

  #spawn(): [ChildProcess, Promise<void>] {
    const { command, args, quiet } = this.#options;
    this.hasEnded = false;
    const guard = spawn('/bin/sh', ['-c', GUARD, this.name, command, ...args], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const [, stdout, stderr, pids] = guard.stdio;
    lines(pids, (text) => {
      this.pid = Number(text);
    });
    lines(stderr, (text) => SHELLS_WORDS.has(text) || show(this.name, readable(text)));
    lines(stdout, (text) => quiet || show(this.name, readable(text)));
    const ended = new Promise<void>((resolve) => {
      const end = (what: string) => {
        this.hasEnded = true;
        guard.stdio[4]?.destroy();
        const back =
          this.#comesBackMs === undefined ? '' : ` and comes back in ${this.#comesBackMs / 1000} s`;
        if (!this.#isStopping) show(this.name, what + back);
        resolve();
      };
      guard.once('error', (error) => end(`could not be started: ${error.message}`));
      guard.once('exit', (code) => end(code === KILLED ? 'was killed' : `ended with status ${code}`));
    });
    return [guard, ended];
  }
}

/** Where a command is among the folders of `path`, which is like PATH; undefined: in none of them. */
export function findInPath(command: string, path: string): string | undefined {
  for (const folder of path.split(delimiter)) {
    const candidate = join(folder, command);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** A line of a JSON log in the form that people read: level, message, fields. */
export function readable(line: string): string {
  let parsed: Record<string, unknown>;
  try {
    parsed = JSON.parse(line);
  } catch {
    return line;
  }
  const { level, time: _time, msg, ...fields } = parsed;
  // A group of fields (an audit entry has one) is written without its name, which is the message's.
  const flat = Object.entries(fields).flatMap(([name, value]) =>
    isGroup(value) && name === msg ? Object.entries(value) : [[name, value] as const],
  );
  const rest = flat.map(([name, value]) => {
    return `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`;
  });
  return [...(level === 'info' ? [] : [String(level).toUpperCase()]), msg, ...rest].join(' ');
}

function isGroup(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function lines(stream: unknown, hear: (line: string) => void): void {
  createInterface({ input: stream as NodeJS.ReadableStream }).on('line', hear);
}

function show(name: string, text: string): void {
  notice(`${name.padEnd(11)} | ${printable(text)}`);
}
