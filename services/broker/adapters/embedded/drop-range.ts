// Deletes a range of a table in bounded steps, each a commit of its own, so that others' commits go on in between. For
// what was deleted as a whole: nobody may begin a write into the range any more.
import type { DurableKv } from './durable-kv.ts';
import type { KeyRange } from './keys.ts';
import type { Op, Table } from './tables.ts';

const STEP = 512;

export async function dropRange(kv: DurableKv, table: Table, range: KeyRange): Promise<void> {
  await kv.flush();
  // What waits in the overlay comes first: a merge meanwhile takes the deletes to LMDB with it, or after it.
  const pending = kv.pendingKeys(table, range);
  for (let at = 0; at < pending.length; at += STEP) await deleteKeys(kv, table, pending.slice(at, at + STEP));
  let { start } = range;
  for (;;) {
    // Deletes may wait in the overlay: the walk goes on behind the last key it has deleted.
    const keys = [...kv.tables.keys(table, { start, end: range.end }, STEP)].map((lent) => Buffer.from(lent));
    const last = keys.at(-1);
    if (!last) return;
    await deleteKeys(kv, table, keys);
    start = Buffer.concat([last, Buffer.of(0)]);
  }
}

function deleteKeys(kv: DurableKv, table: Table, keys: readonly Buffer[]): Promise<void> {
  const ops = keys.map((key): Op => ({ table, key, value: undefined }));
  return kv.commit<void>({
    bytes: keys.length * keys[0]!.length,
    plan: () => ({ ops, result: undefined }),
  });
}
