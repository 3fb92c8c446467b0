// Workers that take keys from a queue and reconcile them, each key by one worker at a time. Keys may come
// before start: a standby collects them.
//
// This is one of the borders where errors are caught (errors.ts): a reconcile that throws is tried again
// after a backoff, and nobody else notices. A reconcile that outlasts its deadline is told so by its signal;
// it keeps its worker and its key until it returns, because two at once would be worse than one that hangs.
// `stuck` shows it, and makes the liveness probe fail.
import { type Clock, linkedAbort, type Random } from './clock.ts';
import { isConflict, KubeError } from './errors.ts';
import type { Logger } from './logger.ts';
import type { Counter, Metrics } from './metrics.ts';
import { type Priority, WorkQueue, type WorkQueueOptions } from './work-queue.ts';

export type Result =
  /** As desired. Comes round again with the next resync. */
  | { readonly kind: 'done' }
  /** Nothing went wrong; look again after ms, or sooner if something changes. */
  | { readonly kind: 'requeueAfter'; readonly ms: number; readonly priority: Priority }
  /** Failed in a way that is known by name: again after a backoff. */
  | { readonly kind: 'retry'; readonly reason: string }
  /** The object is no more, and nothing is left to do for it. */
  | { readonly kind: 'gone' }
  /** Only a change can help. Comes round again with the next resync. */
  | { readonly kind: 'terminal'; readonly reason: string };

export const done: Result = { kind: 'done' };
export const gone: Result = { kind: 'gone' };

export function requeueAfter(ms: number, priority: Priority = 'normal'): Result {
  return { kind: 'requeueAfter', ms, priority };
}

export function retry(reason: string): Result {
  return { kind: 'retry', reason };
}

export function terminal(reason: string): Result {
  return { kind: 'terminal', reason };
}

export interface ControllerOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Keys reconciled at once. 4 if left out. */
  readonly workers?: number;
  /**
   * Makes the object of a key as it should be, from the present state. The signal aborts at the deadline,
   * when the lease is lost, or at the end of grace.
   */
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<Result>;
  /** The time of one reconcile. 60 s if left out. */
  readonly deadlineMs?: number;
  /** From a done or terminal result to the next look, plus up to a tenth. 5 min if left out; 0: never. */
  readonly resyncMs?: number;
  readonly queue?: Omit<WorkQueueOptions, 'clock' | 'random'>;
}

export interface Controller {
  readonly name: string;
  add(key: string, priority?: Priority): void;
  addAfter(key: string, delayMs: number, priority?: Priority): void;
  /**
   * Works until stop(), or until the signal aborts everything. Resolves when the last worker has ended.
   * Called once.
   */
  run(signal: AbortSignal): Promise<void>;
  /** Takes no new key; what is running goes on. */
  stop(): void;
  /** Keys waiting for a worker. */
  readonly waiting: number;
  readonly running: number;
  /** Neither waiting nor running; delayed keys don't count. */
  readonly idle: boolean;
  /** Keys whose reconcile has outlasted twice its deadline. */
  stuck(): string[];
}

const DEADLINE_MS = 60_000;
const RESYNC_MS = 300_000;

export function createController(options: ControllerOptions): Controller {
  const { name, clock, random, logger, metrics, workers = 4, reconcile, deadlineMs = DEADLINE_MS } = options;
  const resyncMs = options.resyncMs ?? RESYNC_MS;
  const queue = new WorkQueue({ ...options.queue, clock, random });
  const startedMs = new Map<string, number>();
  const count = counters(metrics);

  const runOne = async (key: string, parent: AbortSignal): Promise<void> => {
    const began = clock.monotonicMs();
    startedMs.set(key, began);
    using linked = linkedAbort(parent);
    const cancel = clock.setTimer(deadlineMs, () =>
      linked.abort(new KubeError(0, 'Timeout', `reconciling took more than ${deadlineMs / 1000} s`)),
    );
    let outcome = 'error';
    try {
      const result = await reconcile(key, linked.signal);
      outcome = result.kind;
      if (result.kind === 'retry') {
        const retryInMs = Math.round(queue.addFailed(key));
        const fields = { controller: name, key, failures: queue.failuresOf(key), retryInMs };
        logger.warn({ ...fields, reason: result.reason }, 'reconciling failed');
        return;
      }
      queue.forget(key);
      if (result.kind === 'requeueAfter') queue.addAfter(key, result.ms, result.priority);
      else if (resyncMs > 0 && result.kind !== 'gone')
        queue.addAfter(key, resyncMs * (1 + random() / 10), 'low');
      if (result.kind === 'terminal') {
        logger.warn({ controller: name, key, reason: result.reason }, 'only a change can help');
      }
    } catch (error) {
      if (parent.aborted) return;
      const waitMs = Math.round(queue.addFailed(key));
      const fields = { controller: name, key, failures: queue.failuresOf(key), retryInMs: waitMs };
      // A write that came too late is an everyday matter; an error that we know by name needs no stack.
      if (isConflict(error)) outcome = 'conflict';
      else if (error instanceof KubeError)
        logger.warn({ ...fields, reason: error.message }, 'reconciling failed');
      else logger.error({ ...fields, error }, 'reconciling failed');
    } finally {
      cancel();
      startedMs.delete(key);
      queue.done(key);
      count.reconciles.add([name, outcome]);
      count.seconds.add([name], (clock.monotonicMs() - began) / 1000);
    }
  };

  const work = async (signal: AbortSignal): Promise<void> => {
    for (let key = await queue.take(); key !== undefined; key = await queue.take()) await runOne(key, signal);
  };

  return {
    name,
    add: (key, priority) => queue.add(key, priority),
    addAfter: (key, delayMs, priority) => queue.addAfter(key, delayMs, priority),
    async run(signal) {
      const close = (): void => queue.close();
      if (signal.aborted) close();
      signal.addEventListener('abort', close, { once: true });
      await Promise.all(Array.from({ length: workers }, () => work(signal)));
      signal.removeEventListener('abort', close);
    },
    stop: () => queue.close(),
    get waiting() {
      return queue.waiting;
    },
    get running() {
      return queue.running;
    },
    get idle() {
      return queue.waiting === 0 && queue.running === 0;
    },
    stuck: () =>
      [...startedMs].filter(([, since]) => clock.monotonicMs() - since > 2 * deadlineMs).map(([key]) => key),
  };
}

function counters(metrics: Metrics): { reconciles: Counter; seconds: Counter } {
  return {
    reconciles: metrics.counter('fanfare_operator_reconciles_total', 'Reconciles by outcome.', [
      'controller',
      'outcome',
    ]),
    seconds: metrics.counter('fanfare_operator_reconcile_seconds_total', 'Time spent reconciling.', [
      'controller',
    ]),
  };
}

/** Gauges over all controllers. */
export function controllerGauges(metrics: Metrics, controllers: readonly Controller[]): void {
  metrics.gauge('fanfare_operator_queue_waiting', 'Keys waiting for a worker.', ['controller'], () =>
    controllers.map(({ name, waiting }) => ({ labels: [name], value: waiting })),
  );
  metrics.gauge('fanfare_operator_queue_running', 'Keys being reconciled.', ['controller'], () =>
    controllers.map(({ name, running }) => ({ labels: [name], value: running })),
  );
}
