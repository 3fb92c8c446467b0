// Real sockets: how many connections there are, and what becomes of them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { createKubeHttp } from '../../operator/kube/http.ts';
import { Metrics } from '../../operator/kube/metrics.ts';
import { kubeTransport, loadKubeConfig, parseKubeConfig } from '../../operator/kube/transport.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function rig(handle: (request: IncomingMessage, response: ServerResponse) => void, user: object = {}) {
  let connections = 0;
  const server: Server = createServer(handle);
  server.on('connection', () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/prefix/`;
  const clock = new VirtualClock();
  const config = parseKubeConfig(
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  const transport = kubeTransport(config, clock);
  const http = createKubeHttp({ transport, clock, random: () => 0, metrics: new Metrics() });
  closing.push(async () => {
    transport.close();
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  const get = (path = '/x') => http.json<{ url: string }>({ verb: 'get', resource: 'x', path, maxTries: 1 });
  return { server, clock, http, get, transport, connections: () => connections };
}

const echo = (request: IncomingMessage, response: ServerResponse): void => {
  response.end(JSON.stringify({ url: request.url, auth: request.headers.authorization }));
};

test('200 requests one after the other share one connection', async () => {
  const { get, connections } = await rig(echo);
  for (let n = 0; n < 200; n += 1) expect(await get(`/n?${n}`)).toEqual({ url: `/prefix/n?${n}` });
  expect(connections()).toBe(1);
});

test('200 at once share sixteen, and a watch does not take one of them away', async () => {
  const { get, http, connections } = await rig((request, response) => {
    if (request.url?.includes('watch')) response.write('{"type":"BOOKMARK","object":{}}\n');
    else echo(request, response);
  });
  const watches = Array.from({ length: 20 }, () =>
    http.watch({ verb: 'watch', resource: 'x', path: '/watch' })[Symbol.asyncIterator](),
  );
  for (const watch of watches) expect((await watch.next()).value).toEqual({ type: 'BOOKMARK', object: {} });
  await Promise.all(Array.from({ length: 200 }, () => get()));
  expect(connections()).toBe(36);
  for (const watch of watches) await watch.return?.();
});

test('a body that breaks off, a connection that is refused, an answer that is no JSON', async () => {
  const { server, get } = await rig((request, response) => {
    if (request.url?.endsWith('text')) {
      response.end('<html>');
      return;
    }
    response.write('{"half":');
    setImmediate(() => response.destroy());
  });
  await expect(get()).rejects.toMatchObject({ reason: 'Unreachable', transient: true });
  await expect(get('/text')).rejects.toMatchObject({ reason: 'BadAnswer' });
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await expect(get()).rejects.toThrow(/can't be reached: .*(ECONNREFUSED|hang up)/);
});

test('an abort ends a watch and its connection', async () => {
  const closed = Promise.withResolvers<void>();
  const { http } = await rig((_, response) => {
    response.on('close', () => closed.resolve());
    response.write('{"type":"BOOKMARK","object":{}}\n');
  });
  const stop = new AbortController();
  const watch = http
    .watch({ verb: 'watch', resource: 'x', path: '/watch', signal: stop.signal })
    [Symbol.asyncIterator]();
  await watch.next();
  const next = watch.next();
  const reason = new Error('enough');
  stop.abort(reason);
  await expect(next).rejects.toBe(reason);
  await closed.promise;
});

test('tokens are looked at again after ten seconds, and at once when they are refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kube-transport-'));
  closing.push(() => rm(folder, { recursive: true }));
  let accepted = 'Bearer two';
  const script = join(folder, 'token.sh');
  const say = (token: string) =>
    writeFile(
      script,
      `#!/bin/sh\necho '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"${token}","expirationTimestamp":"2000-01-01T00:00:00Z"}}'\n`,
      { mode: 0o755 },
    );
  await say('two');
  const { clock, http } = await rig(
    (request, response) => {
      if (request.headers.authorization === accepted) echo(request, response);
      else response.writeHead(401).end('{}');
    },
    { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: script } },
  );
  const get = () => http.json<{ auth: string }>({ verb: 'get', resource: 'x', path: '/x' });
  expect((await get()).auth).toBe('Bearer two');
  await say('three');
  expect((await get()).auth).toBe('Bearer two');
  await clock.advance(10_000);
  accepted = 'Bearer three';
  expect((await get()).auth).toBe('Bearer three');
  await say('four');
  accepted = 'Bearer four';
  expect((await get()).auth).toBe('Bearer four');
});

test('a configuration that leads nowhere is said so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kube-transport-'));
  closing.push(() => rm(folder, { recursive: true }));
  const file = join(folder, 'config');
  await writeFile(file, JSON.stringify({ clusters: [], users: [], contexts: [], 'current-context': 'none' }));
  expect(() => kubeTransport(loadKubeConfig({ file }), new VirtualClock())).toThrow('no current context');
});
