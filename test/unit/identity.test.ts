// Principals of client certificates, and the statuses that clients see.
import { expect, test } from 'vitest';
import { Identity, principalOfCertificate } from '../../services/broker/adapters/grpc/identity.ts';
import { statusOf } from '../../services/broker/adapters/grpc/status.ts';
import { AssertionError, BrokerError } from '../../services/broker/core/errors.ts';

test.each([
  ['URI:spiffe://fanfare/audit', 'alice', 'spiffe://fanfare/audit'],
  ['DNS:host, URI:https://x.example, URI:spiffe://fanfare/audit', 'alice', 'spiffe://fanfare/audit'],
  ['DNS:host, URI:https://x.example', 'alice', 'https://x.example'],
  ['IP Address:10.0.0.1, DNS:worker-1.example, DNS:other', 'alice', 'dns:worker-1.example'],
  ['IP Address:10.0.0.1', 'alice', 'cn:alice'],
  [undefined, 'alice', 'cn:alice'],
  [undefined, ['alice', 'bob'], 'cn:alice'],
  // A CN never passes for a URI, nor a value with a comma for two names.
  [undefined, 'spiffe://fanfare/admin', 'cn:spiffe://fanfare/admin'],
  ['DNS:"evil, URI:spiffe://fanfare/admin"', 'x', 'dns:evil, URI:spiffe://fanfare/admin'],
  ['DNS:"evil\\", URI:spiffe://fanfare/admin"', 'x', 'dns:evil", URI:spiffe://fanfare/admin'],
])('of SAN %j and CN %j the principal is %s', (subjectaltname, CN, principal) => {
  expect(principalOfCertificate({ subjectaltname, subject: { CN } })).toBe(principal);
});

test.each([
  [undefined],
  [{ subject: {} }],
  [{ subject: { CN: '' } }],
  [{ subject: { CN: 'x' }, subjectaltname: 'DNS:"\\x"' }],
  // SPIFFE: exactly one.
  [{ subject: { CN: 'x' }, subjectaltname: 'URI:spiffe://fanfare/a, URI:spiffe://fanfare/broker/b' }],
  [{ subject: { CN: 'x' }, subjectaltname: 'URI:SPIFFE://fanfare/a, URI:spiffe://fanfare/broker/b' }],
  [{ subject: { CN: 'x\0.alice' } }],
  [{ subject: { CN: 'x\u202e' } }],
  [{ subject: { CN: 'x' }, subjectaltname: 'URI:"spiffe://fanfare/broker/x\\u0000.alice"' }],
  [{ subject: { CN: 'x' }, subjectaltname: 'DNS:"a\\nb"' }],
])('%o names nobody', (certificate) => {
  expect(() => principalOfCertificate(certificate)).toThrow(
    expect.objectContaining({ code: 'UNAUTHENTICATED' }),
  );
});

test('the certificate is read once a session', () => {
  let reads = 0;
  const session = {};
  const call = () => ({
    call: { stream: { session } },
    getAuthContext: () => {
      reads += 1;
      return { sslPeerCertificate: { subject: { CN: 'alice' } } as never };
    },
  });
  const identity = new Identity({ plaintext: false });
  expect([identity.principalOf(call()), identity.principalOf(call())]).toEqual(['cn:alice', 'cn:alice']);
  expect(reads).toBe(1);
  expect(new Identity({ plaintext: true }).principalOf(call())).toBe('plaintext');
});

test('a status tells what was expected and hides what was not', () => {
  expect(statusOf(new BrokerError('NOT_FOUND', 'no such topic'))).toEqual({
    code: 5,
    details: 'no such topic',
  });
  for (const error of [new Error('secret'), new AssertionError('secret'), 'secret', undefined]) {
    const { code, details } = statusOf(error);
    expect(code).toBe(13);
    expect(details).not.toContain('secret');
  }
});

test('the text of a status can always be sent', () => {
  const { details } = statusOf(new BrokerError('INTERNAL', `${'😀'.repeat(5_000)}\ud800`));
  expect(details.length).toBeLessThan(2_100);
  expect(() => encodeURI(details)).not.toThrow();
  // The text is cut in the middle of a surrogate pair.
  expect(() =>
    encodeURI(statusOf(new BrokerError('INTERNAL', `x${'😀'.repeat(5_000)}`)).details),
  ).not.toThrow();
});
