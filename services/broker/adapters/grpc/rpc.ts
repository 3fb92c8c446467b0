// The border of the gRPC server: from bytes and grpc-js' calls to handlers that take and return messages,
// throw BrokerErrors, and know who is calling. Hot methods take raw calls. Errors become statuses here; the
// text of one that nobody expected goes to the log only.
//
// grpc-js gets raw bytes in both directions, and the wrappers decode and encode: a deserializer that throws
// would end the call with INTERNAL, and the caller deserves INVALID_ARGUMENT.
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import type * as grpc from '@grpc/grpc-js';
import { AssertionError, BrokerError } from '../../core/errors.ts';
import { STREAM_AGE_JITTER } from '../../limits.ts';
import type { Clock, Random } from '../../ports/clock.ts';
import type { IdentifiableCall, Identity } from './identity.ts';
import { type GrpcStatus, statusOf } from './status.ts';

export type RawUnary = grpc.handleUnaryCall<Buffer, Buffer>;
export type RawServerStream = grpc.handleServerStreamingCall<Buffer, Buffer>;
export type RawBidiStream = grpc.handleBidiStreamingCall<Buffer, Buffer>;
type RawHandler = RawUnary | RawServerStream | RawBidiStream;

/** A service, ready for a server. */
export interface GrpcService {
  readonly descriptor: DescService;
  readonly definition: grpc.ServiceDefinition;
  readonly handlers: grpc.UntypedServiceImplementation;
}

export interface RpcContext {
  readonly principal: string;
  /** Aborted when the call is over, for whatever reason. */
  readonly signal: AbortSignal;
}

export interface OutgoingStream<O extends DescMessage> {
  /**
   * Resolves once the transport has taken the message, or the stream is over. Sent one at a time, a slow
   * reader holds no memory.
   */
  send(message: MessageInitShape<O>): Promise<void>;
}

type Method<
  Kind extends DescMethod['methodKind'],
  I extends DescMessage,
  O extends DescMessage,
> = DescMethod & {
  methodKind: Kind;
  input: I;
  output: O;
};

export interface RpcBorderOptions {
  readonly identity: Identity;
  readonly clock: Clock;
  readonly random: Random;
  /** Open streams are ended with UNAVAILABLE at this age, or up to STREAM_AGE_JITTER of it earlier. */
  readonly maxStreamAgeMs: number;
  /** Called with every error that is not a BrokerError; the caller hears only INTERNAL. */
  readonly onUnexpected: (
    error: unknown,
    call: { readonly path: string; readonly principal: string },
  ) => void;
  /**
   * Called with a failed assertion: the broker's state can't be trusted any more. By default the process
   * ends.
   */
  readonly onBroken?: (error: AssertionError) => void;
}

/** A service of its handlers by method; one that is missing doesn't compile. */
export function grpcService<S extends DescService>(
  descriptor: S,
  handlers: { readonly [Name in keyof S['method']]: RawHandler },
): GrpcService {
  const definition: Record<string, grpc.MethodDefinition<Buffer, Buffer>> = {};
  const bounded: Record<string, RawHandler> = { ...handlers };
  for (const { localName, name, methodKind } of descriptor.methods) {
    definition[localName] = {
      path: `/${descriptor.typeName}/${name}`,
      requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
      responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
      requestSerialize: raw,
      requestDeserialize: raw,
      responseSerialize: raw,
      responseDeserialize: raw,
    };
    if (methodKind === 'bidi_streaming')
      bounded[localName] = readingOneAhead(bounded[localName] as RawBidiStream);
  }
  return { descriptor, definition, handlers: bounded as grpc.UntypedServiceImplementation };
}

/**
 * A stream that its handler does not read holds one request more. Node's default is 16 objects, of whatever
 * size: of MAX_RECEIVE_BYTES they are 128 MiB a stream. grpc-js gives no say in it.
 */
function readingOneAhead(handler: RawBidiStream): RawBidiStream {
  return (call) => {
    (call as unknown as { _readableState: { highWaterMark: number } })._readableState.highWaterMark = 1;
    handler(call);
  };
}

/** Ends a stream whose time has come, with this status. */
export type EndStream = (reason: BrokerError, why: 'age' | 'stopping') => void | Promise<void>;

/** Wraps handlers, and knows the open streams so that all of them can be ended. */
export class RpcBorder {
  readonly #options: RpcBorderOptions;
  readonly #streams = new Map<StreamCall, { readonly end: EndStream; readonly onOver: () => void }>();

  constructor(options: RpcBorderOptions) {
    this.#options = options;
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: Method<'unary', I, O>,
    handler: (
      request: MessageShape<I>,
      context: RpcContext,
    ) => Promise<MessageInitShape<O>> | MessageInitShape<O>,
  ): RawUnary {
    return async (call, callback) => {
      const over = new AbortController();
      call.on('cancelled', () => over.abort());
      try {
        const context = { principal: this.principalOf(call), signal: over.signal };
        callback(null, encode(method.output, await handler(decode(method.input, call.request), context)));
      } catch (error) {
        callback(this.#statusOf(error, call));
      }
    };
  }

  /**
   * For hot methods: bytes in, bytes out. `over` is called when the call has ended: with the answer, or
   * before, because the caller has gone.
   */
  rawUnary(
    handler: (
      request: Buffer,
      principal: string,
      onGone: (over: () => void) => void,
      call: { getPeer(): string },
    ) => Promise<Buffer>,
  ): RawUnary {
    return async (call, callback) => {
      try {
        const onGone = (over: () => void): void => void call.once('cancelled', over);
        callback(null, await handler(call.request, this.principalOf(call), onGone, call));
      } catch (error) {
        callback(this.#statusOf(error, call));
      }
    };
  }

  /**
   * A stream of answers. It ends with OK when the handler resolves, with the error when it rejects, and with
   * UNAVAILABLE at its maximum age or when the broker stops; in the last two cases the signal is aborted and
   * the handler's end ignored.
   */
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: Method<'server_streaming', I, O>,
    handler: (request: MessageShape<I>, stream: OutgoingStream<O>, context: RpcContext) => Promise<void>,
  ): RawServerStream {
    return async (call) => {
      const over = this.track(call);
      const stream: OutgoingStream<O> = {
        send: (message) => write(call, encode(method.output, message), over),
      };
      await this.#finish(call, over, async () => {
        const context = { principal: this.principalOf(call), signal: over };
        await handler(decode(method.input, call.request), stream, context);
      });
    };
  }

  /**
   * As serverStream. `answer` is called for one request after the other; the next is read once the answer is
   * taken.
   */
  bidiStream<I extends DescMessage, O extends DescMessage>(
    method: Method<'bidi_streaming', I, O>,
    answer: (request: MessageShape<I>, context: RpcContext) => MessageInitShape<O>,
  ): RawBidiStream {
    return async (call) => {
      const over = this.track(call);
      await this.#finish(call, over, async () => {
        const context = { principal: this.principalOf(call), signal: over };
        // The stream's own end is grpc-js' to make, not the loop's.
        for await (const request of call.iterator({ destroyOnReturn: false })) {
          await write(call, encode(method.output, answer(decode(method.input, request), context)), over);
        }
      });
    };
  }

  /**
   * Tracks a stream, also one that is handled raw. Returns a signal that is aborted when the stream is over:
   * it failed, was cancelled, or has ended. At the maximum age, and when the broker stops, the stream is
   * ended with UNAVAILABLE: at once, or by `end` in its own time.
   */
  track(call: StreamCall, end: EndStream = (reason) => this.fail(call, reason)): AbortSignal {
    const { clock, random, maxStreamAgeMs } = this.#options;
    const over = new AbortController();
    const cancelTimer = clock.setTimer(maxStreamAgeMs * (1 - STREAM_AGE_JITTER * random()), () =>
      end(new BrokerError('UNAVAILABLE', 'the stream has reached its maximum age: open another one'), 'age'),
    );
    const onOver = (): void => {
      cancelTimer();
      this.#streams.delete(call);
      over.abort();
    };
    this.#streams.set(call, { end, onOver });
    // 'cancelled' comes after every end, 'close' when it was destroyed.
    call.once('cancelled', onOver);
    call.once('close', onOver);
    return over.signal;
  }

  /** Ends a stream with an error's status, after what was written to it. */
  fail(call: StreamCall, error: unknown, metadata?: grpc.Metadata): void {
    const status = this.#statusOf(error, call);
    this.#streams.get(call)?.onOver();
    call.emit('error', { ...status, ...(metadata && { metadata }) });
  }

  /**
   * Ends all tracked streams; resolves when every `end` has. A stream that ends in its own time may still
   * send what is left.
   */
  async endStreams(reason: BrokerError): Promise<void> {
    await Promise.all([...this.#streams.values()].map(({ end }) => end(reason, 'stopping')));
  }

  /** UNAUTHENTICATED if the certificate names nobody. */
  principalOf(call: IdentifiableCall): string {
    return this.#options.identity.principalOf(call);
  }

  async #finish(call: StreamCall, over: AbortSignal, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (!over.aborted) call.end();
    } catch (error) {
      // A stream that is over makes reads and writes fail; nobody is left to hear of it.
      if (!over.aborted) this.fail(call, error);
    }
  }

  /** The principal, or why there is none: for logs and counts. */
  nameOf(call: IdentifiableCall): string {
    try {
      return this.principalOf(call);
    } catch (error) {
      return `unknown: ${error}`;
    }
  }

  /** The error's status. Reports the error if nobody expected it. */
  #statusOf(error: unknown, call: IdentifiedCall): GrpcStatus {
    if (!(error instanceof BrokerError)) {
      this.#options.onUnexpected(error, { path: call.getPath(), principal: this.nameOf(call) });
      if (error instanceof AssertionError) (this.#options.onBroken ?? endProcess)(error);
    }
    return statusOf(error);
  }
}

export type IdentifiedCall = IdentifiableCall & { getPath(): string };

export type StreamCall = IdentifiedCall & {
  emit(event: 'error', status: GrpcStatus & { readonly metadata?: grpc.Metadata }): boolean;
  once(event: string, listener: () => void): unknown;
  end(): unknown;
};

/** INVALID_ARGUMENT if the bytes are no such message. */
export function decode<I extends DescMessage>(schema: I, bytes: Uint8Array): MessageShape<I> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    throw new BrokerError('INVALID_ARGUMENT', `the request is not a valid ${schema.typeName} in protobuf`, {
      cause,
    });
  }
}

function encode<O extends DescMessage>(schema: O, message: MessageInitShape<O>): Buffer {
  const bytes = toBinary(schema, create(schema, message));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function write(
  call: { write(chunk: Buffer, callback: () => void): boolean },
  bytes: Buffer,
  over: AbortSignal,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    over.removeEventListener('abort', done);
    resolve();
  };
  if (over.aborted) return Promise.resolve();
  // After a cancel the callback never comes.
  over.addEventListener('abort', done);
  call.write(bytes, done);
  return promise;
}

function raw(bytes: Buffer): Buffer {
  return bytes;
}

// Throws outside the promise in which the error arose, so that it is an uncaught exception.
function endProcess(error: AssertionError): void {
  setImmediate(() => {
    throw error;
  });
}
