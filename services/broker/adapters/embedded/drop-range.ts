// Deletes a range of a table in bounded steps, each a commit of its own, so that others' commits go on in between.
// Called by log-store.ts and cursor-store.ts for what was deleted as a whole: nobody writes into the range any more.
import type { DurableKv } from './durable-kv.ts';
import type { KeyRange } from './keys.ts';
import type { Op, Table } from './tables.ts';

const STEP = 512;

export async function dropRange(kv: DurableKv, table: Table, range: KeyRange): Promise<void> {
  // With everything in LMDB, its keys alone say what there is. Deletes may wait in the overlay: the walk goes on behind
  // the last key it has deleted.
  await kv.flush();
  let start = range.start;
  for (;;) {
    const ops: Op[] = [];
    for (const lent of kv.tables.keys(table, { start, end: range.end }, STEP)) {
      ops.push({ table, key: Buffer.from(lent), value: undefined });
    }
    const last = ops.at(-1);
    if (!last) return;
    await kv.commit({
      bytes: ops.length * last.key.length,
      frees: true,
      plan: () => ({ ops, result: undefined }),
    });
    start = Buffer.concat([last.key, Buffer.of(0)]);
  }
}
