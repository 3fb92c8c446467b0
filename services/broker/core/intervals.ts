// Sets and maps of offsets, kept as sorted disjoint intervals with both ends included: what makes a chunk of a thousand
// messages cost one entry. Used by delivery.ts and what it is made of.
//
// Plain sorted arrays with binary search: nearly all work happens at either end, and the callers bound the number of
// intervals, so that a splice in the middle is a short move of memory.

export interface Interval {
  readonly first: number;
  readonly last: number;
}

export class IntervalSet {
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];
  #count = 0;

  /** How many intervals. */
  get length(): number {
    return this.#firsts.length;
  }

  /** How many offsets. */
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

  /** The first interval that ends at or after offset; undefined if there is none. It may begin before offset. */
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

/** How a value is shared when its interval is cut: the value of the part with `part` of `whole` offsets. */
export type Share<V> = (value: V, part: number, whole: number) => V;

/** Disjoint intervals with a value each. Intervals that touch stay apart. */
export class IntervalMap<V> {
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];
  readonly #values: V[] = [];
  readonly #share: Share<V>;
  #count = 0;

  constructor(share: Share<V> = (value) => value) {
    this.#share = share;
  }

  get length(): number {
    return this.#firsts.length;
  }

  get count(): number {
    return this.#count;
  }

  /** first..last must not be in the map yet. */
  insert(first: number, last: number, value: V): void {
    this.#count += last - first + 1;
    const end = this.#firsts.length;
    if (end === 0 || this.#lasts[end - 1]! < first) {
      this.#firsts.push(first);
      this.#lasts.push(last);
      this.#values.push(value);
      return;
    }
    const at = lowerBound(this.#lasts, first);
    this.#firsts.splice(at, 0, first);
    this.#lasts.splice(at, 0, last);
    this.#values.splice(at, 0, value);
  }

  /** Takes first..last out of the map and returns what was there, in order. */
  cut(first: number, last: number): Piece<V>[] {
    const removed: Piece<V>[] = [];
    const from = lowerBound(this.#lasts, first);
    let to = from;
    const kept: Piece<V>[] = [];
    while (to < this.#firsts.length && this.#firsts[to]! <= last) {
      const f = this.#firsts[to]!;
      const l = this.#lasts[to]!;
      const value = this.#values[to]!;
      const whole = l - f + 1;
      const cutFirst = Math.max(f, first);
      const cutLast = Math.min(l, last);
      removed.push(
        cutFirst === f && cutLast === l
          ? { first: f, last: l, value }
          : { first: cutFirst, last: cutLast, value: this.#share(value, cutLast - cutFirst + 1, whole) },
      );
      if (f < first) kept.push({ first: f, last: first - 1, value: this.#share(value, first - f, whole) });
      if (l > last) kept.push({ first: last + 1, last: l, value: this.#share(value, l - last, whole) });
      this.#count -= cutLast - cutFirst + 1;
      to += 1;
    }
    if (to > from) {
      this.#firsts.splice(from, to - from, ...kept.map((piece) => piece.first));
      this.#lasts.splice(from, to - from, ...kept.map((piece) => piece.last));
      this.#values.splice(from, to - from, ...kept.map((piece) => piece.value));
    }
    return removed;
  }

  /** Takes the pieces out of the map for which `chosen` holds and returns them, in order. One pass, however many. */
  takeOut(chosen: (piece: Piece<V>) => boolean): Piece<V>[] {
    const removed: Piece<V>[] = [];
    let kept = 0;
    for (let at = 0; at < this.#firsts.length; at += 1) {
      const piece = { first: this.#firsts[at]!, last: this.#lasts[at]!, value: this.#values[at]! };
      if (chosen(piece)) {
        removed.push(piece);
        this.#count -= piece.last - piece.first + 1;
        continue;
      }
      this.#firsts[kept] = piece.first;
      this.#lasts[kept] = piece.last;
      this.#values[kept] = piece.value;
      kept += 1;
    }
    this.#firsts.length = kept;
    this.#lasts.length = kept;
    this.#values.length = kept;
    return removed;
  }

  /** The highest piece; undefined if empty. */
  highest(): Piece<V> | undefined {
    const at = this.length - 1;
    return at < 0
      ? undefined
      : { first: this.#firsts[at]!, last: this.#lasts[at]!, value: this.#values[at]! };
  }

  /** The pieces that end at or after offset, whole, in order. The map must not change meanwhile. */
  *from(offset: number): IterableIterator<Piece<V>> {
    for (let at = lowerBound(this.#lasts, offset); at < this.#firsts.length; at += 1) {
      yield { first: this.#firsts[at]!, last: this.#lasts[at]!, value: this.#values[at]! };
    }
  }

  /** The pieces that overlap first..last, whole, in order. */
  overlapping(first: number, last: number): Piece<V>[] {
    const found: Piece<V>[] = [];
    for (let at = lowerBound(this.#lasts, first); at < this.#firsts.length; at += 1) {
      if (this.#firsts[at]! > last) break;
      found.push({ first: this.#firsts[at]!, last: this.#lasts[at]!, value: this.#values[at]! });
    }
    return found;
  }

  *[Symbol.iterator](): IterableIterator<Piece<V>> {
    for (let at = 0; at < this.#firsts.length; at += 1) {
      yield { first: this.#firsts[at]!, last: this.#lasts[at]!, value: this.#values[at]! };
    }
  }
}

/** The index of the first element that is at least `value`. */
function lowerBound(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  // Most look-ups are for the front: settle those without a search.
  if (high === 0 || sorted[0]! >= value) return 0;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
