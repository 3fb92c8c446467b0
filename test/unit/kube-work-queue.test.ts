// The queue and the workers on it: no key twice at once, none lost, none hurried.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Controller,
  createController,
  done,
  gone,
  type Result,
  requeueAfter,
  terminal,
} from '../../operator/kube/controller.ts';
import { KubeError } from '../../operator/kube/errors.ts';
import { silent } from '../../operator/kube/logger.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { WorkQueue } from '../../operator/kube/work-queue.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

function queueRig(options: { retriesPerSecond?: number; retryBurst?: number } = {}) {
  const clock = new VirtualClock();
  return { clock, queue: new WorkQueue({ clock, random: () => 0, ...options }) };
}

test('a key is held once, and the higher priority counts', async () => {
  const { queue } = queueRig();
  queue.add('resync', 'low');
  queue.add('news');
  queue.add('late', 'low');
  queue.add('news');
  queue.add('late', 'high');
  queue.add('late', 'low');
  expect(queue.waiting).toBe(3);
  expect([await queue.take(), await queue.take(), await queue.take()]).toEqual(['late', 'news', 'resync']);
});

test('a key that is added while it runs runs again, and not before it is done', async () => {
  const { clock, queue } = queueRig();
  queue.add('a');
  await queue.take();
  queue.add('a', 'low');
  queue.add('a', 'high');
  queue.add('b');
  const next = queue.take();
  expect(await next).toBe('b');
  let again: string | undefined;
  void queue.take().then((key) => (again = key));
  await clock.settle();
  expect(again).toBeUndefined();
  queue.done('a');
  await clock.settle();
  expect(again).toBe('a');
});

test('of two delays the first stays, and a run ends them', async () => {
  const { clock, queue } = queueRig();
  queue.addAfter('a', 500);
  queue.addAfter('a', 100);
  queue.addAfter('a', 300);
  await clock.advance(99);
  expect([queue.waiting, queue.delayed]).toEqual([0, 1]);
  await clock.advance(1);
  expect([queue.waiting, queue.delayed]).toEqual([1, 0]);
  queue.addAfter('a', 100);
  await queue.take();
  expect(queue.delayed).toBe(0);
  queue.addAfter('a', 50);
  await clock.advance(50);
  queue.done('a');
  expect(queue.waiting).toBe(1);
});

test('backoff doubles for a key up to five minutes, and all keys together keep to a rate', async () => {
  const { queue } = queueRig();
  const waits = Array.from({ length: 20 }, () => queue.addFailed('a'));
  expect(waits.slice(0, 5)).toEqual([5, 10, 20, 40, 80]);
  expect(waits.at(-1)).toBe(300_000);
  queue.forget('a');
  expect(queue.addFailed('a')).toBe(5);

  const slow = queueRig({ retriesPerSecond: 10, retryBurst: 2 });
  const first = Array.from({ length: 5 }, (_, n) => slow.queue.addFailed(`k${n}`));
  expect(first).toEqual([5, 5, 100, 200, 300]);
});

test('a closed queue gives nothing out and keeps no timer', async () => {
  const { clock, queue } = queueRig();
  queue.add('a');
  queue.addAfter('b', 100);
  await queue.take();
  const waiting = queue.take();
  queue.close();
  queue.add('c');
  expect([await waiting, await queue.take()]).toEqual([undefined, undefined]);
  queue.done('a');
  expect(clock.timerCount).toBe(0);
});

const command = fc.oneof(
  fc.record({
    do: fc.constantFrom('add', 'soon', 'finish', 'fail' as const),
    key: fc.constantFrom('a', 'b', 'c'),
  }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 50 }) }),
);

test('property: no key runs twice at once and no dirty key is lost', { timeout: TIMEOUT_MS }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(command, { maxLength: 60 }),
      fc.integer({ min: 1, max: 3 }),
      async (commands, workers) => {
        const { clock, queue } = queueRig();
        const running = new Map<string, () => void>();
        const dirty = new Set<string>();
        const worker = async (): Promise<void> => {
          for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
            const mine = key;
            expect(running.has(mine)).toBe(false);
            dirty.delete(mine);
            await new Promise<void>((resolve) => running.set(mine, resolve));
            running.delete(mine);
            queue.done(mine);
          }
        };
        const all = Array.from({ length: workers }, worker);
        for (const each of commands) {
          if (each.do === 'wait') await clock.advance(each.ms);
          else if (each.do === 'finish') running.get(each.key)?.();
          else {
            dirty.add(each.key);
            if (each.do === 'add') queue.add(each.key);
            else if (each.do === 'soon') queue.addAfter(each.key, 30);
            else queue.addFailed(each.key);
          }
          await clock.settle();
        }
        // From now on every run finishes at once.
        for (let round = 0; round < 300 && (dirty.size > 0 || running.size > 0); round += 1) {
          for (const finish of running.values()) finish();
          await clock.advance(1_000);
        }
        expect([...dirty]).toEqual([]);
        expect(running.size).toBe(0);
        queue.close();
        await Promise.all(all);
        expect(clock.timerCount).toBe(0);
      },
    ),
    cases(300),
  );
});

function controllerRig(
  reconcile: (key: string, signal: AbortSignal) => Promise<Result>,
  options: { workers?: number; resyncMs?: number } = {},
) {
  const clock = new VirtualClock();
  const metrics = new Metrics();
  const said: string[] = [];
  const say = (fields: object, message: string) => void said.push(`${message} ${JSON.stringify(fields)}`);
  const controller: Controller = createController({
    name: 'topic',
    clock,
    metrics,
    random: () => 0,
    logger: { ...silent, warn: say, error: say },
    reconcile,
    ...options,
  });
  const abort = new AbortController();
  return { clock, metrics, said, controller, abort, running: controller.run(abort.signal) };
}

test('results decide when a key comes again', async () => {
  const seen: string[] = [];
  const results: Record<string, Result> = {
    done,
    later: requeueAfter(1_000),
    hopeless: terminal('NameConflict'),
    gone,
  };
  let clock: VirtualClock | undefined;
  const rig = controllerRig(async (key) => {
    seen.push(`${key}@${clock?.monotonicMs() ?? 0}`);
    return key === 'later' && seen.length > 4 ? done : results[key]!;
  });
  clock = rig.clock;
  for (const key of ['done', 'later', 'hopeless', 'gone']) rig.controller.add(key);
  await rig.clock.advance(300_000);
  expect(seen).toEqual([
    'done@0',
    'later@0',
    'hopeless@0',
    'gone@0',
    'later@1000',
    'done@300000',
    'hopeless@300000',
  ]);
  expect(rig.said.length).toBe(2);
  rig.controller.stop();
  await rig.running;
});

test('one that fails is tried again alone; the others go on', async () => {
  let failures = 0;
  const finished: string[] = [];
  const rig = controllerRig(
    async (key) => {
      if (key === 'bad' && failures < 3) {
        failures += 1;
        throw failures === 2 ? new KubeError(503, 'Unknown', 'away') : new TypeError('bug');
      }
      finished.push(key);
      return gone;
    },
    { workers: 1 },
  );
  rig.controller.add('bad');
  rig.controller.add('good');
  await rig.clock.advance(1_000);
  expect(finished).toEqual(['good', 'bad']);
  expect(rig.metrics.render()).toContain(
    'fanfare_operator_reconciles_total{controller="topic",outcome="error"} 3',
  );
  rig.controller.stop();
  await rig.running;
});

test('a reconcile past its deadline is told, keeps its key, and shows as stuck', async () => {
  let runs = 0;
  let told: unknown;
  let finish: () => void = () => undefined;
  const rig = controllerRig((_, signal) => {
    runs += 1;
    signal.addEventListener('abort', () => (told = signal.reason));
    return new Promise((resolve) => (finish = () => resolve(gone)));
  });
  rig.controller.add('slow');
  await rig.clock.advance(60_000);
  expect(told).toMatchObject({ reason: 'Timeout' });
  rig.controller.add('slow');
  await rig.clock.advance(60_001);
  expect([runs, rig.controller.stuck()]).toEqual([1, ['slow']]);
  finish();
  await rig.clock.settle();
  expect([runs, rig.controller.stuck()]).toEqual([2, []]);
  finish();
  rig.controller.stop();
  await rig.running;
  expect(rig.clock.timerCount).toBe(0);
});

test('stop lets what runs finish; abort tells it', async () => {
  let finish: () => void = () => undefined;
  let aborted = false;
  const rig = controllerRig((_, signal) => {
    signal.addEventListener('abort', () => (aborted = true));
    return new Promise((resolve) => (finish = () => resolve(done)));
  });
  rig.controller.add('a');
  rig.controller.add('b');
  await rig.clock.settle();
  rig.controller.stop();
  await rig.clock.settle();
  expect([rig.controller.running, aborted]).toEqual([2, false]);
  rig.abort.abort();
  expect(aborted).toBe(true);
  finish();
});

test('keys collected before the start are worked off after it', async () => {
  const clock = new VirtualClock();
  const seen: string[] = [];
  const controller = createController({
    name: 'c',
    clock,
    random: () => 0,
    logger: silent,
    metrics: new Metrics(),
    reconcile: async (key) => {
      seen.push(key);
      return gone;
    },
  });
  for (let n = 0; n < 1_000; n += 1) controller.add(`k${n % 10}`, 'low');
  expect([controller.waiting, controller.idle]).toEqual([10, false]);
  const running = controller.run(new AbortController().signal);
  await clock.settle();
  expect([seen.length, controller.idle]).toEqual([10, true]);
  controller.stop();
  await running;
});
