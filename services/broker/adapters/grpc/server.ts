// The gRPC server: its options, its services with health and reflection, where it listens, and how it stops.
// It refuses calls while it stops or sends clients away; all else that services do is theirs.
import * as grpc from '@grpc/grpc-js';
import { BrokerError } from '../../core/errors.ts';
import {
  CONNECTION_WINDOW_BYTES,
  KEEPALIVE_TIMEOUT_MS,
  MAX_RECEIVE_BYTES,
  MAX_STREAMS_PER_CONNECTION,
  STREAM_WINDOW_BYTES,
} from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import { HEALTH_SERVICE } from './grpc-descriptors.ts';
import { Health } from './health.ts';
import { type Session, sessionOf } from './identity.ts';
import { reflectionServices } from './reflection.ts';
import type { GrpcService, RpcBorder } from './rpc.ts';
import { statusOf } from './status.ts';

export interface GrpcServerOptions {
  readonly services: readonly GrpcService[];
  readonly border: RpcBorder;
  /** Those of tls.ts, or createInsecure() for plaintext. */
  readonly credentials: grpc.ServerCredentials;
  readonly clock: Clock;
  readonly keepaliveMs: number;
  /** Called with what health says from now on; before the first call it is not serving. */
  readonly onServing?: (isServing: boolean) => void;
}

export interface DrainOptions {
  /** After this time whoever is still there is cut off. */
  readonly timeoutMs: number;
  /** Runs while streams still go on. */
  readonly before: () => Promise<void> | void;
  /** Runs when streams were told to end. It lets those calls end that wait for something. */
  readonly after: () => Promise<void> | void;
}

/** The services by which messages go in and out. */
const MESSAGE_PATHS = ['/fanfare.v1.Publisher/', '/fanfare.v1.Subscriber/'];

const STOPPING = new BrokerError('UNAVAILABLE', 'the broker is stopping: connect again');

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #server: grpc.Server;
  readonly #health: Health;
  /** The open sessions on which there was a call. */
  readonly #sessions = new Set<Session>();
  #draining: Promise<'drained' | 'cut off'> | undefined;
  /** Why messages are neither taken nor given out just now. */
  #away: BrokerError | undefined;

  constructor(options: GrpcServerOptions) {
    const { services, border } = options;
    this.#options = options;
    this.#server = new grpc.Server({
      'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
      'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
      'grpc.keepalive_time_ms': options.keepaliveMs,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_channelz': 0,
      interceptors: [(_method, call) => this.#admit(_method.path, call)],
    });
    this.#health = new Health(
      border,
      services.map(({ descriptor }) => descriptor.typeName),
    );
    const described = [...services, this.#health.service];
    const reflection = reflectionServices(
      border,
      described.map(({ descriptor }) => descriptor),
    );
    for (const { definition, handlers } of [...described, ...reflection]) {
      this.#server.addService(definition, handlers);
    }
  }

  /** Listens and serves; resolves to the port. FAILED_PRECONDITION if that address can't be had. */
  bind(listen: { readonly host: string; readonly port: number }): Promise<number> {
    const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
    const address = `${host}:${listen.port}`;
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, this.#options.credentials, (error, port) => {
        if (error) reject(bindError(address, error));
        else {
          this.#setServing(true);
          resolve(port);
        }
      });
    });
  }

  /**
   * Stops gracefully: health says so, new calls are refused with UNAVAILABLE, streams are ended, unary calls
   * finish. Every further call gets the same promise.
   */
  drain(options: DrainOptions): Promise<'drained' | 'cut off'> {
    this.#draining ??= this.#drain(options);
    return this.#draining;
  }

  async #drain(options: DrainOptions): Promise<'drained' | 'cut off'> {
    const { promise: timeUp, resolve } = Promise.withResolvers<'cut off'>();
    const cancelTimer = this.#options.clock.setTimer(options.timeoutMs, () => resolve('cut off'));
    try {
      return await Promise.race([timeUp, this.#finish(options)]);
    } finally {
      cancelTimer();
      this.#server.forceShutdown();
      // forceShutdown knows no sessions when channelz is off.
      for (const session of this.#sessions) session.destroy();
    }
  }

  async #finish({ before, after }: DrainOptions): Promise<'drained'> {
    const { clock, border } = this.#options;
    this.#setServing(false);
    // The watchers of health get a turn to be told, before their streams end, too.
    await new Promise<void>((resolve) => clock.defer(resolve));
    await before();
    await border.endStreams(STOPPING);
    await after();
    await new Promise<void>((resolve, reject) => {
      this.#server.tryShutdown((error) => (error ? reject(error) : resolve()));
    });
    return 'drained';
  }

  /**
   * Sends clients to other brokers: health says that nothing is served, streams are ended, and calls that
   * take or give out messages are refused with that reason. It lasts until it is called with undefined.
   */
  async sendAway(reason: BrokerError | undefined): Promise<void> {
    this.#away = reason;
    if (this.#draining !== undefined) return;
    this.#setServing(reason === undefined);
    if (reason !== undefined) await this.#options.border.endStreams(reason);
  }

  #setServing(isServing: boolean): void {
    this.#health.setServing(isServing);
    this.#options.onServing?.(isServing);
  }

  /**
   * Refuses calls while the server drains, health excepted, and those that take or give out messages while
   * clients are sent away.
   */
  #admit(path: string, call: grpc.ServerInterceptingCallInterface): grpc.ServerInterceptingCall {
    const session = sessionOf(call);
    if (session !== undefined && !this.#sessions.has(session)) {
      this.#sessions.add(session);
      widenWindows(session);
      session.once('close', () => this.#sessions.delete(session));
    }
    explainOversize(call);
    const refusal = this.#refusalOf(path);
    // The call is handed on as it is: a wrapper would cost every message of the hot methods.
    if (refusal === undefined) return call as grpc.ServerInterceptingCall;
    const listener = new grpc.ServerListenerBuilder()
      .withOnReceiveMetadata(() => call.sendStatus(statusOf(refusal)))
      .build();
    return new grpc.ServerInterceptingCall(
      call,
      new grpc.ResponderBuilder().withStart((next) => next(listener)).build(),
    );
  }

  #refusalOf(path: string): BrokerError | undefined {
    if (this.#draining !== undefined) return path.startsWith(`/${HEALTH_SERVICE}/`) ? undefined : STOPPING;
    return this.#away !== undefined && MESSAGE_PATHS.some((start) => path.startsWith(start))
      ? this.#away
      : undefined;
  }
}

/**
 * Widens what a sender may send before it hears that it was read. HTTP/2's 64 KiB, which grpc-js leaves, are
 * one turn of two busy event loops: publishers of large messages, and relays, which publish for many over one
 * link, would wait most of the time.
 */
function widenWindows(session: Session): void {
  if (session.destroyed) return;
  session.settings({ initialWindowSize: STREAM_WINDOW_BYTES });
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
}

/**
 * Turns grpc-js' status for a request that is longer than the transport takes into INVALID_ARGUMENT: it is
 * RESOURCE_EXHAUSTED, which our API says of what may be tried again. grpc-js sends it on the innermost call,
 * where interceptors are not asked.
 */
function explainOversize(call: grpc.ServerInterceptingCallInterface): void {
  const sendStatus = call.sendStatus;
  call.sendStatus = function (this: typeof call, ended): void {
    sendStatus.call(this, isOversize(ended) ? statusOf(tooLarge(ended.details)) : ended);
  };
}

/**
 * grpc-js says "Received message larger than max (9 vs 8)" or "Received message that decompresses to a size
 * larger than 8".
 */
function isOversize({ code, details }: Pick<grpc.StatusObject, 'code' | 'details'>): boolean {
  return code === grpc.status.RESOURCE_EXHAUSTED && details.startsWith('Received message ');
}

function tooLarge(details: string): BrokerError {
  const [, bytes] = /\((\d+) vs/.exec(details) ?? [];
  const has = bytes === undefined ? `more than ${MAX_RECEIVE_BYTES} bytes, decompressed` : `${bytes} bytes`;
  return new BrokerError('INVALID_ARGUMENT', `the request has ${has}; at most ${MAX_RECEIVE_BYTES} are read`);
}

/** Takes grpc-js' own log, which otherwise goes to the console. It is one for the whole process. */
export function onGrpcLog(listener: (message: string) => void): void {
  const write = (...parts: unknown[]): void => listener(parts.map(String).join(' '));
  grpc.setLogger({ error: write, info: write, debug: write });
}

function bindError(address: string, cause: Error): BrokerError {
  const reason = cause.message.includes('EADDRINUSE')
    ? 'another process listens there: stop it, or choose another address with --listen'
    : cause.message.includes('EACCES')
      ? 'not allowed: ports below 1024 need privileges; choose another with --listen'
      : cause.message;
  return new BrokerError('FAILED_PRECONDITION', `can't listen on ${address}: ${reason}`, { cause });
}
