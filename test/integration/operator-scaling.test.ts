// Consumers scaled by the operator on a real API server and a real broker: who sets replicas, what is
// refused, what is said. Pods are objects with an address and a status that the test gives them; consumers
// are clients that call themselves like them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import { ExternalScaler } from '../../services/gen/externalscaler/externalscaler_pb.ts';
import { TestClient } from '../support/grpc-rig.ts';
import {
  condition,
  isReady,
  type OperatorProcess,
  type Stage,
  startStage,
  subscription,
  topic,
} from '../support/operator.ts';

const SLOW = { timeout: 180_000 };
let stage: Stage;
let operator: OperatorProcess;
let client: Client;

beforeAll(async () => {
  stage = await startStage();
  const certs = join(stage.broker.dataDir, 'certs');
  operator = await stage.startOperator({
    env: {
      FANFARE_OPERATOR_KEDA_LISTEN: '127.0.0.1:0',
      FANFARE_OPERATOR_TLS_CERT: join(certs, 'server.crt'),
      FANFARE_OPERATOR_TLS_KEY: join(certs, 'server.key'),
    },
  });
  client = stage.client();
  await stage.apply(topic('shop', 'orders', { partitions: 2 }));
  await stage.until('the topic is ready', () => isReady(stage.topic('shop', 'orders')));
}, 1_200_000);
afterAll(async () => {
  await client?.close();
  await stage?.[Symbol.asyncDispose]();
}, 60_000);
afterEach(() => expect(operator.lines.filter(({ level }) => level === 'error')).toEqual([]));

/** Scaling as quick as it can be: a decision a second at most, no windows. */
const QUICK = {
  behavior: {
    scaleDown: {
      stabilizationWindowSeconds: 0,
      policies: [{ type: 'Pods', value: 100, periodSeconds: 1 }],
    },
  },
};

async function deploy(name: string, replicas: number): Promise<void> {
  await stage.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'shop' },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'c', image: 'localhost/none' }] },
      },
    },
  });
  await run(name, replicas);
}

/** Sets the status that the Deployment's controller and the kubelet would. */
async function run(name: string, replicas: number): Promise<void> {
  const path = `/apis/apps/v1/namespaces/shop/deployments/${name}/status`;
  const status = {
    replicas,
    readyReplicas: replicas,
    updatedReplicas: replicas,
    availableReplicas: replicas,
  };
  await stage.kube.request('PATCH', path, { status }, { contentType: 'application/merge-patch+json' });
}

async function startPod(deployment: string, name: string, ip: string): Promise<void> {
  await stage.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', labels: { app: deployment } },
    spec: { containers: [{ name: 'c', image: 'localhost/none' }] },
  });
  const status = {
    phase: 'Running',
    podIP: ip,
    podIPs: [{ ip }],
    conditions: [{ type: 'Ready', status: 'True' }],
  };
  const contentType = 'application/merge-patch+json';
  await stage.kube.request(
    'PATCH',
    `/api/v1/namespaces/shop/pods/${name}/status`,
    { status },
    { contentType },
  );
}

const cost = async (pod: string): Promise<string | undefined> => {
  const { body } = await stage.kube.request('GET', `/api/v1/namespaces/shop/pods/${pod}`);
  return body.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'];
};
const scaling = (name: string) => condition(stage.subscription('shop', name), 'Scaling');
const consumers = (name: string, more: object = {}) => ({
  consumers: { scaleTargetRef: { name }, maxReplicas: 5, ...more },
});

test('strategy None: kubectl scale on the Subscription is carried out on its target', SLOW, async () => {
  await deploy('manual', 1);
  await stage.apply(
    subscription('shop', 'manual', 'orders', consumers('manual', { strategy: 'None', replicas: 1 })),
  );
  await stage.until('it is looked at', () => scaling('manual') === 'True/ScaledExternally');
  await stage.kube.kubectl(['scale', '-n', 'shop', 'subscriptions.fanfare.dev/manual', '--replicas=3']);
  await stage.until('the target follows', () => stage.replicas('shop', 'manual') === 3);
  await run('manual', 3);
  await stage.until('status says so', () => stage.subscription('shop', 'manual')?.status?.replicas === 3);
  const { body } = await stage.kube.request(
    'GET',
    '/apis/fanfare.dev/v1alpha1/namespaces/shop/subscriptions/manual/scale',
  );
  expect(body.status).toEqual({ replicas: 3, selector: 'app=manual' });
  // The Subscription's own number is no longer the user's to set past the bounds.
  await expect(
    stage.kube.kubectl(['scale', '-n', 'shop', 'subscriptions.fanfare.dev/manual', '--replicas=9']),
  ).rejects.toThrow('maxReplicas');
});

test('strategy Internal: a burst scales up within a second, the decision is explained', SLOW, async () => {
  await deploy('burst', 0);
  await stage.apply(
    subscription(
      'shop',
      'burst',
      'orders',
      consumers('burst', { minReplicas: 0, targetBacklogPerReplica: 10, mode: 'Depth' }),
    ),
  );
  await stage.until('it is measured', () => stage.subscription('shop', 'burst')?.status?.backlog === 0);
  const began = performance.now();
  const publisher = client.publisher('orders');
  await Promise.all(Array.from({ length: 35 }, () => publisher.publish({ data: 'x' })));
  await stage.until('it wakes', () => (stage.replicas('shop', 'burst') ?? 0) > 0);
  const tookMs = performance.now() - began;
  console.log(`from the first message to replicas: ${Math.round(tookMs)} ms`);
  expect(tookMs).toBeLessThan(5_000);
  await stage.until('it has enough', () => stage.replicas('shop', 'burst') === 4);
  await run('burst', 4);
  await stage.until(
    'it is explained',
    () => stage.subscription('shop', 'burst')?.status?.autoscaling?.desired === 4,
  );
  const { status } = stage.subscription('shop', 'burst')!;
  expect(status?.autoscaling).toMatchObject({ active: true, inputs: { backlog: 35 } });
  expect(status?.autoscaling?.opinions?.find(({ rule }) => rule === 'depth')).toMatchObject({ replicas: 4 });
  const { body } = await stage.kube.request('GET', '/apis/events.k8s.io/v1/namespaces/shop/events');
  const notes = (body.items as { reason: string; note: string }[])
    .filter(({ reason }) => reason === 'Scaled')
    .map(({ note }) => note);
  expect(notes.join('\n')).toMatch(/Deployment burst from 0 to \d replicas: Woken/);
});

test('scale-down waits for what the pod holds, marks it, and only then lowers replicas', SLOW, async () => {
  await deploy('careful', 2);
  for (const [name, ip] of [
    ['careful-a', '10.9.9.1'],
    ['careful-b', '10.9.9.2'],
  ] as const)
    await startPod('careful', name, ip);
  await stage.apply(
    subscription(
      'shop',
      'careful',
      'orders',
      consumers('careful', { strategy: 'None', replicas: 2, drain: { timeoutSeconds: 600 } }),
    ),
  );
  await stage.until('it is ready', () => isReady(stage.subscription('shop', 'careful')));
  const held: { pod: string; ack: () => void }[] = [];
  const pods = ['careful-a', 'careful-b'].map((pod) => {
    const consumer = client.subscribe('careful', { clientId: pod, maxOutstandingMessages: 5 });
    const ended = (async () => {
      for await (const message of consumer) held.push({ pod, ack: () => message.ack() });
    })();
    return { pod, consumer, ended };
  });
  const publisher = client.publisher('orders');
  await Promise.all(Array.from({ length: 10 }, () => publisher.publish({ data: 'x' })));
  await stage.eventually(
    'both hold five',
    async () => held.length,
    (count) => count === 10,
  );
  await stage.patch('subscriptions', 'shop', 'careful', { spec: { consumers: { replicas: 1 } } });
  await stage.until('it waits', () => scaling('careful') === 'True/Draining');
  expect(stage.replicas('shop', 'careful')).toBe(2);
  // The youngest is chosen, by name if they are equally old.
  const { body } = await stage.kube.request(
    'GET',
    '/api/v1/namespaces/shop/pods?labelSelector=app%3Dcareful',
  );
  const ages = (body.items as { metadata: { name: string; creationTimestamp: string } }[]).map(
    ({ metadata }) => metadata,
  );
  const [victim] = ages.sort(
    (a, b) => b.creationTimestamp.localeCompare(a.creationTimestamp) || a.name.localeCompare(b.name),
  );
  const other = victim!.name === 'careful-a' ? 'careful-b' : 'careful-a';
  const finish = (pod: string): void => {
    for (const each of held.filter((one) => one.pod === pod)) each.ack();
    held.splice(0, held.length, ...held.filter((one) => one.pod !== pod));
  };
  // New work goes to the other pod alone.
  finish(other);
  await Promise.all(Array.from({ length: 5 }, () => publisher.publish({ data: 'y' })));
  await stage.eventually(
    'the other gets five more',
    async () => held.filter(({ pod }) => pod === other).length,
    (count) => count === 5,
  );
  expect(held.filter(({ pod }) => pod === victim!.name)).toHaveLength(5);
  expect(await cost(victim!.name)).toBeUndefined();
  finish(victim!.name);
  await stage.until('replicas fall', () => stage.replicas('shop', 'careful') === 1);
  expect(await cost(victim!.name)).toBe('-1000');
  expect(await cost(other)).toBeUndefined();
  finish(other);
  for (const { consumer } of pods) await consumer.close();
  await Promise.all(pods.map(({ ended }) => ended));
});

test('a target that an HPA or another Subscription scales is refused, with advice', SLOW, async () => {
  await deploy('contested', 1);
  const hpa = {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: 'web', namespace: 'shop' },
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'contested' },
      maxReplicas: 3,
    },
  };
  await stage.apply(hpa);
  await stage.apply(
    subscription('shop', 'contested', 'orders', consumers('contested', { strategy: 'None', replicas: 2 })),
  );
  await stage.until('it says so', () => scaling('contested') === 'False/ScaleTargetOwnedByHPA');
  expect(isReady(stage.subscription('shop', 'contested'))).toBe(true);
  expect(stage.replicas('shop', 'contested')).toBe(1);
  await stage.kube.request('DELETE', '/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/web');
  await stage.until('then it scales', () => stage.replicas('shop', 'contested') === 2);
  await stage.apply(
    subscription('shop', 'rival', 'orders', consumers('contested', { strategy: 'None', replicas: 4 })),
  );
  await stage.until('one says so', () =>
    [scaling('rival'), scaling('contested')].includes('False/ScaleTargetOwnedBySubscription'),
  );
  await stage.remove('subscriptions', 'shop', 'contested');
  await stage.until('the other one scales', () => stage.replicas('shop', 'contested') === 4);
  await stage.apply(subscription('shop', 'lost', 'orders', consumers('nowhere')));
  await stage.until('no target', () => scaling('lost') === 'False/ScaleTargetNotFound');
});

test('dryRun decides and changes nothing', SLOW, async () => {
  await deploy('dry', 1);
  await stage.apply(
    subscription(
      'shop',
      'dry',
      'orders',
      consumers('dry', { targetBacklogPerReplica: 1, mode: 'Depth', dryRun: true, ...QUICK }),
    ),
  );
  await stage.until('it is ready', () => isReady(stage.subscription('shop', 'dry')));
  await client.publisher('orders').publish({ data: 'x' });
  await client.publisher('orders').publish({ data: 'x' });
  await stage.until(
    'it says what it would do',
    () => (stage.subscription('shop', 'dry')?.status?.autoscaling?.recommended ?? 0) > 1,
  );
  expect(scaling('dry')).toBe('True/DryRun');
  expect(stage.replicas('shop', 'dry')).toBe(1);
});

test('KEDA is answered from the same decisions, and its number is carried out', SLOW, async () => {
  await deploy('keda', 1);
  await stage.apply(
    subscription(
      'shop',
      'keda',
      'orders',
      consumers('keda', {
        strategy: 'KEDA',
        replicas: 1,
        minReplicas: 0,
        targetBacklogPerReplica: 10,
        mode: 'Depth',
      }),
    ),
  );
  await stage.until('it is measured', () => stage.subscription('shop', 'keda')?.status?.backlog === 0);
  const publisher = client.publisher('orders');
  await Promise.all(Array.from({ length: 25 }, () => publisher.publish({ data: 'x' })));
  const { ca, cert, key } = stage.broker.tls;
  const read = (path: string) => readFileSync(path, 'utf8');
  const keda = new TestClient(
    `localhost:${operator.kedaPort}`,
    { cert: read(cert), key: read(key) },
    { cert: read(ca), key: '' },
  );
  try {
    const { getMetrics, isActive } = ExternalScaler.method;
    const ref = { name: 'keda', namespace: 'shop', scalerMetadata: {} };
    const need = await stage.eventually(
      'the need is known',
      async () => {
        const answer = await keda
          .call(getMetrics, { scaledObjectRef: ref, metricName: 'fanfare-replicas' })
          .catch(() => undefined);
        return answer?.metricValues[0]?.metricValueFloat;
      },
      (value) => value === 2.5,
    );
    expect(need).toBe(2.5);
    expect((await keda.call(isActive, ref)).result).toBe(true);
  } finally {
    keda.close();
  }
  await stage.kube.kubectl(['scale', '-n', 'shop', 'subscriptions.fanfare.dev/keda', `--replicas=3`]);
  await stage.until('the target follows', () => stage.replicas('shop', 'keda') === 3);
});

test('somebody who keeps changing replicas is named', SLOW, async () => {
  await deploy('fought', 1);
  await stage.apply(
    subscription('shop', 'fought', 'orders', consumers('fought', { strategy: 'None', replicas: 2 })),
  );
  const scaled = async () =>
    operator.lines.filter(({ msg, target }) => msg === 'scaled' && target === 'fought').length;
  for (let round = 1; round <= 4; round += 1) {
    await stage.eventually('we set it', scaled, (count) => count === round);
    await stage.kube.kubectl(['scale', '-n', 'shop', 'deployment/fought', '--replicas=4']);
  }
  await stage.until(
    'it says so',
    () => condition(stage.subscription('shop', 'fought'), 'Degraded') === 'True/ReplicasContended',
  );
});
