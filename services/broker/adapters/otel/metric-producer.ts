// OpenTelemetry metric data of the broker's own numbers, made whenever a reader collects.
//
// It produces data points itself instead of registering observable instruments with the SDK: instruments go
// on reporting what was once observed (a deleted subscription would keep its backlog for ever), and hold a
// copy of everything for each reader that does not collect.
import { setImmediate } from 'node:timers/promises';
import { type HrTime, ValueType } from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import type { TopicSize } from '../../engine/broker.ts';
import type { EngineBacklogReporter, LocalBacklog } from '../../engine/delivery/backlog-reporter.ts';
import type { Stats } from '../../engine/stats.ts';
import type { Clock } from '../../ports/clock.ts';
import {
  type ClusterFigures,
  type LineFigures,
  METRICS,
  type Metric,
  type Snapshot,
  type StoreFigures,
} from './metric-catalog.ts';
import { ProcessMeter } from './process-figures.ts';

/** Where the numbers come from: the engine and the store. */
export interface MetricSources {
  readonly stats: Readonly<Stats>;
  readonly lines: () => LineFigures;
  readonly cachedBytes: () => number;
  readonly store: () => StoreFigures | undefined;
  /** Absent: the broker is alone. */
  readonly cluster?: (() => ClusterFigures) | undefined;
  readonly topics: () => readonly TopicSize[];
  readonly backlog: Pick<EngineBacklogReporter, 'reportLocal'>;
  readonly subscriptions: () => Iterable<{ readonly name: string }>;
}

/** The most topics, and the most subscriptions, that have series of their own. */
export const MAX_REPORTED = 1_000;
/** Backlogs computed in one turn of the event loop: each may read the store once per partition. */
const REPORTS_PER_TURN = 16;

export class BrokerMetrics implements MetricProducer {
  readonly #resource: Resource;
  readonly #sources: MetricSources;
  readonly #clock: Clock;
  readonly #onUnreported: (count: number) => void;
  readonly #meter = new ProcessMeter();
  readonly #startTime: HrTime;
  #collecting: Promise<CollectionResult> | undefined;
  #hasTold = false;

  /**
   * `onUnreported` is told, once, how many topics and subscriptions are too many to be reported one by one.
   */
  constructor(
    resource: Resource,
    sources: MetricSources,
    clock: Clock,
    onUnreported: (count: number) => void,
  ) {
    this.#resource = resource;
    this.#sources = sources;
    this.#clock = clock;
    this.#onUnreported = onUnreported;
    this.#startTime = hrTime(clock.nowMs());
  }

  /** Readers that ask at the same time get the same answer, however many they are. */
  collect(): Promise<CollectionResult> {
    this.#collecting ??= this.#collect().finally(() => {
      this.#collecting = undefined;
    });
    return this.#collecting;
  }

  stop(): void {
    this.#meter.stop();
  }

  async #collect(): Promise<CollectionResult> {
    const snapshot = await this.#snapshot();
    if (snapshot.unreported > 0 && !this.#hasTold) {
      this.#hasTold = true;
      this.#onUnreported(snapshot.unreported);
    }
    const endTime = hrTime(this.#clock.nowMs());
    const metrics: MetricData[] = [];
    for (const metric of METRICS) {
      const dataPoints = metric
        .read(snapshot)
        .map(({ value, attributes }) => ({ startTime: this.#startTime, endTime, attributes, value }));
      if (dataPoints.length > 0) metrics.push({ ...shape(metric), dataPoints });
    }
    return {
      resourceMetrics: {
        resource: this.#resource,
        scopeMetrics: [{ scope: { name: 'fanfare-broker' }, metrics }],
      },
      errors: [],
    };
  }

  async #snapshot(): Promise<Snapshot> {
    const { stats, lines, cachedBytes, store, cluster, topics, subscriptions } = this.#sources;
    const names = Array.from(subscriptions(), ({ name }) => name);
    const backlogs = await this.#backlogs(names.slice(0, MAX_REPORTED));
    const sizes = topics();
    return {
      stats,
      lines: lines(),
      cachedBytes: cachedBytes(),
      store: store(),
      cluster: cluster?.(),
      topics: sizes.slice(0, MAX_REPORTED),
      backlogs,
      unreported: Math.max(0, names.length - MAX_REPORTED) + Math.max(0, sizes.length - MAX_REPORTED),
      process: this.#meter.read(),
    };
  }

  async #backlogs(names: readonly string[]): Promise<LocalBacklog[]> {
    const reports: LocalBacklog[] = [];
    for (let from = 0; from < names.length; from += REPORTS_PER_TURN) {
      if (from > 0) await setImmediate();
      reports.push(...(await this.#sources.backlog.reportLocal(names.slice(from, from + REPORTS_PER_TURN))));
    }
    return reports;
  }
}

/** The part of the metric's data that is the same each time. */
function shape({ name, kind, unit, meaning }: Metric) {
  const base = {
    descriptor: { name, description: meaning, unit, valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  } as const;
  if (kind === 'gauge') return { ...base, dataPointType: DataPointType.GAUGE } as const;
  return { ...base, dataPointType: DataPointType.SUM, isMonotonic: kind === 'counter' } as const;
}

function hrTime(timeMs: number): HrTime {
  const seconds = Math.floor(timeMs / 1000);
  return [seconds, Math.round((timeMs - seconds * 1000) * 1e6)];
}
