// The bounds of connections, and of what they send before it is taken, gone to without sockets.
import { EventEmitter } from 'node:events';
import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { Connections } from '../../services/broker/adapters/grpc/connections.ts';
import { type BaseCall, type Receiver, Receiving } from '../../services/broker/adapters/grpc/receiving.ts';
import {
  CONNECTION_LIMITS,
  CONNECTION_LINGER_MS,
  FREE_RECEIVING_BYTES_PER_CONNECTION,
  MAX_CONNECTIONS,
  MAX_CONNECTIONS_PER_ADDRESS,
  MAX_CONNECTIONS_PER_PRINCIPAL,
  MAX_RECEIVING_BYTES,
  MAX_RECEIVING_BYTES_OF_BROKERS,
  MAX_RECEIVING_BYTES_PER_CONNECTION,
  MAX_RECEIVING_BYTES_PER_PRINCIPAL,
  MAX_UNAUTHENTICATED_CONNECTIONS,
  RECEIVING_LIMITS,
  REQUEST_ARRIVAL_MS,
} from '../../services/broker/limits.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const BROKER = 'cn:broker';

class FakeSocket extends EventEmitter {
  destroyed = false;
  readonly remoteAddress: string;
  readonly remotePort: number;

  constructor(remoteAddress: string, remotePort: number) {
    super();
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

class Server {
  readonly clock = new VirtualClock();
  readonly ended: string[] = [];
  readonly connections = new Connections({
    limits: CONNECTION_LIMITS,
    clock: this.clock,
    plaintext: false,
    isBroker: (principal) => principal === BROKER,
    onEnded: (_connection, why) => this.ended.push(why),
  });
  #port = 0;

  accept(address: string): FakeSocket {
    this.#port += 1;
    const socket = new FakeSocket(address, this.#port);
    this.connections.accept(socket as unknown as Socket);
    return socket;
  }

  /** One that has got as far as HTTP/2. */
  open(address: string, name = `someone at ${address}`): FakeSocket {
    const socket = this.accept(address);
    if (socket.destroyed) return socket;
    const { remoteAddress, remotePort } = socket;
    const certificate = { subject: { CN: name }, valid_to: '2100-01-01', fingerprint256: name };
    const tls = { remoteAddress, remotePort, getPeerCertificate: () => certificate, destroy() {} };
    this.connections.secured(tls as unknown as TLSSocket);
    if (socket.destroyed) return socket;
    const session = Object.assign(new EventEmitter(), { socket: tls, destroy() {}, close() {} });
    this.connections.began(session as unknown as ServerHttp2Session);
    session.emit('remoteSettings');
    return socket;
  }
}

test('so many connections in all', () => {
  const server = new Server();
  for (let nth = 0; nth < MAX_CONNECTIONS; nth += 1)
    expect(server.open(`10.0.0.${nth % 100}`).destroyed).toBe(false);
  const beyond = server.open('10.0.1.1');
  expect([beyond.destroyed, server.connections.counts.open]).toEqual([true, MAX_CONNECTIONS]);
});

test('so many of an address, so many of a principal', () => {
  const server = new Server();
  for (let nth = 0; nth < MAX_CONNECTIONS_PER_ADDRESS; nth += 1)
    expect(server.open('10.0.0.1', `one of many ${nth}`).destroyed).toBe(false);
  expect(server.open('10.0.0.1').destroyed).toBe(true);
  const other = new Server();
  for (let nth = 0; nth < MAX_CONNECTIONS_PER_PRINCIPAL; nth += 1)
    expect(other.open(`10.0.0.${nth % 100}`, 'alice').destroyed).toBe(false);
  expect(other.open('10.0.1.1', 'alice').destroyed).toBe(true);
  expect(other.ended).toEqual([
    `it has ${MAX_CONNECTIONS_PER_PRINCIPAL} connections already, which is the limit`,
  ]);
  expect(other.open('10.0.1.1', 'bob').destroyed).toBe(false);
});

test('so many on their way, of which the oldest of the busiest address makes room', () => {
  const server = new Server();
  const lone = server.accept('10.0.0.1');
  const many = Array.from({ length: MAX_UNAUTHENTICATED_CONNECTIONS - 1 }, () => server.accept('10.0.0.2'));
  expect(many.every(({ destroyed }) => !destroyed)).toBe(true);
  expect(server.accept('10.0.0.3').destroyed).toBe(false);
  expect([lone.destroyed, many.findIndex(({ destroyed }) => destroyed)]).toEqual([false, 0]);
});

test('so long a client without a call may stay when the broker stops', async () => {
  const server = new Server();
  const idle = server.open('10.0.0.1');
  let isDrained = false;
  void server.connections.drained(CONNECTION_LINGER_MS).then(() => {
    isDrained = true;
  });
  await server.clock.advance(CONNECTION_LINGER_MS - 1);
  expect([idle.destroyed, isDrained]).toEqual([false, false]);
  await server.clock.advance(1);
  expect([idle.destroyed, isDrained]).toEqual([true, true]);
});

/** A call whose bytes never make a request. */
function callOf(receiving: Receiving, from: Receiver) {
  const ended: string[] = [];
  const stream = Object.assign(new EventEmitter(), { close() {} });
  const call = {
    stream,
    decoder: { write: () => [] },
    startRead() {},
    sendStatus: ({ details }: { details: string }) => ended.push(details),
  };
  const base = call as unknown as BaseCall;
  receiving.watch(base, from, { maxBytes: MAX_RECEIVING_BYTES, isStreamed: false });
  return {
    ended,
    /** grpc-js' way with what a decoder throws. */
    send(bytes: number): boolean {
      try {
        base.decoder.write(Buffer.allocUnsafe(bytes));
        return true;
      } catch (error) {
        call.sendStatus({ details: String(error) });
        return false;
      }
    },
  };
}

const connectionOf = (principal: string): Receiver => ({
  ...{ principal, isBroker: principal === BROKER, receivedBytes: 0 },
});

test('so much may be received and not taken: of a connection, a principal, all clients, all brokers', () => {
  const receiving = new Receiving(RECEIVING_LIMITS, new VirtualClock());
  const all = MAX_RECEIVING_BYTES_PER_CONNECTION;
  const alice = connectionOf('alice');
  expect(callOf(receiving, alice).send(all)).toBe(true);
  expect(callOf(receiving, alice).send(1)).toBe(false);
  expect(MAX_RECEIVING_BYTES_PER_PRINCIPAL).toBe(2 * all);
  expect(callOf(receiving, connectionOf('alice')).send(all)).toBe(true);
  expect(callOf(receiving, connectionOf('alice')).send(FREE_RECEIVING_BYTES_PER_CONNECTION + 1)).toBe(false);
  expect(MAX_RECEIVING_BYTES).toBe(4 * all);
  for (const principal of ['bob', 'carol'])
    expect(callOf(receiving, connectionOf(principal)).send(all)).toBe(true);
  const dave = connectionOf('dave');
  expect(callOf(receiving, dave).send(FREE_RECEIVING_BYTES_PER_CONNECTION + 1)).toBe(false);
  // Who sends little is not refused for what others send.
  expect(callOf(receiving, dave).send(FREE_RECEIVING_BYTES_PER_CONNECTION)).toBe(true);
  expect(MAX_RECEIVING_BYTES_OF_BROKERS).toBe(2 * all);
  for (let nth = 0; nth < 2; nth += 1) expect(callOf(receiving, connectionOf(BROKER)).send(all)).toBe(true);
  expect(callOf(receiving, connectionOf(BROKER)).send(FREE_RECEIVING_BYTES_PER_CONNECTION + 1)).toBe(false);
});

test('so long a request may take to arrive', async () => {
  const clock = new VirtualClock();
  const receiving = new Receiving(RECEIVING_LIMITS, clock);
  const call = callOf(receiving, connectionOf('alice'));
  call.send(1_000);
  await clock.advance(REQUEST_ARRIVAL_MS - 1);
  receiving.sweep();
  expect(call.ended).toEqual([]);
  await clock.advance(1);
  receiving.sweep();
  expect(call.ended).toEqual(['the request did not arrive whole within 30 s']);
  expect(receiving.bytes).toBe(0);
});
