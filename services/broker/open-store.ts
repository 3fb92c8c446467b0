// Opens the store that the configuration names: LMDB in the data folder, or Redis with the cluster that it
// holds. Invariant: a store that could not be opened altogether is closed again.
import type { StoreStats } from './adapters/embedded/durable-kv.ts';
import { openEmbeddedStore } from './adapters/embedded/store.ts';
import { nodeClock } from './adapters/node/clock.ts';
import type { RedisStore } from './adapters/redis/store.ts';
import { joinedCluster, type SharedStoreConfig } from './cluster-node.ts';
import type { Config } from './config.ts';
import type { BrokerOptions } from './engine/broker.ts';
import type { DefinitionsOptions } from './engine/definitions/definitions.ts';
import type { Log } from './log.ts';
import type { DefinitionStore } from './ports/definition-store.ts';

export interface OpenStore extends Pick<BrokerOptions, 'log' | 'cursors' | 'ownership'> {
  readonly definitions: DefinitionStore;
  readonly durability: DefinitionsOptions['durability'];
  /** The store as a cluster's; undefined: it is this broker's alone. */
  readonly shared:
    | { readonly redis: RedisStore; readonly config: SharedStoreConfig; readonly identity: string }
    | undefined;
  stats(): StoreStats | undefined;
  conditions(): readonly string[];
  close(): Promise<void>;
}

export async function openStore(config: Config, memberId: string, log: Log): Promise<OpenStore> {
  const onWarning = (message: string, fields: object): void => log.warn(fields, message);
  if (config.store.kind === 'embedded') {
    const store = await openEmbeddedStore({ dir: config.dataDir, memberId, onWarning });
    const durability = { supported: ['memory', 'stored', 'fsync'], default: 'fsync' } as const;
    return { ...store, durability, shared: undefined };
  }
  const { url, password, tls } = config.store;
  // Loaded only if it is used.
  const { openRedisStore } = await import('./adapters/redis/store.ts');
  const redis = await openRedisStore({
    url,
    ...(password !== undefined && { credentials: { password } }),
    ...(tls && { tls }),
    memberId,
    onWarning,
    clock: nodeClock,
  });
  try {
    const identity = await joinedCluster(redis.membership, config.store);
    return { ...redis, stats: () => undefined, shared: { redis, config: config.store, identity } };
  } catch (error) {
    await redis.close();
    throw error;
  }
}
