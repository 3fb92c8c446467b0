// Connections from accept to end, at a real server with TLS: who says nothing in time, who are too many,
// whose certificate is not good any more, and that none of them holds up a stop.
import '../../services/certs/reflect-metadata.ts';
import { createPrivateKey, webcrypto } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { status } from '@grpc/grpc-js';
import * as x509 from '@peculiar/x509';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { type Authority, createAuthority, startGrpcRig } from '../support/grpc-rig.ts';
import { untilPasses } from '../support/until.ts';

const LIMITS = {
  maxConnections: 8,
  maxPerAddress: 8,
  maxPerPrincipal: 8,
  maxUnauthenticated: 4,
  handshakeMs: 300,
  prefaceMs: 300,
};
const parent = 'projects/p';
const DAY_MS = 86_400_000;

let authority: Authority;
beforeAll(async () => {
  authority = await createAuthority();
});

const portOf = (address: string): number => Number(address.split(':')[1]);

/** A connection of which nothing more is heard. */
async function silent(address: string, from = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: portOf(address), localAddress: from });
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket.resume();
}

async function secured(address: string): Promise<TLSSocket> {
  const { ca, client } = authority;
  const socket = connectTls({
    ...{ host: 'localhost', port: portOf(address), ca: ca.cert, cert: client.cert, key: client.key },
    ALPNProtocols: ['h2'],
  });
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

const closing = (socket: Socket): Promise<unknown> =>
  socket.closed ? Promise.resolve() : once(socket, 'close').catch(() => {});

describe('who says nothing', () => {
  test('has so much time for TLS, and so much for HTTP/2', async () => {
    await using rig = await startGrpcRig(authority, { server: { limits: { connections: LIMITS } } });
    const { connections } = rig.server;
    const atFirst = await silent(rig.address);
    const atSecond = await secured(rig.address);
    atSecond.resume();
    const client = rig.connect();
    await client.call(Admin.method.listTopics, { parent });
    expect(connections.counts.open).toBe(3);
    await Promise.all([closing(atFirst), closing(atSecond)]);
    await untilPasses(() => expect(connections.counts).toMatchObject({ open: 1, ended: 2 }));
    await client.call(Admin.method.listTopics, { parent });
  });

  test('makes room for others, first of all where most of them come from', async () => {
    const connections = { ...LIMITS, handshakeMs: 60_000, prefaceMs: 60_000 };
    await using rig = await startGrpcRig(authority, { server: { limits: { connections } } });
    const one = await silent(rig.address, '127.0.0.2');
    const many = await Promise.all([1, 2, 3].map(() => silent(rig.address)));
    await untilPasses(() => expect(rig.server.connections.counts.open).toBe(4));
    // They fill what there is for those on their way.
    const client = rig.connect();
    await client.call(Admin.method.listTopics, { parent });
    await untilPasses(() => expect(many.filter(({ closed }) => closed)).toHaveLength(1));
    expect(one.closed).toBe(false);
    expect(rig.server.connections.counts.refused).toBe(1);
  });

  test('does not hold up a stop, whether it has done TLS or not; nor does who reads nothing', async () => {
    const rig = await startGrpcRig(authority);
    await silent(rig.address);
    const frozen = await secured(rig.address);
    frozen.pause();
    const client = rig.connect();
    await client.call(Admin.method.listTopics, { parent });
    const begun = performance.now();
    expect(await rig.server.drain({ timeoutMs: 20_000, before: () => {}, after: () => {} })).toBe('drained');
    expect(performance.now() - begun).toBeLessThan(5_000);
    expect(rig.server.connections.counts.open).toBe(0);
    client.close();
    await rig[Symbol.asyncDispose]();
  });
});

describe('who are too many', () => {
  const calls = (rig: Awaited<ReturnType<typeof startGrpcRig>>, identity = authority.client) =>
    rig.connect(identity).call(Admin.method.listTopics, { parent });

  test('of one address are refused', async () => {
    const connections = { ...LIMITS, maxPerAddress: 2 };
    await using rig = await startGrpcRig(authority, { server: { limits: { connections } } });
    await calls(rig);
    await calls(rig);
    await expect(calls(rig)).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(rig.server.connections.counts).toMatchObject({ open: 2, refused: 1 });
  });

  test('of one principal are refused, but for brokers; others get in', async () => {
    const connections = { ...LIMITS, maxPerPrincipal: 1 };
    const isBroker = (principal: string): boolean => principal.startsWith('spiffe://fanfare/broker/');
    await using rig = await startGrpcRig(authority, { server: { limits: { connections }, isBroker } });
    await calls(rig);
    await expect(calls(rig)).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(rig.ended).toEqual(['it has 1 connections already, which is the limit']);
    await calls(rig, await issueClient(authority.ca, { principal: 'other' }));
    const broker = await issueServer(authority.ca, { broker: 'b' });
    await calls(rig, broker);
    await calls(rig, broker);
  });

  test('in all are refused', async () => {
    const connections = { ...LIMITS, maxConnections: 2 };
    await using rig = await startGrpcRig(authority, { server: { limits: { connections } } });
    await calls(rig);
    await calls(rig);
    await expect(calls(rig)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });
});

describe('whose certificate is not good any more', () => {
  test('is ended when it expires', async () => {
    await using rig = await startGrpcRig(authority);
    const soon = await issueClient(authority.ca, {
      ...{ principal: 'soon', days: 1, nowMs: Date.now() + 1_500 - DAY_MS },
    });
    const stream = rig.connect(soon).stream(Admin.method.watchBacklog, { parent });
    await stream.next();
    expect((await stream.status).code).toBe(status.UNAVAILABLE);
    expect(rig.ended).toEqual(['its certificate has expired']);
  });

  test('is ended when its CA is trusted no longer; others go on', async () => {
    await using rig = await startGrpcRig(authority);
    const otherCa = await createCa({ name: 'another' });
    await rig.replaceCertificates(authority.server, both(authority.ca, otherCa));
    expect(await rig.tls.reload()).toBe('reloaded');
    const other = rig.connect(await issueClient(otherCa, { principal: 'other' }));
    const stays = other.stream(Admin.method.watchBacklog, { parent });
    const goes = rig.connect().stream(Admin.method.watchBacklog, { parent });
    await Promise.all([stays.next(), goes.next()]);
    await rig.replaceCertificates(authority.server, otherCa);
    expect(await rig.tls.reload()).toBe('reloaded');
    expect((await goes.status).code).toBe(status.UNAVAILABLE);
    expect(rig.ended).toEqual(['its certificate is of no authority that is trusted now']);
    await other.call(Admin.method.listTopics, { parent });
  });

  test('is ended and kept out when it is revoked', async () => {
    const revoked = await issueClient(authority.ca, { principal: 'stolen' });
    await using rig = await startGrpcRig(authority, { crl: await listOf(authority.ca) });
    const stream = rig.connect(revoked).stream(Admin.method.watchBacklog, { parent });
    const other = rig.connect();
    await Promise.all([stream.next(), other.call(Admin.method.listTopics, { parent })]);
    await rig.revoke(await listOf(authority.ca, revoked));
    expect(await rig.tls.reload()).toBe('reloaded');
    expect((await stream.status).code).toBe(status.UNAVAILABLE);
    expect(rig.ended).toEqual(['its certificate was revoked']);
    await expect(rig.connect(revoked).call(Admin.method.listTopics, { parent })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
    await other.call(Admin.method.listTopics, { parent });
  });

  test('a list that is of another CA, out of date or missing is refused, and the former one stays in force', async () => {
    const revoked = await issueClient(authority.ca, { principal: 'stolen' });
    await using rig = await startGrpcRig(authority, { crl: await listOf(authority.ca, revoked) });
    const strangers = await createCa({ name: 'stranger' });
    for (const [list, why] of [
      [await listOf(strangers), /no authority in .* has signed the list of CN=stranger/],
      [await listOf(authority.ca, undefined, -1), /was to be renewed by .*: fetch a new one/],
      ['', /has no list of revoked certificates \(PEM, X509 CRL\) of/],
      [
        '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n',
        /is no list of revoked certificates|TLS files are not usable/,
      ],
    ] as const) {
      await rig.revoke(list);
      expect(await rig.tls.reload()).toBe('refused');
      expect(rig.tlsProblems.at(-1)).toMatch(why);
    }
    await expect(rig.connect(revoked).call(Admin.method.listTopics, { parent })).rejects.toMatchObject({
      code: status.UNAVAILABLE,
    });
  });
});

test('a connection is sent away at its age, and its client connects again', async () => {
  await using rig = await startGrpcRig(authority, { server: { maxConnectionAgeMs: 200 } });
  const client = rig.connect();
  await client.call(Admin.method.listTopics, { parent });
  await untilPasses(() => expect(rig.server.connections.counts.open).toBe(0));
  await client.call(Admin.method.listTopics, { parent });
});

test('no ticket lets anybody in without showing a certificate again', async () => {
  await using rig = await startGrpcRig(authority);
  const { ca, client } = authority;
  const how = {
    ...{ host: 'localhost', port: portOf(rig.address), ca: ca.cert, cert: client.cert, key: client.key },
    ALPNProtocols: ['h2'],
  };
  const first = connectTls(how);
  first.resume();
  const [session] = (await once(first, 'session')) as [Buffer];
  first.destroy();
  const second = connectTls({ ...how, session });
  await once(second, 'secureConnect');
  expect(second.isSessionReused()).toBe(false);
  second.destroy();
});

function both(one: CertificatePair, other: CertificatePair): CertificatePair {
  return { cert: `${one.cert}\n${other.cert}`, key: '' };
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

function keyOf(ca: CertificatePair): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(ca.key).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
}

/** The CA's list of revoked certificates, to be renewed in so many days. */
async function listOf(ca: CertificatePair, revoked?: CertificatePair, days = 1): Promise<string> {
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(ca.cert).subject,
    thisUpdate: new Date(Date.now() - 2 * DAY_MS),
    nextUpdate: new Date(Date.now() + days * DAY_MS),
    entries: revoked ? [{ serialNumber: new x509.X509Certificate(revoked.cert).serialNumber }] : [],
    signingAlgorithm: ALGORITHM,
    signingKey: await keyOf(ca),
  });
  return `${x509.PemConverter.encode(list.rawData, 'X509 CRL')}\n`;
}
