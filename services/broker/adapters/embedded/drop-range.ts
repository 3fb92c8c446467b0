// Deletes a range of a table in bounded steps, each a commit of its own, so that other commits go on in
// between. Only for a range into which nobody begins a write any more: what it belongs to was deleted as a
// whole.
import type { DurableKv } from './durable-kv.ts';
import type { KeyRange } from './keys.ts';
import type { Op, Table } from './tables.ts';

const STEP = 512;

export async function dropRange(kv: DurableKv, table: Table, range: KeyRange): Promise<void> {
  await kv.flush();
  // Keys in the overlay come first: a merge meanwhile takes their deletes to LMDB with them, or after them.
  const pending = kv.pendingKeys(table, range);
  for (let at = 0; at < pending.length; at += STEP) await deleteKeys(kv, table, pending.slice(at, at + STEP));
  let { start } = range;
  for (;;) {
    // LMDB shows deleted keys while the deletes wait in the overlay: the walk goes on behind the last one.
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
