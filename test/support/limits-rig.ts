// The services for messages over an engine on virtual time, with the limits that the broker has, behind a
// real server with TLS: for tests that go to those limits.
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { create, type DescMethod, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { authorizeAll } from '../../services/broker/adapters/grpc/identity.ts';
import { Outboxes } from '../../services/broker/adapters/grpc/outboxes.ts';
import { publisherService } from '../../services/broker/adapters/grpc/publisher.ts';
import { subscriberService } from '../../services/broker/adapters/grpc/subscriber.ts';
import { OUTBOX_LIMITS, PUBLISH_LIMITS, SUBSCRIBE_LIMITS } from '../../services/broker/limits.ts';
import { type EngineOptions, type EngineRig, startEngine } from './engine-rig.ts';
import { framed } from './fuzz-mutate.ts';
import { type Authority, type GrpcRig, pathOf, type RigOptions, startGrpcRig } from './grpc-rig.ts';

export interface LimitsRig extends AsyncDisposable {
  readonly engine: EngineRig;
  readonly grpc: GrpcRig;
  /** Lets the engine work, at the same moment of its time, until a call is over. */
  during<T>(call: Promise<T>): Promise<T>;
}

export async function startLimitsRig(
  authority: Authority,
  { engine: engineOptions, ...options }: RigOptions & { engine?: EngineOptions } = {},
): Promise<LimitsRig> {
  const engine = await startEngine(engineOptions);
  const { broker, clock } = engine;
  const grpc = await startGrpcRig(authority, {
    ...options,
    services: (border) => [
      publisherService({ broker, border, authorize: authorizeAll, limits: PUBLISH_LIMITS }),
      subscriberService({
        broker,
        border,
        authorize: authorizeAll,
        clock,
        outboxes: new Outboxes(OUTBOX_LIMITS),
        leasesOutlive: () => false,
        limits: SUBSCRIBE_LIMITS,
      }),
    ],
  });
  return {
    engine,
    grpc,
    async during(call) {
      let over = false;
      const ended = call.finally(() => {
        over = true;
      });
      ended.catch(() => {});
      while (!over) await clock.settle();
      return ended;
    },
    [Symbol.asyncDispose]: () => grpc[Symbol.asyncDispose](),
  };
}

/** A connection on which the test decides what is sent and what is read. */
export class PlainConnection implements AsyncDisposable {
  readonly session: ClientHttp2Session;

  /** Use open. */
  constructor(session: ClientHttp2Session) {
    this.session = session;
    session.on('error', () => {});
  }

  /** `windowBytes`: what the server may send on a stream before it is read. */
  static async open(
    { ca, client }: Authority,
    address: string,
    windowBytes = 65_535,
  ): Promise<PlainConnection> {
    const session = connect(`https://${address}`, {
      ca: ca.cert,
      cert: client.cert,
      key: client.key,
      settings: { initialWindowSize: windowBytes },
      // Beyond Node's 10 MB the client resets its own calls.
      maxSessionMemory: 1_000,
    });
    const connection = new PlainConnection(session);
    await once(session, 'remoteSettings');
    return connection;
  }

  start(method: DescMethod): ClientHttp2Stream {
    const stream = this.session.request({
      ':method': 'POST',
      ':path': pathOf(method),
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    return stream.on('error', () => {});
  }

  /** Resolves when the server has answered: it has then received what was sent before. */
  ping(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.session.ping((error) => (error ? reject(error) : resolve()));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.session.once('close', resolve));
    this.session.destroy();
    await closed;
  }
}

export function frameOf<M extends DescMethod>({ input }: M, request: MessageInitShape<M['input']>): Buffer {
  return framed(toBinary(input, create(input, request)));
}
