// Topics and subscriptions as defined by users. Called by engine/definitions.ts only.
//
// A document is opaque JSON text here (core/definitions.ts knows what is in it). Compare-and-set by revision: of two
// writers one loses and says so.

export type DefinitionKind = 'topic' | 'subscription';

export interface Definition {
  readonly kind: DefinitionKind;
  /** projects/{project}/topics/{id} and the like. */
  readonly name: string;
  /** Rises by 1 with each change, from 1. */
  readonly revision: number;
  readonly body: string;
}

export interface DefinitionStore {
  /** All of them, in no particular order. */
  list(): Promise<Definition[]>;

  /** A number that is another one after every put and remove. Cheap, unlike list. */
  version(): Promise<number>;

  get(kind: DefinitionKind, name: string): Promise<Definition | undefined>;

  /**
   * Creates (expectedRevision 0) or replaces, durably, and returns the new revision. ALREADY_EXISTS: expectedRevision
   * is 0 and there is one. ABORTED: it is not at expectedRevision (changed or deleted meanwhile). RESOURCE_EXHAUSTED: the
   * store is full and it would be a new one.
   */
  put(kind: DefinitionKind, name: string, body: string, expectedRevision: number): Promise<number>;

  /** Deletes, durably. ABORTED: it is not at expectedRevision. */
  remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void>;

  /** A number that this store never gave before and never will again, from 1 on: for logEpoch and incarnation. Durable. */
  nextIncarnation(): Promise<number>;
}
