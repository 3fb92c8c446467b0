// All connections of this client to one broker. HTTP/2 bounds the calls on a connection, and a call beyond
// the bound would wait unseen for another's end; so connections are added as streams need them, and an added
// one is closed when no stream was on it for IDLE_MS.
//
// Invariant: a stream never waits for another one to end. Each connection keeps room for
// unary calls, which do end.
import type {
  CallOptions,
  ClientReadableStream,
  ClientUnaryCall,
  requestCallback,
  StatusObject,
} from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { BrokerChannel, type ByteStream, type ChannelSettings } from './channel.ts';

/**
 * What streams may have of the 1,000 calls that a broker takes on a connection (its
 * MAX_STREAMS_PER_CONNECTION; HTTP/2 tells it to grpc-js, which keeps it to itself).
 */
const MAX_STREAMS_PER_CHANNEL = 950;
const MAX_CALLS_PER_CHANNEL = 1_000;
/** Each connection costs both sides a TLS session, windows and pings. */
const MAX_CHANNELS = 16;
/** The most streams that one client can have at one broker. */
export const MAX_STREAMS_PER_BROKER = MAX_CHANNELS * MAX_STREAMS_PER_CHANNEL;
const IDLE_MS = 10_000;

export interface BrokerSettings extends ChannelSettings {
  /** The broker's address, as it was given. */
  readonly name: string;
  /** A stream that is not connected within this fails with UNAVAILABLE. */
  readonly streamConnectMs: number;
  /** The same for a unary call; undefined: it waits until its deadline. */
  readonly unaryConnectMs: number | undefined;
  /** Called when a call here has ended. */
  readonly onEnd: (broker: BrokerChannels, ended: StatusObject) => void;
}

interface Used {
  readonly channel: BrokerChannel;
  streams: number;
  idleTimer: NodeJS.Timeout | undefined;
}

export class BrokerChannels {
  /** The broker's address, as it was given. */
  readonly name: string;
  /** When a call failed here because of the broker or the network, by performance.now(). */
  failedAtMs = Number.NEGATIVE_INFINITY;
  readonly #settings: BrokerSettings;
  /** The first one is there as long as this object is. */
  readonly #used: Used[];

  constructor(settings: BrokerSettings) {
    this.#settings = settings;
    const first = { channel: new BrokerChannel(settings), streams: 0, idleTimer: undefined };
    this.#used = [first];
    this.name = settings.name;
  }

  /** How many calls are under way. */
  get calls(): number {
    return this.#used.reduce((sum, { channel }) => sum + channel.calls, 0);
  }

  get connections(): number {
    return this.#used.length;
  }

  /** Begins to connect now. */
  connect(): void {
    this.#used[0]!.channel.connect();
  }

  openStream(path: string): ByteStream {
    return this.#openStream((channel) => channel.openStream(path));
  }

  openReadStream(path: string, request: Buffer): ClientReadableStream<Buffer> {
    return this.#openStream((channel) => channel.openReadStream(path, request));
  }

  unary(
    path: string,
    request: Buffer,
    options: CallOptions,
    callback: requestCallback<Buffer>,
  ): ClientUnaryCall {
    const { channel } =
      this.#used.find((each) => each.channel.calls < MAX_CALLS_PER_CHANNEL) ??
      this.#used.reduce((a, b) => (b.channel.calls < a.channel.calls ? b : a));
    const call = channel.unary(path, request, options, callback);
    const { unaryConnectMs, onEnd } = this.#settings;
    if (unaryConnectMs !== undefined) channel.limitConnecting(call, unaryConnectMs);
    call.on('status', (ended: StatusObject) => onEnd(this, ended));
    return call;
  }

  /** Ends what is under way with CANCELLED and that text. */
  close(details: string): void {
    for (const { channel, idleTimer } of this.#used) {
      clearTimeout(idleTimer);
      channel.close(status.CANCELLED, details);
    }
  }

  #openStream<S extends ByteStream | ClientReadableStream<Buffer>>(open: (channel: BrokerChannel) => S): S {
    const used = this.#used.find(({ streams }) => streams < MAX_STREAMS_PER_CHANNEL) ?? this.#add();
    const stream = open((used ?? this.#used[0]!).channel);
    if (used === undefined) {
      const text = `this client has ${MAX_STREAMS_PER_BROKER} streams at ${this.name}, which is the most: close some, or use another client`;
      stream.call?.cancelWithStatus(status.RESOURCE_EXHAUSTED, text);
      return stream;
    }
    used.streams += 1;
    clearTimeout(used.idleTimer);
    used.channel.limitConnecting(stream, this.#settings.streamConnectMs);
    stream.on('status', (ended: StatusObject) => {
      used.streams -= 1;
      this.#considerIdle(used);
      this.#settings.onEnd(this, ended);
    });
    return stream;
  }

  /** Undefined: there are as many connections as there may be. */
  #add(): Used | undefined {
    if (this.#used.length >= MAX_CHANNELS) return undefined;
    const added = { channel: new BrokerChannel(this.#settings), streams: 0, idleTimer: undefined };
    this.#used.push(added);
    return added;
  }

  #considerIdle(used: Used): void {
    if (used === this.#used[0] || used.streams > 0) return;
    clearTimeout(used.idleTimer);
    used.idleTimer = setTimeout(() => {
      // A unary call may have come to this connection meanwhile.
      if (used.channel.calls > 0) return this.#considerIdle(used);
      this.#used.splice(this.#used.indexOf(used), 1);
      used.channel.close(status.CANCELLED, 'the connection was not used');
    }, IDLE_MS).unref();
  }
}
