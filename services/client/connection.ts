// One gRPC channel to a broker, and the resource names of its project. Made by client.ts; publisher, subscriber and admin
// open their calls on it. The only file that knows how a channel is configured.
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import {
  type CallOptions,
  Client as Channel,
  type ChannelCredentials,
  type ChannelOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
} from '@grpc/grpc-js';
import { cancelledBy, FanfareError, toFanfareError } from './errors.ts';

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

export interface ConnectOptions {
  /** host:port of any broker. */
  readonly address: string;
  readonly tls?: TlsOptions;
  /** Instead of tls: no encryption, no identity. Brokers allow it on loopback only, and only when told to. */
  readonly insecure?: boolean;
  /** Short names belong to it: `orders` is projects/{project}/topics/orders. Default "default". */
  readonly project?: string;
  /** How long a unary call may take. Default 30,000. */
  readonly callTimeoutMs?: number;
  /** A connection is checked this often: how soon a dead broker is noticed at the latest. Default 10,000. */
  readonly keepaliveMs?: number;
}

/** Of one unary call. */
export interface CallSettings {
  readonly signal?: AbortSignal;
  /** Default: the client's callTimeoutMs. */
  readonly timeoutMs?: number;
}

/** A bidirectional stream of bytes. */
export type ByteStream = ClientDuplexStream<Buffer, Buffer>;

const MAX_RECEIVE_BYTES = 16 * 1024 * 1024;
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

const raw = (bytes: Buffer): Buffer => bytes;

export class Connection {
  readonly address: string;
  readonly project: string;
  readonly #channel: Channel;
  readonly #callTimeoutMs: number;

  constructor(options: ConnectOptions) {
    this.address = options.address;
    this.project = options.project ?? 'default';
    this.#callTimeoutMs = options.callTimeoutMs ?? 30_000;
    this.#channel = new Channel(options.address, channelCredentials(options), channelOptions(options));
    // Begins to connect now: the handshake goes on while the caller prepares its first call.
    this.#channel.getChannel().getConnectivityState(true);
  }

  topicName(name: string): string {
    return name.includes('/') ? name : `projects/${this.project}/topics/${name}`;
  }

  subscriptionName(name: string): string {
    return name.includes('/') ? name : `projects/${this.project}/subscriptions/${name}`;
  }

  get projectName(): string {
    return `projects/${this.project}`;
  }

  /** Opens a bidirectional stream. Attach its 'data' listener at once. */
  openStream(path: string): ByteStream {
    return this.#channel.makeBidiStreamRequest(path, raw, raw, new Metadata());
  }

  openReadStream(path: string, request: Buffer): ClientReadableStream<Buffer> {
    return this.#channel.makeServerStreamRequest(path, raw, raw, request, new Metadata());
  }

  unary(path: string, request: Buffer, settings: CallSettings = {}): Promise<Buffer> {
    const { signal } = settings;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelledBy(signal));
      const callOptions: CallOptions = { deadline: Date.now() + (settings.timeoutMs ?? this.#callTimeoutMs) };
      const call = this.#channel.makeUnaryRequest(path, raw, raw, request, callOptions, (error, answer) => {
        signal?.removeEventListener('abort', onAbort);
        if (signal?.aborted) reject(cancelledBy(signal));
        else if (error) reject(toFanfareError(error));
        else resolve(answer!);
      });
      const onAbort = () => call.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /**
   * Resolves once a broker has answered. UNAVAILABLE, with the reason, as soon as connecting has failed; DEADLINE_EXCEEDED
   * after timeoutMs.
   */
  async reach(settings: CallSettings = {}): Promise<void> {
    try {
      await this.unary('/grpc.health.v1.Health/Check', Buffer.alloc(0), settings);
    } catch (error) {
      // Whatever else it says, it was there to say it.
      const { code } = toFanfareError(error);
      if (code === 'UNAVAILABLE' || code === 'DEADLINE_EXCEEDED' || code === 'CANCELLED') throw error;
    }
  }

  close(): void {
    this.#channel.close();
  }
}

function channelCredentials(options: ConnectOptions): ChannelCredentials {
  if (options.insecure) return credentials.createInsecure();
  if (options.tls === undefined) {
    throw new FanfareError(
      'INVALID_ARGUMENT',
      'tls is missing: give the CA, a certificate and its key; a broker talks to nobody without',
    );
  }
  const { ca, cert, key } = options.tls;
  try {
    const ip = ipOf(options);
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
function ipOf(options: ConnectOptions): string | undefined {
  const host = options.address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isIP(host) !== 0 && options.tls !== undefined && options.tls.serverName === undefined
    ? host
    : undefined;
}

function pem(value: string | Buffer): Buffer {
  if (typeof value !== 'string') return value;
  return value.startsWith('-----BEGIN') ? Buffer.from(value) : readFileSync(value);
}

function channelOptions(options: ConnectOptions): ChannelOptions {
  const serverName = options.tls?.serverName ?? (ipOf(options) && 'localhost');
  return {
    'grpc.keepalive_time_ms': options.keepaliveMs ?? 10_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
    // Streams are opened again by their owners, who know what was answered; grpc-js' own retries would keep copies.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 5_000,
    // Every client has a connection of its own: two that share one share its window too.
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
    ...(serverName !== undefined && { 'grpc.ssl_target_name_override': serverName }),
  };
}
