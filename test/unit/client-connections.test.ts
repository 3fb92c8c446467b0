// How many connections a client has to a broker, and what happens beyond the most.
import type { StatusObject } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAddress } from '../../services/client/address.ts';
import { BrokerChannels, MAX_STREAMS_PER_BROKER } from '../../services/client/broker-channels.ts';
import type { ByteStream } from '../../services/client/channel.ts';
import { connect } from '../../services/client/client.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';

let silent: FaultProxy;

beforeEach(async () => {
  silent = await startFaultProxy('127.0.0.1:1');
  silent.set('both', { holds: true });
});

afterEach(() => silent[Symbol.asyncDispose]());

function endOf(stream: ByteStream): Promise<StatusObject> {
  stream.on('error', () => {});
  stream.resume();
  return new Promise((resolve) => stream.on('status', resolve));
}

test('a connection more for every 950 streams, up to sixteen; a stream beyond that fails at once', async () => {
  const broker = new BrokerChannels({
    name: 'b',
    address: parseAddress(silent.address),
    certificates: undefined,
    serverName: undefined,
    proxy: undefined,
    keepaliveMs: 10_000,
    maxReconnectMs: 5_000,
    streamConnectMs: 60_000,
    unaryConnectMs: undefined,
    onEnd: () => {},
  });
  const streams: Promise<StatusObject>[] = [];
  const open = () => streams.push(endOf(broker.openStream('/x')));
  const openUntil = (count: number) => {
    while (streams.length < count) open();
  };
  openUntil(950);
  expect(broker.connections).toBe(1);
  open();
  expect(broker.connections).toBe(2);
  openUntil(MAX_STREAMS_PER_BROKER);
  expect(broker.connections).toBe(16);
  const beyond = await endOf(broker.openStream('/x'));
  expect(beyond.code).toBe(status.RESOURCE_EXHAUSTED);
  expect(beyond.details).toContain('15200 streams at b, which is the most');
  broker.close('enough');
  for (const { code, details } of await Promise.all(streams)) {
    expect({ code, details }).toEqual({ code: status.CANCELLED, details: 'enough' });
  }
}, 30_000);

test.each([
  [false, 15_000],
  [true, 7_500],
])(
  'a client has so many publishers and consumers, direct %s: %i',
  async (direct, most) => {
    const client = connect({ address: silent.address, insecure: true, direct });
    const publishers = Array.from({ length: most }, () => client.publisher('orders'));
    const full = expect.objectContaining({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringContaining(`${most} publishers and consumers open, which is the most`),
    });
    expect(() => client.publisher('orders')).toThrow(full);
    expect(() => client.subscribe('audit')).toThrow(full);
    expect(() => client.subscriber('audit', () => {})).toThrow(full);
    expect(() => client.subscribeRaw('audit', { onChunk: () => {} })).toThrow(full);
    await publishers[0]!.close();
    client.publisher('orders');
    await client.close();
  },
  30_000,
);
