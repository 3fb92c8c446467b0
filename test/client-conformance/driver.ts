// The suite's end of the protocol: a driver process, its answers, and its events as something to wait for.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { DriverCommand } from './drivers.ts';
import type { Answer, DriverEvent, Failure, Hello, Operation, Operations } from './protocol.ts';

/** The longest a driver may take for anything; scenarios that expect less say so. */
const PATIENCE_MS = 20_000;
const START_TIMEOUT_MS = 30_000;
const MAX_STDERR_CHARS = 4_000;

/** An operation failed in the client. */
export class OperationFailed extends Error {
  override readonly name = 'OperationFailed';
  readonly code: string;

  constructor({ code, message }: Failure) {
    super(message);
    this.code = code;
  }
}

export async function startDriver(
  { command, args }: DriverCommand,
  env: Readonly<Record<string, string>> = {},
  patienceMs = PATIENCE_MS,
): Promise<Driver> {
  const child = spawn(command, args, {
    env: { ...cleanEnvironment(), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const driver = new Driver(child);
  driver.hello = await driver.ask('hello', {}, START_TIMEOUT_MS);
  driver.patienceMs = patienceMs;
  return driver;
}

export class Driver implements AsyncDisposable {
  hello: Hello | undefined;
  /** The longest wait for anything. */
  patienceMs = START_TIMEOUT_MS;
  /** All events so far. */
  readonly events: DriverEvent[] = [];
  readonly #child: ChildProcess;
  readonly #asked = new Map<number, { resolve: (ok: unknown) => void; reject: (error: Error) => void }>();
  readonly #listeners = new Set<() => void>();
  readonly #gone: Promise<void>;
  #stderr = '';
  #lastId = 0;
  #problem: Error | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_CHARS);
    });
    createInterface({ input: child.stdout! }).on('line', (line) => this.#onLine(line));
    // The 'close' event tells that a driver is gone.
    child.stdin!.on('error', () => {});
    this.#gone = new Promise((resolve) => {
      child.once('error', (error) => this.#fail(new Error(`the driver can't be started: ${error.message}`)));
      child.once('close', (code, signal) => {
        this.#fail(new Error(`the driver ended with ${signal ?? `code ${code}`}`));
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /**
   * Resolves with the answer; rejects with OperationFailed when the client failed, with another error when
   * the driver did.
   */
  ask<Op extends Operation>(
    op: Op,
    request: Operations[Op]['request'],
    withinMs = this.patienceMs,
  ): Promise<Operations[Op]['answer']> {
    if (this.#problem !== undefined) return Promise.reject(this.#explained(this.#problem));
    const timeoutMs = Math.min(withinMs, this.patienceMs);
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#asked.delete(id);
      reject(this.#explained(new Error(`no answer to "${op}" within ${timeoutMs} ms`)));
    }, timeoutMs);
    this.#asked.set(id, { resolve, reject });
    this.#child.stdin!.write(`${JSON.stringify({ id, op, ...request })}\n`);
    const answer = promise.finally(() => clearTimeout(timer));
    // A scenario that has failed meanwhile no longer waits for the answer.
    answer.catch(() => {});
    return answer as Promise<Operations[Op]['answer']>;
  }

  /**
   * Waits until the events so far are as wanted: until `look` returns something other than undefined or
   * false. `what` is for the error of a wait that takes too long.
   */
  async until<Found>(
    what: string,
    look: (events: readonly DriverEvent[]) => Found | undefined | false,
    withinMs = this.patienceMs,
  ): Promise<Found> {
    const timeoutMs = Math.min(withinMs, this.patienceMs);
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      const found = look(this.events);
      if (found !== undefined && found !== false) return found;
      if (this.#problem !== undefined) throw this.#explained(this.#problem);
      if (performance.now() >= untilMs) {
        throw this.#explained(new Error(`waited ${timeoutMs} ms in vain for ${what}`));
      }
      await this.#event(untilMs - performance.now());
    }
  }

  /** Sends SIGSTOP, SIGCONT or SIGKILL to the driver. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#gone;
  }

  #event(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#listeners.add(done);
    });
  }

  #onLine(line: string): void {
    let message: Answer | DriverEvent;
    try {
      message = JSON.parse(line) as Answer | DriverEvent;
    } catch (cause) {
      this.#fail(new Error(`the driver wrote what is not JSON: ${line.slice(0, 200)}`, { cause }));
      return;
    }
    if ('event' in message) {
      this.events.push(message);
      this.#wake();
      return;
    }
    const asked = this.#asked.get(message.id);
    this.#asked.delete(message.id);
    if ('error' in message) asked?.reject(new OperationFailed(message.error));
    else asked?.resolve(message.ok);
  }

  #fail(problem: Error): void {
    this.#problem ??= problem;
    for (const { reject } of this.#asked.values()) reject(this.#explained(this.#problem));
    this.#asked.clear();
    this.#wake();
  }

  #wake(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #explained(error: Error): Error {
    const last = this.events.slice(-15).map((event) => `  ${JSON.stringify(event)}`);
    error.message += `; its last events:\n${last.join('\n') || '  none'}\nits standard error:\n${this.#stderr || '  nothing'}`;
    return error;
  }
}

/**
 * The environment without the developer's own settings, which must never reach a driver; a scenario about
 * proxies sets them.
 */
function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(FANFARE_|OTEL_|(https?|grpc|no)_proxy$)/i.test(name)),
  );
}
