// An informer's object, or what our own last write returned while the informer has not seen it yet: so that a
// controller does not act on a state that it has changed itself.
import type { Informer } from '../kube/informer.ts';
import { compareVersions, deepFreeze, type KubeObject, keyOf } from '../kube/objects.ts';

export class Latest<T extends KubeObject> {
  readonly #informer: Informer<T>;
  readonly #noted = new Map<string, T>();

  constructor(informer: Informer<T>) {
    this.#informer = informer;
    informer.onChange(({ key, object, type }) => {
      const noted = this.#noted.get(key);
      if (noted !== undefined && (type === 'deleted' || !isNewer(noted, object))) this.#noted.delete(key);
    });
  }

  get(key: string): T | undefined {
    return this.#noted.get(key) ?? this.#informer.get(key);
  }

  /** Takes note of what a write returned, and returns it. */
  note(object: T): T {
    const key = keyOf(object);
    const cached = this.#informer.get(key);
    if (cached !== undefined && isNewer(object, cached)) this.#noted.set(key, deepFreeze(object));
    return object;
  }
}

function isNewer(a: KubeObject, b: KubeObject): boolean {
  if (a.metadata.uid !== b.metadata.uid) return false;
  return (compareVersions(a.metadata.resourceVersion, b.metadata.resourceVersion) ?? 0) > 0;
}
