// What is said of a connection that failed, from what grpc-js keeps of it.
import { expect, test } from 'vitest';
import {
  type ConnectAttempt,
  explainConnectFailure,
  markedFailure,
  type PeerCertificateInfo,
  refusedBroker,
  unreachableOf,
} from '../../services/client/unreachable.ts';

const nowMs = Date.UTC(2026, 5, 1);
const DAY_MS = 86_400_000;
const own = {
  subject: 'CN=me',
  issuer: 'CN=My CA',
  validFromMs: nowMs - DAY_MS,
  validToMs: nowMs + DAY_MS,
  problem: undefined,
};
const proxy = {
  kind: 'proxy',
  host: 'p',
  port: 3128,
  credentials: undefined,
  variable: 'https_proxy',
} as const;
const attempt: ConnectAttempt = {
  address: 'broker:7443',
  proxy: undefined,
  own,
  silentMs: undefined,
  nowMs,
};

const grpc = (lastError: string) => `No connection established. Last error: ${lastError}. Resolution note: `;
const AT = ' (2026-06-01T00:00:00.000Z)';

test.each<[string, Partial<ConnectAttempt>, string, RegExp]>([
  [
    'Error: connect ECONNREFUSED 10.0.0.1:7443',
    {},
    'refused',
    /^nobody listens there \(connect ECONNREFUSED 10\.0\.0\.1:7443\)$/,
  ],
  [
    'Error: connect ECONNREFUSED 10.0.0.1:3128',
    { proxy },
    'proxy',
    /^the proxy p:3128 \(https_proxy\) fails: nobody listens there .*; name the broker in no_proxy/,
  ],
  ['Error: connect EHOSTUNREACH 10.0.0.1:7443', {}, 'no-route', /no way to it/],
  ['Error: connect ETIMEDOUT 10.0.0.1:7443', {}, 'no-answer', /no answer/],
  ['Error: Socket closed', {}, 'other', /^Socket closed$/],
  ['undefined', {}, 'other', /undefined/],
  [
    `Failed to connect${AT}`,
    {},
    'certificate',
    /^it seems not to accept this client's certificate \(CN=me, issued by CN=My CA, valid until 2026-06-02T00:00:00Z\): it ended the connection after the TLS handshake; use one/,
  ],
  [
    `read ECONNRESET${AT}`,
    { own: { ...own, validToMs: nowMs - DAY_MS } },
    'certificate',
    /^this client's certificate \(CN=me\) expired on 2026-05-31T00:00:00Z: renew it/,
  ],
  [
    `Failed to connect${AT}`,
    { own: { ...own, validFromMs: nowMs + DAY_MS } },
    'certificate',
    /is not valid before 2026-06-02T00:00:00Z/,
  ],
  [
    `Failed to connect${AT}`,
    { own: { ...own, problem: 'k is not the key of c' } },
    'certificate',
    /; the files as they are now are not used: k is not the key of c$/,
  ],
  [
    `C0:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:..:SSL alert number 48\n${AT}`,
    {},
    'certificate',
    /seems not to accept .*: it says "unknown ca"/,
  ],
  [
    `Failed to connect${AT}`,
    { own: undefined },
    'protocol',
    /speaks no plaintext gRPC: a broker with TLS wants certificates/,
  ],
  [`Protocol error${AT}`, { own: undefined }, 'protocol', /speaks no plaintext gRPC \(Protocol error\)/],
  [`Failed to connect${AT}`, { silentMs: 10_000 }, 'no-answer', /nothing came on it for 10000 ms/],
  ['Error: [certificate] it has expired. Or so', {}, 'certificate', /^it has expired\. Or so$/],
  ['Error: whatever', { proxy: { kind: 'unusable', problem: 'no such thing' } }, 'proxy', /^no such thing$/],
])('%j %j', (lastError, more, reason, why) => {
  const explained = unreachableOf(explainConnectFailure(grpc(lastError), { ...attempt, ...more }));
  expect(explained?.reason).toBe(reason);
  const [, text = ''] =
    /^the broker at broker:7443 can't be reached: (.*)$/s.exec(explained?.text ?? '') ?? [];
  expect(text).toMatch(why);
  expect(text).not.toMatch(/2026-06-01T00:00:00\.000Z/);
});

test('a host that is not known', () => {
  const details = 'Name resolution failed for target dns:broker:7443';
  const explained = unreachableOf(explainConnectFailure(details, attempt));
  expect(explained).toMatchObject({
    reason: 'no-host',
    text: expect.stringContaining('there is no host broker'),
  });
  expect(unreachableOf(explainConnectFailure(details, { ...attempt, proxy }))).toMatchObject({
    reason: 'proxy',
    text: expect.stringContaining('the proxy p:3128 (https_proxy) fails'),
  });
});

test('what a broker has said stays as it is', () => {
  for (const details of ['the broker is stopping', '', 'Connection dropped']) {
    expect(explainConnectFailure(details, attempt)).toBe(details);
    expect(unreachableOf(details)).toBeUndefined();
  }
});

test('a reason that was marked comes through grpc-js', () => {
  const failure = { reason: 'protocol', text: 'it is a toaster' } as const;
  const details = explainConnectFailure(grpc(String(markedFailure(failure))), attempt);
  expect(unreachableOf(details)).toEqual({
    reason: 'protocol',
    text: "the broker at broker:7443 can't be reached: it is a toaster",
  });
});

const ca: PeerCertificateInfo = {
  subject: { CN: 'Their CA' },
  valid_from: 'Jan  1 00:00:00 2020 GMT',
  valid_to: 'Jan  1 00:00:00 2030 GMT',
  fingerprint256: 'CA',
};
const leaf: PeerCertificateInfo = {
  subject: { CN: 'broker' },
  issuer: { CN: 'Their CA' },
  valid_from: 'Jan  1 00:00:00 2026 GMT',
  valid_to: 'Jan  1 00:00:00 2027 GMT',
  subjectaltname: 'DNS:b.example, IP Address:10.0.0.1, URI:spiffe://x/y',
  fingerprint256: 'LEAF',
  issuerCertificate: ca,
};
const old = 'May  1 00:00:00 2026 GMT';

test.each<[string, PeerCertificateInfo, RegExp]>([
  [
    'CERT_HAS_EXPIRED',
    { ...leaf, valid_to: old },
    /^the broker's certificate \(CN=broker\) expired on 2026-05-01T00:00:00Z: it must be renewed/,
  ],
  [
    'CERT_HAS_EXPIRED',
    { ...leaf, issuerCertificate: { ...ca, valid_to: old } },
    /^the CA of the broker's certificate \(CN=Their CA\) expired on/,
  ],
  [
    'CERT_NOT_YET_VALID',
    { ...leaf, valid_from: 'Dec  1 00:00:00 2026 GMT' },
    /is not valid before 2026-12-01T00:00:00Z.*clock/,
  ],
  [
    'SELF_SIGNED_CERT_IN_CHAIN',
    leaf,
    /issued by CN=Their CA\) is from no CA in tls\.ca \(ca\.crt\): give the CA/,
  ],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', leaf, /is from no CA in/],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    leaf,
    /is not for other\.example but for b\.example, 10\.0\.0\.1: connect by such a name, or set tls\.serverName/,
  ],
  ['ERR_TLS_CERT_ALTNAME_INVALID', { ...leaf, subjectaltname: 'URI:spiffe://x/y' }, /but for no host at all/],
  [
    'INVALID_PURPOSE',
    { ...leaf, subject: {} },
    /^the broker's certificate \(without a name\) can't be accepted: INVALID_PURPOSE$/,
  ],
])('of the broker: %s', (code, certificate, text) => {
  const expected = { name: 'other.example', caSource: 'tls.ca (ca.crt)', nowMs };
  const refused = refusedBroker(code, certificate, expected);
  expect(refused.reason).toBe('certificate');
  expect(refused.text).toMatch(text);
});

test('a chain that leads in a circle ends', () => {
  const a: { -readonly [Key in keyof PeerCertificateInfo]: PeerCertificateInfo[Key] } = { ...leaf };
  a.issuerCertificate = { ...ca, issuerCertificate: a };
  expect(refusedBroker('CERT_HAS_EXPIRED', a, { name: 'x', caSource: 'tls.ca', nowMs }).text).toContain(
    'CERT_HAS_EXPIRED',
  );
});
