// Bytes to the API server and back: the port, and its adapter on Node's own HTTP with the addresses,
// certificates and tokens of a KubeConfig.
//
// @kubernetes/client-node's own requests open a connection each (a dispatcher per request), so only its
// KubeConfig is used. Here plain requests share a few kept-alive connections and every watch has one of its
// own, so that watches, which last for minutes, never make a request wait for a connection.
import { createHash } from 'node:crypto';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import {
  type AgentOptions,
  Agent as HttpsAgent,
  request as httpsRequest,
  type RequestOptions,
} from 'node:https';
import type { Socket } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import type { Clock } from './clock.ts';
import { KubeError } from './errors.ts';

export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** The path with its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  /** A watch: gets a connection of its own. */
  readonly streaming: boolean;
  /** Ends the request and its response, whatever they are at. */
  readonly signal: AbortSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Throws if the connection breaks before the end. Not reading to the end closes the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface Transport {
  /**
   * Resolves when the head of the answer is there, whatever its status. Throws KubeError Unreachable, or the
   * abort's reason.
   */
  send(request: TransportRequest): Promise<TransportResponse>;
  /** Reads certificates and tokens again before the next request: the server has just refused them. */
  refresh(): void;
  /** Ends all connections. */
  close(): void;
}

/**
 * Connections shared by all requests but watches. The API server's fairness gives one client not many more
 * seats.
 */
const MAX_CONNECTIONS = 16;
/** How often certificates and tokens in files, which are replaced under us, are looked at. */
const CREDENTIALS_MS = 10_000;
/**
 * A probe of an idle connection, so that a dead peer is noticed and middleboxes don't forget us (client-go's
 * number).
 */
const KEEP_ALIVE_MS = 30_000;
/** The API server closes what is idle for 90 s; a request must not be sent into that. */
const IDLE_CONNECTION_MS = 60_000;

interface Connections {
  readonly fingerprint: string;
  readonly requests: HttpAgent;
  readonly watches: HttpAgent;
}

interface Access {
  readonly connections: Connections;
  readonly headers: Readonly<Record<string, string>>;
}

/** Throws KubeError if the configuration names no cluster, or one that can't be used as it stands. */
export function kubeTransport(config: KubeConfig, clock: Clock): Transport {
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new KubeError(
      0,
      'Unreachable',
      'the kubeconfig has no current context with a cluster: set current-context',
    );
  }
  const server = new URL(cluster.server);
  const secure = server.protocol === 'https:';
  let connections: Connections | undefined;
  let access: Promise<Access> | undefined;
  let accessUntilMs = 0;

  const readAccess = async (): Promise<Access> => {
    const options: RequestOptions = {};
    try {
      await config.applyToHTTPSOptions(options);
    } catch (cause) {
      access = undefined;
      throw new KubeError(
        0,
        'Unreachable',
        `cannot use the kubeconfig for ${cluster.server}: ${messageOf(cause)}`,
        {
          cause,
        },
      );
    }
    const { ca, cert, key, rejectUnauthorized, servername } = options;
    const tls = definedOnly({ ca, cert, key, rejectUnauthorized, servername });
    const fingerprint = createHash('sha256').update(JSON.stringify(tls)).digest('hex');
    if (connections?.fingerprint !== fingerprint) {
      if (connections !== undefined) retire(connections);
      // A proxy needs client-node's agent, which pools too but can't be split.
      const proxy = cluster.proxyUrl === undefined ? undefined : (options.agent as HttpAgent);
      connections = { fingerprint, ...(proxy ? { requests: proxy, watches: proxy } : agents(secure, tls)) };
    }
    return { connections, headers: authHeaders(options) };
  };

  return {
    async send(request) {
      if (access === undefined || clock.monotonicMs() >= accessUntilMs) {
        access = readAccess();
        accessUntilMs = clock.monotonicMs() + CREDENTIALS_MS;
      }
      const { connections: pool, headers } = await access;
      request.signal.throwIfAborted();
      return send(secure ? httpsRequest : httpRequest, server, request, {
        agent: request.streaming ? pool.watches : pool.requests,
        headers: { ...headers, ...request.headers },
      });
    },
    refresh() {
      access = undefined;
    },
    close() {
      connections?.requests.destroy();
      connections?.watches.destroy();
    },
  };
}

/** The given file; else the first of KUBECONFIG, ~/.kube/config and, in a pod, its service account. */
export function loadKubeConfig(
  options: { readonly file?: string; readonly context?: string } = {},
): KubeConfig {
  const config = new KubeConfig();
  if (options.file === undefined) config.loadFromDefault();
  else config.loadFromFile(options.file);
  if (options.context !== undefined) config.setCurrentContext(options.context);
  return config;
}

/** Reads a kubeconfig from text (YAML or JSON). */
export function parseKubeConfig(text: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromString(text);
  return config;
}

function send(
  open: typeof httpsRequest | typeof httpRequest,
  server: URL,
  request: TransportRequest,
  { agent, headers }: { agent: HttpAgent; headers: Record<string, string> },
): Promise<TransportResponse> {
  const { method, path, body, signal } = request;
  const prefix = server.pathname === '/' ? '' : server.pathname.replace(/\/$/, '');
  return new Promise((resolve, reject) => {
    const outgoing = open(
      {
        protocol: server.protocol,
        hostname: server.hostname.replace(/^\[|\]$/g, ''),
        port: server.port,
        path: prefix + path,
        method,
        agent,
        signal,
        headers:
          body === undefined ? headers : { ...headers, 'content-length': String(Buffer.byteLength(body)) },
      },
      (incoming) => resolve(responseOf(incoming)),
    );
    outgoing.once('socket', (socket: Socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
    // Stays for the life of the request: an abort after the answer began is raised here as well.
    outgoing.on('error', (cause) => {
      if (signal.aborted) reject(signal.reason);
      else {
        reject(
          new KubeError(
            0,
            'Unreachable',
            `the API server at ${server.host} can't be reached: ${messageOf(cause)}`,
            {
              cause,
            },
          ),
        );
      }
    });
    outgoing.end(body);
  });
}

function responseOf(incoming: IncomingMessage): TransportResponse {
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming };
}

function agents(secure: boolean, tls: AgentOptions): Pick<Connections, 'requests' | 'watches'> {
  const Agent = secure ? HttpsAgent : HttpAgent;
  return {
    requests: new Agent({
      ...tls,
      keepAlive: true,
      maxSockets: MAX_CONNECTIONS,
      scheduling: 'lifo',
      timeout: IDLE_CONNECTION_MS,
    }),
    watches: new Agent({ ...tls, keepAlive: false }),
  };
}

/**
 * Lets what is under way finish and keeps nothing for later: the certificates it was opened with are no
 * longer ours.
 */
function retire({ requests }: Connections): void {
  requests.maxFreeSockets = 0;
  for (const idle of Object.values(requests.freeSockets)) for (const socket of idle ?? []) socket.destroy();
}

function authHeaders(options: RequestOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers ?? {})) headers[name] = String(value);
  if (typeof options.auth === 'string') {
    headers.Authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`;
  }
  return headers;
}

function definedOnly<T extends object>(fields: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(kept) as { [K in keyof T]?: NonNullable<T[K]> };
}

function messageOf(error: unknown): string {
  // An AggregateError (IPv4 and IPv6 both refused) has no message of its own.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
