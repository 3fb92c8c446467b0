// One connection to one broker: how it is configured, the calls under way on it and, if it could not be made,
// the reason in words in place of grpc-js' own.
import {
  type CallOptions,
  Channel,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  connectivityState,
  Metadata,
  type requestCallback,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import { type Address, formatAddress } from './address.ts';
import type { Certificates } from './certificates.ts';
import { BrokerCredentials } from './handshake.ts';
import type { HttpProxy, UnusableProxy } from './proxy.ts';
import { explainConnectFailure, notConnected } from './unreachable.ts';

export interface ChannelSettings {
  readonly address: Address;
  /** Undefined: plaintext. */
  readonly certificates: Certificates | undefined;
  readonly serverName: string | undefined;
  readonly proxy: HttpProxy | UnusableProxy | undefined;
  readonly keepaliveMs: number;
  /** The longest pause between two tries to connect. */
  readonly maxReconnectMs: number;
}

/** A bidirectional stream of bytes. */
export type ByteStream = ClientDuplexStream<Buffer, Buffer>;

/** What is needed of a call to end it early. */
interface Call {
  readonly call?: { cancelWithStatus(code: status, details: string): void } | null;
  on(event: 'status', listener: (status: StatusObject) => void): unknown;
}

const MAX_RECEIVE_BYTES = 16 * 1024 * 1024;
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

const raw = (bytes: Buffer): Buffer => bytes;

/**
 * Sent with streams: brokers then send on all of them in turn (RFC 9218). Without it node's HTTP/2 sends
 * on the oldest one as long as there is anything for it, and the consumers behind it starve on a
 * connection that is full.
 */
const streamMetadata = new Metadata();
streamMetadata.set('priority', 'i');

export class BrokerChannel {
  /** host:port */
  readonly address: string;
  readonly #client: Client;
  readonly #calls = new Set<Call>();

  constructor(settings: ChannelSettings) {
    this.address = formatAddress(settings.address);
    const credentials = new BrokerCredentials({ ...settings, isReady: () => this.isReady });
    const { host, port } = settings.proxy?.kind === 'proxy' ? settings.proxy : settings.address;
    this.#client = new Client(`dns:${formatAddress({ host, port })}`, credentials, {
      ...channelOptions(settings),
      'grpc.default_authority': this.address,
      channelFactoryOverride: (target, _credentials, options) =>
        new ExplainingChannel(target, credentials, options, () => this.isReady),
    });
  }

  /** How many calls are under way, streams and unary ones. */
  get calls(): number {
    return this.#calls.size;
  }

  get isReady(): boolean {
    return this.#client.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  /** Begins to connect now: the handshake goes on while the caller prepares its first call. */
  connect(): void {
    this.#client.getChannel().getConnectivityState(true);
  }

  openStream(path: string): ByteStream {
    return this.#track(this.#client.makeBidiStreamRequest(path, raw, raw, streamMetadata));
  }

  openReadStream(path: string, request: Buffer): ClientReadableStream<Buffer> {
    return this.#track(this.#client.makeServerStreamRequest(path, raw, raw, request, streamMetadata));
  }

  unary(
    path: string,
    request: Buffer,
    options: CallOptions,
    callback: requestCallback<Buffer>,
  ): ClientUnaryCall {
    return this.#track(this.#client.makeUnaryRequest(path, raw, raw, request, options, callback));
  }

  /** Fails the call with UNAVAILABLE if there is no connection after timeoutMs. */
  limitConnecting(call: Call, timeoutMs: number): void {
    if (this.isReady) return;
    const timer = setTimeout(() => {
      if (this.isReady) return;
      const text = `no connection was made within ${timeoutMs} ms`;
      call.call?.cancelWithStatus(
        status.UNAVAILABLE,
        notConnected(this.address, { reason: 'no-answer', text }),
      );
    }, timeoutMs);
    call.on('status', () => clearTimeout(timer));
  }

  /** Ends what is under way with that status. */
  close(code: status, details: string): void {
    for (const call of this.#calls) call.call?.cancelWithStatus(code, details);
    this.#client.close();
  }

  #track<C extends Call>(call: C): C {
    this.#calls.add(call);
    call.on('status', () => this.#calls.delete(call));
    return call;
  }
}

class ExplainingChannel extends Channel {
  readonly #credentials: BrokerCredentials;
  readonly #isReady: () => boolean;

  constructor(
    target: string,
    credentials: BrokerCredentials,
    options: ChannelOptions,
    isReady: () => boolean,
  ) {
    super(target, credentials, options);
    this.#credentials = credentials;
    this.#isReady = isReady;
  }

  override createCall(...parameters: Parameters<Channel['createCall']>): ReturnType<Channel['createCall']> {
    const call = super.createCall(...parameters);
    const start = call.start.bind(call);
    call.start = (metadata, listener) =>
      start(metadata, {
        onReceiveMetadata: (received) => listener.onReceiveMetadata(received),
        onReceiveMessage: (message) => listener.onReceiveMessage(message),
        onReceiveStatus: (ended) => listener.onReceiveStatus({ ...ended, details: this.#explain(ended) }),
      });
    return call;
  }

  #explain({ code, details }: StatusObject): string {
    if (code === status.UNAVAILABLE) return explainConnectFailure(details, this.#credentials.attempt);
    const [, seconds] = /^Deadline exceeded after ([\d.]+)s/.exec(details) ?? [];
    if (code !== status.DEADLINE_EXCEEDED || seconds === undefined) return details;
    const what = this.#isReady() ? 'answer from' : 'connection to';
    return `no ${what} the broker at ${this.#credentials.attempt.address} within ${Math.round(Number(seconds) * 1_000)} ms`;
  }
}

function channelOptions({ keepaliveMs, maxReconnectMs }: ChannelSettings): ChannelOptions {
  return {
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': Math.min(keepaliveMs, 10_000),
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
    // Whoever opened a stream opens it again, knowing what was answered; grpc-js' own
    // retries would keep copies.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': maxReconnectMs,
    // Every client has a connection of its own: two that share one share its window too.
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
    // grpc-js would proxy loopback, too, and say nothing of a proxy that fails: handshake.ts does it instead.
    'grpc.enable_http_proxy': 0,
  };
}
