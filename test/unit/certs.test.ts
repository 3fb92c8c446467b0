// Certificates: development certificates are made, kept and renewed; what is inspected and what is refused.
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect, createServer } from 'node:tls';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { contextPath, readContext, writeContext } from '../../services/certs/context-file.ts';
import { ensureDevelopmentCertificates } from '../../services/certs/development.ts';
import { inspectCertificate } from '../../services/certs/inspect.ts';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import { ALWAYS_HOSTS, permits } from '../../services/certs/name-constraints.ts';
import { type CertificatePair, writePair } from '../../services/certs/pem-files.ts';

const DAY_MS = 86_400_000;

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-certs-'));
});

afterEach(() => rm(dir, { recursive: true, force: true }));

test('development certificates: made once, kept, keys for their owner only', async () => {
  const first = await ensureDevelopmentCertificates(dir);
  expect(first.created).toBe(true);
  const read = (path: string) => readFile(path, 'utf8');
  const ca = await read(first.ca);
  const server = inspectCertificate(await read(first.serverCert), { ca, key: await read(first.serverKey) });
  expect(server).toMatchObject({ chainOk: true, keyOk: true, inForce: true, ca: false });
  expect(server.names).toEqual([
    'DNS:localhost',
    'IP Address:127.0.0.1',
    'IP Address:0:0:0:0:0:0:0:1',
    'URI:spiffe://fanfare/broker/development',
  ]);
  const client = inspectCertificate(await read(first.clientCert), { ca, key: await read(first.clientKey) });
  expect(client).toMatchObject({ chainOk: true, keyOk: true, names: ['URI:spiffe://fanfare/developer'] });
  for (const key of [first.serverKey, first.clientKey, join(dir, 'certs', 'ca.key')]) {
    expect((await stat(key)).mode & 0o777).toBe(0o600);
  }
  const second = await ensureDevelopmentCertificates(dir);
  expect(second).toEqual({ ...first, created: false });
});

test('certificates live for 90 days; in the last third all are made again, the CA with its key', async () => {
  const first = await ensureDevelopmentCertificates(dir);
  const read = (path: string) => readFile(path, 'utf8');
  const [ca, server, key] = await Promise.all([
    read(first.ca),
    read(first.serverCert),
    read(join(dir, 'certs/ca.key')),
  ]);
  expect(inspectCertificate(ca).notAfter.getTime() - Date.now()).toBeCloseTo(90 * DAY_MS, -5);
  expect(first.notAfter).toEqual(inspectCertificate(ca).notAfter);
  const inTwoThirds = Date.now() + 59 * DAY_MS;
  expect((await ensureDevelopmentCertificates(dir, { nowMs: inTwoThirds })).created).toBe(false);
  const nowMs = Date.now() + 61 * DAY_MS;
  const renewed = await ensureDevelopmentCertificates(dir, { nowMs });
  expect(renewed.created).toBe(true);
  expect(renewed.notAfter.getTime() - nowMs).toBeCloseTo(90 * DAY_MS, -5);
  expect(await read(join(dir, 'certs/ca.key'))).toBe(key);
  // Who has the old CA trusts the new server, and the other way round.
  expect(inspectCertificate(await read(first.serverCert), { ca, nowMs })).toMatchObject({
    chainOk: true,
    inForce: true,
  });
  expect(inspectCertificate(server, { ca: await read(first.ca) }).chainOk).toBe(true);
  expect((await ensureDevelopmentCertificates(dir, { nowMs })).created).toBe(false);
});

test('a CA that may vouch for anybody is followed by one that may not; one of somebody else stays', async () => {
  const paths = await ensureDevelopmentCertificates(dir);
  const keyPath = join(dir, 'certs/ca.key');
  await writePair(paths.ca, keyPath, await createCa({ days: 3_650, key: await readFile(keyPath, 'utf8') }));
  expect((await ensureDevelopmentCertificates(dir)).created).toBe(true);
  expect(permits(await readFile(paths.ca, 'utf8'), ALWAYS_HOSTS)).toBe(true);
  const other = await createCa({ name: 'Somebody', days: 3_650 });
  await writePair(paths.ca, keyPath, other);
  expect((await ensureDevelopmentCertificates(dir)).created).toBe(true);
  expect(await readFile(paths.ca, 'utf8')).toBe(other.cert);
});

test('what a certificate names it goes on naming, and the CA permits it', async () => {
  const hosts = ['broker.example', '192.0.2.7', '2001:db8::7'];
  const first = await ensureDevelopmentCertificates(dir, { hosts });
  expect((await ensureDevelopmentCertificates(dir)).created).toBe(false);
  const nowMs = Date.now() + 80 * DAY_MS;
  expect((await ensureDevelopmentCertificates(dir, { nowMs })).created).toBe(true);
  const server = new X509Certificate(await readFile(first.serverCert));
  expect(server.checkHost('broker.example')).toBe('broker.example');
  for (const address of hosts.slice(1)) expect(server.checkIP(address)).toBe(address);
  const ca = {
    cert: await readFile(first.ca, 'utf8'),
    key: await readFile(join(dir, 'certs/ca.key'), 'utf8'),
  };
  expect(permits(ca.cert, hosts)).toBe(true);
  await issueServer(ca, { hosts });
  await expect(issueServer(ca, { hosts: ['evil.example', 'other.example'] })).rejects.toThrow(
    'this CA may not vouch for evil.example, other.example: "fanfare certs init --host evil.example --host other.example" makes',
  );
});

test('a leaf that is damaged, of another key or without a wanted host is issued again', async () => {
  const paths = await ensureDevelopmentCertificates(dir);
  await writeFile(paths.clientCert, 'rubbish');
  expect((await ensureDevelopmentCertificates(dir)).created).toBe(true);
  await writeFile(paths.clientKey, await readFile(paths.serverKey));
  expect((await ensureDevelopmentCertificates(dir)).created).toBe(true);
  expect((await ensureDevelopmentCertificates(dir, { hosts: ['broker.example'] })).created).toBe(true);
  const server = new X509Certificate(await readFile(paths.serverCert));
  expect(server.checkHost('broker.example')).toBe('broker.example');
});

test('no other CA is made: without its key, or damaged, it says what to do', async () => {
  const paths = await ensureDevelopmentCertificates(dir);
  await rm(join(dir, 'certs', 'ca.key'));
  await rm(paths.clientCert);
  await expect(ensureDevelopmentCertificates(dir)).rejects.toThrow(
    /ca\.key is missing: put it back, or delete/,
  );
  await writeFile(paths.ca, 'rubbish');
  await expect(ensureDevelopmentCertificates(dir)).rejects.toThrow(/ca\.crt is not a CA certificate/);
});

test("with the CA's key nobody can pretend to be another host", async () => {
  const { ca, clientCert, clientKey } = await ensureDevelopmentCertificates(dir, {
    hosts: ['broker.example'],
  });
  const read = (path: string) => readFile(path, 'utf8');
  // Without the constraints, by the same key: what a thief of the key can make.
  const thief = await createCa({ key: await read(join(dir, 'certs/ca.key')) });
  const handshake = async (pair: CertificatePair, servername: string): Promise<string> => {
    const server = createServer({ ...pair, ca: await read(ca), requestCert: true, rejectUnauthorized: true });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    server.on('secureConnection', (socket) => socket.end('in'));
    server.on('tlsClientError', () => {});
    const own = { cert: await read(clientCert), key: await read(clientKey), ca: await read(ca) };
    const client = connect({ port, host: '127.0.0.1', servername, ...own });
    try {
      return await text(client);
    } catch (error) {
      return (error as Error).message;
    } finally {
      client.destroy();
      server.close();
    }
  };
  for (const host of ['localhost', 'broker.example'])
    expect(await handshake(await issueServer(thief, { hosts: ['broker.example'] }), host)).toBe('in');
  const evil = await issueServer(thief, { hosts: ['evil.example'] });
  expect(await handshake(evil, 'evil.example')).toBe('permitted subtree violation');
  // A client whose name has a dot is let in: OpenSSL takes a common name with one for a host.
  await writePair(clientCert, clientKey, await issueClient(thief, { principal: 'team.example' }));
  expect(await handshake(await issueServer(thief), 'localhost')).toBe('in');
});

test('principals: what is in the certificate, and what is refused', async () => {
  const ca = await createCa();
  const { cert } = await issueClient(ca, { principal: 'team/billing' });
  expect(inspectCertificate(cert).names).toEqual(['URI:spiffe://fanfare/team/billing']);
  for (const principal of ['', '/x', 'a b', 'a,b', 'x'.repeat(201)]) {
    await expect(issueClient(ca, { principal })).rejects.toThrow(/not valid/);
  }
  await expect(issueClient(ca, { principal: 'a', days: 0 })).rejects.toThrow(/0 days/);
});

test('inspection notices a foreign CA, a foreign key and an ended certificate', async () => {
  const [ca, other] = [await createCa(), await createCa()];
  const pair = await issueServer(ca, { days: 1 });
  expect(inspectCertificate(pair.cert, { ca: other.cert }).chainOk).toBe(false);
  expect(inspectCertificate(pair.cert, { key: other.key }).keyOk).toBe(false);
  expect(inspectCertificate(pair.cert, { nowMs: Date.now() + 2 * 86_400_000 }).inForce).toBe(false);
  // A leaf certificate signs nobody.
  expect(inspectCertificate(pair.cert, { ca: pair.cert }).chainOk).toBe(false);
  expect(() => inspectCertificate('no')).toThrow(/not a certificate in PEM form/);
});

test('a context keeps its paths relative to itself', async () => {
  const path = contextPath(join(dir, '.fanfare'));
  const tls = { ca: join(dir, 'ca.crt'), cert: join(dir, '.fanfare/certs/c.crt'), key: '/keys/c.key' };
  const context = { address: 'localhost:7443', project: 'default', tls };
  await writeContext(path, context);
  expect(JSON.parse(await readFile(path, 'utf8')).tls.cert).toBe('certs/c.crt');
  expect(await readContext(path)).toEqual(context);
  expect(await readContext(join(dir, 'none.json'))).toBeUndefined();
  await writeFile(path, '{"address":1}');
  await expect(readContext(path)).rejects.toThrow(/needs "address"/);
});

test("a client's certificate never names a broker", async () => {
  const ca = await createCa();
  await expect(issueClient(ca, { principal: 'broker/one' })).rejects.toThrow(/"broker\/" are brokers'/);
  const broker = inspectCertificate((await issueServer(ca, { broker: 'one' })).cert);
  expect(broker.names).toContain('URI:spiffe://fanfare/broker/one');
});
