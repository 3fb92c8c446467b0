// The way to the brokers, and the resource names of the client's project.
//
// Any broker serves everything, so a client of several addresses uses one of them until a call fails there
// because of the broker (UNAVAILABLE: gone, stopping, stream too old) and then goes on with another, the one
// that has been good for longest. Unary calls are tried again here; a stream is opened again by whoever
// opened it. A call can also be opened at the address of a certain broker.
import { type ClientReadableStream, type ClientUnaryCall, type StatusObject, status } from '@grpc/grpc-js';
import { type Address, parseAddress, parseAddresses } from './address.ts';
import { Backoff, type BackoffOptions, delay } from './backoff.ts';
import { BrokerChannels } from './broker-channels.ts';
import { Certificates, type TlsOptions } from './certificates.ts';
import type { ByteStream } from './channel.ts';
import { cancelledBy, FanfareError, toFanfareError } from './errors.ts';
import { CALL, resourceName } from './option-rules.ts';
import { checkOptions } from './options.ts';
import { proxyFor } from './proxy.ts';

export type { TlsOptions } from './certificates.ts';
export type { ByteStream } from './channel.ts';

export interface ConnectOptions {
  /**
   * host:port of any broker, or of several with commas between them: one that is gone is replaced by
   * the next. At most 64. Without a port it is 7443; an IPv6 address with a port is in brackets;
   * address.ts lists every form.
   */
  readonly address: string;
  readonly tls?: TlsOptions;
  /** Instead of tls: no encryption, no identity. Brokers allow it on loopback only, and only when told to. */
  readonly insecure?: boolean;
  /** The project of short names: `orders` is projects/{project}/topics/orders. Default "default". */
  readonly project?: string;
  /**
   * Whether to publish to and subscribe at the brokers that own the partitions instead of any: saves a hop
   * between brokers. Owners must be reachable from here by their advertised addresses. Default false.
   */
  readonly direct?: boolean;
  /** How long a unary call may take, all tries together, and all pages of a list. Default 30,000. */
  readonly callTimeoutMs?: number;
  /**
   * How often a connection is checked: how soon a dead broker is noticed at the latest. Default 10,000; with
   * several addresses, or with `direct`, 2,500.
   */
  readonly keepaliveMs?: number;
}

/** How long one unary call may take, and what ends it earlier. */
export interface CallSettings {
  readonly signal?: AbortSignal;
  /** Default: the client's callTimeoutMs. */
  readonly timeoutMs?: number;
}

/** With several addresses, or with `direct`: a broker that takes no connection within this is passed over. */
const CONNECT_TIMEOUT_MS = 3_000;
/**
 * The same with one address, for streams: whoever opened one is told, and tries again. The system would say
 * nothing for two minutes.
 */
const SOLE_CONNECT_TIMEOUT_MS = 15_000;
/** How long a unary call is tried again while brokers say that they can't now: longer than a failover. */
const UNARY_RETRY_MS = 10_000;

/**
 * Codes that unary calls are tried again after. CANCELLED, if not by us, comes from a broker that was
 * cut off while it answered.
 */
const TRY_AGAIN = new Set(['UNAVAILABLE', 'ABORTED', 'CANCELLED']);

/** What a call ends with that is under way when the client is closed, or begins after that. */
const CLOSED = 'the client was closed';
/** How many reasons of as many brokers are told together. */
const MAX_REASONS = 5;

export class Connection {
  readonly addresses: readonly string[];
  readonly project: string;
  readonly direct: boolean;
  readonly #options: ConnectOptions;
  /** The timeout of a unary call that has none of its own. */
  readonly callTimeoutMs: number;
  readonly #certificates: Certificates | undefined;
  /** The brokers of all addresses that were used, and owners that routes named while they are used. */
  readonly #brokers = new Map<string, BrokerChannels>();
  #address: string;
  #closed = false;

  constructor(options: ConnectOptions) {
    this.addresses = parseAddresses(options.address);
    this.project = options.project ?? 'default';
    this.direct = options.direct ?? false;
    this.#options = options;
    this.callTimeoutMs = options.callTimeoutMs ?? 30_000;
    this.#certificates = certificatesOf(options);
    // So that many clients with one configuration don't all begin with the same broker.
    this.#address = this.addresses[Math.floor(Math.random() * this.addresses.length)]!;
    this.#broker().connect();
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

  /** For those who open streams again: another broker may well be there at once, the same one seldom. */
  get backoffDefaults(): BackoffOptions {
    return this.addresses.length > 1 ? { initialMs: 20, maxMs: 2_000 } : {};
  }

  /**
   * Opens a bidirectional stream, at a certain broker or at the one in use. Attach its 'data' listener at
   * once. CANCELLED after close().
   */
  openStream(path: string, address?: string): ByteStream {
    return this.#broker(address).openStream(path);
  }

  /** Opens a stream that only the broker sends on, at the one in use. CANCELLED after close(). */
  openReadStream(path: string, request: Buffer): ClientReadableStream<Buffer> {
    return this.#broker().openReadStream(path, request);
  }

  /**
   * The answer, from the first broker that gives one. Tried again for UNARY_RETRY_MS (10 s) while brokers are
   * UNAVAILABLE or say ABORTED; not when none can be connected to at all.
   */
  async unary(path: string, request: Buffer, settings: CallSettings = {}): Promise<Buffer> {
    checkOptions('a call', settings, CALL);
    const startMs = performance.now();
    const deadlineMs = startMs + (settings.timeoutMs ?? this.callTimeoutMs);
    const untilMs = Math.min(deadlineMs, startMs + UNARY_RETRY_MS);
    const backoff = new Backoff({ ...this.backoffDefaults, maxMs: 500 });
    /** The failures of the last tries in a row that found no broker. */
    let misses: FanfareError[] = [];
    let mayHaveBeenDone = false;
    for (;;) {
      let failure: FanfareError;
      try {
        return await this.#try(path, request, deadlineMs, settings.signal);
      } catch (error) {
        failure = toFanfareError(error);
      }
      misses = failure.notSent ? [...misses, failure] : [];
      const waitMs = backoff.nextMs();
      const nobodyThere = misses.length >= (this.addresses.length === 1 ? 1 : 2 * this.addresses.length);
      const isFinal = !TRY_AGAIN.has(failure.code) || settings.signal?.aborted === true || this.#closed;
      if (isFinal || nobodyThere || performance.now() + waitMs >= untilMs) {
        const error = misses.length > 1 ? nobodyReached(misses) : failure;
        if (mayHaveBeenDone) error.mayHaveBeenDone = true;
        throw error;
      }
      if (!failure.notSent) mayHaveBeenDone = true;
      await delay(waitMs, settings.signal);
    }
  }

  /**
   * Resolves once a broker has answered. UNAVAILABLE, with the reason, as soon as connecting has failed
   * everywhere; DEADLINE_EXCEEDED after timeoutMs.
   */
  async reach(settings: CallSettings = {}): Promise<void> {
    checkOptions('reach()', settings, CALL);
    try {
      await this.unary('/grpc.health.v1.Health/Check', Buffer.alloc(0), settings);
    } catch (error) {
      // Whatever else the broker says, it was there to say it.
      const { code } = toFanfareError(error);
      if (code === 'UNAVAILABLE' || code === 'DEADLINE_EXCEEDED' || code === 'CANCELLED') throw error;
    }
  }

  /** Throws CANCELLED after close(). */
  checkOpen(): void {
    if (this.#closed) throw new FanfareError('CANCELLED', CLOSED);
  }

  /** Tells that the broker at that address is no good: if it was in use, another one is from now on. */
  avoid(address: string): void {
    if (this.#closed) return;
    const broker = this.#brokers.get(address);
    if (broker !== undefined) broker.failedAtMs = performance.now();
    if (address !== this.#address || this.addresses.length === 1) return;
    const failedAtMs = (other: string) => this.#brokers.get(other)?.failedAtMs ?? Number.NEGATIVE_INFINITY;
    const others = this.addresses.filter((other) => other !== address);
    const best = Math.min(...others.map(failedAtMs));
    const candidates = others.filter((other) => failedAtMs(other) === best);
    this.#address = candidates[Math.floor(Math.random() * candidates.length)]!;
    this.#broker().connect();
  }

  /** Ends what is under way with CANCELLED. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const broker of this.#brokers.values()) broker.close(CLOSED);
    this.#brokers.clear();
  }

  #try(path: string, request: Buffer, deadlineMs: number, signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelledBy(signal));
      const deadline = Date.now() + (deadlineMs - performance.now());
      const onAbort = () => call.cancel();
      const call: ClientUnaryCall = this.#broker().unary(path, request, { deadline }, (error, answer) => {
        signal?.removeEventListener('abort', onAbort);
        if (signal?.aborted) reject(cancelledBy(signal));
        else if (error) reject(toFanfareError(error));
        else resolve(answer!);
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #broker(address = this.#address): BrokerChannels {
    this.checkOpen();
    let broker = this.#brokers.get(address);
    if (broker === undefined) {
      const { tls, keepaliveMs } = this.#options;
      const several = this.direct || this.addresses.length > 1;
      const parsed = parsedOrSo(address);
      broker = new BrokerChannels({
        name: address,
        address: parsed,
        certificates: this.#certificates,
        serverName: tls?.serverName,
        proxy: proxyFor(parsed, process.env),
        keepaliveMs: keepaliveMs ?? (several ? 2_500 : 10_000),
        // Where there are others to go to, this one should be found back soon.
        maxReconnectMs: several ? 1_000 : 5_000,
        streamConnectMs: several ? CONNECT_TIMEOUT_MS : SOLE_CONNECT_TIMEOUT_MS,
        unaryConnectMs: several ? CONNECT_TIMEOUT_MS : undefined,
        onEnd: (at, ended) => this.#onEnd(at, ended),
      });
      this.#brokers.set(address, broker);
    }
    return broker;
  }

  #onEnd(broker: BrokerChannels, { code }: StatusObject): void {
    if (code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED) this.avoid(broker.name);
    // A broker that only routes have named is forgotten: there may be any number of those in a client's life.
    if (broker.calls === 0 && !this.addresses.includes(broker.name)) {
      this.#brokers.delete(broker.name);
      broker.close(CLOSED);
    }
  }
}

function certificatesOf({ tls, insecure }: ConnectOptions): Certificates | undefined {
  if (insecure) return undefined;
  if (tls !== undefined) return new Certificates(tls);
  throw new FanfareError(
    'INVALID_ARGUMENT',
    'tls is missing: give the CA, a certificate and its key; a broker talks to nobody without',
  );
}

/**
 * Brokers name the addresses of owners. A text that is none can't be connected to, and
 * whoever tries is told so.
 */
function parsedOrSo(address: string): Address {
  try {
    return parseAddress(address);
  } catch (error) {
    if (error instanceof FanfareError) return { host: address, port: 0 };
    throw error;
  }
}

/** One error for tries at several brokers. */
function nobodyReached(misses: readonly FanfareError[]): FanfareError {
  const last = misses.at(-1)!;
  const reasons = [...new Set(misses.map(({ message }) => message))];
  const more = reasons.length > MAX_REASONS ? `; and ${reasons.length - MAX_REASONS} more` : '';
  const message = reasons.slice(0, MAX_REASONS).join('; ') + more;
  return new FanfareError(last.code, message, { cause: last, unreachable: last.unreachable });
}
