// Many resources at once: how long it takes until all are ready, what it costs the API server, the broker and
// the operator, and what it costs when nothing happens. RESOURCES=1000 makes a thousand of each kind (CI
// does); by default there are fewer.
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isReady, type Stage, startStage, subscription, topic } from '../support/operator.ts';

const COUNT = Number(process.env.RESOURCES ?? 100);
const STEADY_MS = 20_000;
const TICKS_PER_SECOND = 100;
let stage: Stage;

beforeAll(async () => {
  stage = await startStage();
}, 1_200_000);
afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function memoryMiB(pid: number, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024);
}

test(`${COUNT} Topics and ${COUNT} Subscriptions`, { timeout: 900_000 }, async () => {
  const names = Array.from({ length: COUNT }, (_, at) => `load-${at}`);
  for (let at = 0; at < COUNT; at += 50) {
    const some = names.slice(at, at + 50);
    await Promise.all(some.map((name) => stage.apply(topic('shop', name, { partitions: 1 }))));
    await Promise.all(some.map((name) => stage.apply(subscription('shop', `${name}-s`, name))));
  }
  const began = performance.now();
  await using operator = await stage.startOperator({ leaderTimes: {} });
  await stage.until(
    'all are ready',
    () =>
      names.every(
        (name) => isReady(stage.topic('shop', name)) && isReady(stage.subscription('shop', `${name}-s`)),
      ),
    800_000,
  );
  const tookS = (performance.now() - began) / 1000;
  const calls = await operator.apiCalls();
  const total = Object.values(calls).reduce((sum, count) => sum + count, 0);
  const broker = await operator.metric('fanfare_operator_broker_calls_total');
  const cpu = await cpuSeconds(operator.pid);
  console.log(
    `${COUNT} Topics and ${COUNT} Subscriptions: ready in ${tookS.toFixed(1)} s; ${total} calls to the API server (${Object.entries(
      calls,
    )
      .filter(([, count]) => count >= COUNT / 10)
      .map(([name, count]) => `${name} ${count}`)
      .join(
        ', ',
      )}), ${broker} to the broker; ${cpu.toFixed(1)} s of CPU, ${await memoryMiB(operator.pid, 'VmHWM')} MiB at most`,
  );
  // Each costs a finalizer, a status and an event; Topics are looked at once more for their Subscriptions'
  // sake.
  expect(total).toBeLessThan(COUNT * 2 * 4.5 + 100);
  expect(broker).toBeLessThan(COUNT * 2 + 20);
  const audited = stage.audited();
  expect(audited.filter((line) => line.endsWith(': OK'))).toHaveLength(COUNT * 2);

  // Events and late counts are written; then nothing happens.
  await stage.until(
    'Topics count their Subscriptions',
    () => names.every((name) => stage.topic('shop', name)?.status?.subscriptions === 1),
    120_000,
  );
  await delay(5_000);
  const before = { cpu: await cpuSeconds(operator.pid), calls: await operator.apiCalls() };
  await delay(STEADY_MS);
  const after = { cpu: await cpuSeconds(operator.pid), calls: await operator.apiCalls() };
  const percent = ((after.cpu - before.cpu) * 100_000) / STEADY_MS;
  const sum = (of: Record<string, number>) => Object.values(of).reduce((all, count) => all + count, 0);
  console.log(
    `steady: ${percent.toFixed(2)} % of a CPU, ${sum(after.calls) - sum(before.calls)} calls to the API server in ${STEADY_MS / 1000} s, ${await memoryMiB(operator.pid, 'VmRSS')} MiB`,
  );
  expect(percent).toBeLessThan(10);
  // What remains are leases, and new numbers, which come two a second after a burst.
  expect(sum(after.calls) - sum(before.calls)).toBeLessThan(80);

  // A restart finds everything as it should be and writes nothing.
  await operator.kill();
  await stage.freeLease();
  const again = performance.now();
  await using next = await stage.startOperator({ leaderTimes: {} });
  await stage.eventually(
    'all were looked at',
    async () =>
      (await next.metric('fanfare_operator_broker_calls_total', 'method="ListTopics"')) > 0 &&
      (await next.metric('fanfare_operator_queue_')) === 0,
    (isSo) => isSo,
  );
  const restart = await next.apiCalls();
  console.log(
    `restart: all looked at in ${((performance.now() - again) / 1000).toFixed(1)} s, ${sum(restart)} calls to the API server, ${await next.metric('fanfare_operator_broker_calls_total')} to the broker`,
  );
  expect(stage.audited()).toHaveLength(audited.length);
  expect(await next.metric('fanfare_operator_broker_calls_total')).toBeLessThan(30);
});
