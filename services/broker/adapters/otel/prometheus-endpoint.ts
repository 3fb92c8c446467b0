// GET /metrics for Prometheus: plain HTTP without authentication, so it belongs on a loopback or
// cluster-internal address. It can listen before there is a broker, so that a wrong address ends the start
// early; until serve() is called it answers 503.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import type { MetricData, MetricProducer, ResourceMetrics } from '@opentelemetry/sdk-metrics';
import { BrokerError } from '../../core/errors.ts';

const PATH = '/metrics';
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 100;
/** Prometheus wants units in names, OpenTelemetry doesn't. A unit in braces adds nothing to a name. */
const SUFFIXES: Readonly<Record<string, string>> = { By: '_bytes', s: '_seconds' };

export interface PrometheusEndpoint {
  /** What it listens on; port 0 has become a real one. */
  readonly host: string;
  readonly port: number;
  /** From now on scrapes are answered from this. */
  serve(metrics: MetricProducer): void;
  close(): Promise<void>;
}

/**
 * FAILED_PRECONDITION if it can't listen on the address; the message says why. `onProblem` is called with
 * what fails later.
 */
export async function openPrometheusEndpoint(
  listen: { readonly host: string; readonly port: number },
  onProblem: (error: unknown) => void,
): Promise<PrometheusEndpoint> {
  const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);
  let metrics: MetricProducer | undefined;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const [path] = (request.url ?? '').split('?');
    if (path !== PATH) return end(response, 404, `There is only ${PATH} here.\n`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return end(response, 405, 'Use GET.\n');
    if (metrics === undefined) return end(response, 503, 'The broker is starting.\n');
    try {
      const { resourceMetrics } = await metrics.collect();
      end(response, 200, serializer.serialize(withUnitsInNames(resourceMetrics)));
    } catch (error) {
      onProblem(error);
      end(response, 500, 'The metrics could not be collected; the log says why.\n');
    }
  };

  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    void answer(request, response);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(listen, error)));
    server.listen(listen, resolve);
  });
  server.on('error', onProblem);
  // The endpoint never keeps a broker alive that has stopped, or has failed to start.
  server.unref();
  return {
    host: listen.host,
    port: (server.address() as AddressInfo).port,
    serve(producer) {
      metrics = producer;
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function end(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
  response.end(body);
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

function listenError(
  { host, port }: { host: string; port: number },
  error: NodeJS.ErrnoException,
): BrokerError {
  const why =
    error.code === 'EADDRINUSE'
      ? 'the port is in use: choose another one, or 0 for a free one'
      : error.code === 'EACCES'
        ? 'this user may not listen on that port: choose one above 1023'
        : error.message;
  return new BrokerError('FAILED_PRECONDITION', `--metrics-listen ${host}:${port}: ${why}`, { cause: error });
}
