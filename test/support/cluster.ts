// Several real brokers over one real Redis, each in a process of its own, for tests that kill, pause and cut
// them off.
//
//   await using cluster = await startCluster({ brokers: 3 });
//   await using client = cluster.client('all');
//   await cluster.kill(1);                 // SIGKILL
//   await cluster.restart(1);              // the same name, address and certificates
//   await cluster.settled();               // the living broker that each partition is assigned to owns it
//
// With `proxies` each broker reaches Redis, and is reached by the other brokers (and by direct clients),
// through fault proxies of its own: cluster.brokers[i].storeProxy and .peerProxy. Clients of this class
// connect past them.
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureDevelopmentCertificates } from '../../services/certs/development.ts';
import { issueServer } from '../../services/certs/issue.ts';
import { readPem, writePair } from '../../services/certs/pem-files.ts';
import { type Client, connect } from '../../services/client/client.ts';
import type { ClusterInfo } from '../../services/client/cluster-types.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';
import { type BrokerProcess, type Exit, type LogLine, startBroker } from './broker.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';

export interface ClusterOptions {
  /** Default 3. */
  readonly brokers?: number;
  /**
   * host:port of a Redis without TLS that the caller has started and stops. Default: one of our own, on an
   * empty folder.
   */
  readonly redis?: string;
  /** A whole --store URL instead of `redis`, which then can't be proxied. */
  readonly store?: string;
  readonly proxies?: boolean;
  /** More flags for every broker, such as ['--lease', '1s']. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Node's own flags. */
  readonly nodeArgs?: readonly string[];
}

export interface ClusterBroker {
  readonly name: string;
  /** host:port at which it listens. */
  readonly address: string;
  /** The same, or its peerProxy's. */
  readonly advertised: string;
  readonly storeProxy: FaultProxy | undefined;
  readonly peerProxy: FaultProxy | undefined;
  /** The running process, or the last that ran. */
  process: BrokerProcess;
  /** Log lines of its earlier processes; their exits are not kept. */
  readonly earlierLines: LogLine[];
}

const SETTLE_TIMEOUT_MS = 30_000;
const LOGGED_TIMEOUT_MS = 20_000;
const POLL_MS = 50;

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  await using opened = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-cluster-'));
  opened.defer(() => rm(dir, { recursive: true, force: true }));
  let redis = options.redis;
  if (redis === undefined && options.store === undefined) {
    const { startRedis } = await import('./redis.ts');
    const own = opened.use(await startRedis());
    redis = own.address;
  }
  const certificates = await ensureDevelopmentCertificates(dir);
  const brokers: ClusterBroker[] = [];
  const cluster = new Cluster(options, dir, brokers, {
    ca: certificates.ca,
    cert: certificates.clientCert,
    key: certificates.clientKey,
  });
  opened.defer(() => cluster.killAll());
  for (let i = 0; i < (options.brokers ?? 3); i += 1) {
    const name = `broker-${i + 1}`;
    await issueBrokerCertificate(dir, name);
    const address = `127.0.0.1:${await freePort()}`;
    const peerProxy = options.proxies ? opened.use(await startFaultProxy(address)) : undefined;
    const storeProxy = options.proxies && redis ? opened.use(await startFaultProxy(redis)) : undefined;
    const broker = { name, address, advertised: peerProxy?.address ?? address, storeProxy, peerProxy };
    const store = options.store ?? `redis://${storeProxy?.address ?? redis}`;
    // The first broker makes the cluster; the others would be right to refuse an empty store.
    const process = await cluster.startProcess(broker, store, i === 0);
    brokers.push({ ...broker, process, earlierLines: [] });
  }
  await cluster.settled();
  cluster.own(opened.move());
  return cluster;
}

export class Cluster implements AsyncDisposable {
  readonly brokers: readonly ClusterBroker[];
  /** Paths of the client's certificate, as connect() takes them. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly #options: ClusterOptions;
  readonly #dir: string;
  readonly #stores = new Map<string, string>();
  /** Names of brokers that have neither ended nor been paused. */
  readonly #running = new Set<string>();
  #parts: AsyncDisposableStack | undefined;

  constructor(options: ClusterOptions, dir: string, brokers: readonly ClusterBroker[], tls: Cluster['tls']) {
    this.#options = options;
    this.#dir = dir;
    this.brokers = brokers;
    this.tls = tls;
  }

  /** A client of one broker or of all; the caller closes it. */
  client(which: number | 'all', options: Partial<ConnectOptions> = {}): Client {
    const addresses = this.brokers.map(({ address }) => address);
    const address = which === 'all' ? addresses.join(',') : addresses[which]!;
    return connect({ address, tls: this.tls, ...options });
  }

  /** Sends SIGKILL; resolves when the broker is gone. */
  async kill(i: number): Promise<void> {
    await this.#broker(i).process.kill();
  }

  /** Sends SIGSTOP: the broker is there and does nothing. */
  async stop(i: number): Promise<void> {
    await this.#broker(i).process.kill('SIGSTOP');
    this.#running.delete(this.#broker(i).name);
  }

  /** Sends SIGCONT. */
  async cont(i: number): Promise<void> {
    await this.#broker(i).process.kill('SIGCONT');
    this.#running.add(this.#broker(i).name);
  }

  /** Sends SIGTERM: the broker hands its partitions over and ends in order. */
  terminate(i: number): Promise<Exit> {
    return this.#broker(i).process.stop();
  }

  /** Starts a broker again that has ended, under its name and address; resolves when it listens. */
  async restart(i: number): Promise<void> {
    const broker = this.#broker(i);
    await broker.process.exited;
    broker.earlierLines.push(...broker.process.logLines);
    broker.process = await this.startProcess(broker, this.#stores.get(broker.name)!, false);
  }

  /** All lines of a broker's log, those before restarts included. */
  logs(i: number): readonly LogLine[] {
    const { earlierLines, process } = this.#broker(i);
    return [...earlierLines, ...process.logLines];
  }

  /**
   * Resolves when exactly the running brokers are alive and each partition is owned by the one that it is
   * assigned to, as seen by the given broker (default: by each). Rejects after 30 s with what it saw last.
   */
  async settled(seenBy?: number): Promise<void> {
    for (const [i, { name }] of this.brokers.entries()) {
      if (seenBy === undefined ? this.#running.has(name) : seenBy === i) {
        await this.until((info) => isSettled(info, this.#running), i);
      }
    }
  }

  /** Partitions of all topics that a broker owns, as another one sees it. */
  async owned(i: number, seenBy: number): Promise<number[]> {
    await using client = this.client(seenBy);
    const { partitions } = await client.cluster.get({ partitions: true });
    return partitions.filter(({ owner }) => owner === this.#broker(i).name).map(({ partition }) => partition);
  }

  /**
   * The first line of a broker's log with that message for which `which` holds, among those since a moment
   * (by Date.now()) and those to come. Rejects, with the log, after 20 s.
   */
  logged(
    i: number,
    message: string,
    sinceMs: number,
    which: (line: LogLine) => boolean = () => true,
  ): Promise<LogLine> {
    return this.#broker(i).process.logged(
      (line) => line.msg === message && Date.parse(String(line.time)) >= sinceMs && which(line),
      LOGGED_TIMEOUT_MS,
    );
  }

  /**
   * The present value of a metric without labels, by its name in Prometheus; needs the flag --metrics-listen.
   */
  async metric(i: number, name: string): Promise<number> {
    const { metrics } = await this.#broker(i).process.logged('listening');
    const text = await (await fetch(String(metrics))).text();
    const value = new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1];
    if (value === undefined) throw new Error(`${metrics} has no ${name}`);
    return Number(value);
  }

  /**
   * Resolves with what a broker says of the cluster as soon as that is as wanted; rejects, with the last
   * answer, after 30 s.
   */
  async until(wanted: (info: ClusterInfo) => boolean, seenBy: number): Promise<ClusterInfo> {
    await using client = this.client(seenBy);
    const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
    let last: unknown = 'no answer';
    while (performance.now() < deadlineMs) {
      try {
        const info = await client.cluster.get({ partitions: true, timeoutMs: 2_000 });
        if (wanted(info)) return info;
        last = info;
      } catch (error) {
        last = error;
      }
      // No call waits for a change of the cluster.
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    const text = last instanceof Error ? String(last) : JSON.stringify(last);
    throw new Error(`the cluster did not become as wanted within ${SETTLE_TIMEOUT_MS} ms; last: ${text}`);
  }

  /** Starts a broker's process on the store. */
  async startProcess(
    { name, address, advertised }: Pick<ClusterBroker, 'name' | 'address' | 'advertised'>,
    store: string,
    initialize: boolean,
  ): Promise<BrokerProcess> {
    this.#stores.set(name, store);
    const dataDir = join(this.#dir, name);
    await mkdir(dataDir, { recursive: true });
    const { env, nodeArgs } = this.#options;
    const process = await startBroker({
      dataDir,
      listen: address,
      args: [
        ...['--store', store, '--name', name, '--advertise', advertised],
        ...['--tls-cert', join(dataDir, 'tls.crt'), '--tls-key', join(dataDir, 'tls.key')],
        ...['--tls-ca', join(this.#dir, 'certs', 'ca.crt')],
        ...(initialize ? ['--init-cluster'] : []),
        ...(this.#options.args ?? []),
      ],
      ...(env && { env }),
      ...(nodeArgs && { nodeArgs }),
    });
    this.#running.add(name);
    void process.exited.then(() => this.#running.delete(name));
    return process;
  }

  /** Takes over what ends with the cluster. */
  own(parts: AsyncDisposableStack): void {
    this.#parts = parts;
  }

  async killAll(): Promise<void> {
    await Promise.all(this.brokers.map(({ process }) => process.kill()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts?.disposeAsync();
  }

  #broker(i: number): ClusterBroker {
    const broker = this.brokers[i];
    if (broker === undefined) throw new Error(`there is no broker ${i}: 0 to ${this.brokers.length - 1}`);
    return broker;
  }
}

function isSettled({ brokers, partitions }: ClusterInfo, running: ReadonlySet<string>): boolean {
  const alive = new Set(brokers.map(({ name }) => name));
  if (alive.size !== running.size || ![...running].every((name) => alive.has(name))) return false;
  return partitions.every(({ assigned, owner }) => assigned === owner && alive.has(owner));
}

/** Writes {dir}/{name}/tls.crt and .key, signed by the CA in {dir}/certs. */
async function issueBrokerCertificate(dir: string, broker: string): Promise<void> {
  const ca = {
    cert: await readFile(join(dir, 'certs', 'ca.crt'), 'utf8'),
    key: (await readPem(join(dir, 'certs', 'ca.key')))!,
  };
  const at = (file: string) => join(dir, broker, file);
  await writePair(at('tls.crt'), at('tls.key'), await issueServer(ca, { broker }));
}

/** A port below the range from which connections take theirs, so that it is still free after a restart. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
