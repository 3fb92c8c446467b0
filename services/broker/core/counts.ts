// How many there are of each: connections of an address, bytes of a principal, topics of a project.
// Invariant: what there is none of is not kept, so that it takes no more memory than there are keys in use.
export class Counts {
  readonly #counts = new Map<string, number>();

  of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  /** Adds so many, or takes them away. Returns the new count. */
  add(key: string, more: number): number {
    const count = this.of(key) + more;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
    return count;
  }

  [Symbol.iterator](): IterableIterator<[string, number]> {
    return this.#counts.entries();
  }
}
