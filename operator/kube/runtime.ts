// Puts the parts in order and takes them down again: caches and elector run from the start, controllers only
// while this process leads.
//
//   start   caches ─ synced ─┐
//           elector ─────────┴ elected → controllers
//   stop    controllers take no new key → what runs may finish, for graceMs, then is aborted
//           → lease released → caches stop
//   lost    everything running is aborted at once; the process should end, and start again as a standby
import { type Clock, linkedAbort, sleep } from './clock.ts';
import { type Controller, controllerGauges } from './controller.ts';
import type { EventRecorder } from './events.ts';
import { type Informer, informerGauges } from './informer.ts';
import type { Ending, LeaderElector, Leadership } from './leader.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { KubeObject } from './objects.ts';
import type { Check } from './probes.ts';

export interface RuntimeOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly informers: readonly Informer<KubeObject>[];
  readonly controllers: readonly Controller[];
  readonly events?: EventRecorder;
  /** Undefined: this process is the only one and leads at once, in term 0. */
  readonly elector?: LeaderElector;
  /** What else is to run while leading, for instance watching backlogs; ends when its signal aborts. */
  readonly whileLeading?: (leadership: Leadership, signal: AbortSignal) => Promise<void>;
  /** From the order to stop until what still runs is aborted. 30 s if left out. */
  readonly graceMs?: number;
}

export interface Runtime {
  /**
   * Resolves when everything has ended: 'stopped' on order, 'lost' if this process lost the lease. Throws on
   * a bug.
   */
  run(stop: AbortSignal): Promise<Ending>;
  readonly ready: Check;
  readonly live: Check;
  /** This process's reign; undefined while it is a standby. */
  readonly leadership: Leadership | undefined;
}

const GRACE_MS = 30_000;
/** How long aborted work may take to end. */
const ABORT_MS = 5_000;
/** A cache's loop makes a step at least every 150 s; a list may take a minute on top. */
const FROZEN_MS = 300_000;

export function createRuntime(options: RuntimeOptions): Runtime {
  const { clock, logger, metrics, informers, controllers, events, elector, whileLeading } = options;
  const { graceMs = GRACE_MS } = options;
  informerGauges(metrics, informers);
  controllerGauges(metrics, controllers);
  let leadership: Leadership | undefined;

  const lead = async (reign: Leadership, stop: AbortSignal): Promise<void> => {
    using work = linkedAbort(reign.signal);
    using waiting = linkedAbort(reign.signal);
    const stopping = (): void => {
      waiting.abort(stop.reason);
      for (const controller of controllers) controller.stop();
    };
    if (stop.aborted) stopping();
    stop.addEventListener('abort', stopping, { once: true });
    try {
      for (const informer of informers) await informer.waitForSync(waiting.signal);
    } catch (error) {
      stop.removeEventListener('abort', stopping);
      if (waiting.signal.aborted) return;
      throw error;
    }
    leadership = reign;
    logger.info({ term: reign.term, controllers: controllers.map(({ name }) => name) }, 'reconciling');
    const grace = graceful(clock, graceMs, stop, () => {
      logger.warn({ graceMs }, 'not everything ended in time: aborting it');
      work.abort(stop.reason);
    });
    using side = linkedAbort(work.signal);
    const extra = whileLeading?.(reign, side.signal);
    try {
      const ended = Promise.all([
        ...controllers.map((controller) => controller.run(work.signal)),
        // `extra` itself goes on until no reconcile needs it any more; its failure ends everything.
        ...(extra === undefined ? [] : [Promise.race([extra, untilAborted(stop)])]),
      ]);
      // Work that ignores its abort is left behind: its writes are refused from here on, and the process
      // ends.
      await Promise.race([ended, untilAborted(work.signal).then(() => atMost(ABORT_MS, ended, clock))]);
    } finally {
      side.abort(stop.reason);
      grace();
      stop.removeEventListener('abort', stopping);
      leadership = undefined;
      // Nothing is left to abort, unless something failed.
      work.abort(stop.reason);
      if (extra !== undefined) await atMost(ABORT_MS, extra, clock);
    }
  };

  return {
    async run(stop) {
      using background = linkedAbort(undefined);
      // The first failure stops all.
      using failed = linkedAbort(stop);
      const guarded = (part: Promise<void>): Promise<void> =>
        part.catch((error: unknown) => {
          failed.abort(error);
          throw error;
        });
      const running = [...informers, ...(events === undefined ? [] : [events])].map((part) =>
        guarded(part.run(background.signal)),
      );
      const alone = (): Promise<Ending> =>
        lead({ term: 0, signal: new AbortController().signal, held: () => true }, failed.signal).then(
          () => 'stopped' as const,
        );
      try {
        return await (elector?.run(failed.signal, (reign) => lead(reign, failed.signal)) ?? alone());
      } finally {
        background.abort(undefined);
        await Promise.all(running);
      }
    },
    ready: () =>
      informers
        .filter(({ synced }) => !synced)
        .map(
          ({ resource, problem }) =>
            `the cache of ${resource.plural} has not been read yet${problem === undefined ? '' : `: ${problem}`}`,
        ),
    live: () => [
      ...informers
        .filter(({ idleForMs }) => idleForMs > FROZEN_MS)
        .map(
          ({ resource, idleForMs }) =>
            `the cache of ${resource.plural} has stood still for ${Math.round(idleForMs / 1000)} s`,
        ),
      ...controllers.flatMap((controller) =>
        controller.stuck().map((key) => `${controller.name}: the reconcile of ${key} ignores its deadline`),
      ),
    ],
    get leadership() {
      return leadership;
    },
  };
}

async function atMost(ms: number, part: Promise<unknown>, clock: Clock): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([part, sleep(clock, ms, over.signal)]);
  } finally {
    over.abort();
  }
}

/** Calls `over` when graceMs have passed since the stop. Returns what calls it off. */
function graceful(clock: Clock, graceMs: number, stop: AbortSignal, over: () => void): () => void {
  const off = new AbortController();
  const begin = (): void => {
    void sleep(clock, graceMs, off.signal).then((passed) => passed && over());
  };
  if (stop.aborted) begin();
  else stop.addEventListener('abort', begin, { once: true });
  return () => {
    stop.removeEventListener('abort', begin);
    off.abort();
  };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
