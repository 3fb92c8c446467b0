// How the broker finds publishers' trace contexts on the wire, what spans it makes of them, and which
// telemetry the environment asks for.
import { type Span, SpanKind, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import { expect, test, vi } from 'vitest';
import { contextsOfBatch, contextsOfFrames } from '../../services/broker/adapters/otel/message-contexts.ts';
import { telemetrySettings } from '../../services/broker/adapters/otel/settings.ts';
import { MAX_LINKS, OtelTracing } from '../../services/broker/adapters/otel/tracing.ts';
import { cutChunk, recutFrame } from '../../services/broker/core/chunk.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { type PublishBatch, parsePublish } from '../../services/broker/core/publish-batch.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';

const PARTITION = { logEpoch: 7, partition: 2 };
const SPAN = 'b7ad6b7169203331';

/** The context of the n-th publisher; sampled by default. */
function traceparent(n: number, flags = '01'): string {
  return `00-${String(n).padStart(32, '0')}-${SPAN}-${flags}`;
}

function batchOf(attributes: readonly Record<string, string>[]): PublishBatch {
  const messages = attributes.map((of) => ({ data: Buffer.from('x'), attributes: of, orderingKey: 'key' }));
  return parsePublish(requestBytes('projects/p/topics/t', messages), LIMITS);
}

function chunkOf(batch: PublishBatch) {
  return cutChunk([{ batch, indexes: undefined }], PARTITION, 40, 1_700_000_000_123, Buffer.alloc);
}

const traceIds = (contexts: readonly { traceId: string }[]) => contexts.map(({ traceId }) => Number(traceId));

test('contexts are found in a request and in the frames cut of it, redelivered ones too', () => {
  const batch = batchOf([
    { a: '1', traceparent: traceparent(1), z: 'z'.repeat(100) },
    { other: 'without' },
    { googclient_traceparent: traceparent(2) },
    { traceparent: traceparent(1) },
  ]);
  expect(traceIds(contextsOfBatch(batch, 10))).toEqual([1, 2]);
  const { bytes, ends } = chunkOf(batch);
  expect(traceIds(contextsOfFrames(bytes, 10))).toEqual([1, 2]);
  expect(contextsOfFrames(bytes, 10)[0]).toEqual({
    traceId: String(1).padStart(32, '0'),
    spanId: SPAN,
    traceFlags: 1,
    isRemote: true,
  });
  expect(traceIds(contextsOfFrames(recutFrame(bytes, ends[1]!, ends[2]!, 3), 10))).toEqual([2]);
});

test.each([
  ['not sampled', traceparent(1, '00')],
  ['too short', traceparent(1).slice(0, -1)],
  ['without a trace id', `00-${'0'.repeat(32)}-${SPAN}-01`],
  ['of the version that never will be', `ff${traceparent(1).slice(2)}`],
  ['in capitals', traceparent(10).replace('b7ad', 'B7AD')],
  ['far too long', `${traceparent(1)}-${'x'.repeat(300)}`],
])('a context that is %s is passed over', (_, value) => {
  const batch = batchOf([{ traceparent: value }, { traceparent: traceparent(2) }]);
  expect(traceIds(contextsOfBatch(batch, 10))).toEqual([2]);
});

test('a span has so many links and no more', () => {
  const batch = batchOf(Array.from({ length: 1_000 }, (_, i) => ({ traceparent: traceparent(i + 1) })));
  expect(contextsOfBatch(batch, MAX_LINKS)).toHaveLength(MAX_LINKS);
  expect(contextsOfFrames(chunkOf(batch).bytes, MAX_LINKS)).toHaveLength(MAX_LINKS);
});

function fakeTracer() {
  const spanContext = { traceId: '9'.repeat(32), spanId: '9'.repeat(16), traceFlags: 1 };
  const span = {
    setStatus: vi.fn(),
    setAttribute: vi.fn(),
    end: vi.fn(),
    spanContext: () => spanContext,
  };
  const startSpan = vi.fn((..._: Parameters<Tracer['startSpan']>) => span as unknown as Span);
  return { span, startSpan, tracer: { startSpan } as unknown as Tracer };
}

test('a publish that nobody traces has no span, a failed one that is traced says why', () => {
  const { span, startSpan, tracer } = fakeTracer();
  const onFailure = vi.fn();
  const tracing = new OtelTracing(tracer, onFailure);
  expect(tracing.publishing('t', batchOf([{ a: '1' }]))).toBeUndefined();
  const untraced = chunkOf(batchOf([{ a: '1' }])).bytes;
  tracing.delivered({ subscription: 's', topic: 't', partition: PARTITION, messages: 1, frames: untraced });
  expect(startSpan).not.toHaveBeenCalled();

  const ended = tracing.publishing('t', batchOf([{ traceparent: traceparent(5) }]));
  expect(startSpan.mock.calls[0]).toMatchObject([
    'publish t',
    { kind: SpanKind.SERVER, root: true, links: [{ context: { spanId: SPAN } }] },
  ]);
  const failure = new BrokerError('RESOURCE_EXHAUSTED', 'the disk is full');
  ended!(failure);
  expect(span.setStatus).toHaveBeenCalledWith({ code: SpanStatusCode.ERROR, message: 'the disk is full' });
  expect(span.setAttribute).toHaveBeenCalledWith('error.type', 'RESOURCE_EXHAUSTED');
  expect(span.end).toHaveBeenCalledOnce();
  expect(onFailure).toHaveBeenCalledWith('t', failure);
});

test('nothing is exported unasked', () => {
  expect(telemetrySettings({}, false)).toBeUndefined();
  expect(telemetrySettings({ OTEL_SERVICE_NAME: 'x', OTEL_TRACES_EXPORTER: ' ' }, false)).toBeUndefined();
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' };
  expect(telemetrySettings({ ...endpoint, OTEL_SDK_DISABLED: 'true' }, false)).toBeUndefined();
  expect(telemetrySettings({}, true)).toMatchObject({ traces: false, metrics: { exporters: [] } });
});

test('an OTLP endpoint asks for what it is for, an exporter for its signal', () => {
  const asked = (env: Record<string, string>) => {
    const settings = telemetrySettings(env, false);
    return [settings?.traces, settings?.metrics.exporters];
  };
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' };
  expect(asked(endpoint)).toEqual([true, ['otlp']]);
  expect(asked({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' })).toEqual([false, ['otlp']]);
  expect(asked({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c:4318' })).toEqual([true, []]);
  expect(asked({ OTEL_METRICS_EXPORTER: 'otlp, console' })).toEqual([false, ['otlp', 'console']]);
});

test('values that are not supported are refused together', () => {
  const env = {
    OTEL_TRACES_EXPORTER: 'jaeger',
    OTEL_METRICS_EXPORTER: 'prometheus',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'carrier-pigeon',
    OTEL_METRIC_EXPORT_INTERVAL: '1s',
  };
  expect(() => telemetrySettings(env, false)).toThrow(
    [
      'OTEL_TRACES_EXPORTER is "jaeger": must be of otlp, console, none, with commas between',
      'OTEL_METRICS_EXPORTER is "prometheus": say where it listens with --metrics-listen',
      'OTEL_EXPORTER_OTLP_PROTOCOL is "carrier-pigeon": must be one of grpc, http/protobuf, http/json',
      'OTEL_METRIC_EXPORT_INTERVAL is "1s": must be milliseconds, 1 to 86400000',
    ].join('\n'),
  );
});
