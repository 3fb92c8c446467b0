// Which incarnations of topics and subscriptions were deleted for good, as far as this broker remembers: by
// the store's word, and by its own doing. A store that went back may have forgotten a deletion that the
// broker remembers; one that has forgotten old ones on purpose says so.
//
// Invariant: what is remembered never becomes wrong, as an incarnation is a number that is given once. It is
// bounded only for the memory.
import type { Removals } from '../../ports/definition-store.ts';

/** More than the store remembers: what it has lost, the brokers delete once more. */
const MAX_REMEMBERED = 20_000;

export class RemovalMemory {
  /** The oldest first. */
  readonly #incarnations = new Set<number>();
  #forgottenTo = 0;
  #seenTo = 0;

  has(incarnation: number): boolean {
    return this.#incarnations.has(incarnation);
  }

  add(incarnation: number): void {
    this.#incarnations.delete(incarnation);
    this.#incarnations.add(incarnation);
    if (this.#incarnations.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#incarnations;
    this.#incarnations.delete(oldest!);
  }

  learn({ forgottenTo }: Removals, incarnations: Iterable<number>): void {
    this.#forgottenTo = forgottenTo;
    for (const incarnation of incarnations) if (!this.has(incarnation)) this.add(incarnation);
  }

  /** All definitions and removals were seen as of this version of the store. */
  sawAll(version: number): void {
    this.#seenTo = version;
  }

  /** Whether the store has forgotten no removal that came after the last sawAll. */
  get isComplete(): boolean {
    return this.#forgottenTo <= this.#seenTo;
  }
}
