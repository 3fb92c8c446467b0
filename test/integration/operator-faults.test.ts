// What goes wrong around the operator, one thing at a time, on a real API server and a real broker: the end
// state is right, and the broker was not asked twice for anything.
//
//   FAULT_POINTS=all   dies before each call, and before each answer; usually at one of the two, in turns
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { condition, isReady, type Stage, startStage, subscription, topic } from '../support/operator.ts';
import type { FaultPoint } from '../support/operator-process.ts';

const SLOW = { timeout: 400_000 };
let stage: Stage;

beforeAll(async () => {
  stage = await startStage();
}, 1_200_000);
afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);
afterEach(() => stage.freeLease());

const ready = (name: string) =>
  isReady(stage.topic('shop', name)) && isReady(stage.subscription('shop', `${name}-s`));
const absent = (name: string) =>
  stage.topic('shop', name) === undefined && stage.subscription('shop', `${name}-s`) === undefined;

/** A Topic with a Subscription, both to be deleted in the broker too. */
const pair = (name: string, retentionSeconds = 600) => [
  topic('shop', name, { deletionPolicy: 'Delete', retentionSeconds }),
  subscription('shop', `${name}-s`, name, { ackDeadlineSeconds: 20 }),
];

/**
 * The calls in each step of a reconcile. The process dies before each is sent, or before its answer is seen.
 */
const CALLS: readonly (readonly [call: string, verb: 'make' | 'change' | 'delete'])[] = [
  ['PATCH topics', 'make'],
  ['createTopic', 'make'],
  ['PATCH topics/status', 'make'],
  ['PATCH subscriptions', 'make'],
  ['createSubscription', 'make'],
  ['PATCH subscriptions/status', 'make'],
  ['updateTopic', 'change'],
  ['updateSubscription', 'change'],
  ['deleteSubscription', 'delete'],
  ['deleteTopic', 'delete'],
  ['PATCH topics', 'delete'],
  ['PATCH subscriptions', 'delete'],
];

test(
  'killed -9 in each step of a reconcile: the next one finishes it, and nothing is done twice',
  SLOW,
  async () => {
    const points = CALLS.flatMap(([call, verb]) =>
      (['before', 'after'] as const).map((when) => ({ verb, fault: { call, when } satisfies FaultPoint })),
    ).filter((_, at) => process.env.FAULT_POINTS === 'all' || (at + Math.floor(at / 2)) % 2 === 0);
    for (const [at, { verb, fault }] of points.entries()) {
      const name = `kill-${at}`;
      if (verb !== 'make') {
        // A pair that is to be changed or deleted exists before the operator that will die is started.
        await using healthy = await stage.startOperator();
        await stage.apply(...pair(name));
        await stage.until(`${name} is ready`, () => ready(name));
        await healthy.kill();
        await stage.freeLease();
      }
      await using doomed = await stage.startOperator({ fault });
      if (verb === 'make') await stage.apply(...pair(name));
      if (verb === 'change') {
        await stage.patch('topics', 'shop', name, { spec: { retentionSeconds: 900 } });
        await stage.patch('subscriptions', 'shop', `${name}-s`, { spec: { ackDeadlineSeconds: 30 } });
      }
      if (verb === 'delete') {
        await stage.remove('subscriptions', 'shop', `${name}-s`);
        await stage.remove('topics', 'shop', name);
      }
      expect(await doomed.exited, `${fault.when} ${fault.call}`).toBe('SIGKILL');
      await stage.freeLease();

      await using next = await stage.startOperator();
      if (verb === 'delete') await stage.until(`${name} is gone`, () => absent(name));
      else await stage.until(`${name} is ready`, () => ready(name));
      await next.kill();
      await stage.freeLease();

      const done = stage
        .audited()
        .filter((line) => line.includes(`/${name}: `) || line.includes(`/${name}-s: `));
      const what = `${fault.when} ${fault.call}: ${done.join('; ')}`;
      const count = (line: string) => done.filter((each) => each === line).length;
      expect(count(`create topics/${name}: OK`), what).toBe(1);
      expect(count(`create subscriptions/${name}-s: OK`), what).toBe(1);
      if (verb === 'change') {
        expect(count(`update topics/${name}: OK`), what).toBe(1);
        expect(count(`update subscriptions/${name}-s: OK`), what).toBe(1);
      }
      if (verb === 'delete') {
        expect(count(`delete topics/${name}: OK`), what).toBe(1);
        // At most one: the subscription may have gone with its topic.
        expect(count(`delete subscriptions/${name}-s: OK`), what).toBeLessThanOrEqual(1);
      }
    }
    console.log(
      `killed at ${points.length} fault points: every reconcile was finished by the next process, nothing was done twice`,
    );
  },
);

test('the broker is down for a minute: said so, not hammered, made good when it is back', SLOW, async () => {
  // It is a minute by the operator's clock.
  await using operator = await stage.startOperator({
    speed: 10,
    leaderTimes: { leaseMs: 60_000, renewDeadlineMs: 40_000 },
  });
  await stage.apply(...pair('down'));
  await stage.apply({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'worker', namespace: 'shop' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'worker' } },
      template: {
        metadata: { labels: { app: 'worker' } },
        spec: { containers: [{ name: 'c', image: 'localhost/none' }] },
      },
    },
  });
  const consumers = { scaleTargetRef: { name: 'worker' }, maxReplicas: 5 };
  await stage.apply(subscription('shop', 'worker', 'down', { consumers }));
  const scaling = () => condition(stage.subscription('shop', 'worker'), 'Scaling');
  await stage.until('it is ready', () => ready('down') && /^True/.test(scaling()));
  await stage.broker.kill();
  await stage.apply(...pair('meanwhile'));
  await stage.patch('topics', 'shop', 'down', { spec: { retentionSeconds: 1_200 } });
  await stage.until('all say so', () =>
    ['down', 'meanwhile'].every(
      (name) => condition(stage.topic('shop', name)) === 'Unknown/BrokerUnreachable',
    ),
  );
  const callsBefore = await operator.metric('fanfare_operator_broker_calls_total');
  const writesBefore = await operator.metric('fanfare_operator_api_requests_total', 'verb="patch"');
  await new Promise((resolve) => setTimeout(resolve, 6_000));
  const calls = (await operator.metric('fanfare_operator_broker_calls_total')) - callsBefore;
  const writes =
    (await operator.metric('fanfare_operator_api_requests_total', 'verb="patch"')) - writesBefore;
  console.log(`broker down for a minute: ${calls} calls to it, ${writes} writes to the API server`);
  expect(calls).toBeLessThan(60);
  expect(writes).toBeLessThan(30);
  await stage.until('the backlog is not known', () => scaling() === 'Unknown/MetricsUnavailable');
  expect(stage.replicas('shop', 'worker')).toBe(3);
  await stage.restartBroker();
  await stage.until('all is made good', () => ready('down') && ready('meanwhile') && /^True/.test(scaling()));
  await using client = stage.client();
  expect((await client.admin.getTopic('down')).retentionMs).toBe(1_200_000);
  await stage.remove('subscriptions', 'shop', 'worker');
  await stage.until('it is gone', () => stage.subscription('shop', 'worker') === undefined);
  expect(operator.lines.filter(({ level }) => level === 'error')).toEqual([]);
});

test('the API server is killed and comes back', SLOW, async () => {
  // Leases are as they are by default: a restart is shorter than what a leader can bear.
  await using operator = await stage.startOperator({ leaderTimes: {} });
  await stage.apply(...pair('restart'));
  await stage.until('it is ready', () => ready('restart'));
  await stage.kube.stopApiServer('SIGKILL');
  await stage.kube.startApiServer();
  await stage.patch('topics', 'shop', 'restart', { spec: { retentionSeconds: 1_200 } });
  await stage.apply(...pair('afterwards'));
  await stage.until('both are as they should be', () => ready('restart') && ready('afterwards'), 120_000);
  expect(await operator.metric('fanfare_operator_leader')).toBe(1);
  expect(stage.audited().filter((line) => line === 'create topics/restart: OK')).toHaveLength(1);
});

test('watches are cut, and a connection goes silent', SLOW, async () => {
  await using proxy = await startFaultProxy(new URL(stage.kube.server).host);
  await using operator = await stage.startOperator({ server: `https://${proxy.address}`, leaderTimes: {} });
  await stage.apply(...pair('cut'));
  await stage.until('it is ready', () => ready('cut'));
  for (const retentionSeconds of [700, 800, 900]) {
    proxy.cut();
    await stage.patch('topics', 'shop', 'cut', { spec: { retentionSeconds } });
    await stage.until('the change arrived', () => ready('cut'));
  }
  proxy.set('both', { holds: true });
  await stage.patch('topics', 'shop', 'cut', { spec: { retentionSeconds: 1_000 } });
  proxy.cut();
  proxy.heal();
  await stage.until('the change arrived', () => ready('cut'));
  await using client = stage.client();
  expect((await client.admin.getTopic('cut')).retentionMs).toBe(1_000_000);
  expect(await operator.metric('fanfare_operator_leader')).toBe(1);
});

test(
  'two operators at once: one works, the other takes over when it is killed; nothing is done twice',
  SLOW,
  async () => {
    await using one = await stage.startOperator({ env: { FANFARE_OPERATOR_NAME: 'one' } });
    await using two = await stage.startOperator({ env: { FANFARE_OPERATOR_NAME: 'two' } });
    const names = Array.from({ length: 20 }, (_, at) => `twice-${at}`);
    await stage.apply(...names.slice(0, 10).flatMap((name) => pair(name)));
    await stage.until('the first ten are ready', () => names.slice(0, 10).every(ready));
    const led = (await one.metric('fanfare_operator_leader')) === 1 ? one : two;
    const stood = led === one ? two : one;
    expect(await stood.metric('fanfare_operator_leader')).toBe(0);
    expect(await stood.metric('fanfare_operator_broker_calls_total')).toBe(0);
    expect(await (await fetch(`${stood.probes}/readyz`)).text()).toBe('ok\n');
    const applied = stage.apply(...names.slice(10).flatMap((name) => pair(name)));
    await led.kill();
    await applied;
    await stage.until('all are ready', () => names.every(ready));
    expect(await stood.metric('fanfare_operator_leader')).toBe(1);
    for (const name of names) {
      expect(stage.audited().filter((line) => line === `create topics/${name}: OK`)).toHaveLength(1);
      expect(stage.audited().filter((line) => line === `create subscriptions/${name}-s: OK`)).toHaveLength(1);
    }
  },
);

test('a leader that was stopped for long writes nothing when it goes on, and ends', SLOW, async () => {
  await using old = await stage.startOperator({ env: { FANFARE_OPERATOR_NAME: 'old' } });
  await stage.apply(...pair('frozen'));
  await stage.until('it is ready', () => ready('frozen'));
  await using young = await stage.startOperator({ env: { FANFARE_OPERATOR_NAME: 'young' } });
  old.signal('SIGSTOP');
  await young.logged('this process leads');
  await stage.patch('topics', 'shop', 'frozen', { spec: { retentionSeconds: 1_300 } });
  await stage.until('the new leader has done it', () => ready('frozen'));
  old.signal('SIGCONT');
  expect(await old.ended()).toBe(1);
  expect(stage.audited().filter((line) => line === 'update topics/frozen: OK')).toHaveLength(1);
});

test('main.ts itself: starts, works, and stops in order', SLOW, async () => {
  await using operator = await stage.startOperator({ harness: false });
  await stage.apply(...pair('main'));
  await stage.until('it is ready', () => ready('main'));
  expect(await operator.stop()).toBe(0);
  expect(operator.lines.map(({ msg }) => msg)).toContain('the lease is released');
});

test('calls per steady hour', SLOW, async () => {
  await using operator = await stage.startOperator({
    speed: 60,
    leaderTimes: { leaseMs: 400_000, renewDeadlineMs: 300_000 },
  });
  await stage.apply(...pair('steady'));
  await stage.until('it is ready', () => ready('steady'));
  // What everything costs at the start is over; then 20 minutes pass by the operator's clock.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const before = await operator.apiCalls();
  const brokerBefore = await operator.metric('fanfare_operator_broker_calls_total');
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  const after = await operator.apiCalls();
  const perHour = Object.entries(after)
    .map(([name, count]) => [name, 3 * (count - (before[name] ?? 0))] as const)
    .filter(([, count]) => count > 0);
  const total = perHour.reduce((sum, [, count]) => sum + count, 0);
  const broker = 3 * ((await operator.metric('fanfare_operator_broker_calls_total')) - brokerBefore);
  console.log(
    `calls per steady hour: ${total} to the API server (${perHour.map(([name, count]) => `${name} ${count}`).join(', ')}), ${broker} to the broker`,
  );
  expect(total).toBeLessThan(1_500);
  expect(broker).toBeLessThan(100);
});
