// Requests to the API server: JSON in, JSON out, time-outs, retries that are safe, typed errors, every try
// counted by verb and resource.
//
// What is tried again, and why that is safe:
//   429, and 5xx with Retry-After    any request: the server says that it did not begin it
//   no answer, other 5xx             reads, and writes marked idempotent (a server-side apply)
//   401                              any request, once, even beyond maxTries, with credentials read again
// Everything else goes to the caller, whose next reconcile starts from the state of the world.
import { type Clock, type LinkedAbort, linkedAbort, type Random, sleep } from './clock.ts';
import { errorFromStatus, KubeError } from './errors.ts';
import { jsonLines, readText } from './frames.ts';
import type { Metrics } from './metrics.ts';
import type { KubeObject } from './objects.ts';
import type { Transport, TransportRequest, TransportResponse } from './transport.ts';

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete';

export interface KubeRequest {
  readonly verb: Verb;
  /** The plural, with the subresource: `topics/status`. For counting. */
  readonly resource: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  /** The body's type; application/json if left out. Patches say here what they are. */
  readonly contentType?: string;
  /** A write that may be done twice. Reads always may. */
  readonly idempotent?: boolean;
  /** The time of one try until its last byte, of a watch until the head of the answer. 30 s if left out. */
  readonly timeoutMs?: number;
  /** Tries in all; 5 if left out. */
  readonly maxTries?: number;
  /** A write that is sent whether or not this process leads: of a lease or an event. */
  readonly unguarded?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * One line of a watch. The object of an ERROR is a metav1.Status, that of a BOOKMARK has only a
 * resourceVersion.
 */
export interface WatchFrame {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: KubeObject;
}

export interface KubeHttp {
  /** Throws KubeError, or the signal's reason. */
  json<T>(request: KubeRequest): Promise<T>;
  /**
   * Ends normally when the server ends the watch. Throws KubeError: the answer was no 2xx, the connection
   * broke, or a line was no frame; or the signal's reason. `onOpen` is called when the server has accepted
   * the watch.
   */
  watch(request: KubeRequest, onOpen?: () => void): AsyncIterable<WatchFrame>;
  /** Ends all connections. */
  close(): void;
}

export interface KubeHttpOptions {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  /** For the server's audit log and managed fields. */
  readonly userAgent?: string;
  /** Whether this process may write now; asked before every guarded write. */
  readonly mayWrite?: () => boolean;
}

const TIMEOUT_MS = 30_000;
const MAX_TRIES = 5;
/** First wait before another try; doubles, with jitter. */
const RETRY_MS = 200;
/** All waits of one request together: beyond, the caller's own backoff is the better judge. */
const MAX_WAITING_MS = 60_000;
/** The bytes of one answer. A page of 500 objects is a few MB. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;
/** The bytes of one frame. etcd stores at most 1.5 MiB an object. */
const MAX_FRAME_BYTES = 16 * 1024 * 1024;

export function createKubeHttp(options: KubeHttpOptions): KubeHttp {
  const { transport, clock, random, metrics, mayWrite = () => true } = options;
  const userAgent = options.userAgent ?? 'fanfare-operator';

  /** One try up to the head of the answer. Counted, and an error unless it is a 2xx. */
  const open = async (request: KubeRequest, signal: AbortSignal): Promise<TransportResponse> => {
    if (isWrite(request.verb) && request.unguarded !== true && !mayWrite()) {
      throw new KubeError(
        0,
        'NotLeader',
        `${what(request)} was not sent: this process is not the leader any more`,
      );
    }
    let code = 'none';
    try {
      const response = await transport.send(transportRequest(request, userAgent, signal));
      code = String(response.status);
      if (response.status >= 200 && response.status < 300) return response;
      const text = await readText(response.body, MAX_ANSWER_BYTES, what(request));
      const retryAfter = response.headers['retry-after'];
      throw errorFromStatus(
        response.status,
        parseLoosely(text),
        what(request),
        Array.isArray(retryAfter) ? retryAfter[0] : retryAfter,
        clock.nowMs(),
      );
    } finally {
      metrics.countRequest(request.verb, request.resource, code);
    }
  };

  const tryOnce = async <T>(request: KubeRequest): Promise<T> => {
    using limit = timeLimit(clock, request, request.timeoutMs ?? TIMEOUT_MS);
    const response = await open(request, limit.signal);
    const text = await readText(response.body, MAX_ANSWER_BYTES, what(request)).catch((error: unknown) => {
      throw limit.signal.aborted ? limit.signal.reason : error;
    });
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new KubeError(0, 'BadAnswer', `${what(request)}: the answer is no JSON`, { cause });
    }
  };

  return {
    async json<T>(request: KubeRequest): Promise<T> {
      const { signal = new AbortController().signal, maxTries = MAX_TRIES } = request;
      let waitedMs = 0;
      let refreshed = false;
      for (let tries = 1; ; tries += 1) {
        try {
          return await tryOnce<T>(request);
        } catch (error) {
          if (!(error instanceof KubeError) || signal.aborted) throw error;
          if (error.status === 401 && !refreshed) {
            refreshed = true;
            transport.refresh();
            continue;
          }
          if (tries >= maxTries) throw error;
          if (!mayRetry(request, error)) throw error;
          const waitMs = Math.max(error.retryAfterMs ?? 0, RETRY_MS * 2 ** (tries - 1) * (0.5 + random()));
          waitedMs += waitMs;
          if (waitedMs > MAX_WAITING_MS || !(await sleep(clock, waitMs, signal))) throw error;
        }
      }
    },

    async *watch(request, onOpen) {
      using limit = timeLimit(clock, request, request.timeoutMs ?? TIMEOUT_MS);
      const response = await open(request, limit.signal).catch((error: unknown) => {
        if (error instanceof KubeError && error.status === 401) transport.refresh();
        throw error;
      });
      limit.lift();
      onOpen?.();
      try {
        for await (const frame of jsonLines(response.body, MAX_FRAME_BYTES, what(request))) {
          yield frame as WatchFrame;
        }
      } catch (error) {
        throw limit.signal.aborted ? limit.signal.reason : error;
      }
    },

    close: () => transport.close(),
  };
}

function mayRetry({ verb, idempotent = false }: KubeRequest, error: KubeError): boolean {
  if (error.status === 429) return true;
  if (error.status >= 500 && error.retryAfterMs !== undefined) return true;
  return error.transient && (!isWrite(verb) || idempotent);
}

function isWrite(verb: Verb): boolean {
  return verb === 'create' || verb === 'update' || verb === 'patch' || verb === 'delete';
}

interface TimeLimit extends LinkedAbort {
  /** Ends the time limit. The caller's signal still counts. */
  lift(): void;
}

function timeLimit(clock: Clock, request: KubeRequest, timeoutMs: number): TimeLimit {
  const linked = linkedAbort(request.signal);
  const lift = clock.setTimer(timeoutMs, () =>
    linked.abort(new KubeError(0, 'Timeout', `${what(request)}: no answer within ${timeoutMs / 1000} s`)),
  );
  return {
    signal: linked.signal,
    abort: linked.abort,
    lift,
    [Symbol.dispose]() {
      lift();
      linked[Symbol.dispose]();
    },
  };
}

const METHODS = {
  get: 'GET',
  list: 'GET',
  watch: 'GET',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
} as const;

function transportRequest(request: KubeRequest, userAgent: string, signal: AbortSignal): TransportRequest {
  const { verb, path, query = {}, body, contentType = 'application/json' } = request;
  const pairs = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
  const headers = { accept: 'application/json', 'user-agent': userAgent };
  return {
    method: METHODS[verb],
    path: pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs)}`,
    headers: body === undefined ? headers : { ...headers, 'content-type': contentType },
    body: body === undefined ? undefined : JSON.stringify(body),
    streaming: verb === 'watch',
    signal,
  };
}

function what({ verb, path }: KubeRequest): string {
  return `${verb} ${path}`;
}

function parseLoosely(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // A proxy's error page: shown as it is.
    return text;
  }
}
