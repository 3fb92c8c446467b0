// The fault proxy does what it says: holds, cuts, delays and throttles, and loses no byte out of the middle.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { until } from '../support/until.ts';

let server: Server;
let proxy: FaultProxy;
let client: Socket;
/** The server's end of the client's connection; below, what it has received. */
let accepted: Socket;
let received = '';

beforeEach(async () => {
  received = '';
  server = createServer((socket) => {
    accepted = socket;
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      received += bytes;
      socket.write(`echo:${bytes}`);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await startFaultProxy(`127.0.0.1:${(server.address() as { port: number }).port}`);
  client = connect(proxy.port, '127.0.0.1').on('error', () => {});
  await once(client, 'connect');
});

afterEach(async () => {
  client.destroy();
  await proxy[Symbol.asyncDispose]();
  server.close();
});

// events.once() won't do: a reset is an error first, and that would reject.
const closed = (socket: Socket) => new Promise((resolve) => socket.once('close', resolve));
const answer = async () => String((await once(client, 'data'))[0]);

test('without faults it passes everything on, ends included', async () => {
  client.write('hello');
  expect(await answer()).toBe('echo:hello');
  expect(proxy.bytes).toEqual({ toServer: 5, toClient: 10 });
  client.end();
  await closed(client);
  await until(() => proxy.connections === 0);
});

test('holding one direction: the other goes on, and what was held arrives after healing, in order', async () => {
  client.write('0');
  await answer();
  proxy.set('toClient', { holds: true });
  let heard = '';
  client.on('data', (bytes) => {
    heard += bytes;
  });
  client.write('1');
  await until(() => received === '01');
  client.write('2');
  await until(() => received === '012');
  expect(heard).toBe('');
  proxy.heal();
  await until(() => heard === 'echo:1echo:2');
});

test('half-open: new connections are accepted, nobody learns that the other side has gone', async () => {
  client.write('0');
  await answer();
  proxy.set('both', { holds: true });
  const other = connect(proxy.port, '127.0.0.1');
  await once(other, 'connect');
  let gone = false;
  client.once('close', () => {
    gone = true;
  });
  accepted.destroy();
  other.write('1');
  await closed(accepted);
  await new Promise(setImmediate);
  expect({ gone, received }).toEqual({ gone: false, received: '0' });
  proxy.heal();
  await until(() => gone && received === '01');
  other.destroy();
});

test('cut resets both sides; refuse lets nobody in', async () => {
  client.write('0');
  await answer();
  const bothGone = Promise.all([closed(client), closed(accepted)]);
  proxy.cut();
  await bothGone;
  expect(proxy.connections).toBe(0);
  proxy.refuse(true);
  const refused = connect(proxy.port, '127.0.0.1').on('error', () => {});
  await closed(refused);
  proxy.heal();
  client = connect(proxy.port, '127.0.0.1');
  client.write('back');
  expect(await answer()).toBe('echo:back');
});

test('delay and throttle make it take their time', async () => {
  proxy.set('toServer', { delayMs: 60 });
  let startMs = performance.now();
  client.write('late');
  await answer();
  expect(performance.now() - startMs).toBeGreaterThan(55);
  proxy.set('toServer', { bytesPerSecond: 100_000 });
  startMs = performance.now();
  client.write('x'.repeat(10_000));
  await until(() => received.length === 10_004);
  expect(performance.now() - startMs).toBeGreaterThan(90);
});
