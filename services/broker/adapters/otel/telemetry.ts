// The broker's telemetry as one thing: traces over OTLP, metrics over OTLP and for Prometheus. It is there
// only if settings.ts says that somebody wants any of it, opens before the rest of the broker and closes
// after it.
//
//   engine ──MessageTracing──▶ tracing ──▶ SDK ──▶ OTLP
//   engine's and store's counters ◀─read─ metric-producer ◀─collect─ prometheus-text, otlp-metrics
import { hostname } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { type DiagLogger, DiagLogLevel, diag, trace } from '@opentelemetry/api';
import {
  defaultResource,
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources';
import type { NodeSDK } from '@opentelemetry/sdk-node';
import type { BrokerError } from '../../core/errors.ts';
import type { EngineLogger } from '../../engine/context.ts';
import type { Clock } from '../../ports/clock.ts';
import type { MessageTracing } from '../../ports/telemetry.ts';
import { BrokerMetrics, MAX_REPORTED, type MetricSources } from './metric-producer.ts';
import type { MetricPush } from './otlp-metrics.ts';
import { prometheusText } from './prometheus-text.ts';
import type { TelemetrySettings } from './settings.ts';
import { OtelTracing } from './tracing.ts';

const SERVICE_NAME = 'fanfare-broker';
/** How long a stopping broker waits for a collector that does not answer. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Failed publishes come in floods: at most one in this time is logged. */
const FAILURE_LOG_INTERVAL_MS = 1_000;

/** Shows Prometheus the text that it is given to make. */
export interface MetricsPage {
  serve(makeText: () => Promise<string>): void;
}

export interface TelemetryOptions {
  readonly settings: TelemetrySettings;
  readonly logger: EngineLogger;
  readonly clock: Clock;
  /** Undefined: Prometheus does not ask. */
  readonly page: MetricsPage | undefined;
}

export class Telemetry {
  /** Undefined while traces are not exported. */
  readonly tracing: MessageTracing | undefined;
  readonly #options: TelemetryOptions;
  readonly #resource: Resource;
  readonly #sdk: NodeSDK | undefined;
  #metrics: BrokerMetrics | undefined;
  #push: MetricPush | undefined;

  constructor(options: TelemetryOptions, resource: Resource, sdk: NodeSDK | undefined) {
    this.#options = options;
    this.#resource = resource;
    this.#sdk = sdk;
    if (sdk !== undefined) {
      this.tracing = new OtelTracing(trace.getTracer(SERVICE_NAME), failureLog(options));
    }
  }

  /** The active span's ids, for the log's lines. */
  activeSpanIds(): { readonly traceId: string; readonly spanId: string } | undefined {
    return trace.getActiveSpan()?.spanContext();
  }

  /** Exports the broker's numbers from now on. */
  async observe(sources: MetricSources): Promise<void> {
    const { settings, logger, clock, page } = this.#options;
    this.#metrics = new BrokerMetrics(this.#resource, sources, clock, (count) =>
      logger.warn(
        { unreported: count },
        `more than ${MAX_REPORTED} topics or subscriptions: the others have no metrics of their own`,
      ),
    );
    page?.serve(prometheusText(this.#metrics));
    if (settings.metrics.exporters.length === 0) return;
    const { openMetricPush } = await import('./otlp-metrics.ts');
    this.#push = await openMetricPush(settings.metrics, this.#metrics);
  }

  /** Exports what is left, within 5 s, and ends. Never rejects. */
  async close(): Promise<void> {
    const { logger } = this.#options;
    const giveUp = new AbortController();
    const late = setTimeout(CLOSE_TIMEOUT_MS, 'late', { signal: giveUp.signal });
    try {
      const closed = Promise.all([this.#sdk?.shutdown(), this.#push?.close()]);
      if ((await Promise.race([closed, late])) === 'late') {
        logger.warn({}, `the last telemetry could not be exported in ${CLOSE_TIMEOUT_MS / 1000} s`);
      }
    } catch (error) {
      logger.warn({ error }, 'the last telemetry could not be exported');
    } finally {
      giveUp.abort();
      late.catch(() => {
        // It was aborted: all was exported in time.
      });
      this.#metrics?.stop();
    }
  }
}

export async function openTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const { settings, logger } = options;
  const resource = brokerResource();
  const sdk = settings.traces ? await startTraces(resource) : undefined;
  // This comes after the SDK: with OTEL_LOG_LEVEL that sets a logger of its own, on standard output.
  diag.setLogger(diagLogger(logger), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  return new Telemetry(options, resource, sdk);
}

/** Starts the SDK, which reads exporter, sampler, limits, batching and propagators from OTEL_ variables. */
async function startTraces(resource: Resource): Promise<NodeSDK> {
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({
    resource,
    autoDetectResources: false,
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  return sdk;
}

/**
 * What the broker is called in all telemetry: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our own
 * name.
 */
function brokerResource(): Resource {
  return defaultResource()
    .merge(resourceFromAttributes({ 'service.name': SERVICE_NAME, 'host.name': hostname() }))
    .merge(detectResources({ detectors: [serviceInstanceIdDetector, envDetector] }));
}

/** OpenTelemetry's own troubles, such as a collector that is away, in the broker's log. */
function diagLogger(logger: EngineLogger): DiagLogger {
  const as =
    (level: 'info' | 'warn') =>
    (message: string, ...details: unknown[]): void =>
      logger[level](details.length === 0 ? {} : { details: details.map(String) }, sentence(message));
  return { error: as('warn'), warn: as('warn'), info: as('info'), debug: as('info'), verbose: as('info') };
}

/** A sentence for the log. Errors come as JSON, with their stack: what went wrong is in `message`. */
function sentence(text: string): string {
  const message = text.startsWith('{') && /"message":"((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
  return `OpenTelemetry: ${message || text}`;
}

function failureLog({ logger, clock }: TelemetryOptions) {
  let lastMs = Number.NEGATIVE_INFINITY;
  let unlogged = 0;
  return (topic: string, failure: BrokerError): void => {
    const nowMs = clock.monotonicMs();
    if (nowMs - lastMs < FAILURE_LOG_INTERVAL_MS) {
      unlogged += 1;
      return;
    }
    const fields = { topic, code: failure.code, reason: failure.message };
    logger.warn({ ...fields, ...(unlogged > 0 && { unlogged }) }, 'a traced publish failed');
    lastMs = nowMs;
    unlogged = 0;
  };
}
