// The health port: a thread of its own answers while the broker is busy, nobody can keep probes out, and what
// it says is what gRPC health says. Attacks are made on a real broker.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { expect, test, vi } from 'vitest';
import { HEALTH_LIMITS, openHealthServer } from '../../services/broker/adapters/http/health-server.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import {
  HEARTBEAT_MS,
  MAX_HEALTH_CONNECTIONS,
  MAX_HEALTH_REQUEST_BYTES,
  MAX_SILENT_MS,
  MAX_STANDSTILL_MS,
} from '../../services/broker/limits.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { createAuthority, startGrpcRig } from '../support/grpc-rig.ts';
import { opened, SilentCrowd } from '../support/silent-crowd.ts';
import { until } from '../support/until.ts';

// A test starts several processes, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const HEALTH_ARGS = ['--health-listen', '127.0.0.1:0'];
const LOCAL = { host: '127.0.0.1', port: 0 };

test('a broker that serves is alive and ready; anything else is refused, in short', async () => {
  await using broker = await startBroker({ args: HEALTH_ARGS });
  const url = await healthUrl(broker);
  const ask = async (path: string, method = 'GET') => {
    const response = await fetch(url + path, { method });
    expect(response.headers.get('connection')).toBe('close');
    return [response.status, await response.text()];
  };
  expect(await ask('/livez')).toEqual([200, 'alive\n']);
  expect(await ask('/readyz?verbose')).toEqual([200, 'serving\n']);
  expect(await ask('/readyz', 'HEAD')).toEqual([200, '']);
  expect(await ask('/metrics')).toEqual([404, 'There are only /livez and /readyz here.\n']);
  expect(await ask('/readyz', 'DELETE')).toEqual([405, 'Use GET.\n']);
});

test('150 silent connections, and 400 of somebody else, all of which open again, leave every probe answered', async () => {
  await using broker = await startBroker({ args: HEALTH_ARGS });
  const url = await healthUrl(broker);
  await using neighbours = SilentCrowd.open(url, 150);
  await using strangers = SilentCrowd.open(url, 400, '127.0.0.2');
  for (let i = 0; i < 25; i += 1) expect((await fetch(`${url}/livez`)).status).toBe(200);
  // They could not do better than to come again and again.
  await until(() => strangers.opened > 2 * MAX_HEALTH_CONNECTIONS);
  expect(neighbours.opened).toBeGreaterThanOrEqual(150);
});

test('more than the bound are never open: the oldest silent one goes for a new one', async () => {
  // Time alone closes none of them in this test.
  const limits = { ...HEALTH_LIMITS, maxSilentMs: 600_000 };
  const server = await openHealthServer(LOCAL, failTest, limits);
  const sockets: Socket[] = [];
  for (let i = 0; i < MAX_HEALTH_CONNECTIONS + 10; i += 1) sockets.push(await opened(server.port));
  await until(() => sockets.filter(({ closed }) => closed).length === 10);
  expect(sockets.findIndex(({ closed }) => !closed)).toBe(10);
  await server.close();
});

test('a connection that asks nothing, or drips, is closed after its time', async () => {
  expect(HEALTH_LIMITS.maxSilentMs).toBe(MAX_SILENT_MS);
  const server = await openHealthServer(LOCAL, failTest, { ...HEALTH_LIMITS, maxSilentMs: 100 });
  const [silent, dripping] = [await opened(server.port), await opened(server.port)];
  const drip = setInterval(() => dripping.write('G'), 10);
  await Promise.all([once(silent, 'close'), once(dripping, 'close')]);
  clearInterval(drip);
  await server.close();
});

test('a request that is too long is refused before its end', async () => {
  const server = await openHealthServer(LOCAL, failTest);
  const ask = async (bytes: number) => {
    const socket = await opened(server.port);
    const start = 'GET /livez HTTP/1.1\r\nx: ';
    socket.write(start + 'x'.repeat(bytes - start.length));
    if (bytes <= MAX_HEALTH_REQUEST_BYTES - 4) socket.write('\r\n\r\n');
    const answers = [];
    for await (const chunk of socket) answers.push(chunk);
    return Buffer.concat(answers).toString().split('\r\n', 1)[0];
  };
  expect(await ask(MAX_HEALTH_REQUEST_BYTES - 4)).toBe('HTTP/1.1 200 OK');
  expect(await ask(MAX_HEALTH_REQUEST_BYTES + 1)).toBe('HTTP/1.1 431 Request Header Fields Too Large');
  await server.close();
});

test('it answers while the event loop of the broker stands still', async () => {
  const stall = `process.on('SIGUSR2', () => {
    process.stderr.write('{"msg":"stalled"}\\n');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_000);
  })`;
  const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(stall)}`];
  await using broker = await startBroker({ args: HEALTH_ARGS, nodeArgs });
  const url = await healthUrl(broker);
  await using client = broker.connect();
  await client.admin.createTopic('orders');
  await broker.kill('SIGUSR2');
  await broker.logged('stalled');
  let isAnswered = false;
  const answer = client.admin.getTopic('orders').then(() => {
    isAnswered = true;
  });
  expect((await fetch(`${url}/livez`)).status).toBe(200);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  expect(isAnswered).toBe(false);
  await answer;
});

test('an event loop that has stood still for its time is neither alive nor ready', async () => {
  expect(HEALTH_LIMITS).toMatchObject({ maxStandstillMs: MAX_STANDSTILL_MS, heartbeatMs: HEARTBEAT_MS });
  const limits = { ...HEALTH_LIMITS, heartbeatMs: 20, maxStandstillMs: 200 };
  const module = new URL('../../services/broker/adapters/http/health-server.ts', import.meta.url);
  const script = `
    const { openHealthServer } = await import(${JSON.stringify(module.href)});
    const server = await openHealthServer(${JSON.stringify(LOCAL)}, console.error, ${JSON.stringify(limits)});
    server.setServing(true);
    console.log(server.port);
    process.stdin.once('data', () => {
      console.log('still');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });
    process.stdin.on('end', () => process.exit());
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const port = (await lines.next()).value;
    const status = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).status;
    expect([await status('/livez'), await status('/readyz')]).toEqual([200, 200]);
    child.stdin.write('now\n');
    await lines.next();
    await until(async () => (await status('/livez')) === 503);
    expect(await status('/readyz')).toBe(503);
  } finally {
    child.kill('SIGKILL');
  }
});

test('it is ready while gRPC health says SERVING: not before the first word, nor while clients are sent away', async () => {
  const server = await openHealthServer(LOCAL, failTest);
  const isReady = async () => (await fetch(`http://127.0.0.1:${server.port}/readyz`)).status === 200;
  expect(await isReady()).toBe(false);
  const said: boolean[] = [];
  const rig = await startGrpcRig(await createAuthority(), { onServing: (isServing) => said.push(isServing) });
  await rig.server.sendAway(new BrokerError('UNAVAILABLE', 'no store'));
  await rig.server.sendAway(undefined);
  await rig[Symbol.asyncDispose]();
  expect(said).toEqual([true, false, true, false]);
  for (const isServing of said) {
    server.setServing(isServing);
    expect(await isReady()).toBe(isServing);
  }
  await server.close();
});

test('a health port that is in use ends the start with a sentence', async () => {
  await using broker = await startBroker({ args: HEALTH_ARGS });
  const { port } = new URL(await healthUrl(broker));
  await expect(startBroker({ args: ['--health-listen', port] })).rejects.toThrow(
    `--health-listen 127.0.0.1:${port}: the port is in use: choose another one, or 0 for a free one`,
  );
});

function failTest(error: unknown): void {
  throw error;
}

async function healthUrl(broker: BrokerProcess): Promise<string> {
  return String((await broker.logged('listening')).health);
}
