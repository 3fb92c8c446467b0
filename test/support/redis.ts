// A real Redis server for tests, on a free port and a folder of its own, that cannot outlive the test
// process.
//
//   await using redis = await startRedis();
//   await redis.command('CONFIG', 'SET', 'maxmemory', '1mb');
//   await redis.kill();      // kill -9
//   await redis.restart();   // the same port and folder: with `--appendonly yes` the same data
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import { type KubeProcess, startProcess } from './kube-process.ts';

export interface RedisTestOptions {
  /** The server then takes only TLS, and only with a client certificate. */
  readonly tls?: RedisCertificates;
  /** The password that clients must give. */
  readonly password?: string;
  /** More arguments, as on redis-server's command line. */
  readonly args?: readonly string[];
}

/** Paths of PEM files. */
export interface RedisCertificates {
  readonly ca: string;
  readonly caKey: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

export const TEST_HOST = '127.0.0.1';
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
const POLL_MS = 15;

/** Starts a server; resolves when it answers. */
export async function startRedis(options: RedisTestOptions = {}): Promise<TestRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-redis-'));
  const server = new TestRedis(dir, await freePort(), options);
  try {
    await server.restart();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

export class TestRedis implements AsyncDisposable {
  readonly port: number;
  readonly dir: string;
  readonly #options: RedisTestOptions;
  #process: KubeProcess | undefined;
  #paused = false;

  /** Call startRedis instead. */
  constructor(dir: string, port: number, options: RedisTestOptions) {
    this.dir = dir;
    this.port = port;
    this.#options = options;
  }

  /** host:port */
  get address(): string {
    return `${TEST_HOST}:${this.port}`;
  }

  /** The URL for --store. */
  get url(): string {
    return `${this.#options.tls ? 'rediss' : 'redis'}://${this.address}`;
  }

  /** Whether it has neither ended nor been stopped. */
  get running(): boolean {
    return this.#process !== undefined && !this.#process.ended && !this.#paused;
  }

  /** Sends SIGKILL. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL', STOP_TIMEOUT_MS);
  }

  /** Sends SIGTERM: it saves what it is set up to save. */
  async terminate(): Promise<void> {
    await this.#process?.stop('SIGTERM', STOP_TIMEOUT_MS);
  }

  /** Sends SIGSTOP: connections stay open, nothing answers. */
  stop(): void {
    this.#paused = true;
    this.#process?.signal('SIGSTOP');
  }

  /** Sends SIGCONT. */
  cont(): void {
    this.#process?.signal('SIGCONT');
    this.#paused = false;
  }

  /** Starts it again, after kill() or terminate(), and waits until it answers and has loaded its data. */
  async restart(): Promise<void> {
    const log = join(this.dir, 'redis.log');
    this.#paused = false;
    this.#process = startProcess(redisServerPath(), this.#args(), log);
    await until(`Redis answers on port ${this.port}`, async () => {
      if (this.#process?.ended) throw new StartFailure(readFileSync(log, 'utf8').slice(-2_000));
      return (await this.command('PING')) === 'PONG';
    });
  }

  /** Sends one command on a connection of its own. */
  command(...args: readonly [string, ...(string | number)[]]): Promise<unknown> {
    return this.#send((client) => client.call(...args));
  }

  /** A field of a hash, as bytes. */
  bytes(key: string, field: string): Promise<Buffer | null> {
    return this.#send((client) => client.hgetBuffer(key, field));
  }

  async #send<T>(send: (client: Redis) => Promise<T>): Promise<T> {
    const { tls, password } = this.#options;
    const client = new Redis({
      host: TEST_HOST,
      port: this.port,
      lazyConnect: true,
      retryStrategy: () => null,
      enableReadyCheck: false,
      disableClientInfo: true,
      ...(password !== undefined && { password }),
      ...(tls && {
        tls: {
          ca: readFileSync(tls.ca),
          cert: readFileSync(tls.clientCert),
          key: readFileSync(tls.clientKey),
        },
      }),
    });
    let failure: unknown;
    client.on('error', (error) => {
      failure = error;
    });
    try {
      await client.connect();
      return await send(client);
    } catch (error) {
      throw failure ?? error;
    } finally {
      client.disconnect();
    }
  }

  /** A value of INFO; undefined if there is none. */
  async info(field: string): Promise<string | undefined> {
    const text = String(await this.command('INFO', 'everything'));
    return new RegExp(`^${field}:(.*)\r$`, 'm').exec(text)?.[1];
  }

  /** Makes a replica the master of itself. */
  async promote(): Promise<void> {
    await this.command('REPLICAOF', 'NO', 'ONE');
  }

  /** Follows a master; resolves when it has all that the master had. */
  async follow(master: TestRedis): Promise<void> {
    await this.command('REPLICAOF', TEST_HOST, master.port);
    await until('the replica follows', async () => (await this.info('master_link_status')) === 'up');
    await until('the master knows', async () => /state=online/.test((await master.info('slave0')) ?? ''));
  }

  /** Keeps what the master writes from now on from arriving here, until cont(). */
  async pauseReplication(master: TestRedis): Promise<void> {
    this.stop();
    await master.command('CLIENT', 'KILL', 'TYPE', 'replica');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.dir, { recursive: true, force: true });
  }

  #args(): string[] {
    const { tls, password, args = [] } = this.#options;
    const login = password === undefined ? [] : ['--requirepass', password, '--masterauth', password];
    const ports = tls
      ? ['--port', '0', '--tls-port', `${this.port}`, ...tlsArgs(tls)]
      : ['--port', `${this.port}`];
    const common = ['--bind', TEST_HOST, '--dir', this.dir, '--daemonize', 'no', '--save', ''];
    // Many servers share two cores: a fork for each replica that syncs is dear.
    return [...ports, ...common, ...login, '--repl-diskless-sync-delay', '0', ...args];
  }
}

/** Certificates for servers on 127.0.0.1 and their clients, in that folder. */
export async function createRedisCertificates(dir: string): Promise<RedisCertificates> {
  const ca = await createCa({ name: 'Redis test CA' });
  const server = await issueServer(ca);
  const client = await issueClient(ca, { principal: 'store-test' });
  const write = async (name: string, content: string): Promise<string> => {
    const path = join(dir, name);
    await writeFile(path, content);
    return path;
  };
  return {
    ca: await write('redis-ca.crt', ca.cert),
    caKey: await write('redis-ca.key', ca.key),
    serverCert: await write('redis-server.crt', server.cert),
    serverKey: await write('redis-server.key', server.key),
    clientCert: await write('redis-client.crt', client.cert),
    clientKey: await write('redis-client.key', client.key),
  };
}

/** Puts a new certificate of the same CA into the client's files. */
export async function renewClientCertificate(certificates: RedisCertificates): Promise<void> {
  const ca = { cert: readFileSync(certificates.ca, 'utf8'), key: readFileSync(certificates.caKey, 'utf8') };
  const client = await issueClient(ca, { principal: 'store-test' });
  await writeFile(certificates.clientCert, client.cert);
  await writeFile(certificates.clientKey, client.key);
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, TEST_HOST, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** Asks again until the answer is yes; an error counts as "not yet". */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  timeoutMs = START_TIMEOUT_MS,
): Promise<void> {
  const giveUp = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      if (await condition()) return;
    } catch (error) {
      if (error instanceof StartFailure) throw error;
      last = error;
    }
    if (performance.now() > giveUp) {
      throw new Error(`waited ${timeoutMs} ms in vain until ${what}`, { cause: last });
    }
    await delay(POLL_MS);
  }
}

class StartFailure extends Error {}

let found: string | undefined;

/** redis-server from the PATH; if there is none and we may, it is installed. */
export function redisServerPath(): string {
  found ??= find('redis-server');
  if (found === undefined && process.getuid?.() === 0 && find('apt-get') !== undefined) {
    spawnSync('apt-get', ['install', '-y', '--no-install-recommends', 'redis-server'], { stdio: 'ignore' });
    found = find('redis-server');
  }
  if (found === undefined) {
    throw new Error(
      'these tests need redis-server 7.0 or newer: install it (apt-get install redis-server, brew install redis)',
    );
  }
  return found;
}

function find(binary: string): string | undefined {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, binary))
    .find((path) => existsSync(path));
}

function tlsArgs(tls: RedisCertificates): string[] {
  return [
    ...['--tls-cert-file', tls.serverCert, '--tls-key-file', tls.serverKey, '--tls-ca-cert-file', tls.ca],
    ...['--tls-auth-clients', 'yes', '--tls-replication', 'yes', '--tls-cluster', 'yes'],
  ];
}
