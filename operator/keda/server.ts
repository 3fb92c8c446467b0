// The gRPC server of KEDA's external scaler: mutual TLS 1.3, certificates that can be replaced while it runs,
// and bounds on streams and requests.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import {
  type DescMessage,
  type DescMethod,
  fromBinary,
  type Message,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { ExternalScaler as ScalerService } from '../../services/gen/externalscaler/externalscaler_pb.ts';
import { ScalerError, statusOf } from './errors.ts';
import { ExternalScaler, type ScalerSource } from './external-scaler.ts';

/** PEM. */
export interface ScalerTls {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
  /** The certificates of the authorities that sign KEDA's client certificate. */
  readonly ca: string | Buffer;
}

export interface ScalerServerOptions {
  readonly source: ScalerSource;
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: ScalerTls;
  /** Told of every error that is not a ScalerError; KEDA only hears INTERNAL. */
  readonly onUnexpected: (error: unknown) => void;
}

export interface ScalerServer {
  readonly port: number;
  /**
   * Replaces the certificates for new connections. Throws FAILED_PRECONDITION, and changes nothing, if the
   * three can't be used together.
   */
  updateTls(tls: ScalerTls): void;
  /** Ends the streams with UNAVAILABLE and lets unary calls finish. */
  stop(): Promise<void>;
}

/** Open streams of all connections, at most. A push trigger has one of each kind. */
const MAX_STREAMS = 2000;
const MAX_REQUEST_BYTES = 64 * 1024;
const MAX_STREAMS_PER_CONNECTION = 4096;

/** Throws FAILED_PRECONDITION if the TLS material can't be used or the address can't be had. */
export async function startScalerServer(options: ScalerServerOptions): Promise<ScalerServer> {
  const credentials = new MutualTls(contextOf(options.tls));
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
    'grpc.enable_channelz': 0,
  });
  const streams = new Set<grpc.ServerWritableStream<Message, Message>>();
  server.addService(definition(), handlers(options, streams));
  const port = await bind(server, options.listen, credentials);
  return {
    port,
    updateTls: (tls) => credentials.update(contextOf(tls)),
    async stop() {
      const reason = new ScalerError('UNAVAILABLE', 'the operator is stopping: connect again');
      for (const call of streams) call.emit('error', statusOf(reason));
      await new Promise<void>((resolve, reject) => {
        server.tryShutdown((error) => (error ? reject(error) : resolve()));
      });
    },
  };
}

type Streams = Set<grpc.ServerWritableStream<Message, Message>>;

function handlers({ source, onUnexpected }: ScalerServerOptions, streams: Streams) {
  const scaler = new ExternalScaler(source);
  const { method } = ScalerService;
  const report = (error: unknown): { code: number; details: string } => {
    if (!(error instanceof ScalerError)) onUnexpected(error);
    return statusOf(error);
  };
  const unary =
    <M extends DescMethod>(_method: M, answer: (request: MessageShape<M['input']>) => Message) =>
    (call: { request: Message }, callback: grpc.sendUnaryData<Message>): void => {
      try {
        callback(null, answer(call.request as MessageShape<M['input']>));
      } catch (error) {
        callback(report(error));
      }
    };
  const stream =
    <M extends DescMethod>(
      _method: M,
      begin: (request: MessageShape<M['input']>, send: (message: Message) => void) => () => void,
    ) =>
    (call: grpc.ServerWritableStream<Message, Message>): void => {
      try {
        if (streams.size >= MAX_STREAMS) {
          throw new ScalerError('RESOURCE_EXHAUSTED', `${MAX_STREAMS} streams are open, which is the limit`);
        }
        const end = begin(call.request as MessageShape<M['input']>, (message) => call.write(message));
        streams.add(call);
        const over = (): void => {
          streams.delete(call);
          end();
        };
        call.once('cancelled', over);
        call.once('close', over);
      } catch (error) {
        call.emit('error', report(error));
      }
    };
  return {
    isActive: unary(method.isActive, (ref) => scaler.isActive(ref)),
    getMetricSpec: unary(method.getMetricSpec, (ref) => scaler.metricSpec(ref)),
    getMetrics: unary(method.getMetrics, (request) => scaler.metrics(request)),
    streamIsActive: stream(method.streamIsActive, (ref, send) => scaler.watchActive(ref, send)),
    // The metric never changes: it is said once, and the stream is kept.
    streamMetricSpec: stream(method.streamMetricSpec, (ref, send) => {
      send(scaler.metricSpec(ref));
      return () => {};
    }),
  };
}

function definition(): grpc.ServiceDefinition {
  const methods: Record<string, grpc.MethodDefinition<Message, Message>> = {};
  for (const method of ScalerService.methods) {
    methods[method.localName] = {
      path: `/${ScalerService.typeName}/${method.name}`,
      requestStream: false,
      responseStream: method.methodKind === 'server_streaming',
      ...codec('request', method.input),
      ...codec('response', method.output),
    } as grpc.MethodDefinition<Message, Message>;
  }
  return methods;
}

function codec(side: 'request' | 'response', schema: DescMessage) {
  return {
    [`${side}Serialize`]: (message: Message) => Buffer.from(toBinary(schema, message)),
    [`${side}Deserialize`]: (bytes: Buffer) => fromBinary(schema, bytes),
  };
}

/**
 * Stands in for createSsl, which takes TLS 1.2 too and can't be changed later. It is made of members that
 * grpc-js has for its own subclasses.
 */
class MutualTls extends grpc.ServerCredentials {
  constructor(context: SecureContextOptions) {
    super({ requestCert: true, rejectUnauthorized: true }, context);
  }

  update(context: SecureContextOptions): void {
    this.updateSecureContextOptions(context);
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf({ cert, key, ca }: ScalerTls): SecureContextOptions {
  const context: SecureContextOptions = { cert, key, ca, minVersion: 'TLSv1.3' };
  try {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
      throw new Error('the key is not that of the certificate');
    }
    createSecureContext(context);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : cause;
    throw new ScalerError('FAILED_PRECONDITION', `the scaler's TLS material can't be used: ${reason}`, {
      cause,
    });
  }
  return context;
}

function bind(
  server: grpc.Server,
  { host, port }: ScalerServerOptions['listen'],
  credentials: grpc.ServerCredentials,
): Promise<number> {
  const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => {
      if (error === null) resolve(bound);
      else {
        const message = `the scaler can't listen on ${address}: ${error.message}`;
        reject(new ScalerError('FAILED_PRECONDITION', message, { cause: error }));
      }
    });
  });
}
