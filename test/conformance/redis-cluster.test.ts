// The Redis store against every port's contract: on a Cluster of three masters with a replica each.
import { afterAll, beforeAll } from 'vitest';
import { startRedisCluster, type TestRedisCluster } from '../support/redis-cluster.ts';
import { redisHarness, sharedRedisHarness } from '../support/redis-store.ts';
import { cursorStoreConformance } from './cursor-store.ts';
import { definitionStoreConformance, sharedDefinitionConformance } from './definition-store.ts';
import { logStoreConformance } from './log-store.ts';
import { membershipStoreConformance } from './membership-store.ts';
import { ownershipStoreConformance, sharedOwnershipConformance } from './ownership-store.ts';
import { signalsConformance } from './signals.ts';

let cluster: TestRedisCluster;

beforeAll(async () => {
  cluster = await startRedisCluster();
}, 120_000);
afterAll(() => cluster[Symbol.asyncDispose]());

const name = 'redis, a cluster';
const open = redisHarness(() => cluster);
const openShared = sharedRedisHarness(() => cluster);
logStoreConformance(name, open);
cursorStoreConformance(name, open);
definitionStoreConformance(name, open);
sharedDefinitionConformance(name, openShared);
ownershipStoreConformance(name, open);
sharedOwnershipConformance(name, openShared);
membershipStoreConformance(name, openShared);
signalsConformance(name, openShared);
