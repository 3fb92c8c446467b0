// A Deployment's controller and kubelet for tests: keeps as many processes running as the Deployment on the
// real API server asks for, each with a Pod object that says so. When there are too many it takes those that
// Kubernetes would take first: not ready, then the lowest pod-deletion-cost, then the youngest.
//
// Each Pod has an IP address of its own within 127.0.0.0/8, from which the process must connect.
import type { KubeResponse } from './kube-calls.ts';

/** The process that is started for a pod. */
export interface PodProcess {
  /** Resolves when the process can work. */
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  /** Sends SIGTERM. */
  end(): void;
}

export interface FakeDeploymentOptions {
  readonly kube: {
    request(
      method: string,
      path: string,
      body?: unknown,
      options?: { readonly contentType?: string },
    ): Promise<KubeResponse>;
  };
  readonly namespace: string;
  readonly name: string;
  readonly replicas: number;
  readonly start: (pod: { readonly name: string; readonly ip: string }) => PodProcess;
}

interface Pod {
  readonly name: string;
  readonly process: PodProcess;
  readonly number: number;
  isReady: boolean;
  isEnding: boolean;
}

interface PodObject {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
}

const POLL_MS = 100;
const COST = 'controller.kubernetes.io/pod-deletion-cost';
const MERGE = { contentType: 'application/merge-patch+json' };

export class FakeDeployment implements AsyncDisposable {
  /** How many replicas were asked for, each time that this changed. */
  readonly history: number[] = [];
  /** Pods in the order in which they were taken away, with their deletion cost ('' if none). */
  readonly taken: { readonly pod: string; readonly cost: string }[] = [];
  readonly #options: FakeDeploymentOptions;
  readonly #pods = new Map<string, Pod>();
  #count = 0;
  #status = '';
  #stopping = false;
  #running: Promise<void> = Promise.resolve();

  private constructor(options: FakeDeploymentOptions) {
    this.#options = options;
  }

  /** Makes the Deployment, and follows it until it is disposed of. */
  static async start(options: FakeDeploymentOptions): Promise<FakeDeployment> {
    const { namespace, name, replicas } = options;
    const deployment = new FakeDeployment(options);
    const labels = { app: name };
    await deployment.#request('POST', `/apis/apps/v1/namespaces/${namespace}/deployments`, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'consumer', image: 'consumer' }] } },
      },
    });
    deployment.#running = deployment.#run();
    return deployment;
  }

  get readyPods(): number {
    return [...this.#pods.values()].filter(({ isReady, isEnding }) => isReady && !isEnding).length;
  }

  /** How many pods have processes that have not ended. */
  get pods(): number {
    return this.#pods.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    await this.#running;
    const processes = [...this.#pods.values()].map(({ process }) => process);
    for (const process of processes) process.end();
    await Promise.all(processes.map(({ exited }) => exited));
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      await this.#look();
      // This is the pace of a controller, not a wait for something.
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #look(): Promise<void> {
    const { namespace, name } = this.#options;
    const { body } = await this.#request('GET', `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`);
    const wanted: number = body.spec.replicas;
    if (this.history.at(-1) !== wanted) this.history.push(wanted);
    const living = [...this.#pods.values()].filter(({ isEnding }) => !isEnding);
    for (let more = wanted - living.length; more > 0; more -= 1) await this.#create();
    if (living.length > wanted) await this.#takeAway(living, living.length - wanted);
    await this.#writeStatus(body.metadata.generation);
  }

  async #create(): Promise<void> {
    const { namespace, name: app, start } = this.#options;
    this.#count += 1;
    const number = this.#count;
    const name = `${app}-${number}`;
    const ip = `127.1.${number >> 8}.${number & 255}`;
    await this.#request('POST', `/api/v1/namespaces/${namespace}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, labels: { app } },
      // A pod without a node would vanish as soon as it is deleted.
      spec: { nodeName: 'node', containers: [{ name: 'consumer', image: 'consumer' }] },
    });
    const pod: Pod = { name, process: start({ name, ip }), number, isReady: false, isEnding: false };
    this.#pods.set(name, pod);
    await this.#say(name, ip, 'False');
    pod.process.ready.then(
      () => this.#becomeReady(pod, ip),
      // The process has ended instead, which is seen to below.
      () => undefined,
    );
    void pod.process.exited.then(() => this.#gone(pod));
  }

  async #becomeReady(pod: Pod, ip: string): Promise<void> {
    pod.isReady = true;
    if (!pod.isEnding && !this.#stopping) await this.#say(pod.name, ip, 'True');
  }

  async #say(name: string, ip: string, ready: 'True' | 'False'): Promise<void> {
    const status = {
      phase: ready === 'True' ? 'Running' : 'Pending',
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: 'Ready', status: ready, lastTransitionTime: new Date().toISOString() }],
    };
    const path = `/api/v1/namespaces/${this.#options.namespace}/pods/${name}/status`;
    await this.#request('PATCH', path, { status }, MERGE);
  }

  async #takeAway(living: readonly Pod[], count: number): Promise<void> {
    const { namespace, name } = this.#options;
    const { body } = await this.#request(
      'GET',
      `/api/v1/namespaces/${namespace}/pods?labelSelector=app%3D${name}`,
    );
    const costs = new Map(
      (body.items as PodObject[]).map(({ metadata }) => [metadata.name, metadata.annotations?.[COST] ?? '']),
    );
    const cost = (pod: Pod): number => Number(costs.get(pod.name) || 0);
    const ranked = [...living].sort(
      (a, b) => Number(a.isReady) - Number(b.isReady) || cost(a) - cost(b) || b.number - a.number,
    );
    for (const pod of ranked.slice(0, count)) {
      pod.isEnding = true;
      this.taken.push({ pod: pod.name, cost: costs.get(pod.name) ?? '' });
      await this.#request('DELETE', `/api/v1/namespaces/${namespace}/pods/${pod.name}`);
      pod.process.end();
    }
  }

  async #gone(pod: Pod): Promise<void> {
    this.#pods.delete(pod.name);
    if (this.#stopping) return;
    const path = `/api/v1/namespaces/${this.#options.namespace}/pods/${pod.name}?gracePeriodSeconds=0`;
    await this.#options.kube.request('DELETE', path);
  }

  async #writeStatus(observedGeneration: number): Promise<void> {
    const { namespace, name } = this.#options;
    const living = [...this.#pods.values()].filter(({ isEnding }) => !isEnding).length;
    const ready = this.readyPods;
    const status = {
      ...{ observedGeneration, replicas: living, updatedReplicas: living },
      ...{ readyReplicas: ready, availableReplicas: ready },
    };
    if (JSON.stringify(status) === this.#status) return;
    this.#status = JSON.stringify(status);
    await this.#request(
      'PATCH',
      `/apis/apps/v1/namespaces/${namespace}/deployments/${name}/status`,
      { status },
      MERGE,
    );
  }

  async #request(
    method: string,
    path: string,
    body?: unknown,
    options?: { readonly contentType?: string },
  ): Promise<KubeResponse> {
    const answer = await this.#options.kube.request(method, path, body, options);
    if (answer.status < 300) return answer;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  }
}
