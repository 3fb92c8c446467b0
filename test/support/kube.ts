// A real Kubernetes API server with its etcd for tests: RBAC on, empty at the start, gone at the end. Any
// number may run at once; each has its own folder and ports.
//
// No kubelet and no scheduler: a Pod is only an object, with the status that the test gives it. Without
// `controllers` nothing removes namespaces, collects garbage or makes Pods of Deployments either, so a
// deleted namespace stays Terminating. Whatever ends the test process ends the servers too (kube-process.ts).
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  applyObject,
  expectOk,
  type KubeObject,
  type KubeRequest,
  type KubeResponse,
  kubeconfigText,
  kubectl,
  send,
} from './kube-calls.ts';
import { type KubeProcess, startProcess } from './kube-process.ts';
import { findKubeTool } from './kube-tools.ts';

export interface KubeUser {
  readonly name: string;
  readonly groups?: readonly string[];
}

export interface KubeOptions {
  /**
   * Users known from the start by a token each, see `tokenOf`; with no rights until a binding gives them
   * some.
   */
  readonly users?: readonly KubeUser[];
  /** Run kube-controller-manager too: namespaces end, owned objects are collected, ReplicaSets make Pods. */
  readonly controllers?: boolean;
  /** More flags for kube-apiserver, such as --min-request-timeout=2. */
  readonly apiServerArgs?: readonly string[];
}

export interface Kube {
  /** https://127.0.0.1:port; the same after a restart. */
  readonly server: string;
  /** PEM of the certificate that signed the server's. */
  readonly ca: string;
  /** The token of a user in system:masters, whom RBAC doesn't restrain. */
  readonly adminToken: string;
  /** The token of one of `users`. */
  tokenOf(name: string): string;
  /**
   * Makes the namespace and the ServiceAccount if they don't exist, and returns a token for it, valid for an
   * hour.
   */
  serviceAccountToken(namespace: string, name: string): Promise<string>;
  /** A kubeconfig as text (JSON, which is YAML): for KubeConfig.loadFromString and KUBECONFIG files. */
  kubeconfig(token?: string): string;
  /**
   * Sends a request, as admin unless a token is given. Never fails for an HTTP status. `body` is sent as
   * JSON.
   */
  request(method: string, path: string, body?: unknown, options?: KubeRequest): Promise<KubeResponse>;
  /** Applies objects by server-side apply and waits for CRDs to be served. Fails with the server's words. */
  apply(objects: readonly KubeObject[]): Promise<void>;
  /** Returns what kubectl prints. Fails, with what it printed, if it ends with anything but 0. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Ends the API server: gracefully, or as by kill -9. The data stays. */
  stopApiServer(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts it again on the same port, with the same certificate and tokens. */
  startApiServer(): Promise<void>;
  /** Lets it hang: connections stay open, nothing is answered. */
  pauseApiServer(): void;
  resumeApiServer(): void;
  /** The pid of kube-apiserver. */
  readonly pid: number;
  stop(): Promise<void>;
}

const HOST = '127.0.0.1';
const START_ATTEMPTS = 3;
const READY_TIMEOUT_MS = 120_000;
const READY_POLL_MS = 50;
const STOP_TIMEOUT_MS = 20_000;
const TOKEN_SECONDS = 3_600;

/**
 * Resolves when the server is ready: in about 3 s on an idle machine, plus minutes once if kube-apiserver
 * must be built.
 */
export async function startKube(options: KubeOptions = {}): Promise<Kube> {
  const binaries = {
    etcd: await findKubeTool('etcd'),
    apiServer: await findKubeTool('kube-apiserver'),
    controllerManager: options.controllers ? await findKubeTool('kube-controller-manager') : undefined,
  };
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-kube-'));
  const tokens = new Map<string, string>();
  const users = [{ name: 'test-admin', groups: ['system:masters'] }, ...(options.users ?? [])];
  for (const { name } of users) tokens.set(name, randomBytes(16).toString('hex'));
  const adminToken = tokens.get('test-admin')!;
  const lines = users.map(
    ({ name, groups = [] }, i) => `${tokens.get(name)},${name},uid-${i},"${groups.join(',')}"`,
  );
  await writeFile(join(folder, 'tokens.csv'), `${lines.join('\n')}\n`);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(join(folder, 'sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }));

  const etcd = await firstThatStarts(() => startEtcd(binaries.etcd, folder));
  let apiServer: KubeProcess;
  let port: number;
  let controllerManager: KubeProcess | undefined;
  let ca: string;
  const serve = () =>
    startApiServer(binaries.apiServer, folder, etcd.port, port, options.apiServerArgs ?? []);
  try {
    apiServer = await firstThatStarts(async () => {
      port = await freePort();
      const process = serve();
      await ready(process, port, adminToken);
      return process;
    });
    ca = await readFile(join(folder, 'apiserver.crt'), 'utf8');
  } catch (error) {
    await etcd.process.stop('SIGKILL', STOP_TIMEOUT_MS);
    await rm(folder, { recursive: true, force: true });
    throw error;
  }

  const kube: Kube = {
    server: `https://${HOST}:${port!}`,
    ca,
    adminToken,
    tokenOf(name) {
      const token = tokens.get(name);
      if (token === undefined) throw new Error(`no user ${name} was given to startKube`);
      return token;
    },
    async serviceAccountToken(namespace, name) {
      const metadata = { name, namespace };
      await kube.apply([
        { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
        { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
      ]);
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
      const { body } = await expectOk(
        kube.request('POST', path, { spec: { expirationSeconds: TOKEN_SECONDS } }),
      );
      return body.status.token;
    },
    kubeconfig: (token = adminToken) => kubeconfigText(kube.server, ca, token),
    request: (method, path, body, { token = adminToken, contentType } = {}) =>
      send(method, `${kube.server}${path}`, { ca, token, body, contentType }),
    async apply(objects) {
      for (const object of objects) await applyObject(kube, object);
    },
    async kubectl(args, input) {
      const file = join(folder, 'kubeconfig.json');
      await writeFile(file, kube.kubeconfig());
      return kubectl(await findKubeTool('kubectl'), ['--kubeconfig', file, ...args], folder, input);
    },
    stopApiServer: (signal = 'SIGTERM') => apiServer.stop(signal, STOP_TIMEOUT_MS),
    async startApiServer() {
      apiServer = serve();
      await ready(apiServer, port, adminToken);
    },
    pauseApiServer: () => apiServer.signal('SIGSTOP'),
    resumeApiServer: () => apiServer.signal('SIGCONT'),
    get pid() {
      return apiServer.pid;
    },
    async stop() {
      // Nothing of it is needed again, so nobody waits for a tidy end.
      await controllerManager?.stop('SIGKILL', STOP_TIMEOUT_MS);
      await apiServer.stop('SIGKILL', STOP_TIMEOUT_MS);
      await etcd.process.stop('SIGKILL', STOP_TIMEOUT_MS);
      await rm(folder, { recursive: true, force: true });
    },
  };
  if (binaries.controllerManager !== undefined) {
    await writeFile(join(folder, 'controllers.json'), kube.kubeconfig());
    controllerManager = startControllers(binaries.controllerManager, folder);
  }
  return kube;
}

async function startEtcd(binary: string, folder: string): Promise<{ process: KubeProcess; port: number }> {
  const [client, peer] = [await freePort(), await freePort()];
  const urls = { client: `http://${HOST}:${client}`, peer: `http://${HOST}:${peer}` };
  const data = await mkdtemp(join(folder, 'etcd-'));
  const process = startProcess(
    binary,
    [
      ...['--data-dir', data, '--unsafe-no-fsync', '--name', 'default'],
      ...['--listen-client-urls', urls.client, '--advertise-client-urls', urls.client],
      ...['--listen-peer-urls', urls.peer, '--initial-advertise-peer-urls', urls.peer],
      ...['--initial-cluster', `default=${urls.peer}`],
    ],
    join(folder, 'etcd.log'),
  );
  await until(process, async () => (await fetch(`${urls.client}/health`)).ok);
  return { process, port: client };
}

function startApiServer(
  binary: string,
  folder: string,
  etcdPort: number,
  port: number,
  more: readonly string[],
): KubeProcess {
  const key = join(folder, 'sa.key');
  const args = [
    `--etcd-servers=http://${HOST}:${etcdPort}`,
    `--secure-port=${port}`,
    `--bind-address=${HOST}`,
    `--advertise-address=${HOST}`,
    `--cert-dir=${folder}`,
    // It would refuse to advertise a loopback address; nobody looks the endpoint up here.
    '--endpoint-reconciler-type=none',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${key}`,
    `--service-account-signing-key-file=${key}`,
    `--token-auth-file=${join(folder, 'tokens.csv')}`,
    '--authorization-mode=Node,RBAC',
    // Without controllers no namespace has the account `default` that Pods would otherwise need.
    '--disable-admission-plugins=ServiceAccount',
    '--service-cluster-ip-range=10.96.0.0/16',
    '--allow-privileged=true',
    ...more,
  ];
  return startProcess(binary, args, join(folder, 'kube-apiserver.log'));
}

function startControllers(binary: string, folder: string): KubeProcess {
  const args = [
    `--kubeconfig=${join(folder, 'controllers.json')}`,
    `--service-account-private-key-file=${join(folder, 'sa.key')}`,
    `--root-ca-file=${join(folder, 'apiserver.crt')}`,
    `--cert-dir=${folder}`,
    `--bind-address=${HOST}`,
    '--secure-port=0',
    '--leader-elect=false',
    '--use-service-account-credentials=false',
  ];
  return startProcess(binary, args, join(folder, 'kube-controller-manager.log'));
}

async function ready(process: KubeProcess, port: number, token: string): Promise<void> {
  // The certificate is not known before the server has made it, so only here it is not checked.
  const url = `https://${HOST}:${port}/readyz`;
  await until(process, async () => (await send('GET', url, { token })).status === 200);
}

/**
 * Asks again and again until the answer is yes; fails with the end of the log if the process ends or takes
 * too long.
 */
async function until(process: KubeProcess, isReady: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  while (!process.ended) {
    // A refused connection counts as "not yet".
    if (await isReady().catch(() => false)) return;
    if (performance.now() > deadlineMs) break;
    await delay(READY_POLL_MS);
  }
  await process.stop('SIGKILL', STOP_TIMEOUT_MS);
  throw new Error(`${process.name} did not get ready:\n${await process.logTail()}`);
}

/**
 * Starts again on other ports if need be: they are looked for, not reserved, and now and then somebody else
 * is quicker.
 */
async function firstThatStarts<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start();
    } catch (error) {
      if (attempt === START_ATTEMPTS || !/address already in use/.test(String(error))) throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, HOST, resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
