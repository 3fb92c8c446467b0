// A gRPC server with mutual TLS over the memory store, without an engine, and clients for it: for tests of
// the server's surroundings. Certificates are made once a test file.
import '../../services/certs/reflect-metadata.ts';
import { createPrivateKey, webcrypto } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  create,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import * as x509 from '@peculiar/x509';
import { adminService } from '../../services/broker/adapters/grpc/admin.ts';
import { authorizeAll, Identity } from '../../services/broker/adapters/grpc/identity.ts';
import { routingService } from '../../services/broker/adapters/grpc/routing.ts';
import { type GrpcService, RpcBorder } from '../../services/broker/adapters/grpc/rpc.ts';
import { GrpcServer, type GrpcServerOptions, onGrpcLog } from '../../services/broker/adapters/grpc/server.ts';
import { openServerTls, type ServerTls } from '../../services/broker/adapters/grpc/tls.ts';
import { type WatchLimits, WatchSlots } from '../../services/broker/adapters/grpc/watch.ts';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import type { BacklogReport } from '../../services/broker/core/backlog-report.ts';
import { type DrainReport, type DrainRequest, NOTHING_DRAINS } from '../../services/broker/core/draining.ts';
import { type AuditRecord, Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import type { ConsumerDrain } from '../../services/broker/engine/delivery/draining-consumers.ts';
import { soleRoutes } from '../../services/broker/engine/membership/routes.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { createMemoryStore } from './memory-store.ts';

export interface Authority {
  readonly ca: CertificatePair;
  readonly server: CertificatePair;
  readonly client: CertificatePair;
}

export async function createAuthority(): Promise<Authority> {
  const ca = await createCa();
  const [server, client] = await Promise.all([issueServer(ca), issueClient(ca, { principal: 'tester' })]);
  return { ca, server, client };
}

export interface GrpcRig extends AsyncDisposable {
  readonly address: string;
  readonly server: GrpcServer;
  readonly tls: ServerTls;
  readonly definitions: Definitions;
  readonly audit: AuditRecord[];
  readonly unexpected: unknown[];
  /** Why connections were ended. */
  readonly ended: string[];
  readonly tlsProblems: string[];
  readonly backlog: FakeBacklog;
  readonly draining: FakeDrain;
  /** Writes other certificate files; the server looks at them when told to. */
  replaceCertificates(pair: CertificatePair, ca?: CertificatePair): Promise<void>;
  /** Writes another list of revoked certificates. */
  revoke(list: string): Promise<void>;
  connect(identity?: CertificatePair | undefined, ca?: CertificatePair): TestClient;
}

export interface RigOptions {
  readonly watches?: WatchLimits;
  readonly maxStreamAgeMs?: number;
  /** The clock of the watching methods. */
  readonly clock?: Clock;
  readonly services?: (border: RpcBorder) => readonly GrpcService[];
  readonly server?: Partial<Pick<GrpcServerOptions, 'limits' | 'clock' | 'maxConnectionAgeMs' | 'isBroker'>>;
  /** Revoked certificates. */
  readonly crl?: string;
  readonly onServing?: (isServing: boolean) => void;
}

/** A certificate that expired yesterday, for a client or a server. */
export async function issueExpired(ca: CertificatePair): Promise<CertificatePair> {
  const keyPem = (type: string, bytes: ArrayBuffer) => x509.PemConverter.encode(bytes, type);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    createPrivateKey(ca.key).export({ type: 'pkcs8', format: 'der' }),
    algorithm,
    false,
    ['sign'],
  );
  const day = 86_400_000;
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=expired',
    issuer: new x509.X509Certificate(ca.cert).subject,
    notBefore: new Date(Date.now() - 2 * day),
    notAfter: new Date(Date.now() - day),
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: algorithm,
  });
  const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { cert: certificate.toString('pem'), key: keyPem('PRIVATE KEY', key) };
}

/** A reporter that says what it is told to. */
export class FakeBacklog {
  reports: BacklogReport[] = [];
  calls = 0;
  readonly listeners = new Set<(subscription: string) => void>();

  async report(parent: string, names: readonly string[]): Promise<BacklogReport[]> {
    this.calls += 1;
    return this.reports.filter(({ subscription }) =>
      names.length > 0 ? names.includes(subscription) : subscription.startsWith(`${parent}/`),
    );
  }

  onFirstMessage(listener: (subscription: string) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** Remembers what it was asked, and answers what it is told to. */
export class FakeDrain implements ConsumerDrain {
  readonly requests: DrainRequest[] = [];
  report: DrainReport = NOTHING_DRAINS;

  async drain(request: DrainRequest): Promise<DrainReport> {
    this.requests.push(request);
    return this.report;
  }
}

onGrpcLog(() => {});

export async function startGrpcRig(authority: Authority, options: RigOptions = {}): Promise<GrpcRig> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-grpc-'));
  const files = { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key'), ca: join(dir, 'ca.crt') };
  const replaceCertificates = async (pair: CertificatePair, ca = authority.ca): Promise<void> => {
    await writeFile(files.cert, pair.cert);
    await writeFile(files.key, pair.key);
    await writeFile(files.ca, ca.cert);
  };
  await replaceCertificates(authority.server);
  const tlsProblems: string[] = [];
  const crl = join(dir, 'crl.pem');
  const revoke = (list: string): Promise<void> => writeFile(crl, list);
  if (options.crl !== undefined) await revoke(options.crl);
  const tls: ServerTls = await openServerTls({
    files: { ...files, ...(options.crl !== undefined && { crl }) },
    clock: nodeClock,
    onReload: () => server.review((socket) => tls.problemOf(socket)),
    onProblem: (error) => tlsProblems.push(error.message),
  });

  const audit: AuditRecord[] = [];
  const definitions = new Definitions({
    store: createMemoryStore().definitions,
    clock: nodeClock,
    durability: { supported: ['memory', 'stored', 'fsync'], default: 'fsync' },
    currentEnds: async ({ partitions }) => Array.from({ length: partitions }, () => 0),
    audit: (record) => audit.push(record),
    onWarning: () => {},
  });
  await definitions.load();

  const unexpected: unknown[] = [];
  const ended: string[] = [];
  const backlog = new FakeBacklog();
  const draining = new FakeDrain();
  const border = new RpcBorder({
    identity: new Identity({ plaintext: false }),
    clock: nodeClock,
    random: () => 0,
    maxStreamAgeMs: options.maxStreamAgeMs ?? 60_000,
    onUnexpected: (error) => unexpected.push(error),
    onBroken: () => {},
  });
  const watches = new WatchSlots(options.watches ?? { max: 10, maxPerPrincipal: 10, reserved: 0 });
  const common = { border, definitions, authorize: authorizeAll, watches };
  const server = new GrpcServer({
    border,
    clock: nodeClock,
    credentials: tls.credentials,
    keepaliveMs: 30_000,
    onConnectionEnded: (_fields, why) => ended.push(why),
    ...options.server,
    ...(options.onServing && { onServing: options.onServing }),
    services: [
      adminService({
        ...common,
        backlog,
        draining,
        storage: { log: createMemoryStore().log, conditions: () => [] },
        audit: (record) => audit.push(record),
        clock: options.clock ?? nodeClock,
      }),
      routingService({
        ...common,
        routes: soleRoutes({
          selfId: 'this-broker',
          name: () => 'alone',
          address: () => 'broker.example:7443',
          ownerEpochOf: () => 3,
        }),
      }),
      ...(options.services?.(border) ?? []),
    ],
  });
  const port = await server.bind({ host: '127.0.0.1', port: 0 });
  const address = `localhost:${port}`;
  const clients: TestClient[] = [];
  return {
    address,
    server,
    tls,
    definitions,
    audit,
    unexpected,
    ended,
    tlsProblems,
    backlog,
    draining,
    replaceCertificates,
    revoke,
    connect(...args) {
      const [identity, ca = authority.ca] = args;
      const client = new TestClient(address, args.length === 0 ? authority.client : identity, ca);
      clients.push(client);
      return client;
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close();
      await server.drain({ timeoutMs: 1000, before: () => {}, after: () => {} });
      tls.close();
      await rm(dir, { recursive: true });
    },
  };
}

type AnyMethod = DescMethod;

/** Calls methods by their descriptors, or with raw bytes. */
export class TestClient extends grpc.Client {
  constructor(address: string, identity: CertificatePair | undefined, ca: CertificatePair) {
    const credentials = identity
      ? grpc.credentials.createSsl(
          Buffer.from(ca.cert),
          Buffer.from(identity.key),
          Buffer.from(identity.cert),
        )
      : grpc.credentials.createSsl(Buffer.from(ca.cert));
    super(address, credentials, { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 });
  }

  async call<M extends AnyMethod>(
    method: M,
    request: MessageInitShape<M['input']>,
  ): Promise<MessageShape<M['output']>> {
    const bytes = await this.callRaw(pathOf(method), toBinary(method.input, create(method.input, request)));
    return fromBinary(method.output, bytes) as MessageShape<M['output']>;
  }

  /** Rejects with grpc-js's ServiceError. */
  callRaw(path: string, request: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + 10_000;
      this.makeUnaryRequest(path, encode, raw, request, { deadline }, (error, response) =>
        error ? reject(error) : resolve(response ?? Buffer.alloc(0)),
      );
    });
  }

  stream<M extends AnyMethod>(method: M, request: MessageInitShape<M['input']>): TestStream<M> {
    const bytes = toBinary(method.input, create(method.input, request));
    return new TestStream(method, this.makeServerStreamRequest(pathOf(method), encode, raw, bytes));
  }

  bidi(method: AnyMethod): grpc.ClientDuplexStream<Uint8Array, Buffer> {
    return this.makeBidiStreamRequest(pathOf(method), encode, raw);
  }
}

/** A server stream, read message by message. */
export class TestStream<M extends AnyMethod> {
  readonly call: grpc.ClientReadableStream<Buffer>;
  readonly status: Promise<grpc.StatusObject>;
  readonly #method: M;
  readonly #messages: AsyncIterator<Buffer>;

  constructor(method: M, call: grpc.ClientReadableStream<Buffer>) {
    this.#method = method;
    this.call = call;
    this.status = new Promise((resolve) => call.once('status', resolve));
    call.on('error', () => {});
    this.#messages = call[Symbol.asyncIterator]();
  }

  async next(): Promise<MessageShape<M['output']>> {
    const { value, done } = await this.#messages.next();
    if (done) throw new Error('the stream has ended');
    return fromBinary(this.#method.output, value) as MessageShape<M['output']>;
  }
}

export function pathOf(method: AnyMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function encode(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function raw(bytes: Buffer): Buffer {
  return bytes;
}
