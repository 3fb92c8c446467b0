// A stage for the operator: a real API server with the chart's CRDs and rights, a real broker, and operators
// as processes that have just those rights.
//
//   await using stage = await startStage();
//   await using operator = await stage.startOperator();
//   await stage.apply(topic('shop', 'orders'));
//   await stage.until('orders is ready', () => isReady(stage.topic('shop', 'orders')));
//
// Waiting is by watching: `until` looks again whenever one of the resources has changed. The broker is asked
// again and again (`eventually`).
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Condition, ConditionType } from '../../operator/api/v1alpha1/conditions.ts';
import type { Fanfare } from '../../operator/api/v1alpha1/fanfare.ts';
import type { Subscription } from '../../operator/api/v1alpha1/subscription.ts';
import type { Topic } from '../../operator/api/v1alpha1/topic.ts';
import { createInformers, type Informers } from '../../operator/controllers/informers.ts';
import { systemClock } from '../../operator/kube/clock.ts';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { kubeTransport, parseKubeConfig } from '../../operator/kube/transport.ts';
import { LEASE_NAME } from '../../operator/run.ts';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, startBroker } from './broker.ts';
import { type Kube, type KubeOptions, startKube } from './kube.ts';
import type { KubeObject } from './kube-calls.ts';
import { renderChart } from './kube-chart.ts';
import type { ProcessOptions } from './operator-process.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The namespace of the chart's release in these tests. */
export const OPERATOR_NAMESPACE = 'fanfare';
const ACCOUNT = 'demo-fanfare-operator';
const START_TIMEOUT_MS = 60_000;
const WAIT_TIMEOUT_MS = 60_000;
/** A lease that is soon free when its holder was killed; still long enough for a slow machine. */
export const QUICK_LEASES = { leaseMs: 4_000, renewDeadlineMs: 3_000, renewMs: 700, retryMs: 300 };

export interface StageOptions {
  readonly kube?: KubeOptions;
  /** Namespaces to be made. */
  readonly namespaces?: readonly string[];
  /** Starts a proxy between operator and API server (host:port), and returns its address. */
  readonly throughProxy?: (server: string) => Promise<string>;
}

export interface OperatorOptions extends ProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** false: main.ts itself, which knows no other options. Default true. */
  readonly harness?: boolean;
  /** The API server's URL as the operator is to see it. */
  readonly server?: string;
}

export async function startStage(options: StageOptions = {}): Promise<Stage> {
  const kube = await startKube(options.kube);
  try {
    const broker = await startBroker();
    const namespaces = [OPERATOR_NAMESPACE, ...(options.namespaces ?? ['shop'])];
    await kube.apply(namespaces.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })));
    const rights = /^(CustomResourceDefinition|ServiceAccount|(Cluster)?Role(Binding)?)$/;
    const objects = await renderChart({ operator: { keda: { enabled: true } } });
    await kube.apply(objects.filter(({ kind }) => rights.test(kind)));
    const token = await kube.serviceAccountToken(OPERATOR_NAMESPACE, ACCOUNT);
    return new Stage(kube, broker, token);
  } catch (error) {
    await kube.stop();
    throw error;
  }
}

export class Stage implements AsyncDisposable {
  readonly kube: Kube;
  broker: BrokerProcess;
  readonly #token: string;
  readonly #informers: Informers;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  readonly #http: { close(): void };
  readonly #operators = new Set<OperatorProcess>();
  readonly #looking = new Set<() => void>();
  readonly #dataDirs: string[] = [];

  constructor(kube: Kube, broker: BrokerProcess, token: string) {
    this.kube = kube;
    this.broker = broker;
    this.#token = token;
    const metrics = new Metrics();
    const common = { clock: systemClock, random: Math.random, logger: silent, metrics };
    const transport = kubeTransport(parseKubeConfig(kube.kubeconfig()), systemClock);
    const http = createKubeHttp({ ...common, transport });
    this.#http = http;
    this.#informers = createInformers({ ...common, http, namespaces: [] });
    for (const informer of this.#informers.all) informer.onChange(() => this.#look());
    this.#running = Promise.all(this.#informers.all.map((informer) => informer.run(this.#stop.signal)));
  }

  /** Admin calls of the test itself, in the project of the namespace. */
  client(project = 'shop'): Client {
    return this.broker.connect({ project });
  }

  topic(namespace: string, name: string): Topic | undefined {
    return this.#informers.topics.get(`${namespace}/${name}`);
  }

  subscription(namespace: string, name: string): Subscription | undefined {
    return this.#informers.subscriptions.get(`${namespace}/${name}`);
  }

  fanfare(namespace: string, name: string): Fanfare | undefined {
    return this.#informers.fanfares.get(`${namespace}/${name}`);
  }

  get topics(): readonly Topic[] {
    return this.#informers.topics.list();
  }

  get subscriptions(): readonly Subscription[] {
    return this.#informers.subscriptions.list();
  }

  /** The replicas that a Deployment asks for. */
  replicas(namespace: string, name: string): number | undefined {
    return this.#informers.deployments.get(`${namespace}/${name}`)?.target.replicas;
  }

  apply(...objects: readonly KubeObject[]): Promise<void> {
    return this.kube.apply(objects);
  }

  /**
   * Sends a merge patch of spec or metadata. Resolves when this stage sees it, so that what is looked at next
   * is not older.
   */
  async patch(kind: 'topics' | 'subscriptions' | 'fanfares', namespace: string, name: string, patch: object) {
    const path = `/apis/fanfare.dev/v1alpha1/namespaces/${namespace}/${kind}/${name}`;
    const contentType = 'application/merge-patch+json';
    const { status, body } = await this.kube.request('PATCH', path, patch, { contentType });
    if (status >= 300) throw new Error(`PATCH ${path}: ${status} ${JSON.stringify(body)}`);
    const { generation, annotations } = body.metadata;
    await this.until(`the change of ${name} is seen`, () => {
      const seen = this.#informers[kind].get(`${namespace}/${name}`)?.metadata;
      if (seen === undefined || (seen.generation ?? 0) < generation) return false;
      return JSON.stringify(seen.annotations) === JSON.stringify(annotations);
    });
  }

  async remove(
    kind: 'topics' | 'subscriptions' | 'fanfares',
    namespace: string,
    name: string,
  ): Promise<void> {
    await this.kube.request('DELETE', `/apis/fanfare.dev/v1alpha1/namespaces/${namespace}/${kind}/${name}`);
  }

  /** Resolves when the condition holds; looks whenever a resource has changed. */
  async until(what: string, condition: () => boolean, timeoutMs = WAIT_TIMEOUT_MS): Promise<void> {
    if (condition()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      const logs = [...this.#operators].map((operator) => operator.logText()).join('\n---\n');
      reject(new Error(`not within ${timeoutMs} ms: ${what}\n${this.#dump()}\n${logs}`));
    }, timeoutMs);
    const look = (): void => {
      if (condition()) resolve();
    };
    this.#looking.add(look);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#looking.delete(look);
    }
  }

  /** Asks again and again, for what nobody watches, such as the broker. */
  async eventually<T>(
    what: string,
    ask: () => Promise<T>,
    accept: (value: T) => boolean,
    timeoutMs = WAIT_TIMEOUT_MS,
  ): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const value = await ask();
      if (accept(value)) return value;
      if (performance.now() > deadline) {
        const logs = [...this.#operators].map((operator) => operator.logText()).join('\n---\n');
        throw new Error(`not within ${timeoutMs} ms: ${what}; it is ${JSON.stringify(value)}\n${logs}`);
      }
      await delay(50);
    }
  }

  /** Frees the lease, so that nobody has to wait until that of a killed operator has run out. */
  async freeLease(): Promise<void> {
    await this.kube.request(
      'DELETE',
      `/apis/coordination.k8s.io/v1/namespaces/${OPERATOR_NAMESPACE}/leases/${LEASE_NAME}`,
    );
  }

  /** Changes that anybody asked the broker for: "create topics/orders: OK". */
  audited(project = 'shop'): string[] {
    return this.broker.logLines
      .filter(({ msg }) => msg === 'audit')
      .map(({ audit }) => audit as { verb: string; resource: string; result: string })
      .filter(({ resource }) => resource.startsWith(`projects/${project}/`))
      .map(({ verb, resource, result }) => `${verb} ${resource.split('/').slice(2).join('/')}: ${result}`);
  }

  /** Starts the broker again, with its data, at its address. */
  async restartBroker(): Promise<void> {
    const { dataDir, address } = this.broker;
    await this.broker.kill();
    this.broker = await startBroker({ dataDir, listen: address });
    this.#dataDirs.push(dataDir);
  }

  async startOperator(options: OperatorOptions = {}): Promise<OperatorProcess> {
    const operator = await OperatorProcess.start(this.kube, this.broker, this.#token, options);
    this.#operators.add(operator);
    return operator;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const operator of this.#operators) await operator[Symbol.asyncDispose]();
    this.#stop.abort();
    await this.#running;
    this.#http.close();
    await this.broker[Symbol.asyncDispose]();
    for (const folder of this.#dataDirs) await rm(folder, { recursive: true, force: true });
    await this.kube.stop();
  }

  #look(): void {
    for (const look of [...this.#looking]) look();
  }

  #dump(): string {
    const lines = [...this.topics, ...this.subscriptions].map(
      ({ kind, metadata, status }) =>
        `${kind} ${metadata.namespace}/${metadata.name}: ${JSON.stringify(status?.conditions)}`,
    );
    return lines.slice(0, 10).join('\n');
  }
}

interface Line {
  readonly msg?: string;
  readonly [field: string]: unknown;
}

export class OperatorProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #lines: Line[] = [];
  readonly #hear = new Set<(line: Line | undefined) => void>();
  readonly exited: Promise<NodeJS.Signals | number | null>;
  probes = '';
  kedaPort = 0;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    createInterface({ input: child.stderr! }).on('line', (text) => {
      const line = parsed(text);
      this.#lines.push(line);
      for (const hear of [...this.#hear]) hear(line);
    });
    this.exited = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        for (const hear of [...this.#hear]) hear(undefined);
        resolve(signal ?? code);
      });
    });
  }

  static async start(kube: Kube, broker: BrokerProcess, token: string, options: OperatorOptions) {
    const { env = {}, harness = true, server = kube.server, ...rest } = options;
    const folder = await mkdtemp(join(tmpdir(), 'fanfare-operator-'));
    const kubeconfig = join(folder, 'kubeconfig.json');
    await writeFile(kubeconfig, kube.kubeconfig(token).replaceAll(kube.server, server));
    const script = harness ? 'test/support/operator-process.ts' : 'operator/main.ts';
    const settings = harness ? [JSON.stringify({ leaderTimes: QUICK_LEASES, ...rest })] : [];
    const endWithTest = `data:text/javascript,${encodeURIComponent(
      "process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume().unref();",
    )}`;
    const child = spawn(process.execPath, ['--import', endWithTest, join(ROOT, script), ...settings], {
      cwd: ROOT,
      stdio: ['pipe', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        KUBECONFIG: kubeconfig,
        FANFARE_OPERATOR_NAMESPACE: OPERATOR_NAMESPACE,
        FANFARE_OPERATOR_ADDRESS: broker.address,
        FANFARE_OPERATOR_TLS_CERT: broker.tls.cert,
        FANFARE_OPERATOR_TLS_KEY: broker.tls.key,
        FANFARE_OPERATOR_TLS_CA: broker.tls.ca,
        FANFARE_OPERATOR_PROBES_LISTEN: '127.0.0.1:0',
        ...env,
      },
    });
    const operator = new OperatorProcess(child, folder);
    const { probes, keda } = await operator.logged('started', START_TIMEOUT_MS);
    operator.probes = `http://127.0.0.1:${probes}`;
    operator.kedaPort = Number(keda ?? 0);
    return operator;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The first line with that message, among those that were logged and those to come. */
  logged(wanted: string, timeoutMs = WAIT_TIMEOUT_MS): Promise<Line> {
    const found = this.#lines.find(({ msg }) => msg === wanted);
    if (found !== undefined) return Promise.resolve(found);
    const { promise, resolve, reject } = Promise.withResolvers<Line>();
    const fail = (why: string): void =>
      reject(new Error(`the operator ${why} without logging "${wanted}":\n${this.logText()}`));
    const timer = setTimeout(() => fail(`ran for ${timeoutMs} ms`), timeoutMs);
    const hear = (line: Line | undefined): void => {
      if (line === undefined) fail('ended');
      else if (line.msg === wanted) resolve(line);
    };
    this.#hear.add(hear);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#hear.delete(hear);
    });
  }

  /** The sum, in /metrics, of all series of a name whose text has all of the parts. */
  async metric(name: string, ...parts: readonly string[]): Promise<number> {
    const text = await (await fetch(`${this.probes}/metrics`)).text();
    return text
      .split('\n')
      .filter((line) => line.startsWith(name) && parts.every((part) => line.includes(part)))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  /** Requests to the API server so far, by verb and resource. */
  async apiCalls(): Promise<Record<string, number>> {
    const text = await (await fetch(`${this.probes}/metrics`)).text();
    const calls: Record<string, number> = {};
    const line = /^fanfare_operator_api_requests_total\{verb="([^"]+)",resource="([^"]+)".*\} (\d+)$/gm;
    for (const [, verb, resource, count] of text.matchAll(line)) {
      const name = `${verb} ${resource}`;
      calls[name] = (calls[name] ?? 0) + Number(count);
    }
    return calls;
  }

  logText(): string {
    return this.#lines
      .slice(-12)
      .map((line) => JSON.stringify(line))
      .join('\n');
  }

  get lines(): readonly Line[] {
    return this.#lines;
  }

  /** Resolves with how it ended: a signal or an exit code. Rejects, with its log, if it goes on for long. */
  async ended(timeoutMs = WAIT_TIMEOUT_MS): Promise<NodeJS.Signals | number | null> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`it did not end within ${timeoutMs} ms:\n${this.logText()}`)),
      timeoutMs,
    );
    try {
      return await Promise.race([this.exited, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async stop(): Promise<NodeJS.Signals | number | null> {
    this.#child.kill('SIGTERM');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function parsed(text: string): Line {
  try {
    return JSON.parse(text) as Line;
  } catch {
    // A line that is not the log's: Node itself speaks.
    return { msg: text };
  }
}

export function topic(namespace: string, name: string, spec: object = {}, metadata: object = {}): KubeObject {
  return {
    apiVersion: 'fanfare.dev/v1alpha1',
    kind: 'Topic',
    metadata: { name, namespace, ...metadata },
    spec,
  };
}

export function subscription(namespace: string, name: string, of: string, spec: object = {}): KubeObject {
  return {
    apiVersion: 'fanfare.dev/v1alpha1',
    kind: 'Subscription',
    metadata: { name, namespace },
    spec: { topicRef: { name: of }, ...spec },
  };
}

export function condition(
  resource: { readonly status?: { readonly conditions?: readonly Condition[] | undefined } } | undefined,
  type: ConditionType = 'Ready',
): string {
  const found = resource?.status?.conditions?.find((each) => each.type === type);
  return found === undefined ? 'none' : `${found.status}/${found.reason}`;
}

/** Whether it is reconciled, its present spec included. */
export function isReady(resource: Topic | Subscription | Fanfare | undefined): boolean {
  return (
    condition(resource) === 'True/Reconciled' &&
    resource?.status?.observedGeneration === resource?.metadata.generation
  );
}
