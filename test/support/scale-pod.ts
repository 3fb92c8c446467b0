// A consumer process that stands in for a pod, and how a test starts one. It connects from an address of its
// own, as pods do, and on SIGTERM it just ends: what it still held would be delivered again.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { PodProcess } from './fake-deployment.ts';

export interface ScalePodOptions {
  readonly name: string;
  /** An address in 127.0.0.0/8. */
  readonly ip: string;
  readonly address: string;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly project: string;
  readonly subscription: string;
  readonly concurrency: number;
  readonly maxOutstandingMessages: number;
  /** How long the work on a message takes. */
  readonly workMs: number;
}

export interface Processed {
  readonly pod: string;
  readonly data: string;
  readonly key: string;
  readonly attempt: number;
  /** When its processing began, by the clock of this machine. */
  readonly atMs: number;
}

/** Tells `onProcessed` of each message once it has been processed and is about to be acknowledged. */
export function startScalePod(
  options: ScalePodOptions,
  onProcessed: (message: Processed) => void,
): PodProcess {
  const script = fileURLToPath(new URL('scale-pod-child.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line === 'ready') ready.resolve();
    else onProcessed({ pod: options.name, ...(JSON.parse(line) as Omit<Processed, 'pod'>) });
  });
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  void exited.then(() => ready.reject(new Error(`${options.name} has ended`)));
  ready.promise.catch(() => {});
  return { ready: ready.promise, exited, end: () => void child.kill('SIGTERM') };
}
