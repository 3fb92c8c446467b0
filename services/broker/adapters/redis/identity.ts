// Which cluster the store holds: by that brokers know an emptied store, or another one, from their own.
import type { RedisConnection } from './connection.ts';
import type { RedisKeys } from './keys.ts';

/** Undefined: the store holds none. */
export async function readIdentity(
  connection: RedisConnection,
  keys: RedisKeys,
): Promise<string | undefined> {
  return (await connection.run('identity', (client) => client.get(keys.identity))) ?? undefined;
}
