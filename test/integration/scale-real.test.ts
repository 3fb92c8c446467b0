// The whole of scaling, nothing simulated but the kubelet: a real API server, a real operator, a real broker,
// and consumer processes that stand in for pods and end at once when they are told to. A burst scales them
// up, is worked off, and they are scaled down under a load that goes on: nothing is lost, nothing comes
// twice.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { runCli } from '../support/cli.ts';
import { FakeDeployment } from '../support/fake-deployment.ts';
import { findKubeTool } from '../support/kube-tools.ts';
import { isReady, type Stage, startStage, subscription, topic } from '../support/operator.ts';
import { type Processed, startScalePod } from '../support/scale-pod.ts';

const BURST = 2_500;
const KEYS = 200;
/** Messages per second that go on all the time. */
const STEADY = 60;
const TICK_MS = 50;
const WORK_MS = 200;
const CONCURRENCY = 16;
const MOST = 5;
/** Nothing is taken away for a minute after the load has doubled. */
const GOING_MS = 120_000;

let stage: Stage;

beforeAll(async () => {
  stage = await startStage();
}, 1_200_000);
afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

/** Publishes a steady load until it is told to stop; remembers every message that was acknowledged. */
class Load {
  readonly published: string[] = [];
  readonly #publisher: ReturnType<Client['publisher']>;
  readonly #running: Promise<void>;
  #next = 0;
  #stopping = false;

  constructor(client: Client, topicName: string) {
    this.#publisher = client.publisher(topicName);
    this.#running = this.#run();
  }

  async publish(count: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        const number = this.#next++;
        await this.#publisher.publish({ data: `${number}`, orderingKey: `key-${number % KEYS}` });
        this.published.push(`${number}`);
      }),
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    await this.#publisher.close();
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      await this.publish((STEADY * TICK_MS) / 1_000);
      // This is the pace of the load, not a wait for something.
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }
}

/** Keys with a message that was begun before an earlier one. */
function misordered(processed: readonly Processed[]): string[] {
  const newest = new Map<string, number>();
  const wrong: string[] = [];
  for (const { key, data } of [...processed].sort((a, b) => a.atMs - b.atMs)) {
    if (Number(data) < (newest.get(key) ?? -1)) wrong.push(`${key}: ${data} after ${newest.get(key)}`);
    newest.set(key, Math.max(Number(data), newest.get(key) ?? -1));
  }
  return wrong;
}

/** Runs `fanfare explain scale` with the real kubectl. */
async function explain(name: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-explain-'));
  try {
    const kubeconfig = join(dir, 'kubeconfig');
    await writeFile(kubeconfig, stage.kube.kubeconfig());
    const PATH = `${dirname(await findKubeTool('kubectl'))}:${process.env.PATH}`;
    const args = ['explain', 'scale', name, '-n', 'shop', '--kubeconfig', kubeconfig];
    const { code, stdout, stderr } = await runCli(args, { cwd: dir, env: { PATH } });
    return { code, stdout: stdout.toString(), stderr };
  } finally {
    await rm(dir, { recursive: true });
  }
}

interface Outcome {
  readonly processed: readonly Processed[];
  readonly published: readonly string[];
  readonly deployment: FakeDeployment;
  readonly redeliveredTotal: number;
  readonly upMs: number;
  readonly workedOffMs: number;
  readonly downMs: number;
}

async function burst(name: string, drain: object, look: () => Promise<void>): Promise<Outcome> {
  await stage.apply(
    topic('shop', name, { partitions: 4 }),
    subscription('shop', `${name}-work`, name, {
      ordering: true,
      ackDeadlineSeconds: 30,
      consumers: {
        scaleTargetRef: { name },
        ...{ minReplicas: 1, maxReplicas: MOST, drainTimeSeconds: 10 },
        ...{ expectedProcessingMillis: WORK_MS, concurrency: CONCURRENCY },
        behavior: {
          scaleUp: { policies: [{ type: 'Pods', value: MOST, periodSeconds: 1 }] },
          scaleDown: {
            stabilizationWindowSeconds: 3,
            policies: [{ type: 'Percent', value: 100, periodSeconds: 1 }],
          },
        },
        drain,
      },
    }),
  );
  await stage.until(`${name} is ready`, () => isReady(stage.subscription('shop', `${name}-work`)));
  const processed: Processed[] = [];
  const { address, tls } = stage.broker;
  await using client = stage.client();
  await using deployment = await FakeDeployment.start({
    kube: stage.kube,
    namespace: 'shop',
    name,
    replicas: 1,
    start: (pod) =>
      startScalePod(
        {
          ...pod,
          ...{ address, tls, project: 'shop', subscription: `${name}-work` },
          ...{ concurrency: CONCURRENCY, maxOutstandingMessages: 2 * CONCURRENCY, workMs: WORK_MS },
        },
        (message) => processed.push(message),
      ),
  });
  const load = new Load(client, name);
  const reached = (what: string, accept: () => boolean, timeoutMs?: number) =>
    stage.eventually(
      what,
      async () => `${deployment.history} with ${deployment.readyPods} ready`,
      () => accept(),
      timeoutMs,
    );
  await reached('the first pod works', () => processed.length > 0);

  const startMs = performance.now();
  await load.publish(BURST);
  await reached('all pods work', () => deployment.readyPods === MOST);
  const upMs = performance.now() - startMs;
  const backlog = async () => (await client.admin.getBacklog([`${name}-work`]))[0]!;
  await stage.eventually('worked off', backlog, ({ messages }) => messages < 3 * STEADY);
  const workedOffMs = performance.now() - startMs;
  await look();
  await reached(
    'most pods have gone',
    () => (deployment.history.at(-1) ?? MOST) <= 2 && deployment.pods <= 2,
    GOING_MS,
  );
  const downMs = performance.now() - startMs;

  await load.stop();
  await stage.eventually('everything is done', backlog, ({ messages }) => messages === 0);
  const { redeliveredTotal } = await backlog();
  return { processed, published: load.published, deployment, redeliveredTotal, upMs, workedOffMs, downMs };
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

test('guarantee 12: a burst scales consumers up, is worked off, and they go again: 0 redeliveries, 0 loss, in order', {
  timeout: 300_000,
}, async () => {
  await using operator = await stage.startOperator();
  let explained = '';
  const outcome = await burst('burst', { timeoutSeconds: 60 }, async () => {
    const { code, stdout, stderr } = await explain('burst-work');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    explained = stdout;
  });
  const { processed, published, deployment, redeliveredTotal } = outcome;
  console.log(
    `${BURST} messages and ${STEADY}/s: ${MOST} pods after ${seconds(outcome.upMs)}, worked off after ${seconds(outcome.workedOffMs)}, ` +
      `${deployment.history.at(-1)} pods after ${seconds(outcome.downMs)}; replicas ${deployment.history.join(' → ')}; ` +
      `${published.length} published, ${processed.length} processed, ${redeliveredTotal} redelivered\n${explained}`,
  );
  expect(explained).toMatch(/^shop\/burst-work: \d replicas? desired/);
  expect(explained).toContain('drain-up');
  const twice = processed.filter(({ attempt }) => attempt > 1);
  expect({ redeliveredTotal, twice }).toEqual({ redeliveredTotal: 0, twice: [] });
  expect(processed.length).toBe(published.length);
  const done = new Set(processed.map(({ data }) => data));
  expect(published.filter((data) => !done.has(data))).toEqual([]);
  expect(misordered(processed)).toEqual([]);
  // Those that went were those that had been emptied, not just any.
  expect(deployment.taken.length).toBeGreaterThanOrEqual(MOST - 2);
  expect(deployment.taken.filter(({ cost }) => cost === '')).toEqual([]);
  await operator.stop();
});
