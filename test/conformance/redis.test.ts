// The Redis store against every port's contract: on one server with TLS and client certificates.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { createRedisCertificates, startRedis, type TestRedis } from '../support/redis.ts';
import { type RedisPlace, redisHarness, sharedRedisHarness } from '../support/redis-store.ts';
import { cursorStoreConformance } from './cursor-store.ts';
import { definitionStoreConformance, sharedDefinitionConformance } from './definition-store.ts';
import { logStoreConformance } from './log-store.ts';
import { membershipStoreConformance } from './membership-store.ts';
import { ownershipStoreConformance, sharedOwnershipConformance } from './ownership-store.ts';
import { signalsConformance } from './signals.ts';

let dir: string;
let redis: TestRedis;
let place: RedisPlace;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-redis-certs-'));
  const certificates = await createRedisCertificates(dir);
  redis = await startRedis({ tls: certificates });
  const { ca, clientCert: cert, clientKey: key } = certificates;
  place = { url: redis.url, tls: { ca, cert, key } };
}, 60_000);
afterAll(async () => {
  await redis[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

const name = 'redis, with TLS';
const open = redisHarness(() => place);
const openShared = sharedRedisHarness(() => place);
logStoreConformance(name, open);
cursorStoreConformance(name, open);
definitionStoreConformance(name, open);
sharedDefinitionConformance(name, openShared);
ownershipStoreConformance(name, open);
sharedOwnershipConformance(name, openShared);
membershipStoreConformance(name, openShared);
signalsConformance(name, openShared);
