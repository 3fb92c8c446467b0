// GET /metrics for Prometheus, over plain HTTP: with a token, or on a loopback or cluster-internal address.
// It can listen before there is a broker, so that a wrong address ends the start early; until serve() is
// called it answers 503. Invariant: however many ask, the text is made at most once in METRICS_CACHE_MS.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  MAX_METRICS_ANSWER_MS,
  MAX_METRICS_CONNECTIONS,
  MAX_METRICS_CONNECTIONS_PER_ADDRESS,
  MAX_METRICS_HEADER_BYTES,
  MAX_SILENT_MS,
  METRICS_CACHE_MS,
} from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { BearerToken } from './bearer-token.ts';
import { guardConnections } from './connection-guard.ts';
import { type ListenAddress, listenError } from './listen-error.ts';

const PATH = '/metrics';
const TEXT = 'text/plain; version=0.0.4; charset=utf-8';

export interface MetricsEndpointOptions {
  readonly listen: ListenAddress;
  /** What a scrape must show; undefined: nothing. */
  readonly token: BearerToken | undefined;
  readonly clock: Clock;
  /** Called with what fails later. */
  readonly onProblem: (error: unknown) => void;
  /** Absent: the broker's own. For tests that would take too long. */
  readonly limits?: Partial<MetricsLimits>;
}

export interface MetricsLimits {
  readonly maxConnections: number;
  readonly maxPerAddress: number;
  readonly maxSilentMs: number;
  readonly maxAnswerMs: number;
}

export const METRICS_LIMITS: MetricsLimits = Object.freeze({
  maxConnections: MAX_METRICS_CONNECTIONS,
  maxPerAddress: MAX_METRICS_CONNECTIONS_PER_ADDRESS,
  maxSilentMs: MAX_SILENT_MS,
  maxAnswerMs: MAX_METRICS_ANSWER_MS,
});

export interface MetricsEndpoint {
  /** What it listens on; port 0 has become a real one. */
  readonly host: string;
  readonly port: number;
  /** From now on scrapes are answered with this text. */
  serve(makeText: () => Promise<string>): void;
  close(): Promise<void>;
}

/** FAILED_PRECONDITION if it can't listen on the address; the message says why. */
export async function openMetricsEndpoint(options: MetricsEndpointOptions): Promise<MetricsEndpoint> {
  const { listen, token, clock, onProblem } = options;
  let text: (() => Promise<Buffer>) | undefined;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const [path] = (request.url ?? '').split('?');
    if (path !== PATH) return end(response, 404, `There is only ${PATH} here.\n`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return end(response, 405, 'Use GET.\n');
    if (token !== undefined && !(await token.isShownBy(request.headers.authorization))) {
      response.setHeader('www-authenticate', 'Bearer');
      return end(response, 401, 'A bearer token is needed.\n');
    }
    if (text === undefined) return end(response, 503, 'The broker is starting.\n');
    try {
      end(response, 200, await text());
    } catch (error) {
      onProblem(error);
      end(response, 500, 'The metrics could not be collected; the log says why.\n');
    }
  };

  const server = createServer({ maxHeaderSize: MAX_METRICS_HEADER_BYTES });
  const guard = guardConnections(server, { ...METRICS_LIMITS, ...options.limits });
  server.on('request', (request, response) => {
    guard.onAsked(request.socket);
    void answer(request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError('--metrics-listen', listen, error)));
    server.listen(listen, resolve);
  });
  server.on('error', onProblem);
  // The endpoint never keeps a broker alive that has stopped, or has failed to start.
  server.unref();
  return {
    host: listen.host,
    port: (server.address() as AddressInfo).port,
    serve(makeText) {
      text = shared(clock, async () => Buffer.from(await makeText()));
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      guard.closeAll();
      await closed;
    },
  };
}

/** Gives the same result to all that ask while it is made and for METRICS_CACHE_MS after. */
function shared<T>(clock: Clock, make: () => Promise<T>): () => Promise<T> {
  let making: Promise<T> | undefined;
  let madeMs: number | undefined;
  return () => {
    if (madeMs !== undefined && clock.monotonicMs() - madeMs >= METRICS_CACHE_MS) making = undefined;
    if (making !== undefined) return making;
    madeMs = undefined;
    making = make().finally(() => {
      madeMs = clock.monotonicMs();
    });
    return making;
  };
}

function end(response: ServerResponse, status: number, body: string | Buffer): void {
  // Between scrapes a connection would be silent.
  response.writeHead(status, { 'content-type': TEXT, connection: 'close' });
  response.end(body);
}
