// Topics and subscriptions as defined by users, and which of them were deleted lately.
//
// A document is opaque JSON text here (core/definition-codec.ts knows what is in it). Writes compare and set
// by revision: of two writers one loses and is told. A definition that is not there was either removed, and
// then `removals` tells of it, or the store has forgotten it (a failover that lost its last writes): only the
// first means that it was deleted.

export type DefinitionKind = 'topic' | 'subscription';

export interface Definition {
  readonly kind: DefinitionKind;
  /** projects/{project}/topics/{id} and the like. */
  readonly name: string;
  /** Rises with each change, from 1. */
  readonly revision: number;
  readonly body: string;
}

export interface Removals {
  /** The removed definitions as they were then, in no particular order. */
  readonly removed: readonly Definition[];
  /** Removals up to this version of the store may not be remembered any more. 0: all are. */
  readonly forgottenTo: number;
}

/** How long a removal is remembered. */
export const REMEMBERED_MS = 3_600_000;
/** How many removals are remembered, the newest. */
export const MAX_REMEMBERED = 4_096;
/**
 * How many of them, the newest, whatever their age: the store's clock may be set by years, and must not take
 * from brokers what happened a moment ago.
 */
export const MIN_REMEMBERED = 256;

export interface DefinitionStore {
  /** All definitions, in no particular order. */
  list(): Promise<Definition[]>;

  /**
   * A number that is different after every put and remove, and greater unless the store has gone back. Cheap,
   * unlike list.
   */
  version(): Promise<number>;

  get(kind: DefinitionKind, name: string): Promise<Definition | undefined>;

  /**
   * Creates (expectedRevision 0) or replaces, durably, and returns the new revision: the next one, or
   * `revision` where it is given. It is given, and greater than the expected one, for a definition that the
   * store had forgotten and that is brought back. ALREADY_EXISTS: expectedRevision is 0 and there is one.
   * ABORTED: it is not at expectedRevision (changed or deleted meanwhile). RESOURCE_EXHAUSTED: the store is
   * full and it would be a new one. UNAVAILABLE: the outcome is unknown.
   */
  put(
    kind: DefinitionKind,
    name: string,
    body: string,
    expectedRevision: number,
    revision?: number,
  ): Promise<number>;

  /**
   * Deletes the definition and notes it for `removals`, both or neither, durably. ABORTED: it is not at
   * expectedRevision. UNAVAILABLE: the outcome is unknown.
   */
  remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void>;

  /**
   * What was removed in the last REMEMBERED_MS, of more than MAX_REMEMBERED the newest, and the newest
   * MIN_REMEMBERED in any case; it may tell of older removals, too. A store that serves one broker and never
   * goes back remembers nothing: nobody needs to be told.
   */
  removals(): Promise<Removals>;

  /**
   * A number above the given one (default 0) that this store never gave before and never will again: the
   * logEpoch of a topic or the incarnation of a subscription. Durable.
   */
  nextIncarnation(above?: number): Promise<number>;
}
