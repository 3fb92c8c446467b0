// Pushes metrics at an interval: over OTLP, or to standard output for somebody who tries things out. The
// exporters themselves read from OTEL_EXPORTER_OTLP_... where to, how and with which headers.
import {
  ConsoleMetricExporter,
  type MetricProducer,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from '@opentelemetry/sdk-metrics';
import type { OtlpProtocol, PushExporter, TelemetrySettings } from './settings.ts';

export interface MetricPush {
  /** Exports once more and ends. */
  close(): Promise<void>;
}

export async function openMetricPush(
  { exporters, protocol, intervalMs, timeoutMs }: TelemetrySettings['metrics'],
  metrics: MetricProducer,
): Promise<MetricPush> {
  const readers: PeriodicExportingMetricReader[] = [];
  for (const name of exporters) {
    const reader = new PeriodicExportingMetricReader({
      exporter: await exporterOf(name, protocol),
      exportIntervalMillis: intervalMs,
      exportTimeoutMillis: timeoutMs,
    });
    reader.setMetricProducer(metrics);
    readers.push(reader);
  }
  return {
    async close() {
      await Promise.all(readers.map((reader) => reader.shutdown()));
    },
  };
}

async function exporterOf(name: PushExporter, protocol: OtlpProtocol): Promise<PushMetricExporter> {
  if (name === 'console') return new ConsoleMetricExporter();
  switch (protocol) {
    case 'grpc':
      return new (await import('@opentelemetry/exporter-metrics-otlp-grpc')).OTLPMetricExporter();
    case 'http/json':
      return new (await import('@opentelemetry/exporter-metrics-otlp-http')).OTLPMetricExporter();
    case 'http/protobuf':
      return new (await import('@opentelemetry/exporter-metrics-otlp-proto')).OTLPMetricExporter();
  }
}
