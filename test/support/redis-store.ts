// Redis stores as the conformance suites and the integration tests open them: each test has a key prefix of
// its own, so that all tests of a file share one Redis.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import { type Client, createClient } from '../../services/broker/adapters/redis/client.ts';
import { RedisKeys } from '../../services/broker/adapters/redis/keys.ts';
import {
  openRedisStore,
  type RedisStore,
  type RedisStoreOptions,
} from '../../services/broker/adapters/redis/store.ts';
import { parseTarget } from '../../services/broker/adapters/redis/target.ts';
import type { TlsContent } from '../../services/broker/adapters/redis/tls-files.ts';
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

async function plainClient({ url, tls = {} }: RedisPlace): Promise<Client> {
  const read = (path?: string) => (path === undefined ? undefined : readFileSync(path));
  const content = { ca: read(tls.ca), cert: read(tls.cert), key: read(tls.key) } as TlsContent;
  const target = parseTarget(url);
  const client = createClient({ target, tls: target.tls ? content : undefined, name: 'test' });
  await client.connect();
  return client;
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
      async damage(partition, offset, how) {
        const { log } = new RedisKeys(clusterPrefix).partition(partition);
        const client = await plainClient(place());
        try {
          const entries = await client.xrangeBuffer(log, '-', '+');
          await client.del(log);
          for (const entry of entries as unknown as [Buffer, Buffer[]][]) {
            const [id, fields] = entry;
            const count = Number(fields[1]!.toString().split(' ')[0]);
            const end = Number.parseInt(id.toString(), 10);
            const meant = offset < end && offset >= end - count;
            if (meant && how === 'lose') continue;
            if (meant) fields[3]![fields[3]!.length >> 1]! ^= 1;
            await client.xadd(log, id, ...fields);
          }
        } finally {
          client.disconnect();
        }
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
