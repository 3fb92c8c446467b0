// The ops that are durable in the journal and not yet in LMDB; of several on one key the last one counts.
//
// Two generations: `pending` grows with commits; a merge freezes it and starts a new one. Reads look into
// both, newest first, so what is being merged stays visible until LMDB shows it.
import type { Op, Table } from './tables.ts';

export class Overlay {
  #pending = new Map<string, Op>();
  #frozen = new Map<string, Op>();

  add(op: Op): void {
    this.#pending.set(idOf(op.table, op.key), op);
  }

  /** The op that decides what this key holds, if it is not in LMDB yet. */
  find(table: Table, key: Buffer): Op | undefined {
    const id = idOf(table, key);
    return this.#pending.get(id) ?? this.#frozen.get(id);
  }

  /** All ops of a table, older ones first. */
  *ofTable(table: Table): Generator<Op> {
    for (const op of this.#frozen.values()) if (op.table === table) yield op;
    for (const op of this.#pending.values()) if (op.table === table) yield op;
  }

  get isEmpty(): boolean {
    return this.#pending.size === 0 && this.#frozen.size === 0;
  }

  /** Begins a merge and returns the ops to write. The merge ends with merged() or thaw(). */
  freeze(): Iterable<Op> {
    if (this.#frozen.size === 0) {
      this.#frozen = this.#pending;
      this.#pending = new Map();
    }
    return this.#frozen.values();
  }

  /** LMDB has what freeze() returned. */
  merged(): void {
    this.#frozen = new Map();
  }

  /** The merge failed: what it should have written waits with the rest. */
  thaw(): void {
    for (const [id, op] of this.#pending) this.#frozen.set(id, op);
    this.#pending = this.#frozen;
    this.#frozen = new Map();
  }
}

function idOf(table: Table, key: Buffer): string {
  return table + key.toString('latin1');
}
