// KEDA's external scaler with a real gRPC client over mutual TLS. What KEDA itself does with the answers is
// in its source; the wire is checked against the numbers and types of its proto.
import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Decision } from '../../operator/core/autoscale/decision.ts';
import { METRIC_NAME, type ScalerDecision, type ScalerSource } from '../../operator/keda/external-scaler.ts';
import { type ScalerServer, startScalerServer } from '../../operator/keda/server.ts';
import {
  ExternalScaler,
  GetMetricsResponseSchema,
} from '../../services/gen/externalscaler/externalscaler_pb.ts';
import { KNOWN, Story } from '../support/autoscale-story.ts';
import { type Authority, createAuthority, issueExpired, TestClient } from '../support/grpc-rig.ts';

const { isActive, streamIsActive, getMetricSpec, getMetrics, streamMetricSpec } = ExternalScaler.method;
const REF = { name: 'orders', namespace: 'shop', scalerMetadata: {} };

/** A source that says what it is told to. */
class FakeSource implements ScalerSource {
  readonly decisions = new Map<string, ScalerDecision>();
  readonly listeners = new Map<string, Set<() => void>>();

  decide(name: string, decision: Partial<Decision>): void {
    this.decisions.set(name, { need: undefined, active: true, condition: undefined, ...decision });
    for (const listener of this.listeners.get(name) ?? []) listener();
  }

  decisionOf(namespace: string, subscription: string): ScalerDecision | undefined {
    return this.decisions.get(`${namespace}/${subscription}`);
  }

  onDecision(namespace: string, subscription: string, listener: () => void): () => void {
    const key = `${namespace}/${subscription}`;
    const listeners = this.listeners.get(key) ?? new Set();
    this.listeners.set(key, listeners.add(listener));
    return () => listeners.delete(listener);
  }
}

let authority: Authority;
let source: FakeSource;
let server: ScalerServer;
const unexpected: unknown[] = [];
const clients: TestClient[] = [];

beforeAll(async () => {
  authority = await createAuthority();
});

async function start(): Promise<TestClient> {
  source = new FakeSource();
  server = await startScalerServer({
    source,
    listen: { host: '127.0.0.1', port: 0 },
    tls: { ...authority.server, ca: authority.ca.cert },
    onUnexpected: (error) => unexpected.push(error),
  });
  return connect();
}

function connect(identity: Authority['client'] | undefined = authority.client): TestClient {
  const client = new TestClient(`localhost:${server.port}`, identity, authority.ca);
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.stop();
  expect(unexpected).toEqual([]);
});

describe('pull', () => {
  test('the metric is how many replicas are needed, one for each of one replica', async () => {
    const client = await start();
    source.decide('shop/orders', { need: 3.4 });
    expect((await client.call(getMetricSpec, REF)).metricSpecs).toMatchObject([
      { metricName: METRIC_NAME, targetSize: 1n, targetSizeFloat: 1 },
    ]);
    const { metricValues } = await client.call(getMetrics, { scaledObjectRef: REF, metricName: METRIC_NAME });
    expect(metricValues).toMatchObject([{ metricName: METRIC_NAME, metricValue: 4n, metricValueFloat: 3.4 }]);
    expect((await client.call(isActive, REF)).result).toBe(true);
    source.decide('shop/orders', { need: 0, active: false });
    expect((await client.call(isActive, REF)).result).toBe(false);
  });

  test('the trigger may name another Subscription, of its own namespace', async () => {
    const client = await start();
    source.decide('shop/other', { need: 2 });
    const scalerMetadata = { subscription: 'other', namespace: 'elsewhere' };
    const answer = await client.call(getMetrics, {
      scaledObjectRef: { ...REF, scalerMetadata },
      metricName: METRIC_NAME,
    });
    expect(answer.metricValues[0]!.metricValueFloat).toBe(2);
  });

  test('what is not known is UNAVAILABLE, never 0 and never inactive', async () => {
    const client = await start();
    source.decide('shop/orders', { need: undefined, active: false });
    await expectStatus(client.call(isActive, REF), status.UNAVAILABLE, /not been decided/);
    const asked = client.call(getMetrics, { scaledObjectRef: REF, metricName: METRIC_NAME });
    await expectStatus(asked, status.UNAVAILABLE, /not known/);
  });

  test('refusals say what to do', async () => {
    const client = await start();
    source.decide('shop/orders', { need: 2 });
    await expectStatus(client.call(isActive, { ...REF, name: 'none' }), status.NOT_FOUND, /strategy KEDA/);
    await expectStatus(client.call(getMetricSpec, { ...REF, name: 'none' }), status.NOT_FOUND, /shop\/none/);
    await expectStatus(client.call(isActive, {}), status.INVALID_ARGUMENT, /namespace/);
    const long = { ...REF, name: 'x'.repeat(300) };
    await expectStatus(client.call(isActive, long), status.INVALID_ARGUMENT, /253/);
    const metric = client.call(getMetrics, { scaledObjectRef: REF, metricName: 'cpu' });
    await expectStatus(metric, status.INVALID_ARGUMENT, /fanfare-replicas/);
  });

  test('the decisions are decide()’s: a backlog, an outage, and idling', async () => {
    const client = await start();
    const story = new Story({ ...KNOWN, minReplicas: 0, cooldownSeconds: 60 }, 2);
    const value = async () => {
      source.decide('shop/orders', story.last!);
      return (await client.call(getMetrics, { scaledObjectRef: REF, metricName: METRIC_NAME }))
        .metricValues[0]!;
    };
    story.during(60, { arriving: 450 });
    const busy = await value();
    expect(busy.metricValueFloat).toBeGreaterThanOrEqual(4);
    expect(busy.metricValueFloat).toBeLessThanOrEqual(5);
    story.during(120, { silent: true });
    await expectStatus(value(), status.UNAVAILABLE, /measurement of the backlog is \d+ s old/);
    story.during(600, {});
    expect((await value()).metricValueFloat).toBe(0);
    expect((await client.call(isActive, REF)).result).toBe(false);
  });
});

describe('push', () => {
  test('StreamIsActive says it at once, then every change, and nothing twice', async () => {
    const client = await start();
    source.decide('shop/orders', { need: 0, active: false });
    const stream = client.stream(streamIsActive, REF);
    expect((await stream.next()).result).toBe(false);
    source.decide('shop/orders', { need: 0, active: false });
    source.decide('shop/orders', { need: undefined, active: true });
    source.decide('shop/orders', { need: 1, active: true });
    expect((await stream.next()).result).toBe(true);
    source.decide('shop/orders', { need: 0, active: false });
    expect((await stream.next()).result).toBe(false);
    stream.call.cancel();
    await stream.status;
    await expect.poll(() => source.listeners.get('shop/orders')!.size).toBe(0);
  });

  test('an unknown state is waited for', async () => {
    const client = await start();
    source.decide('shop/orders', { need: undefined });
    const stream = client.stream(streamIsActive, REF);
    const first = stream.next();
    await expect.poll(() => source.listeners.get('shop/orders')?.size).toBe(1);
    source.decide('shop/orders', { need: 2, active: true });
    expect((await first).result).toBe(true);
  });

  test('StreamMetricSpec says what GetMetricSpec says, at once', async () => {
    const client = await start();
    source.decide('shop/orders', { need: 2 });
    const streamed = await client.stream(streamMetricSpec, REF).next();
    expect(streamed).toEqual(await client.call(getMetricSpec, REF));
  });

  test('a stream for nothing is NOT_FOUND; when the operator stops, streams are UNAVAILABLE', async () => {
    const client = await start();
    expect((await client.stream(streamIsActive, REF).status).code).toBe(status.NOT_FOUND);
    source.decide('shop/orders', { need: 1, active: true });
    const stream = client.stream(streamIsActive, REF);
    await stream.next();
    const stopped = server.stop();
    expect((await stream.status).code).toBe(status.UNAVAILABLE);
    await stopped;
    server = await startScalerServer({
      source,
      listen: { host: '127.0.0.1', port: 0 },
      tls: { ...authority.server, ca: authority.ca.cert },
      onUnexpected: () => {},
    });
  });
});

describe('mutual TLS', () => {
  test('no certificate, an expired one, another authority’s: no answer', async () => {
    await start();
    source.decide('shop/orders', { need: 2 });
    const stranger = await createAuthority();
    const bare = new TestClient(`localhost:${server.port}`, undefined, authority.ca);
    clients.push(bare);
    const expired = connect(await issueExpired(authority.ca));
    for (const client of [bare, expired, connect(stranger.client)]) {
      await expectStatus(client.call(isActive, REF), status.UNAVAILABLE, /./);
    }
    expect((await connect().call(isActive, REF)).result).toBe(true);
  });

  test('certificates are replaced while it runs; unusable ones are refused and change nothing', async () => {
    await start();
    source.decide('shop/orders', { need: 2 });
    const other = await createAuthority();
    const mixed = { cert: authority.server.cert, key: other.server.key, ca: authority.ca.cert };
    expect(() => server.updateTls(mixed)).toThrow(expect.objectContaining({ code: 'FAILED_PRECONDITION' }));
    expect((await connect().call(isActive, REF)).result).toBe(true);
    server.updateTls({ ...other.server, ca: other.ca.cert });
    const client = new TestClient(`localhost:${server.port}`, other.client, other.ca);
    clients.push(client);
    expect((await client.call(isActive, REF)).result).toBe(true);
    await expectStatus(connect().call(isActive, REF), status.UNAVAILABLE, /./);
  });
});

test('the wire is KEDA’s: names, numbers and types', async () => {
  await start();
  expect(ExternalScaler.typeName).toBe('externalscaler.ExternalScaler');
  expect(hex(isActive, { name: 'a', namespace: 'b', scalerMetadata: { c: 'd' } })).toBe(
    '0a0161' + '120162' + '1a060a0163120164',
  );
  expect(hex(getMetrics, { scaledObjectRef: { name: 'a' }, metricName: 'm' })).toBe('0a030a0161' + '12016d');
  const bytes = Buffer.from('0a0e' + '0a016d' + '1002' + '19000000000000f83f', 'hex');
  expect(fromBinary(GetMetricsResponseSchema, bytes).metricValues).toMatchObject([
    { metricName: 'm', metricValue: 2n, metricValueFloat: 1.5 },
  ]);
});

function hex<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): string {
  return Buffer.from(toBinary(method.input, create(method.input, request))).toString('hex');
}

async function expectStatus(call: Promise<unknown>, code: status, details: RegExp): Promise<void> {
  await expect(call).rejects.toMatchObject({ code, details: expect.stringMatching(details) });
}
