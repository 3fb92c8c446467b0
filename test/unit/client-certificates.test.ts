// Certificates by path are read anew, and what can't be used leaves the last good ones in use.
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createCa, issueClient } from '../../services/certs/issue.ts';
import type { CertificatePair } from '../../services/certs/pem-files.ts';
import { Certificates } from '../../services/client/certificates.ts';

let dir: string;
let ca: CertificatePair;
let first: CertificatePair;
let second: CertificatePair;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-certificates-'));
  ca = await createCa();
  first = await issueClient(ca, { principal: 'first' });
  second = await issueClient(ca, { principal: 'second' });
});

afterAll(() => rm(dir, { recursive: true }));

const at = (file: string) => join(dir, file);
const paths = () => ({ ca: at('ca.crt'), cert: at('tls.crt'), key: at('tls.key') });

async function write(pair: CertificatePair): Promise<void> {
  await writeFile(at('ca.crt'), ca.cert);
  await writeFile(at('tls.crt'), pair.cert);
  await writeFile(at('tls.key'), pair.key);
}

test('renewed files are in use after the next look; the same ones are not parsed again', async () => {
  await write(first);
  const certificates = new Certificates(paths());
  const { context } = certificates;
  await certificates.refresh();
  expect(certificates.context).toBe(context);
  expect(certificates.own.subject).toBe('CN=first');
  await write(second);
  await Promise.all([certificates.refresh(), certificates.refresh()]);
  expect(certificates.own.subject).toBe('CN=second');
  expect(certificates.context).not.toBe(context);
  expect(certificates.problem).toBeUndefined();
});

test('half of a renewal, damage and a missing file leave the last good ones in use, and are told', async () => {
  await write(first);
  const certificates = new Certificates(paths());
  const expectKept = async (problem: RegExp) => {
    await certificates.refresh();
    expect(certificates.own.subject).toBe('CN=first');
    expect(certificates.problem).toMatch(problem);
  };
  await writeFile(at('tls.crt'), second.cert);
  await expectKept(/^tls.key \(.*tls\.key\) is not the key of tls.cert \(.*tls\.crt\)$/);
  await writeFile(at('tls.crt'), second.cert.slice(0, 100));
  await expectKept(/tls.cert \(.*tls\.crt\) is not a certificate in PEM form/);
  await writeFile(at('tls.crt'), first.cert);
  await writeFile(at('ca.crt'), '');
  await expectKept(/tls.ca \(.*ca\.crt\) is not a certificate in PEM form/);
  await writeFile(at('ca.crt'), ca.cert);
  await rename(at('tls.key'), at('away.key'));
  await expectKept(/ENOENT.*tls\.key/);
  await rename(at('away.key'), at('tls.key'));
  await certificates.refresh();
  expect(certificates.problem).toBeUndefined();
});

test('PEM as text or bytes stays as it is given', async () => {
  const text = new Certificates({ ca: ca.cert, cert: `# mine\n${first.cert}`, key: first.key });
  const bytes = new Certificates({
    ca: Buffer.from(ca.cert),
    cert: Buffer.from(first.cert),
    key: Buffer.from(first.key),
  });
  for (const certificates of [text, bytes]) {
    const { context } = certificates;
    await certificates.refresh();
    expect(certificates.context).toBe(context);
    expect(certificates.own.subject).toBe('CN=first');
  }
});

test.each([
  ['a file that is not there', { cert: 'nowhere.crt' }, /^tls is not usable: ENOENT/],
  [
    'a key that is none',
    { key: '-----BEGIN secret' },
    /^tls is not usable: tls.key is not a private key in PEM form/,
  ],
])('to begin with they must be usable: %s', async (_, wrong, message) => {
  await write(first);
  const make = () => new Certificates({ ...paths(), ...wrong });
  expect(make).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  );
  expect(make).not.toThrow(/secret/);
});
