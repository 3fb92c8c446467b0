// Redis stores as the conformance suites and the integration tests open them: each test has a key prefix of its own, so that
// all tests of a file share one Redis.
import { randomUUID } from 'node:crypto';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import {
  openRedisStore,
  type RedisStore,
  type RedisStoreOptions,
} from '../../services/broker/adapters/redis/store.ts';
import type { OpenHarness, OpenSharedHarness } from '../conformance/harness.ts';

export type RedisPlace = Pick<RedisStoreOptions, 'url' | 'tls'>;

/** Opens the store at a place. Warnings are dropped unless asked for. */
export function openTestStore(
  { url, tls }: RedisPlace,
  options: Partial<RedisStoreOptions> = {},
): Promise<RedisStore> {
  return openRedisStore({
    url,
    ...(tls && { tls }),
    memberId: 'member-a',
    onWarning: () => {},
    clock: nodeClock,
    ...options,
  });
}

export function redisHarness(place: () => RedisPlace): OpenHarness {
  return async () => {
    const clusterPrefix = `test-${randomUUID()}`;
    let stores = await openTestStore(place(), { clusterPrefix });
    return {
      get stores() {
        return stores;
      },
      async reopen() {
        await stores.close();
        stores = await openTestStore(place(), { clusterPrefix });
      },
      close: () => stores.close(),
    };
  };
}

export function sharedRedisHarness(place: () => RedisPlace): OpenSharedHarness {
  return async () => {
    const clusterPrefix = `test-${randomUUID()}`;
    const members = new Map<string, Promise<RedisStore>>();
    return {
      member(id) {
        const known = members.get(id) ?? openTestStore(place(), { clusterPrefix, memberId: id });
        members.set(id, known);
        return known;
      },
      async close() {
        for (const store of members.values()) await (await store).close();
      },
    };
  };
}
