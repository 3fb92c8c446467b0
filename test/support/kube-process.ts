// A server process for tests that cannot outlive the test, whatever ends it: kill -9 included.
//
// The shell between holds a pipe to the test process and kills the server when the pipe closes; that way
// needs no rights and works on every Unix.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

export interface KubeProcess {
  readonly name: string;
  /** The server's own pid, not the shell's. */
  readonly pid: number;
  readonly ended: boolean;
  signal(signal: NodeJS.Signals): void;
  /** Resolves when it has ended; after `timeoutMs` it is killed. */
  stop(signal: 'SIGTERM' | 'SIGKILL', timeoutMs: number): Promise<void>;
  logTail(): Promise<string>;
}

// fd 3 is the pipe, since a background command gets /dev/null as its standard input. The watcher is killed
// once the server has ended by itself, so that it never kills another process that has got the same pid.
const SHELL = `
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
echo $server >&4
exec 4>&-
(cat <&3 >/dev/null; kill -KILL $server) &
watcher=$!
exec 3<&-
wait $server
code=$?
kill -KILL $watcher
exit $code
`;
const TAIL_CHARS = 3_000;

export function startProcess(binary: string, args: readonly string[], logFile: string): KubeProcess {
  const name = basename(binary);
  const log = openSync(logFile, 'a');
  const shell = spawn('sh', ['-c', SHELL, 'sh', binary, ...args], {
    stdio: ['pipe', log, log, 'ignore', 'pipe'],
  });
  closeSync(log);
  let pid: number | undefined;
  let pending: NodeJS.Signals | undefined;
  let ended = false;
  const end = endOf(shell).then(() => {
    ended = true;
  });
  // The shell's one line is the pid. A signal that comes before it waits for it.
  (shell.stdio[4] as NodeJS.ReadableStream).once('data', (line: Buffer) => {
    pid = Number(line.toString());
    if (pending !== undefined) send(pid, pending);
  });
  const signal = (which: NodeJS.Signals) => {
    if (ended) return;
    if (pid === undefined) pending = which;
    else send(pid, which);
  };
  return {
    name,
    get pid() {
      if (pid === undefined) throw new Error(`${name} has not told its pid yet`);
      return pid;
    },
    get ended() {
      return ended;
    },
    signal,
    async stop(which, timeoutMs) {
      signal(which);
      // A stopped process takes no SIGTERM.
      if (which === 'SIGTERM') signal('SIGCONT');
      const timer = setTimeout(() => signal('SIGKILL'), timeoutMs);
      await end;
      clearTimeout(timer);
    },
    logTail: async () => (await readFile(logFile, 'utf8')).slice(-TAIL_CHARS),
  };
}

function endOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => {
      child.stdin?.destroy();
      resolve();
    });
  });
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has just ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
