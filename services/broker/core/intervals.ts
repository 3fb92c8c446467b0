// Sets and maps of offsets, kept as sorted disjoint intervals with both ends included: so a chunk of a
// thousand messages costs one entry.
//
// A set is two plain sorted arrays with binary search: nearly all work happens at either end, and callers
// bound the number of intervals, so that a splice in the middle is a short move of memory. A map can have
// more intervals: see there.

export interface Interval {
  readonly first: number;
  readonly last: number;
}

export class IntervalSet {
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];
  #count = 0;

  /** How many intervals there are. */
  get length(): number {
    return this.#firsts.length;
  }

  /** How many offsets there are. */
  get count(): number {
    return this.#count;
  }

  /** Adds first..last and returns how many of them are new. Adjacent intervals become one. */
  add(first: number, last: number): number {
    // [from, to) are the intervals that overlap or touch first..last.
    const from = lowerBound(this.#lasts, first - 1);
    let to = from;
    let known = 0;
    let newFirst = first;
    let newLast = last;
    while (to < this.#firsts.length && this.#firsts[to]! <= last + 1) {
      const f = this.#firsts[to]!;
      const l = this.#lasts[to]!;
      known += Math.max(0, Math.min(l, last) - Math.max(f, first) + 1);
      newFirst = Math.min(newFirst, f);
      newLast = Math.max(newLast, l);
      to += 1;
    }
    if (to === from + 1) {
      this.#firsts[from] = newFirst;
      this.#lasts[from] = newLast;
    } else {
      this.#firsts.splice(from, to - from, newFirst);
      this.#lasts.splice(from, to - from, newLast);
    }
    const added = last - first + 1 - known;
    this.#count += added;
    return added;
  }

  /** Removes first..last and returns how many of them were in the set. */
  remove(first: number, last: number): number {
    const from = lowerBound(this.#lasts, first);
    let to = from;
    let removed = 0;
    const keptFirsts: number[] = [];
    const keptLasts: number[] = [];
    while (to < this.#firsts.length && this.#firsts[to]! <= last) {
      const f = this.#firsts[to]!;
      const l = this.#lasts[to]!;
      if (f < first) {
        keptFirsts.push(f);
        keptLasts.push(first - 1);
      }
      if (l > last) {
        keptFirsts.push(last + 1);
        keptLasts.push(l);
      }
      removed += Math.min(l, last) - Math.max(f, first) + 1;
      to += 1;
    }
    if (to > from) {
      this.#firsts.splice(from, to - from, ...keptFirsts);
      this.#lasts.splice(from, to - from, ...keptLasts);
    }
    this.#count -= removed;
    return removed;
  }

  has(offset: number): boolean {
    const at = lowerBound(this.#lasts, offset);
    return at < this.#firsts.length && this.#firsts[at]! <= offset;
  }

  /** The lowest interval; undefined if empty. */
  lowest(): Interval | undefined {
    return this.length === 0 ? undefined : { first: this.#firsts[0]!, last: this.#lasts[0]! };
  }

  /** The highest interval; undefined if empty. */
  highest(): Interval | undefined {
    const at = this.length - 1;
    return at < 0 ? undefined : { first: this.#firsts[at]!, last: this.#lasts[at]! };
  }

  /** The first interval that ends at or after offset; it may begin before. Undefined: there is none. */
  atOrAfter(offset: number): Interval | undefined {
    const at = lowerBound(this.#lasts, offset);
    return at === this.#firsts.length ? undefined : { first: this.#firsts[at]!, last: this.#lasts[at]! };
  }

  /** The parts of first..last that are in the set, in order. */
  within(first: number, last: number): Interval[] {
    const found: Interval[] = [];
    for (let at = lowerBound(this.#lasts, first); at < this.#firsts.length; at += 1) {
      const f = this.#firsts[at]!;
      if (f > last) break;
      found.push({ first: Math.max(f, first), last: Math.min(this.#lasts[at]!, last) });
    }
    return found;
  }

  /** The parts of first..last that are not in the set, in order. */
  gaps(first: number, last: number): Interval[] {
    const found: Interval[] = [];
    let from = first;
    for (let at = lowerBound(this.#lasts, first); at < this.#firsts.length; at += 1) {
      const f = this.#firsts[at]!;
      if (f > last) break;
      if (f > from) found.push({ first: from, last: f - 1 });
      from = Math.max(from, this.#lasts[at]! + 1);
    }
    if (from <= last) found.push({ first: from, last });
    return found;
  }

  *[Symbol.iterator](): IterableIterator<Interval> {
    for (let at = 0; at < this.#firsts.length; at += 1) {
      yield { first: this.#firsts[at]!, last: this.#lasts[at]! };
    }
  }
}

export interface Piece<V> extends Interval {
  readonly value: V;
}

/** How a value is split when its interval is cut: the value of a part with `part` of `whole` offsets. */
export type Share<V> = (value: V, part: number, whole: number) => V;

/** How many pieces a block has, at most. */
const BLOCK = 256;

/**
 * Disjoint intervals with a value each. Intervals that touch stay apart, so that there can be as many as
 * outstanding messages: they lie in blocks, and a change moves at most the rest of its block.
 */
export class IntervalMap<V> {
  /** The blocks in order, none of them empty. */
  #blocks: Piece<V>[][] = [];
  readonly #share: Share<V>;
  #length = 0;
  #count = 0;

  constructor(share: Share<V> = (value) => value) {
    this.#share = share;
  }

  get length(): number {
    return this.#length;
  }

  get count(): number {
    return this.#count;
  }

  /** Adds first..last, of which nothing may be in the map yet. */
  insert(first: number, last: number, value: V): void {
    this.#length += 1;
    this.#count += last - first + 1;
    const piece = { first, last, value };
    // A piece behind all others goes to the end of the last block.
    const at = Math.min(this.#blockAt(first), Math.max(0, this.#blocks.length - 1));
    const block = this.#blocks[at];
    if (block === undefined) this.#blocks.push([piece]);
    else if (block.at(-1)!.last < first) {
      if (block.length < BLOCK) block.push(piece);
      else this.#blocks.push([piece]);
    } else {
      block.splice(indexAt(block, first), 0, piece);
      if (block.length > BLOCK) this.#blocks.splice(at + 1, 0, block.splice(BLOCK / 2));
    }
  }

  /** Takes first..last out of the map and returns what was there, in order. */
  cut(first: number, last: number): Piece<V>[] {
    const removed: Piece<V>[] = [];
    const start = this.#blockAt(first);
    let emptied = 0;
    let firstEmptied = start;
    for (let at = start; at < this.#blocks.length; at += 1) {
      const block = this.#blocks[at]!;
      if (block[0]!.first > last) break;
      this.#cutBlock(block, first, last, removed);
      if (block.length > 0) continue;
      if (emptied === 0) firstEmptied = at;
      emptied += 1;
    }
    if (emptied > 0) this.#blocks.splice(firstEmptied, emptied);
    if (removed.length > 0) this.#mergeAt(start);
    return removed;
  }

  #cutBlock(block: Piece<V>[], first: number, last: number, removed: Piece<V>[]): void {
    const from = indexAt(block, first);
    let to = from;
    const kept: Piece<V>[] = [];
    for (; to < block.length && block[to]!.first <= last; to += 1) {
      const piece = block[to]!;
      const cutFirst = Math.max(piece.first, first);
      const cutLast = Math.min(piece.last, last);
      this.#count -= cutLast - cutFirst + 1;
      removed.push(this.#part(piece, cutFirst, cutLast));
      if (piece.first < first) kept.push(this.#part(piece, piece.first, first - 1));
      if (piece.last > last) kept.push(this.#part(piece, last + 1, piece.last));
    }
    if (to === from) return;
    block.splice(from, to - from, ...kept);
    this.#length += kept.length - (to - from);
  }

  #part(piece: Piece<V>, first: number, last: number): Piece<V> {
    const part = last - first + 1;
    const whole = piece.last - piece.first + 1;
    return part === whole ? piece : { first, last, value: this.#share(piece.value, part, whole) };
  }

  /** Makes small neighbours one block, or cuts in the middle would leave a block for every piece. */
  #mergeAt(at: number): void {
    const block = this.#blocks[at];
    const next = this.#blocks[at + 1];
    if (block === undefined || next === undefined || block.length + next.length > BLOCK / 2) return;
    this.#blocks.splice(at, 2, block.concat(next));
  }

  /** Takes the pieces for which `chosen` holds out of the map and returns them, in order, in one pass. */
  takeOut(chosen: (piece: Piece<V>) => boolean): Piece<V>[] {
    const removed: Piece<V>[] = [];
    const blocks: Piece<V>[][] = [];
    for (const block of this.#blocks) {
      const kept: Piece<V>[] = [];
      for (const piece of block) (chosen(piece) ? removed : kept).push(piece);
      if (kept.length > 0) blocks.push(kept);
    }
    this.#blocks = blocks;
    this.#length -= removed.length;
    for (const { first, last } of removed) this.#count -= last - first + 1;
    return removed;
  }

  /** The highest piece; undefined if empty. */
  highest(): Piece<V> | undefined {
    return this.#blocks.at(-1)?.at(-1);
  }

  /** The pieces that end at or after offset, whole, in order. The map must not change meanwhile. */
  *from(offset: number): IterableIterator<Piece<V>> {
    for (let at = this.#blockAt(offset); at < this.#blocks.length; at += 1) {
      const block = this.#blocks[at]!;
      for (let i = indexAt(block, offset); i < block.length; i += 1) yield block[i]!;
    }
  }

  /** The pieces that overlap first..last, whole, in order. */
  overlapping(first: number, last: number): Piece<V>[] {
    const found: Piece<V>[] = [];
    for (const piece of this.from(first)) {
      if (piece.first > last) break;
      found.push(piece);
    }
    return found;
  }

  /** The parts of first..last that are not in the map, in order. */
  gaps(first: number, last: number): Interval[] {
    const gaps: Interval[] = [];
    let from = first;
    for (const piece of this.from(first)) {
      if (piece.first > last) break;
      if (piece.first > from) gaps.push({ first: from, last: piece.first - 1 });
      from = piece.last + 1;
    }
    if (from <= last) gaps.push({ first: from, last });
    return gaps;
  }

  [Symbol.iterator](): IterableIterator<Piece<V>> {
    return this.from(Number.NEGATIVE_INFINITY);
  }

  /** The index of the first block that ends at or after offset. */
  #blockAt(offset: number): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#blocks[middle]!.at(-1)!.last < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The index of the first piece that ends at or after offset. */
function indexAt(block: readonly Interval[], offset: number): number {
  let low = 0;
  let high = block.length;
  if (high === 0 || block[0]!.last >= offset) return 0;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (block[middle]!.last < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The index of the first element that is at least `value`. */
function lowerBound(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  // Most look-ups are for the front: answer those without a search.
  if (high === 0 || sorted[0]! >= value) return 0;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
