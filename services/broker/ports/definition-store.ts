// Topics and subscriptions as defined by users, and what of them was deleted lately.
//
// A document is opaque JSON text here (core/definition-codec.ts knows what is in it). Compare-and-set by revision: of two
// writers one loses and says so. What is not there was either removed, and then `removals` tells of it, or the store has
// forgotten it (a failover that lost its last writes): only the first means that it was deleted.

export type DefinitionKind = 'topic' | 'subscription';

export interface Definition {
  readonly kind: DefinitionKind;
  /** projects/{project}/topics/{id} and the like. */
  readonly name: string;
  /** Rises with each change; 1 at first. */
  readonly revision: number;
  readonly body: string;
}

export interface Removals {
  /** What was removed, as it was then; in no particular order. */
  readonly removed: readonly Definition[];
  /** Of what was removed up to this version some is not remembered any more. 0: everything is. */
  readonly forgottenTo: number;
}

/** So long is remembered what was removed, */
export const REMEMBERED_MS = 3_600_000;
/** and of so many definitions at most. */
export const MAX_REMEMBERED = 4_096;

export interface DefinitionStore {
  /** All of them, in no particular order. */
  list(): Promise<Definition[]>;

  /**
   * A number that is another one after every put and remove, and a greater one as long as the store does not go back. Cheap,
   * unlike list.
   */
  version(): Promise<number>;

  get(kind: DefinitionKind, name: string): Promise<Definition | undefined>;

  /**
   * Creates (expectedRevision 0) or replaces, durably, and returns the new revision: the next one, or, for what is brought back
   * because the store had forgotten it, the one that is given, which is greater than the expected one. ALREADY_EXISTS:
   * expectedRevision is 0 and there is one. ABORTED: it is not at expectedRevision (changed or deleted meanwhile).
   * RESOURCE_EXHAUSTED: the store is full and it would be a new one. UNAVAILABLE: the outcome is unknown.
   */
  put(
    kind: DefinitionKind,
    name: string,
    body: string,
    expectedRevision: number,
    revision?: number,
  ): Promise<number>;

  /**
   * Deletes, durably, and notes for `removals` what was deleted, both or neither. ABORTED: it is not at expectedRevision.
   * UNAVAILABLE: the outcome is unknown.
   */
  remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void>;

  /**
   * What was removed in the last REMEMBERED_MS, at least the newest MAX_REMEMBERED. A store that serves one broker and never goes
   * back remembers nothing: nobody needs to be told.
   */
  removals(): Promise<Removals>;

  /**
   * A number above the given one (default 0) that this store never gave before and never will again: for logEpoch and
   * incarnation. Durable.
   */
  nextIncarnation(above?: number): Promise<number>;
}
