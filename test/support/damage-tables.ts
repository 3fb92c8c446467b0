// What a bad disk does to chunks in LMDB, while no broker has the folder.
import { join } from 'node:path';
import { TABLES_FILE } from '../../services/broker/adapters/embedded/durable-kv.ts';
import { chunksFrom } from '../../services/broker/adapters/embedded/keys.ts';
import { LOG, type Op, openTables } from '../../services/broker/adapters/embedded/tables.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';

/**
 * `flip` changes one bit of the chunk's frames, `scramble` leaves nothing of them, `lose` removes the chunk,
 * `age` makes it one of a version without checksums, whole, and `describe` changes its description.
 */
export async function damageTables(
  dir: string,
  partition: PartitionId,
  offset: number,
  how: 'flip' | 'lose' | 'scramble' | 'age' | 'describe',
): Promise<void> {
  const tables = await openTables(join(dir, TABLES_FILE));
  try {
    const [lent] = tables.keys(LOG, chunksFrom(partition, offset), 1);
    const key = Buffer.from(lent!);
    const value = tables.get(LOG, key)!;
    const ops: Op[] = [];
    if (how === 'flip' || how === 'scramble') {
      if (how === 'flip') value[value.length >> 1]! ^= 1;
      else value.fill(0xff);
      ops.push({ table: LOG, key, value });
    } else ops.push({ table: LOG, key, value: undefined });
    if (how === 'age') ops.push({ table: LOG, key: key.subarray(0, 40), value });
    if (how === 'describe') {
      const other = Buffer.from(key);
      other[30]! ^= 1;
      ops.push({ table: LOG, key: other, value });
    }
    await tables.write(ops, tables.sequence());
  } finally {
    await tables.close();
  }
}
