// Mutual TLS: who gets in, under which name, and certificates that change while the server runs.
import { connect, type TLSSocket } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createCa, issueClient, issueServer } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import {
  type Authority,
  createAuthority,
  type GrpcRig,
  issueExpired,
  startGrpcRig,
} from '../support/grpc-rig.ts';

const parent = 'projects/p';
const { method } = Admin;

let authority: Authority;
let foreign: Authority;
let rig: GrpcRig;

beforeAll(async () => {
  [authority, foreign] = await Promise.all([createAuthority(), createAuthority()]);
});
beforeEach(async () => {
  rig = await startGrpcRig(authority);
});
afterEach(async () => {
  await rig[Symbol.asyncDispose]();
});

/** The server's certificate as a new connection sees it. */
function serverCertificate(options: object = {}): Promise<string> {
  const [host = '', port] = rig.address.split(':');
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connect(
      {
        host,
        port: Number(port),
        ca: [authority.ca.cert, foreign.ca.cert],
        cert: authority.client.cert,
        key: authority.client.key,
        ALPNProtocols: ['h2'],
        ...options,
      },
      () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '');
        socket.destroy();
      },
    );
    socket.on('error', reject);
  });
}

describe('guarantee 8: who gets in', () => {
  const listing = (identity: CertificatePair | undefined, ca = authority.ca) =>
    rig.connect(identity, ca).call(method.listTopics, { parent });

  test('a client with a certificate of the CA', async () => {
    expect(await listing(authority.client)).toMatchObject({ topics: [] });
  });

  test.each([
    ['no certificate', () => undefined],
    ['a certificate of a foreign CA', () => foreign.client],
  ])('not one with %s', async (_what, identity) => {
    await expect(listing(identity())).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test('not one with an expired certificate', async () => {
    const expired = await issueExpired(authority.ca);
    await expect(listing(expired)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test('a client refuses a server of a foreign CA', async () => {
    await expect(listing(authority.client, foreign.ca)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test('nobody below TLS 1.3', async () => {
    await expect(serverCertificate({ maxVersion: 'TLSv1.2' })).rejects.toThrow(/protocol version|alert/);
    expect(await serverCertificate()).not.toBe('');
  });

  test('two clients on two connections are not taken for each other', async () => {
    const other = await issueClient(authority.ca, { principal: 'other' });
    const clients = [rig.connect(), rig.connect(other), rig.connect()];
    for (const [at, client] of clients.entries()) {
      for (const round of [1, 2]) {
        await client.call(method.createTopic, { topic: { name: `${parent}/topics/t${at}-${round}` } });
      }
    }
    expect(rig.audit.map(({ principal }) => principal.split('/').at(-1))).toEqual([
      'tester',
      'tester',
      'other',
      'other',
      'tester',
      'tester',
    ]);
  });
});

describe('certificates that change', () => {
  test('are used for new connections while streams stay open', async () => {
    const client = rig.connect();
    const stream = client.stream(method.watchBacklog, { parent, interval: { nanos: 100_000_000 } });
    await stream.next();
    const before = await serverCertificate();

    await rig.replaceCertificates(await issueServer(authority.ca));
    expect(await rig.tls.reload()).toBe('reloaded');
    const after = await serverCertificate();
    expect(after).not.toBe(before);
    expect(after).toBe(rig.tls.certificate.fingerprint256);

    // The stream and its connection are still the same.
    await stream.next();
    await stream.next();
    await client.call(method.listTopics, { parent });
    stream.call.cancel();
    expect(await rig.tls.reload()).toBe('unchanged');
  });

  test('a new CA lets its clients in and the old ones out', async () => {
    await rig.replaceCertificates(foreign.server, foreign.ca);
    expect(await rig.tls.reload()).toBe('reloaded');
    await rig.connect(foreign.client, foreign.ca).call(method.listTopics, { parent });
    await expect(
      rig.connect(authority.client, foreign.ca).call(method.listTopics, { parent }),
    ).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  test.each([
    [
      'a key of another certificate',
      () => ({ ...authority.server, key: foreign.server.key }),
      /is not the key of/,
    ],
    ['no certificate', () => ({ ...authority.server, cert: 'nonsense' }), /is no PEM certificate/],
    ['no key', () => ({ ...authority.server, key: '' }), /is no PEM private key/],
    [
      'half a certificate',
      () => ({ ...authority.server, cert: authority.server.cert.slice(0, 99) }),
      /is no PEM/,
    ],
  ])('%s is reported once, and the good one stays in force', async (_what, make, problem) => {
    const before = await serverCertificate();
    await rig.replaceCertificates(make());
    expect(await rig.tls.reload()).toBe('refused');
    await rig.tls.reload();
    expect(rig.tlsProblems).toEqual([expect.stringMatching(problem)]);
    expect(await serverCertificate()).toBe(before);
    await rig.connect().call(method.listTopics, { parent });

    const good = await issueServer(authority.ca);
    await rig.replaceCertificates(good);
    expect(await rig.tls.reload()).toBe('reloaded');
  });

  test('an expired one, or a CA that is none, is not taken', async () => {
    await rig.replaceCertificates(await issueExpired(authority.ca));
    expect(await rig.tls.reload()).toBe('refused');
    await rig.replaceCertificates(authority.server, { cert: 'nonsense', key: '' });
    expect(await rig.tls.reload()).toBe('refused');
    expect(rig.tlsProblems).toEqual([
      expect.stringMatching(/expired on/),
      expect.stringMatching(/ca\.crt is no/),
    ]);
    const anotherCa = await createCa();
    await rig.replaceCertificates(authority.server, anotherCa);
    expect(await rig.tls.reload()).toBe('reloaded');
  });
});
