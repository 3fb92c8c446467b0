// Certificates: development certificates are made, kept and renewed; what is inspected and what is refused.
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { contextPath, readContext, writeContext } from '../../services/certs/context-file.ts';
import { ensureDevelopmentCertificates } from '../../services/certs/development.ts';
import { inspectCertificate } from '../../services/certs/inspect.ts';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';

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

test('leaves close to their end are renewed, the CA stays', async () => {
  const first = await ensureDevelopmentCertificates(dir);
  const ca = await readFile(first.ca, 'utf8');
  const before = await readFile(first.serverCert, 'utf8');
  const inAYear = Date.now() + 375 * 86_400_000;
  expect((await ensureDevelopmentCertificates(dir, { nowMs: inAYear })).created).toBe(true);
  expect(await readFile(first.ca, 'utf8')).toBe(ca);
  expect(await readFile(first.serverCert, 'utf8')).not.toBe(before);
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

test('a CA is never replaced: without its key, or damaged, it says what to do', async () => {
  const paths = await ensureDevelopmentCertificates(dir);
  await rm(join(dir, 'certs', 'ca.key'));
  await rm(paths.clientCert);
  await expect(ensureDevelopmentCertificates(dir)).rejects.toThrow(
    /ca\.key is missing: put it back, or delete/,
  );
  await writeFile(paths.ca, 'rubbish');
  await expect(ensureDevelopmentCertificates(dir)).rejects.toThrow(/ca\.crt is not a CA certificate/);
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
