// What people see under `kubectl describe` and `kubectl get events`: events.k8s.io/v1, written best effort.
// An event is for something that turned (a condition, replicas), never for a reconcile that ran. Should one
// be recorded for each all the same, nothing storms:
//
//   the same again within SERIES_MS     one Event whose series counts, written again at most every FLUSH_MS
//   many different ones of one object   a bucket of BURST, refilled one every REFILL_MS; the rest is dropped
//   the API server away or slow         at most MAX_PENDING wait; the rest is dropped
//
// What is dropped, or can't be written, is counted and forgotten: a namespace that is being deleted refuses
// all events.
import type { Clock, Random } from './clock.ts';
import { isNotFound, KubeError } from './errors.ts';
import type { KubeHttp } from './http.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { collectionPath, EVENTS, type KubeObject, microTime, objectPath } from './objects.ts';

export interface EventText {
  readonly type: 'Normal' | 'Warning';
  /** Why, as a CamelCase word of at most 128 characters: the condition's reason. */
  readonly reason: string;
  /** What the controller did or failed to do: Reconcile, Scale, Delete. */
  readonly action: string;
  /** For people. Cut at 1 kB. */
  readonly note: string;
}

export interface EventRecorderOptions {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The controller's name: fanfare.dev/operator. */
  readonly controller: string;
  /** This process's name: the pod's. At most 128 characters. */
  readonly instance: string;
}

export interface EventRecorder {
  /** Returns at once; the event is written later, or not at all. */
  record(regarding: KubeObject, event: EventText): void;
  /** Writes until aborted. Called once. */
  run(signal: AbortSignal): Promise<void>;
  /** Resolves when nothing waits to be written. */
  flushed(): Promise<void>;
}

interface Series {
  readonly name: string;
  readonly namespace: string;
  readonly regarding: KubeObject;
  readonly event: EventText;
  count: number;
  lastMs: number;
  /** When it was written last, by the monotonic clock. Undefined: never. */
  writtenMs: number | undefined;
  lastWallMs: number;
  pending: boolean;
}

const SERIES_MS = 6 * 60_000;
const FLUSH_MS = 60_000;
const BURST = 25;
const REFILL_MS = 5 * 60_000;
const MAX_PENDING = 1_000;
/** Series, and buckets, that are remembered; the oldest is forgotten first. */
const MAX_REMEMBERED = 4_000;
const MAX_NOTE_BYTES = 1_024;

export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  const { http, clock, random, logger, metrics, controller, instance } = options;
  const counted = metrics.counter('fanfare_operator_events_total', 'Events by what became of them.', [
    'outcome',
  ]);
  const remembered = new Map<string, Series>();
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  const pending: Series[] = [];
  let wake: () => void = () => undefined;
  let atRest: () => void = () => undefined;
  let busy = false;

  const record = (regarding: KubeObject, event: EventText): void => {
    const nowMs = clock.monotonicMs();
    const id = [regarding.metadata.uid, event.type, event.reason, event.action, event.note].join('\n');
    let series = remembered.get(id);
    if (series === undefined || nowMs - series.lastMs > SERIES_MS) {
      if (!takeToken(buckets, regarding.metadata.uid ?? '', nowMs)) {
        counted.add(['suppressed']);
        return;
      }
      series = newSeries(regarding, event, random);
      remember(remembered, id, series);
    }
    series.count += 1;
    series.lastMs = nowMs;
    series.lastWallMs = clock.nowMs();
    if (series.pending) return;
    if (series.writtenMs !== undefined && nowMs - series.writtenMs < FLUSH_MS) return;
    if (pending.length >= MAX_PENDING) {
      counted.add(['dropped']);
      return;
    }
    series.pending = true;
    pending.push(series);
    wake();
  };

  const write = async (series: Series, signal: AbortSignal): Promise<void> => {
    const { name, namespace, count } = series;
    const firstTime = series.writtenMs === undefined;
    series.writtenMs = clock.monotonicMs();
    const lastObservedTime = microTime(series.lastWallMs);
    const common = {
      resource: EVENTS.plural,
      signal,
      unguarded: true,
      maxTries: 2,
      timeoutMs: 10_000,
    } as const;
    if (firstTime) {
      await http.json({
        ...common,
        verb: 'create',
        path: collectionPath(EVENTS, namespace),
        body: {
          apiVersion: 'events.k8s.io/v1',
          kind: 'Event',
          metadata: { name, namespace },
          ...body(series, controller, instance),
          eventTime: lastObservedTime,
          ...(count > 1 ? { series: { count, lastObservedTime } } : {}),
        },
      });
      return;
    }
    try {
      await http.json({
        ...common,
        verb: 'patch',
        path: objectPath(EVENTS, { namespace, name }),
        contentType: 'application/merge-patch+json',
        body: { series: { count, lastObservedTime } },
      });
    } catch (error) {
      // The API server forgets events after an hour: the next one begins a new series.
      if (isNotFound(error)) series.lastMs = Number.NEGATIVE_INFINITY;
      throw error;
    }
  };

  return {
    record,
    async run(signal) {
      while (!signal.aborted) {
        const series = pending.shift();
        if (series === undefined) {
          busy = false;
          atRest();
          await new Promise<void>((resolve) => {
            wake = resolve;
            signal.addEventListener('abort', wake, { once: true });
          });
          signal.removeEventListener('abort', wake);
          continue;
        }
        busy = true;
        series.pending = false;
        try {
          await write(series, signal);
          counted.add(['written']);
        } catch (error) {
          if (signal.aborted) break;
          if (!(error instanceof KubeError)) throw error;
          counted.add(['failed']);
          logger.warn({ event: series.event.reason, reason: error.message }, 'an event could not be written');
        }
      }
      busy = false;
      atRest();
    },
    flushed: () =>
      busy || pending.length > 0
        ? new Promise((resolve) => {
            atRest = resolve;
          })
        : Promise.resolve(),
  };
}

function newSeries(regarding: KubeObject, event: EventText, random: Random): Series {
  const { name, namespace = 'default' } = regarding.metadata;
  const suffix = Math.floor(random() * 2 ** 48)
    .toString(16)
    .padStart(12, '0');
  return {
    name: `${name.slice(0, 200)}.${suffix}`,
    namespace,
    regarding,
    event,
    count: 0,
    lastMs: 0,
    lastWallMs: 0,
    writtenMs: undefined,
    pending: false,
  };
}

function body({ regarding, event }: Series, controller: string, instance: string): object {
  const { apiVersion, kind, metadata } = regarding;
  const { name, namespace, uid, resourceVersion } = metadata;
  return {
    type: event.type,
    reason: event.reason.slice(0, 128),
    action: event.action.slice(0, 128),
    note: cut(event.note),
    regarding: { apiVersion, kind, name, namespace, uid, resourceVersion },
    reportingController: controller,
    reportingInstance: instance.slice(0, 128),
  };
}

function cut(note: string): string {
  if (Buffer.byteLength(note) < MAX_NOTE_BYTES) return note;
  // A character cut in half becomes a replacement character of three bytes: room is left for it.
  return `${Buffer.from(note)
    .subarray(0, MAX_NOTE_BYTES - 8)
    .toString('utf8')}…`;
}

function takeToken(
  buckets: Map<string, { tokens: number; atMs: number }>,
  uid: string,
  nowMs: number,
): boolean {
  const bucket = buckets.get(uid) ?? { tokens: BURST, atMs: nowMs };
  const tokens = Math.min(BURST, bucket.tokens + (nowMs - bucket.atMs) / REFILL_MS);
  const granted = tokens >= 1;
  remember(buckets, uid, { tokens: granted ? tokens - 1 : tokens, atMs: nowMs });
  return granted;
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!);
}
