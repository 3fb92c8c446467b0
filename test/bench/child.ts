// Starts a part of the bench in a process of its own and talks to it: the parent sends one job, then both
// send messages, each with its kind.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Child {
  readonly pid: number;
  /** Resolves with the next message of that kind. Rejects if the child ends first. */
  next<T>(kind: string): Promise<T>;
  send(kind: string, body?: object): void;
  /** Resolves when the child has ended. */
  readonly gone: Promise<unknown>;
  stop(): Promise<void>;
}

export function startChild(module: string, job: object): Child {
  const child: ChildProcess = fork(fileURLToPath(new URL(module, import.meta.url)), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit');
  child.send({ kind: 'job', ...job });
  const received: { kind: string }[] = [];
  const waiting: { kind: string; resolve: (message: never) => void; reject: (error: Error) => void }[] = [];
  child.on('message', (message: { kind: string }) => {
    const at = waiting.findIndex(({ kind }) => kind === message.kind);
    if (at === -1) received.push(message);
    else waiting.splice(at, 1)[0]!.resolve(message as never);
  });
  child.on('exit', (code, signal) => {
    for (const { kind, reject } of waiting)
      reject(new Error(`${module} ended (${code ?? signal}) before it said ${kind}`));
  });
  return {
    pid: child.pid!,
    gone: exited,
    next(kind) {
      const at = received.findIndex((message) => message.kind === kind);
      if (at !== -1) return Promise.resolve(received.splice(at, 1)[0] as never);
      return new Promise((resolve, reject) => waiting.push({ kind, resolve, reject }));
    },
    send: (kind, body = {}) => void child.send({ kind, ...body }),
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** In the child: resolves with the job, the parent's first message. */
export async function receiveJob<T>(): Promise<T> {
  const [job] = await once(process, 'message');
  return job as T;
}

export function report(kind: string, body: object = {}): void {
  process.send!({ kind, ...body });
}

export async function told(kind: string): Promise<void> {
  for (;;) {
    const [message] = (await once(process, 'message')) as [{ kind: string }];
    if (message.kind === kind) return;
  }
}
