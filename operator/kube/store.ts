// The local copy of one kind of object. What it hands out is frozen and shared. Indexes follow every write.
// Several reflectors may share a store if each has a scope (a namespace) of its own.
//
// Invariant: after replace(scope) the scope holds exactly the given objects; after apply() it differs by one
// object.
import { deepFreeze, type KubeObject, keyOf } from './objects.ts';

/**
 * What happened to an object. A deletion that nobody reported is found at the next list, and reported then.
 */
export interface Change<T extends KubeObject> {
  readonly key: string;
  readonly type: 'added' | 'updated' | 'deleted';
  /** The object as it is now; if deleted, as it was last seen. */
  readonly object: T;
  readonly previous: T | undefined;
  /** It came with a list, not as news: reconcile it after what is new. */
  readonly listed: boolean;
}

/** The values under which an object is to be found. */
export type Index<T> = (object: T) => readonly string[];

export class ObjectStore<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<string, { readonly of: Index<T>; readonly keys: Map<string, Set<string>> }>();
  readonly #onChange: (change: Change<T>) => void;

  constructor(indexes: Readonly<Record<string, Index<T>>>, onChange: (change: Change<T>) => void) {
    for (const [name, of] of Object.entries(indexes)) this.#indexes.set(name, { of, keys: new Map() });
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  /** All objects, or those of one namespace. */
  list(namespace?: string): T[] {
    const all = [...this.#objects.values()];
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** The objects that the index of that name files under the value. An unknown index is a bug and throws. */
  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (index === undefined) throw new TypeError(`this informer has no index ${name}`);
    return [...(index.keys.get(value) ?? [])].map((key) => this.#objects.get(key)!);
  }

  /**
   * Makes `objects` the whole content of a scope: a namespace, or everything. Reports what is new, changed
   * and gone.
   */
  replace(scope: string | undefined, objects: readonly T[]): void {
    const gone = new Map<string, T>();
    for (const [key, object] of this.#objects) {
      if (scope === undefined || object.metadata.namespace === scope) gone.set(key, object);
    }
    for (const object of objects) {
      const key = keyOf(object);
      gone.delete(key);
      const known = this.#objects.get(key);
      if (known === undefined || !sameVersion(known, object)) this.#set(key, object, true);
    }
    for (const key of gone.keys()) this.#delete(key, undefined, true);
  }

  /** Applies one event of a watch. */
  apply(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T): void {
    const key = keyOf(object);
    if (type === 'DELETED') this.#delete(key, object, false);
    else this.#set(key, object, false);
  }

  #set(key: string, fresh: T, listed: boolean): void {
    const object = deepFreeze(fresh);
    const previous = this.#objects.get(key);
    if (previous !== undefined) this.#unfile(key, previous);
    this.#objects.set(key, object);
    for (const { of, keys } of this.#indexes.values()) {
      for (const value of of(object)) keys.set(value, (keys.get(value) ?? new Set()).add(key));
    }
    this.#onChange({ key, type: previous === undefined ? 'added' : 'updated', object, previous, listed });
  }

  #delete(key: string, last: T | undefined, listed: boolean): void {
    const previous = this.#objects.get(key);
    if (previous === undefined) return;
    this.#unfile(key, previous);
    this.#objects.delete(key);
    const object = last === undefined ? previous : deepFreeze(last);
    this.#onChange({ key, type: 'deleted', object, previous, listed });
  }

  #unfile(key: string, object: T): void {
    for (const { of, keys } of this.#indexes.values()) {
      for (const value of of(object)) {
        const filed = keys.get(value);
        filed?.delete(key);
        if (filed?.size === 0) keys.delete(value);
      }
    }
  }
}

/** A recreated object has another uid, whatever its version says. */
function sameVersion(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.resourceVersion === b.metadata.resourceVersion && a.metadata.uid === b.metadata.uid;
}
