// A finalizer never blocks a namespace for ever: with the real namespace controller, when the broker, the
// connection or the operator itself is gone.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import {
  condition,
  isReady,
  OPERATOR_NAMESPACE,
  type Stage,
  startStage,
  subscription,
  topic,
} from '../support/operator.ts';

const SLOW = { timeout: 300_000 };
let stage: Stage;

beforeAll(async () => {
  stage = await startStage({ kube: { controllers: true } });
}, 1_200_000);
afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);
afterEach(() => stage.freeLease());

async function shopWithGoods(namespace: string): Promise<void> {
  await stage.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
  await stage.apply(
    topic(namespace, 'orders', { deletionPolicy: 'Delete' }),
    subscription(namespace, 'billing', 'orders'),
  );
  await stage.until(
    `${namespace} is ready`,
    () => isReady(stage.topic(namespace, 'orders')) && isReady(stage.subscription(namespace, 'billing')),
  );
}

const namespaceGone = (namespace: string) =>
  stage.eventually(
    `the namespace ${namespace} is gone`,
    async () => (await stage.kube.request('GET', `/api/v1/namespaces/${namespace}`)).status,
    (status) => status === 404,
  );
const deleteNamespace = (namespace: string) =>
  stage.kube.request('DELETE', `/api/v1/namespaces/${namespace}`);

test('a namespace is deleted: what it had in the broker goes too', SLOW, async () => {
  await using _operator = await stage.startOperator();
  await shopWithGoods('plain');
  await deleteNamespace('plain');
  await namespaceGone('plain');
  await using client = stage.client('plain');
  expect(await client.admin.listTopics()).toEqual([]);
});

test('… while the broker is away: it waits for its time, then lets go and says so', SLOW, async () => {
  await using operator = await stage.startOperator({ env: { FANFARE_OPERATOR_FINALIZER_TIMEOUT: '5s' } });
  await shopWithGoods('stranded');
  await stage.broker.kill();
  await stage.until(
    'it is noticed',
    () => condition(stage.topic('stranded', 'orders')) === 'Unknown/BrokerUnreachable',
  );
  await deleteNamespace('stranded');
  await stage.until('it waits', () => condition(stage.topic('stranded', 'orders')) === 'False/Deleting');
  await namespaceGone('stranded');
  expect(await operator.metric('fanfare_operator_left_behind_total')).toBe(2);
  await stage.restartBroker();
  await using client = stage.client('stranded');
  expect((await client.admin.listTopics()).map(({ id }) => id)).toEqual(['orders']);
});

test('… with a backlog that DeleteIfEmpty protects: the same', SLOW, async () => {
  await using operator = await stage.startOperator({ env: { FANFARE_OPERATOR_FINALIZER_TIMEOUT: '5s' } });
  await shopWithGoods('full');
  await stage.patch('topics', 'full', 'orders', { spec: { deletionPolicy: 'DeleteIfEmpty' } });
  await stage.patch('subscriptions', 'full', 'billing', { spec: { deletionPolicy: 'DeleteIfEmpty' } });
  await using client = stage.client('full');
  await client.publisher('orders').publish({ data: 'precious' });
  await deleteNamespace('full');
  await namespaceGone('full');
  expect((await client.admin.listSubscriptions()).map(({ id }) => id)).toEqual(['billing']);
  expect(await operator.metric('fanfare_operator_left_behind_total')).toBe(2);
});

test('… when the operator is gone: strip-finalizers, or a patch by hand', SLOW, async () => {
  await using operator = await stage.startOperator();
  await shopWithGoods('orphaned');
  await operator.kill();
  await deleteNamespace('orphaned');
  await stage.until(
    'they wait for nobody',
    () => stage.topic('orphaned', 'orders')?.metadata.deletionTimestamp !== undefined,
  );
  // The patch is that of operator/DESIGN.md.
  await stage.kube.kubectl([
    ...['patch', 'subscriptions.fanfare.dev', 'billing', '-n', 'orphaned', '--type=merge'],
    ...['-p', '{"metadata":{"finalizers":null}}'],
  ]);
  await stage.until('one is gone', () => stage.subscription('orphaned', 'billing') === undefined);
  expect(await strip()).toBe(0);
  await namespaceGone('orphaned');
});

test('strip-finalizers makes a running operator step back first', SLOW, async () => {
  await using operator = await stage.startOperator();
  await shopWithGoods('uninstalled');
  expect(await strip()).toBe(0);
  await stage.until(
    'the finalizers are gone',
    () => (stage.topic('uninstalled', 'orders')?.metadata.finalizers ?? []).length === 0,
  );
  expect(await operator.ended()).toBe(1);
  // The operator would be started again, and stands by.
  await using again = await stage.startOperator();
  expect(await again.metric('fanfare_operator_leader')).toBe(0);
  await deleteNamespace('uninstalled');
  await namespaceGone('uninstalled');
  expect(await again.metric('fanfare_operator_leader')).toBe(0);
});

test('without finalizers nothing ever waits', SLOW, async () => {
  await using operator = await stage.startOperator({ env: { FANFARE_OPERATOR_FINALIZERS: 'false' } });
  await shopWithGoods('free');
  expect(stage.topic('free', 'orders')?.metadata.finalizers).toBeUndefined();
  await operator.kill();
  await deleteNamespace('free');
  await namespaceGone('free');
});

/** Runs strip-finalizers as the chart's hook does, with the operator's rights. */
async function strip(): Promise<number | null> {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-strip-'));
  try {
    const kubeconfig = join(folder, 'kubeconfig.json');
    const token = await stage.kube.serviceAccountToken(OPERATOR_NAMESPACE, 'demo-fanfare-operator');
    await writeFile(kubeconfig, stage.kube.kubeconfig(token));
    const child = spawn(process.execPath, ['operator/main.ts', 'strip-finalizers'], {
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        KUBECONFIG: kubeconfig,
        FANFARE_OPERATOR_NAMESPACE: OPERATOR_NAMESPACE,
      },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return await new Promise((resolve) => child.once('close', resolve));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
