// The gRPC server: its options, its services with health and reflection, where it listens, and how it stops.
// It refuses calls while it stops or sends clients away; all else that services do is theirs. Invariant: each
// of its sockets is one of `connections`, from accept on.
import type { EventEmitter } from 'node:events';
import type { Http2Session, ServerHttp2Session } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import * as grpc from '@grpc/grpc-js';
import { BrokerError } from '../../core/errors.ts';
import {
  CONNECTION_LIMITS,
  CONNECTION_LINGER_MS,
  CONNECTION_SWEEP_MS,
  CONNECTION_WINDOW_BYTES,
  KEEPALIVE_TIMEOUT_MS,
  MAX_CONNECTION_IDLE_MS,
  MAX_RECEIVE_BYTES,
  MAX_REQUEST_BYTES,
  MAX_STREAMS_PER_CONNECTION,
  RECEIVING_LIMITS,
  STREAM_WINDOW_BYTES,
} from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import { type ConnectionLimits, Connections } from './connections.ts';
import { HEALTH_SERVICE } from './grpc-descriptors.ts';
import { Health } from './health.ts';
import { type Listen, type Listener, listen } from './listener.ts';
import { type BaseCall, Receiving, type ReceivingLimits } from './receiving.ts';
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
  /** Connections are sent away after it, 10 % more or less; their streams may go on as long again. */
  readonly maxConnectionAgeMs?: number;
  /** Whether a principal is a broker's. */
  readonly isBroker?: (principal: string) => boolean;
  /** Called when a connection was ended whose client may wonder why. */
  readonly onConnectionEnded?: (fields: object, why: string) => void;
  /** Called when a connection could not be taken. */
  readonly onListenProblem?: (error: Error) => void;
  readonly limits?: { readonly connections?: ConnectionLimits; readonly receiving?: ReceivingLimits };
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
/** The services that take messages, which have much to say at once. */
const LARGE_PATHS = ['/fanfare.v1.Publisher/', '/fanfare.peer.v1.Peer/'];

const GONE = new BrokerError('UNAVAILABLE', 'the connection is closed');
const STOPPING = new BrokerError('UNAVAILABLE', 'the broker is stopping: connect again');

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #server: grpc.Server;
  readonly #health: Health;
  readonly #connections: Connections;
  readonly #receiving: Receiving;
  #listener: Listener | undefined;
  #cancelSweep: () => void = () => undefined;
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
      'grpc.max_connection_idle_ms': MAX_CONNECTION_IDLE_MS,
      ...(options.maxConnectionAgeMs && {
        'grpc.max_connection_age_ms': options.maxConnectionAgeMs,
        'grpc.max_connection_age_grace_ms': options.maxConnectionAgeMs,
      }),
      interceptors: [(method, call) => this.#admit(method, call as BaseCall)],
    });
    const { clock, credentials, isBroker = () => false, onConnectionEnded = () => undefined } = options;
    this.#receiving = new Receiving(options.limits?.receiving ?? RECEIVING_LIMITS, clock);
    this.#connections = new Connections({
      limits: options.limits?.connections ?? CONNECTION_LIMITS,
      clock,
      plaintext: !credentials._isSecure(),
      isBroker,
      onEnded: ({ address, principal }, why) => onConnectionEnded({ address, principal }, why),
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

  get connections(): Connections {
    return this.#connections;
  }

  get receiving(): Receiving {
    return this.#receiving;
  }

  /** Listens and serves; resolves to the port. FAILED_PRECONDITION if that address can't be had. */
  async bind(at: Listen): Promise<number> {
    const { injectConnection } = this.#server.createConnectionInjector(this.#options.credentials);
    // grpc-js keeps the HTTP/2 server to itself, and with it who has come how far.
    for (const http2 of (
      this.#server as unknown as { http2Servers: Map<EventEmitter, unknown> }
    ).http2Servers.keys()) {
      http2.on('secureConnection', (tls: TLSSocket) => this.#connections.secured(tls));
      http2.on('session', (session: ServerHttp2Session) => this.#connections.began(session));
    }
    this.#listener = await listen(
      at,
      (socket) => {
        if (this.#connections.accept(socket)) injectConnection(socket);
      },
      (error) => this.#options.onListenProblem?.(error),
    );
    this.#sweep();
    this.#setServing(true);
    return this.#listener.port;
  }

  /** Whom to trust has changed: ends the connections of clients that would not be taken in any more. */
  review(problemOf: (tls: TLSSocket) => string | undefined): void {
    this.#connections.review(problemOf);
  }

  #sweep(): void {
    this.#cancelSweep = this.#options.clock.setTimer(CONNECTION_SWEEP_MS, () => {
      this.#connections.sweep();
      this.#receiving.sweep();
      this.#sweep();
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
      this.#cancelSweep();
      this.#listener?.close();
      this.#server.forceShutdown();
      // forceShutdown knows no sessions when channelz is off, and nobody else those that have not got so far.
      this.#connections.destroyAll();
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
    this.#listener?.close();
    await this.#connections.drained(CONNECTION_LINGER_MS);
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
  #admit(
    { path, requestStream }: grpc.ServerMethodDefinition<unknown, unknown>,
    call: BaseCall,
  ): grpc.ServerInterceptingCall {
    const { session } = call.stream;
    const connection = session && this.#connections.of(session);
    // The call came with the end of its connection.
    if (connection === undefined) return this.#refuse(call, GONE);
    const refusal = this.#refusalOf(path) ?? this.#receiving.refusalOf(call);
    if (refusal !== undefined) return this.#refuse(call, refusal);
    const isLarge = LARGE_PATHS.some((start) => path.startsWith(start));
    if (isLarge && !connection.isWide) {
      connection.isWide = true;
      widenWindows(session!);
    }
    const maxBytes = isLarge ? MAX_RECEIVE_BYTES : MAX_REQUEST_BYTES;
    call.stream.once('close', this.#connections.called(connection));
    this.#receiving.watch(call, connection, { maxBytes, isStreamed: requestStream });
    // The call is handed on as it is: a wrapper would cost every message of the hot methods.
    return call as unknown as grpc.ServerInterceptingCall;
  }

  #refuse(call: BaseCall, refusal: BrokerError): grpc.ServerInterceptingCall {
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
function widenWindows(session: Http2Session): void {
  if (session.destroyed) return;
  session.settings({ initialWindowSize: STREAM_WINDOW_BYTES });
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
}

/** Takes grpc-js' own log, which otherwise goes to the console. It is one for the whole process. */
export function onGrpcLog(listener: (message: string) => void): void {
  const write = (...parts: unknown[]): void => listener(parts.map(String).join(' '));
  grpc.setLogger({ error: write, info: write, debug: write });
}
