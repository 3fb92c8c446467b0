// Definitions and incarnation numbers on DurableKv; the comments of ports/definition-store.ts are the
// contract. On a full disk nothing new is defined, but what is there can be changed and deleted. A record is
// the revision (u64) and the body in UTF-8.
import { assert, BrokerError } from '../../core/errors.ts';
import type { Definition, DefinitionKind, DefinitionStore, Removals } from '../../ports/definition-store.ts';
import type { DurableKv } from './durable-kv.ts';
import { INCARNATION_KEY, prefixRange, readU64, writeU64 } from './keys.ts';
import { DEFINITIONS, META, type Op } from './tables.ts';

const KIND_BYTE: Readonly<Record<DefinitionKind, number>> = { topic: 1, subscription: 2 };
/** LMDB's keys have at most 1,978 bytes; the broker's names are far shorter. */
const MAX_NAME_BYTES = 1_900;
const REVISION_BYTES = 8;

export class EmbeddedDefinitionStore implements DefinitionStore {
  readonly #kv: DurableKv;
  /** Revisions of definitions that are being written; 0 for one that is being removed. */
  readonly #staged = new Map<string, number>();
  /** The last number given or being given; one whose write failed is left out. */
  #lastIncarnation: number;
  /** Counts the changes since the start: nobody else writes. */
  #version = 0;

  constructor(kv: DurableKv) {
    this.#kv = kv;
    const stored = kv.get(META, INCARNATION_KEY);
    this.#lastIncarnation = stored ? readU64(Buffer.from(stored), 0) : 0;
  }

  async list(): Promise<Definition[]> {
    const found: Definition[] = [];
    for (const kind of ['topic', 'subscription'] as const) {
      for (const { key, value } of this.#kv.entries(DEFINITIONS, prefixRange(Buffer.of(KIND_BYTE[kind])))) {
        found.push({
          kind,
          name: key.toString('utf8', 1),
          revision: readU64(value, 0),
          body: value.toString('utf8', REVISION_BYTES),
        });
      }
    }
    return found;
  }

  async version(): Promise<number> {
    return this.#version;
  }

  async get(kind: DefinitionKind, name: string): Promise<Definition | undefined> {
    const value = this.#kv.get(DEFINITIONS, definitionKey(kind, name));
    if (value === undefined) return undefined;
    const stored = Buffer.from(value);
    return { kind, name, revision: readU64(stored, 0), body: stored.toString('utf8', REVISION_BYTES) };
  }

  put(
    kind: DefinitionKind,
    name: string,
    body: string,
    expectedRevision: number,
    given?: number,
  ): Promise<number> {
    const next = given ?? expectedRevision + 1;
    const isNew = expectedRevision === 0 && given === undefined;
    const key = definitionKey(kind, name);
    const text = Buffer.from(body);
    return this.#change(key, text.length, isNew, (current) => {
      if (expectedRevision === 0 && current > 0) {
        throw new BrokerError('ALREADY_EXISTS', `${name} exists already`);
      }
      refuseChanged(name, current, expectedRevision);
      const revision = Buffer.allocUnsafe(REVISION_BYTES);
      writeU64(revision, next, 0);
      const op: Op = { table: DEFINITIONS, key, value: Buffer.concat([revision, text]) };
      return { op, revision: next };
    });
  }

  async remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void> {
    const key = definitionKey(kind, name);
    await this.#change(key, 0, false, (current) => {
      refuseChanged(name, current, expectedRevision);
      // An expected revision of 0 is met only by a definition that is not there.
      if (current === 0) throw new BrokerError('ABORTED', `${name} does not exist`);
      return { op: { table: DEFINITIONS, key, value: undefined }, revision: 0 };
    });
  }

  async removals(): Promise<Removals> {
    return { removed: [], forgottenTo: 0 };
  }

  nextIncarnation(above = 0): Promise<number> {
    return this.#kv.commit<number>({
      bytes: REVISION_BYTES,
      needsRoom: true,
      plan: () => {
        this.#lastIncarnation = Math.max(this.#lastIncarnation, above) + 1;
        const value = Buffer.allocUnsafe(REVISION_BYTES);
        writeU64(value, this.#lastIncarnation, 0);
        return { ops: [{ table: META, key: INCARNATION_KEY, value }], result: this.#lastIncarnation };
      },
    });
  }

  #change(
    key: Buffer,
    bytes: number,
    needsRoom: boolean,
    decide: (current: number) => { op: Op; revision: number },
  ) {
    const id = key.toString('latin1');
    return this.#kv.commit<number>({
      bytes: bytes + key.length,
      needsRoom,
      plan: () => {
        const { op, revision } = decide(this.#staged.get(id) ?? this.#revisionOf(key));
        this.#staged.set(id, revision);
        return { ops: [op], result: revision };
      },
      // A batch is applied in one go, so its first change of a name may clear the entry for all of them.
      applied: () => {
        this.#version += 1;
        this.#staged.delete(id);
      },
      failed: () => this.#staged.delete(id),
    });
  }

  #revisionOf(key: Buffer): number {
    const value = this.#kv.get(DEFINITIONS, key);
    return value ? readU64(Buffer.from(value), 0) : 0;
  }
}

function refuseChanged(name: string, current: number, expected: number): void {
  if (current === expected) return;
  const now = current === 0 ? 'it does not exist' : `it is at revision ${current}`;
  throw new BrokerError('ABORTED', `${name} was expected at revision ${expected}, but ${now}: read it again`);
}

function definitionKey(kind: DefinitionKind, name: string): Buffer {
  const key = Buffer.concat([Buffer.of(KIND_BYTE[kind]), Buffer.from(name)]);
  assert(key.length <= MAX_NAME_BYTES, `a definition's name has at most ${MAX_NAME_BYTES} bytes`);
  return key;
}
