// One gRPC channel to one broker. Made by connection.ts; the only file that knows how a channel is configured.
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  connectivityState,
  credentials,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import { FanfareError } from './errors.ts';

/** Paths of PEM files, or PEM text, or PEM bytes. */
export interface TlsOptions {
  /** The CAs that may vouch for the broker. */
  readonly ca: string | Buffer;
  /** This client's certificate: what it says is this client's principal. */
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** The name that the broker's certificate must have, where it is not the address's. */
  readonly serverName?: string;
}

export interface BrokerChannelOptions {
  readonly tls?: TlsOptions;
  readonly insecure?: boolean;
  readonly keepaliveMs: number;
  /** A call that is not connected by then fails with UNAVAILABLE. 0: it waits for its deadline. */
  readonly connectTimeoutMs: number;
}

/** A call of grpc-js, as far as it is looked after here. */
interface Call {
  readonly call?: { cancelWithStatus(code: status, details: string): void } | null;
  on(event: 'status', listener: (status: StatusObject) => void): unknown;
}

const MAX_RECEIVE_BYTES = 16 * 1024 * 1024;
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

export class BrokerChannel {
  /** host:port */
  readonly address: string;
  readonly client: Client;
  /** By performance.now(): when a call failed here for the broker's or the network's sake. */
  failedAtMs = Number.NEGATIVE_INFINITY;
  /** Calls under way. */
  calls = 0;
  readonly #connectTimeoutMs: number;

  constructor(address: string, options: BrokerChannelOptions) {
    this.address = address;
    this.#connectTimeoutMs = options.connectTimeoutMs;
    this.client = new Client(address, channelCredentials(address, options), channelOptions(address, options));
  }

  /** Begins to connect now: the handshake goes on while the caller prepares its first call. */
  connect(): void {
    this.client.getChannel().getConnectivityState(true);
  }

  /** Counts a call while it is under way, and fails it if there is no connection soon. */
  track<C extends Call>(call: C, onEnd: (status: StatusObject) => void): C {
    this.calls += 1;
    let timer: NodeJS.Timeout | undefined;
    if (this.#connectTimeoutMs > 0 && !this.#isReady) {
      timer = setTimeout(() => {
        if (this.#isReady) return;
        const details = `No connection established. Last error: no answer from ${this.address} within ${this.#connectTimeoutMs} ms`;
        call.call?.cancelWithStatus(status.UNAVAILABLE, details);
      }, this.#connectTimeoutMs);
    }
    call.on('status', (ended) => {
      clearTimeout(timer);
      this.calls -= 1;
      onEnd(ended);
    });
    return call;
  }

  close(): void {
    this.client.close();
  }

  get #isReady(): boolean {
    return this.client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }
}

function channelCredentials(address: string, options: BrokerChannelOptions): ChannelCredentials {
  if (options.insecure) return credentials.createInsecure();
  if (options.tls === undefined) {
    throw new FanfareError(
      'INVALID_ARGUMENT',
      'tls is missing: give the CA, a certificate and its key; a broker talks to nobody without',
    );
  }
  const { ca, cert, key } = options.tls;
  try {
    const ip = ipOf(address, options);
    return credentials.createSsl(pem(ca), pem(key), pem(cert), {
      ...(ip !== undefined && {
        checkServerIdentity: (_name, certificate) => checkServerIdentity(ip, certificate),
      }),
    });
  } catch (cause) {
    throw new FanfareError('INVALID_ARGUMENT', `tls is not usable: ${(cause as Error).message}`, { cause });
  }
}

/**
 * The IP address, where the broker is addressed by one and not told to have another name. TLS names no addresses to the
 * server (RFC 6066; node warns), so it is told a name and the certificate is checked for the address all the same.
 */
function ipOf(address: string, options: BrokerChannelOptions): string | undefined {
  const host = address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isIP(host) !== 0 && options.tls !== undefined && options.tls.serverName === undefined
    ? host
    : undefined;
}

function pem(value: string | Buffer): Buffer {
  if (typeof value !== 'string') return value;
  return value.startsWith('-----BEGIN') ? Buffer.from(value) : readFileSync(value);
}

function channelOptions(address: string, options: BrokerChannelOptions): ChannelOptions {
  const serverName = options.tls?.serverName ?? (ipOf(address, options) && 'localhost');
  return {
    'grpc.keepalive_time_ms': options.keepaliveMs,
    'grpc.keepalive_timeout_ms': Math.min(options.keepaliveMs, 10_000),
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
    // Streams are opened again by their owners, who know what was answered; grpc-js' own retries would keep copies.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    // Where there are others to go to, this one should be found back soon.
    'grpc.max_reconnect_backoff_ms': options.connectTimeoutMs > 0 ? 1_000 : 5_000,
    // Every client has a connection of its own: two that share one share its window too.
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
    ...(serverName !== undefined && { 'grpc.ssl_target_name_override': serverName }),
  };
}
