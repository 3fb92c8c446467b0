// The way to the brokers, and the resource names of the client's project. Made by client.ts; publisher, subscriber and admin
// open their calls on it.
//
// Any broker serves everything, so a client of several addresses uses one of them until a call fails there for the broker's
// sake (UNAVAILABLE: gone, stopping, stream too old) and then goes on with another, the one that has been good for longest.
// Whoever opened the call opens the next one; unary calls are tried again here. A call can also be opened at the address of
// a certain broker, which routes.ts names.
import {
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  Metadata,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import { parseAddresses } from './address.ts';
import { Backoff, type BackoffOptions, delay } from './backoff.ts';
import { BrokerChannel, type TlsOptions } from './channel.ts';
import { cancelledBy, type FanfareError, toFanfareError } from './errors.ts';
import { CALL, resourceName } from './option-rules.ts';
import { checkOptions } from './options.ts';

export type { TlsOptions } from './channel.ts';

export interface ConnectOptions {
  /**
   * host:port of any broker, or of several by commas: one that is gone is replaced by the next. At most 64. Without a port it is
   * 7443; an IPv6 address with a port is in brackets; address.ts lists every form.
   */
  readonly address: string;
  readonly tls?: TlsOptions;
  /** Instead of tls: no encryption, no identity. Brokers allow it on loopback only, and only when told to. */
  readonly insecure?: boolean;
  /** Short names belong to it: `orders` is projects/{project}/topics/orders. Default "default". */
  readonly project?: string;
  /**
   * Publish to and subscribe at the brokers that own the partitions instead of any: saves a hop between brokers. They must be
   * reachable from here by their advertised addresses. Default false.
   */
  readonly direct?: boolean;
  /** How long a unary call may take, all tries together. Default 30,000. */
  readonly callTimeoutMs?: number;
  /**
   * A connection is checked this often: how soon a dead broker is noticed at the latest. Default 10,000; with several addresses
   * 2,500.
   */
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

/** With several addresses: a broker that has not taken a connection by then is passed over. */
const CONNECT_TIMEOUT_MS = 3_000;
/** How long a unary call is tried again while brokers say that they can't now: longer than a failover takes. */
const UNARY_RETRY_MS = 10_000;

/** Of unary calls. CANCELLED, when it was not us: the broker was cut off while it answered. */
const TRY_AGAIN = new Set(['UNAVAILABLE', 'ABORTED', 'CANCELLED']);

const raw = (bytes: Buffer): Buffer => bytes;

/**
 * With the streams (RFC 9218): brokers send on all of them in turn. Without it node's HTTP/2 sends on the oldest as long as there
 * is anything for it, and the consumers behind it starve on a connection that is full.
 */
const streamMetadata = new Metadata();
streamMetadata.set('priority', 'i');

export class Connection {
  readonly addresses: readonly string[];
  readonly project: string;
  readonly direct: boolean;
  readonly #options: ConnectOptions;
  readonly #callTimeoutMs: number;
  /** One for each address, and those of owners while they are used. */
  readonly #channels = new Map<string, BrokerChannel>();
  #address: string;

  constructor(options: ConnectOptions) {
    this.addresses = parseAddresses(options.address);
    this.project = options.project ?? 'default';
    this.direct = options.direct ?? false;
    this.#options = options;
    this.#callTimeoutMs = options.callTimeoutMs ?? 30_000;
    // So that many clients of one configuration don't all begin with the same broker.
    this.#address = this.addresses[Math.floor(Math.random() * this.addresses.length)]!;
    this.#channelTo(this.#address).connect();
  }

  /** host:port of the broker in use. */
  get address(): string {
    return this.#address;
  }

  topicName(name: string): string {
    resourceName('topic', name);
    return name.includes('/') ? name : `projects/${this.project}/topics/${name}`;
  }

  subscriptionName(name: string): string {
    resourceName('subscription', name);
    return name.includes('/') ? name : `projects/${this.project}/subscriptions/${name}`;
  }

  get projectName(): string {
    return `projects/${this.project}`;
  }

  /** For who opens streams again: another broker may well be there at once, the same one seldom. */
  get backoffDefaults(): BackoffOptions {
    return this.addresses.length > 1 ? { initialMs: 20, maxMs: 2_000 } : {};
  }

  /** Opens a bidirectional stream, at a certain broker or at the one in use. Attach its 'data' listener at once. */
  openStream(path: string, address?: string): ByteStream {
    const channel = this.#channelTo(address);
    const stream = channel.client.makeBidiStreamRequest(path, raw, raw, streamMetadata);
    return channel.track(stream, (ended) => this.#onEnd(channel, ended));
  }

  openReadStream(path: string, request: Buffer): ClientReadableStream<Buffer> {
    const channel = this.#channelTo();
    const stream = channel.client.makeServerStreamRequest(path, raw, raw, request, streamMetadata);
    return channel.track(stream, (ended) => this.#onEnd(channel, ended));
  }

  /**
   * The answer, from the first broker that gives one. Tried again while brokers are UNAVAILABLE or say ABORTED, for 10 s; not
   * when none can be connected to at all.
   */
  async unary(path: string, request: Buffer, settings: CallSettings = {}): Promise<Buffer> {
    checkOptions('a call', settings, CALL);
    const startMs = Date.now();
    const deadlineMs = startMs + (settings.timeoutMs ?? this.#callTimeoutMs);
    const backoff = new Backoff({ ...this.backoffDefaults, maxMs: 500 });
    /** Tries in a row that found no broker. */
    let misses = 0;
    let mayHaveBeenDone = false;
    for (;;) {
      let failure: FanfareError;
      try {
        return await this.#try(path, request, deadlineMs, settings.signal);
      } catch (error) {
        failure = toFanfareError(error);
      }
      misses = failure.notSent ? misses + 1 : 0;
      const waitMs = backoff.nextMs();
      const nobodyThere = misses >= (this.addresses.length === 1 ? 1 : 2 * this.addresses.length);
      const untilMs = Math.min(deadlineMs, startMs + UNARY_RETRY_MS);
      const isFinal = !TRY_AGAIN.has(failure.code) || settings.signal?.aborted === true;
      if (isFinal || nobodyThere || Date.now() + waitMs >= untilMs) {
        if (mayHaveBeenDone) failure.mayHaveBeenDone = true;
        throw failure;
      }
      if (!failure.notSent) mayHaveBeenDone = true;
      await delay(waitMs, settings.signal);
    }
  }

  /**
   * Resolves once a broker has answered. UNAVAILABLE, with the reason, as soon as connecting has failed everywhere;
   * DEADLINE_EXCEEDED after timeoutMs.
   */
  async reach(settings: CallSettings = {}): Promise<void> {
    checkOptions('reach()', settings, CALL);
    try {
      await this.unary('/grpc.health.v1.Health/Check', Buffer.alloc(0), settings);
    } catch (error) {
      // Whatever else it says, it was there to say it.
      const { code } = toFanfareError(error);
      if (code === 'UNAVAILABLE' || code === 'DEADLINE_EXCEEDED' || code === 'CANCELLED') throw error;
    }
  }

  /** The broker at that address, as far as this client uses it, is no good: go on with another. */
  avoid(address: string): void {
    const channel = this.#channels.get(address);
    if (channel !== undefined) channel.failedAtMs = performance.now();
    if (address !== this.#address || this.addresses.length === 1) return;
    const failedAtMs = (other: string) => this.#channels.get(other)?.failedAtMs ?? Number.NEGATIVE_INFINITY;
    const others = this.addresses.filter((other) => other !== address);
    const best = Math.min(...others.map(failedAtMs));
    const candidates = others.filter((other) => failedAtMs(other) === best);
    this.#address = candidates[Math.floor(Math.random() * candidates.length)]!;
    this.#channelTo(this.#address).connect();
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  #try(path: string, request: Buffer, deadline: number, signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelledBy(signal));
      const channel = this.#channelTo();
      const options: CallOptions = { deadline };
      const call = channel.client.makeUnaryRequest(path, raw, raw, request, options, (error, answer) => {
        signal?.removeEventListener('abort', onAbort);
        if (signal?.aborted) reject(cancelledBy(signal));
        else if (error) reject(toFanfareError(error));
        else resolve(answer!);
      });
      channel.track(call, (ended) => this.#onEnd(channel, ended));
      const onAbort = () => call.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #channelTo(address = this.#address): BrokerChannel {
    let channel = this.#channels.get(address);
    if (channel === undefined) {
      const several = this.direct || this.addresses.length > 1;
      channel = new BrokerChannel(address, {
        ...(this.#options.tls !== undefined && { tls: this.#options.tls }),
        insecure: this.#options.insecure ?? false,
        keepaliveMs: this.#options.keepaliveMs ?? (several ? 2_500 : 10_000),
        connectTimeoutMs: several ? CONNECT_TIMEOUT_MS : 0,
      });
      this.#channels.set(address, channel);
    }
    return channel;
  }

  #onEnd(channel: BrokerChannel, { code }: StatusObject): void {
    if (code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED) this.avoid(channel.address);
    // Of a broker that routes named: there may be any number of them in a client's life.
    if (channel.calls === 0 && !this.addresses.includes(channel.address)) {
      this.#channels.delete(channel.address);
      channel.close();
    }
  }
}
