// Redis over TLS with client certificates: a client without one is refused, and new ones come into force
// while appends go on.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RedisStore } from '../../services/broker/adapters/redis/store.ts';
import { readAll } from '../conformance/harness.ts';
import { createNotes } from '../support/notes.ts';
import {
  createRedisCertificates,
  type RedisCertificates,
  renewClientCertificate,
  startRedis,
  type TestRedis,
} from '../support/redis.ts';
import { RedisAppender } from '../support/redis-appender.ts';
import { openTestStore } from '../support/redis-store.ts';

const P = { logEpoch: 7, partition: 3 };

let dir: string;
let certificates: RedisCertificates;
let redis: TestRedis;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-redis-tls-'));
  certificates = await createRedisCertificates(dir);
  redis = await startRedis({ tls: certificates });
}, 60_000);
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

test('new certificates come into force without an append failing; bad ones are said and left alone', async () => {
  const notes = createNotes();
  const store = await open(notes.add);
  try {
    const appender = new RedisAppender(store, P, { level: 'stored', minReplicas: 0 });
    await appender.start();
    await appender.more(20);
    const before = await connectionsOfStore();
    expect(before).toHaveLength(3);
    expect(await store.reloadCertificates()).toBe(false);
    await renewClientCertificate(certificates);
    const heard = new Promise((resolve) => store.signals.listen(resolve, () => {}));
    expect(await store.reloadCertificates()).toBe(true);
    await notes.next('the certificates for Redis were replaced');
    await appender.more(20);
    const after = await connectionsOfStore();
    expect(after).toHaveLength(3);
    expect(after.filter((id) => before.includes(id))).toEqual([]);
    store.signals.send('assignment', '');
    expect(await heard).toBe('assignment');

    await writeFile(certificates.clientCert, 'not a certificate');
    expect(await store.reloadCertificates()).toBe(false);
    await notes.next('the new certificates for Redis cannot be used: the former ones stay in force');
    await appender.more(20);
    await appender.stop();
    expect(appender.met).toMatchObject({ unknown: 0, wentBack: 0 });
    expect(await readAll(store, P)).toEqual(appender.acknowledged);
  } finally {
    await store.close();
    await renewClientCertificate(certificates);
  }
}, 30_000);

test('without a client certificate, or with an unknown CA, it says that it cannot get through', async () => {
  const refused = {
    code: 'UNAVAILABLE',
    message: expect.stringMatching(/cannot be reached \(.+\).*certificates/),
  };
  const url = redis.url;
  const onlyCa = { url, tls: { ca: certificates.ca } };
  await expect(openTestStore(onlyCa, { connectTimeoutMs: 500 })).rejects.toMatchObject(refused);
  const { clientCert: cert, clientKey: key } = certificates;
  await expect(openTestStore({ url, tls: { cert, key } }, { connectTimeoutMs: 500 })).rejects.toMatchObject(
    refused,
  );
  await expect(openTestStore({ url, tls: { cert } })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
  await expect(openTestStore({ url, tls: { ca: join(dir, 'none') } })).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
  });
});

function open(onWarning: (message: string, fields: object) => void): Promise<RedisStore> {
  const { ca, clientCert: cert, clientKey: key } = certificates;
  return openTestStore({ url: redis.url, tls: { ca, cert, key } }, { onWarning });
}

/** The ids of the store's connections at the server. */
async function connectionsOfStore(): Promise<string[]> {
  const list = String(await redis.command('CLIENT', 'LIST'));
  return list
    .split('\n')
    .filter((line) => line.includes('name=fanfare:member-a:'))
    .map((line) => /id=(\d+)/.exec(line)?.[1] ?? '');
}
