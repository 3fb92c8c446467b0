// Metrics as the text that Prometheus reads. Invariant: names have their units in them, which OpenTelemetry
// keeps apart.
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import type { MetricData, MetricProducer, ResourceMetrics } from '@opentelemetry/sdk-metrics';

/** Prometheus wants units in names, OpenTelemetry doesn't. A unit in braces adds nothing to a name. */
const SUFFIXES: Readonly<Record<string, string>> = { By: '_bytes', s: '_seconds' };

/** Returns what makes the present text. */
export function prometheusText(metrics: MetricProducer): () => Promise<string> {
  const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);
  return async () => {
    const { resourceMetrics } = await metrics.collect();
    return serializer.serialize(withUnitsInNames(resourceMetrics));
  };
}

/** So that fanfare.broker.publish.size in By is fanfare_broker_publish_size_bytes_total. */
function withUnitsInNames({ resource, scopeMetrics }: ResourceMetrics): ResourceMetrics {
  const renamed = (metric: MetricData): MetricData => {
    const { name, unit } = metric.descriptor;
    const suffix = SUFFIXES[unit] ?? '';
    return { ...metric, descriptor: { ...metric.descriptor, name: name + suffix, unit: '' } };
  };
  return {
    resource,
    scopeMetrics: scopeMetrics.map(({ scope, metrics }) => ({ scope, metrics: metrics.map(renamed) })),
  };
}
