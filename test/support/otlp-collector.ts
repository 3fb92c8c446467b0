// A collector for OTLP over HTTP with JSON, in the test's own process: keeps the spans and metrics that
// arrive, and lets tests wait for them.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

export interface CollectedSpan {
  readonly service: string;
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface CollectedMetric {
  readonly service: string;
  readonly name: string;
  readonly unit: string;
  /** The values of all data points. */
  readonly values: readonly number[];
}

interface KeyValue {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Resource {
  readonly attributes: readonly KeyValue[];
}

interface TracesRequest {
  readonly resourceSpans: readonly {
    readonly resource: Resource;
    readonly scopeSpans: readonly {
      readonly spans: readonly (Omit<CollectedSpan, 'attributes' | 'links'> & {
        readonly attributes?: readonly KeyValue[];
        readonly links?: CollectedSpan['links'];
      })[];
    }[];
  }[];
}

interface MetricsRequest {
  readonly resourceMetrics: readonly {
    readonly resource: Resource;
    readonly scopeMetrics: readonly {
      readonly metrics: readonly {
        readonly name: string;
        readonly unit: string;
        readonly sum?: Points;
        readonly gauge?: Points;
      }[];
    }[];
  }[];
}

interface Points {
  readonly dataPoints: readonly { readonly asDouble?: number; readonly asInt?: number }[];
}

export class OtlpCollector implements AsyncDisposable {
  readonly spans: CollectedSpan[] = [];
  /** The newest metric of each name and service. */
  readonly metrics = new Map<string, CollectedMetric>();
  readonly #server: Server;
  readonly #waiting = new Set<() => void>();

  static async start(): Promise<OtlpCollector> {
    const collector = new OtlpCollector();
    await new Promise<void>((resolve) => collector.#server.listen(0, '127.0.0.1', resolve));
    return collector;
  }

  constructor() {
    this.#server = createServer((request, response) => {
      json(request)
        .then((body) => {
          if (request.url === '/v1/traces') this.#takeTraces(body as TracesRequest);
          else if (request.url === '/v1/metrics') this.#takeMetrics(body as MetricsRequest);
          response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
          for (const look of [...this.#waiting]) look();
        })
        .catch((error) => response.writeHead(400).end(String(error)));
    });
  }

  /** The URL for OTEL_EXPORTER_OTLP_ENDPOINT. */
  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /**
   * Resolves with what `find` returns as soon as that isn't undefined. Rejects after timeoutMs, saying what
   * has arrived.
   */
  waitFor<T>(find: (collector: this) => T | undefined, timeoutMs = 10_000): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const look = (): void => {
        const found = find(this);
        if (found === undefined) return;
        finish();
        resolve(found);
      };
      const timer = setTimeout(() => {
        finish();
        const spans = this.spans.map(({ service, name }) => `${service}: ${name}`);
        reject(new Error(`did not arrive in ${timeoutMs} ms; spans: ${spans.join(', ') || 'none'}`));
      }, timeoutMs);
      this.#waiting.add(look);
      look();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  #takeTraces({ resourceSpans }: TracesRequest): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = serviceOf(resource);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        const { attributes = [], links = [] } = span;
        this.spans.push({ ...span, service, links, attributes: recordOf(attributes) });
      }
    }
  }

  #takeMetrics({ resourceMetrics }: MetricsRequest): void {
    for (const { resource, scopeMetrics } of resourceMetrics) {
      const service = serviceOf(resource);
      for (const { name, unit, sum, gauge } of scopeMetrics.flatMap(({ metrics }) => metrics)) {
        const points = (sum ?? gauge)?.dataPoints ?? [];
        const values = points.map(({ asDouble, asInt }) => asDouble ?? Number(asInt));
        this.metrics.set(`${service} ${name}`, { service, name, unit, values });
      }
    }
  }
}

function serviceOf({ attributes }: Resource): string {
  return String(recordOf(attributes)['service.name']);
}

function recordOf(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
