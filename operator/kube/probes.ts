// /readyz, /livez and /metrics over plain HTTP, on a port of the pod.
//
//   /readyz   200 when every cache has been read once, on standbys too: they are ready to take over
//   /livez    200 while the loops make steps. An API server or broker that is away is no reason to be
//             restarted; a watch loop that stands still or a reconcile that ignores its deadline is
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeError } from './errors.ts';
import type { Metrics } from './metrics.ts';

/** Returns the reasons why not; none: all is well. */
export type Check = () => readonly string[];

export interface ProbesOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly metrics: Metrics;
  readonly ready: Check;
  readonly live: Check;
}

export interface Probes {
  readonly port: number;
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 50;
const REQUEST_TIMEOUT_MS = 10_000;

/** Throws KubeError if the address can't be listened on; the message says why. */
export async function openProbes({ host, port, metrics, ready, live }: ProbesOptions): Promise<Probes> {
  const pages: Readonly<Record<string, () => [status: number, body: string]>> = {
    '/readyz': () => checked(ready()),
    '/livez': () => checked(live()),
    '/metrics': () => [200, metrics.render()],
  };
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) =>
    answer(request, response, pages),
  );
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'the port is in use: choose another one' : cause.message;
      reject(new KubeError(0, 'Unreachable', `probes on ${host}:${port}: ${why}`, { cause }));
    });
    server.listen({ host, port }, resolve);
  });
  // The probes never keep a process alive that has nothing else to do.
  server.unref();
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(
  { method, url = '' }: IncomingMessage,
  response: ServerResponse,
  pages: Readonly<Record<string, () => [number, string]>>,
): void {
  const page = pages[url.split('?')[0] ?? ''];
  const [status, body] =
    page === undefined
      ? [404, `There are ${Object.keys(pages).join(', ')} here.\n`]
      : method === 'GET' || method === 'HEAD'
        ? page()
        : [405, 'Use GET.\n'];
  response.writeHead(status, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  response.end(body);
}

function checked(problems: readonly string[]): [number, string] {
  return problems.length === 0 ? [200, 'ok\n'] : [503, `${problems.join('\n')}\n`];
}
