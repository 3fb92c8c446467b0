// A real broker in a process of its own, started as people start it (node services/broker/main.ts), for
// integration tests and benchmarks: mutual TLS with development certificates, a free port, a data folder
// under the temporary one.
//
//   await using broker = await startBroker();
//   await using client = broker.connect();
//
// To kill it and start it again with its data: startBroker({ dataDir: broker.dataDir, listen: broker.address
// }).
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Client, connect } from '../../services/client/client.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 30_000;
/**
 * Runs in the broker: its standard input ends when the test's process does, however that ends (a test that
 * takes too long is killed with all its handlers), and so does the broker.
 */
const END_WITH_TEST = `data:text/javascript,${encodeURIComponent(
  "process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume().unref();",
)}`;
/** Newest log lines that are kept: a broker that is flooded logs a lot. */
const MAX_LOG_LINES = 20_000;

export interface StartOptions {
  /** More flags, such as ['--metrics-listen', '127.0.0.1:0']. */
  readonly args?: readonly string[];
  /** More environment. The developer's own FANFARE_ and OTEL_ variables never reach the broker. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: a new folder, deleted when the BrokerProcess is disposed of. */
  readonly dataDir?: string;
  /** Default 127.0.0.1:0. */
  readonly listen?: string;
  /** Node's own flags, such as ['--cpu-prof']. */
  readonly nodeArgs?: readonly string[];
  /** Default 30 s. */
  readonly startTimeoutMs?: number;
}

/** A line of the broker's log; one that is not JSON, such as a stack trace of Node's, has only msg. */
export interface LogLine {
  readonly level?: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Starts a broker and waits until it listens. Rejects, with its log, if it ends or does not say so in time.
 */
export async function startBroker(options: StartOptions = {}): Promise<BrokerProcess> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'fanfare-broker-')));
  const args = [
    ...['--import', END_WITH_TEST],
    ...(options.nodeArgs ?? []),
    join(ROOT, 'services/broker/main.ts'),
    ...['--listen', options.listen ?? '127.0.0.1:0'],
    ...['--data-dir', dataDir],
    ...['--log-format', 'json'],
    ...(options.args ?? []),
  ];
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...cleanEnvironment(), ...options.env },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const broker = new BrokerProcess(child, dataDir, options.dataDir === undefined);
  try {
    const { address } = await broker.logged('listening', options.startTimeoutMs ?? START_TIMEOUT_MS);
    broker.address = String(address);
    return broker;
  } catch (error) {
    await broker[Symbol.asyncDispose]();
    throw error;
  }
}

export class BrokerProcess implements AsyncDisposable {
  /** host:port */
  address = '';
  readonly dataDir: string;
  readonly pid: number;
  /** Paths of the client certificate that the broker made, as connect() takes them. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  /** Resolves when the process is gone and its log is read to the end. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #ownsDataDir: boolean;
  readonly #lines: LogLine[] = [];
  readonly #waiting = new Set<(line: LogLine | Exit) => void>();
  #isGone = false;

  constructor(child: ChildProcess, dataDir: string, ownsDataDir: boolean) {
    this.#child = child;
    this.#ownsDataDir = ownsDataDir;
    this.dataDir = dataDir;
    this.pid = child.pid ?? 0;
    const at = (file: string) => join(dataDir, 'certs', file);
    this.tls = { ca: at('ca.crt'), cert: at('client.crt'), key: at('client.key') };
    createInterface({ input: child.stderr! }).on('line', (line) => this.#onLine(parseLine(line)));
    this.exited = new Promise((resolve) => {
      const gone = (exit: Exit): void => {
        this.#isGone = true;
        for (const hear of [...this.#waiting]) hear(exit);
        resolve(exit);
      };
      child.once('error', (error) => {
        this.#onLine({ level: 'fatal', msg: error.message });
        gone({ code: null, signal: null });
      });
      child.once('close', (code, signal) => gone({ code, signal }));
    });
  }

  /** What it has logged so far, parsed; the newest 20,000 lines. */
  get logLines(): readonly LogLine[] {
    return this.#lines;
  }

  /**
   * The first line with that message, or that the function accepts, among those logged and those to come.
   * Rejects, with the log, if the broker ends without it or it does not come in time.
   */
  logged(wanted: string | ((line: LogLine) => boolean), timeoutMs = 10_000): Promise<LogLine> {
    const matches = typeof wanted === 'string' ? (line: LogLine) => line.msg === wanted : wanted;
    const found = this.#lines.find(matches);
    if (found !== undefined) return Promise.resolve(found);
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(hear);
      };
      const refuse = (why: string): void => {
        finish();
        const what = typeof wanted === 'string' ? `"${wanted}"` : 'what is waited for';
        reject(new Error(`the broker ${why} without logging ${what}:\n${this.#logText()}`));
      };
      const hear = (heard: LogLine | Exit): void => {
        if (!('msg' in heard)) {
          refuse(`ended (code ${heard.code}, signal ${heard.signal})`);
        } else if (matches(heard)) {
          finish();
          resolve(heard);
        }
      };
      const timer = setTimeout(() => refuse(`ran for ${timeoutMs} ms`), timeoutMs);
      this.#waiting.add(hear);
      if (this.#isGone) refuse('has ended');
    });
  }

  /** Reads no more of its log, until resumeLog: what it writes fills its pipe. */
  pauseLog(): void {
    this.#child.stderr!.pause();
  }

  resumeLog(): void {
    this.#child.stderr!.resume();
  }

  /** A client with the broker's development certificate. The caller closes it. */
  connect(options: Partial<ConnectOptions> = {}): Client {
    return connect({ address: this.address, tls: this.tls, ...options });
  }

  /**
   * Sends a signal. SIGKILL (the default) resolves when the process is gone; others, such as SIGSTOP, at
   * once.
   */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    if (signal === 'SIGKILL') await this.exited;
  }

  /**
   * Sends SIGTERM and waits for the end: in order, with code 0. After 30 s it is killed and the promise
   * rejects.
   */
  async stop(): Promise<Exit> {
    this.#child.kill('SIGTERM');
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`the broker did not stop in ${STOP_TIMEOUT_MS} ms:\n${this.#logText()}`)),
      STOP_TIMEOUT_MS,
    );
    try {
      return await Promise.race([this.exited, late]);
    } finally {
      clearTimeout(timer);
      this.#child.kill('SIGKILL');
    }
  }

  /** Kills it if it still runs, and deletes the data folder if startBroker has made it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.#ownsDataDir) await rm(this.dataDir, { recursive: true, force: true });
  }

  #onLine(line: LogLine): void {
    this.#lines.push(line);
    if (this.#lines.length > MAX_LOG_LINES) this.#lines.shift();
    for (const hear of [...this.#waiting]) hear(line);
  }

  #logText(): string {
    return this.#lines
      .slice(-50)
      .map((line) => JSON.stringify(line))
      .join('\n');
  }
}

function parseLine(text: string): LogLine {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null && 'msg' in parsed) return parsed as LogLine;
    return { msg: text };
  } catch {
    // A line that is not the log's: Node itself speaks.
    return { msg: text };
  }
}

function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(FANFARE|OTEL)_/.test(name)));
}

/** What the broker has logged above info, but for what each start with development certificates says. */
export function unexpectedLines({ logLines }: BrokerProcess): LogLine[] {
  return logLines.filter(
    ({ level, msg }) => level !== 'info' && !String(msg).startsWith('development certificates: '),
  );
}
