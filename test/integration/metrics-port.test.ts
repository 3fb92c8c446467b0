// The metrics port under attack, and its token: what many ask for is made once, silence and slow reading keep
// nobody out, and without the token there is nothing to see.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import {
  type BearerToken,
  fixedToken,
  tokenOfFile,
  tokenProblem,
} from '../../services/broker/adapters/http/bearer-token.ts';
import { guardConnections } from '../../services/broker/adapters/http/connection-guard.ts';
import {
  METRICS_LIMITS,
  type MetricsEndpoint,
  type MetricsLimits,
  openMetricsEndpoint,
} from '../../services/broker/adapters/http/metrics-endpoint.ts';
import {
  MAX_METRICS_ANSWER_MS,
  MAX_METRICS_CONNECTIONS,
  MAX_METRICS_CONNECTIONS_PER_ADDRESS,
  MAX_METRICS_HEADER_BYTES,
  MAX_SILENT_MS,
  MAX_TOKEN_BYTES,
  METRICS_CACHE_MS,
  MIN_TOKEN_BYTES,
  TOKEN_RELOAD_MS,
} from '../../services/broker/limits.ts';
import { startBroker } from '../support/broker.ts';
import { opened, SilentCrowd } from '../support/silent-crowd.ts';
import { until } from '../support/until.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

// A test starts several processes, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 });

const TOKEN = 'x'.repeat(MIN_TOKEN_BYTES);

interface Options {
  readonly token?: BearerToken;
  readonly limits?: Partial<MetricsLimits>;
  readonly makeText?: () => Promise<string>;
}

/** An endpoint whose texts are numbered, or made by the test. */
async function open({ token, limits = {}, makeText }: Options = {}) {
  const clock = new VirtualClock();
  let made = 0;
  const endpoint = await openMetricsEndpoint({
    listen: { host: '127.0.0.1', port: 0 },
    token,
    clock,
    limits,
    onProblem: () => {},
  });
  onTestFinished(() => endpoint.close());
  endpoint.serve(async () => {
    made += 1;
    return makeText?.() ?? `text ${made}`;
  });
  return { clock, endpoint, url: urlOf(endpoint), made: () => made };
}

test('a text is made once for all that ask, at the same time or one after the other, until its time is over', async () => {
  const { clock, url, made } = await open();
  const scrape = async () => (await fetch(url)).text();
  const texts = await Promise.all(Array.from({ length: 20 }, scrape));
  expect(new Set(texts)).toEqual(new Set(['text 1']));
  await clock.advance(METRICS_CACHE_MS - 1);
  expect(await scrape()).toBe('text 1');
  await clock.advance(1);
  expect(await scrape()).toBe('text 2');
  expect(made()).toBe(2);
});

test('a failure is told, and is not tried again at once either', async () => {
  let fails = true;
  const { clock, url, made } = await open({
    makeText: async () => {
      if (fails) throw new Error('no numbers');
      return 'text';
    },
  });
  expect([(await fetch(url)).status, (await fetch(url)).status, made()]).toEqual([500, 500, 1]);
  fails = false;
  await clock.advance(METRICS_CACHE_MS);
  expect((await fetch(url)).status).toBe(200);
});

test('8 scrapers in a loop, and 150 silent connections that open again, cost few texts and keep nobody out', async () => {
  await using broker = await startBroker({ args: ['--metrics-listen', '127.0.0.1:0'] });
  const url = String((await broker.logged('listening')).metrics);
  await using crowd = SilentCrowd.open(url, 150);
  const beganMs = performance.now();
  const times = new Set<string>();
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let i = 0; i < 15; i += 1) {
        const response = await fetch(url);
        expect(response.status).toBe(200);
        times.add(/^process_uptime_seconds.* (.*)$/m.exec(await response.text())![1]!);
      }
    }),
  );
  const seconds = (performance.now() - beganMs) / 1000;
  expect(times.size).toBeLessThanOrEqual(1 + (seconds * 1000) / METRICS_CACHE_MS);
  expect(crowd.opened).toBeGreaterThanOrEqual(150);
});

test('an address has so many connections, and all together so many: the oldest silent ones go', async () => {
  expect(METRICS_LIMITS).toMatchObject({
    maxConnections: MAX_METRICS_CONNECTIONS,
    maxPerAddress: MAX_METRICS_CONNECTIONS_PER_ADDRESS,
    maxSilentMs: MAX_SILENT_MS,
    maxAnswerMs: MAX_METRICS_ANSWER_MS,
  });
  const { endpoint, url } = await open({ limits: { maxSilentMs: 600_000 } });
  const open1 = async (count: number, address: string) => {
    const sockets = [];
    for (let i = 0; i < count; i += 1) sockets.push(await opened(endpoint.port, address));
    return sockets;
  };
  const many = await open1(MAX_METRICS_CONNECTIONS_PER_ADDRESS + 5, '127.0.0.2');
  const closed = () => many.filter((socket) => socket.closed).length;
  await until(() => closed() === 5);
  expect(many.findIndex((socket) => !socket.closed)).toBe(5);
  const others = await open1(MAX_METRICS_CONNECTIONS - MAX_METRICS_CONNECTIONS_PER_ADDRESS, '127.0.0.3');
  expect(closed()).toBe(5);
  // Whoever has most makes room.
  expect((await fetch(url)).status).toBe(200);
  await until(() => closed() === 6);
  expect(others.some((socket) => socket.closed)).toBe(false);
});

test('a connection that asks nothing is closed after its time', async () => {
  const { endpoint } = await open({ limits: { maxSilentMs: 50 } });
  await once(await opened(endpoint.port), 'close');
});

test('an answer that is not read is cut off after its time', async () => {
  expect(METRICS_LIMITS.maxAnswerMs).toBe(MAX_METRICS_ANSWER_MS);
  const server = createServer();
  const guard = guardConnections(server, { ...METRICS_LIMITS, maxSilentMs: 600_000, maxAnswerMs: 50 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const [[connection]] = await Promise.all([
    once(server, 'connection') as Promise<[Socket]>,
    opened((server.address() as AddressInfo).port).then((socket) => socket.pause()),
  ]);
  guard.onAsked(connection);
  connection.write('x'.repeat(32 * 1024 * 1024));
  await once(connection, 'close');
  server.close();
});

test('of many that come at once and ask, none is taken for silent', async () => {
  const server = createServer();
  const guard = guardConnections(server, { ...METRICS_LIMITS, maxConnections: 4 });
  server.on('connection', (socket) => {
    socket.once('data', () => {
      guard.onAsked(socket);
      socket.end('answer');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const answers = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      socket.write('ask');
      return (await socket.toArray()).join('');
    }),
  );
  expect(answers.filter((answer) => answer === 'answer')).toHaveLength(50);
  server.close();
});

test('headers that are too long are refused', async () => {
  const { url } = await open();
  const status = (bytes: number) =>
    new Promise<number | undefined>((resolve, reject) => {
      const asked = request(url, { headers: { x: 'x'.repeat(bytes) } }, (response) => {
        resolve(response.resume().statusCode);
      });
      asked.on('error', reject).end();
    });
  expect(await status(MAX_METRICS_HEADER_BYTES - 200)).toBe(200);
  expect(await status(MAX_METRICS_HEADER_BYTES + 1)).toBe(431);
});

test('with a token there is nothing to see without it', async () => {
  const { url, made } = await open({ token: fixedToken(TOKEN) });
  const status = async (authorization?: string) =>
    (await fetch(url, authorization === undefined ? {} : { headers: { authorization } })).status;
  for (const wrong of [
    undefined,
    TOKEN,
    `Basic ${TOKEN}`,
    `Bearer ${TOKEN}x`,
    'Bearer ',
    `Bearer x ${TOKEN}`,
  ]) {
    expect([wrong, await status(wrong)]).toEqual([wrong, 401]);
  }
  expect(made()).toBe(0);
  expect([await status(`Bearer ${TOKEN}`), await status(`bearer ${TOKEN}`)]).toEqual([200, 200]);
});

test('a token has so many characters, all of them visible', () => {
  expect(tokenProblem('x'.repeat(MIN_TOKEN_BYTES))).toBeUndefined();
  expect(tokenProblem('x'.repeat(MAX_TOKEN_BYTES))).toBeUndefined();
  expect(tokenProblem('x'.repeat(MIN_TOKEN_BYTES - 1))).toBe('has 15 characters: must have 16 to 1024');
  expect(tokenProblem('x'.repeat(MAX_TOKEN_BYTES + 1))).toBe('has 1025 characters: must have 16 to 1024');
  expect(tokenProblem(`${TOKEN} ${TOKEN}`)).toBe('may have only visible ASCII characters');
});

test('a file with the token may be replaced; one that is no good leaves the former', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-token-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'token');
  const clock = new VirtualClock();
  const problems: string[] = [];
  const read = () => tokenOfFile(file, clock, ({ message }) => problems.push(message));
  await expect(read()).rejects.toThrow(/^the token in --metrics-token-file .*token can't be read: ENOENT/);
  await writeFile(file, 'short\n');
  await expect(read()).rejects.toThrow('has 5 characters');
  await writeFile(file, `${TOKEN}\n`);
  const token = await read();
  expect(await token.isShownBy(`Bearer ${TOKEN}`)).toBe(true);

  await writeFile(file, `${TOKEN}-2`);
  await clock.advance(TOKEN_RELOAD_MS - 1);
  expect(await token.isShownBy(`Bearer ${TOKEN}-2`)).toBe(false);
  await clock.advance(1);
  expect(await token.isShownBy(`Bearer ${TOKEN}-2`)).toBe(true);
  expect(await token.isShownBy(`Bearer ${TOKEN}`)).toBe(false);

  await writeFile(file, '');
  await clock.advance(TOKEN_RELOAD_MS);
  expect(await token.isShownBy(`Bearer ${TOKEN}-2`)).toBe(true);
  expect(problems).toEqual([expect.stringContaining('has 0 characters')]);
});

test('a broker takes the token from its environment, and shows it nowhere', async () => {
  await using broker = await startBroker({
    args: ['--metrics-listen', '127.0.0.1:0', '--log-level', 'trace'],
    env: { FANFARE_METRICS_TOKEN: 'swordfish-swordfish' },
  });
  const url = String((await broker.logged('listening')).metrics);
  expect((await fetch(url)).status).toBe(401);
  const headers = { authorization: 'Bearer swordfish-swordfish' };
  const text = await (await fetch(url, { headers })).text();
  expect(text).toContain('fanfare_broker_publish_messages_total');
  expect(text + JSON.stringify(broker.logLines)).not.toContain('swordfish');
});

function urlOf({ port }: MetricsEndpoint): string {
  return `http://127.0.0.1:${port}/metrics`;
}
