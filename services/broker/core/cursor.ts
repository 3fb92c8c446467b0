// How a subscription's progress in one partition is written down: the offset below which everything is
// settled, the settled offsets above it, and how often unsettled messages have been delivered in vain.
//
// Layout: format (1), floor, number of settled intervals, for each the gap before it and its length − 1;
// number of attempt intervals, for each the gap, length − 1 and count. All numbers are varints (LEB128), gaps
// count from the end of the previous interval (the first from floor).
import { BrokerError } from './errors.ts';
import { IntervalMap, IntervalSet } from './intervals.ts';
import { writeVarint } from './wire.ts';

export interface Cursor {
  /** Every offset below is settled. */
  readonly floor: number;
  /** Settled offsets above floor: disjoint, sorted. */
  readonly settled: readonly { first: number; last: number }[];
  /** How many deliveries ended unsettled, for offsets that had any: disjoint, sorted. */
  readonly attempts: readonly { first: number; last: number; value: number }[];
}

const FORMAT = 1;

/** The length of a varint below 2^53, at most. */
const MAX_NUMBER_BYTES = 8;

export function encodeCursor({ floor, settled, attempts }: Cursor): Uint8Array {
  const numbers = 4 + 2 * settled.length + 3 * attempts.length;
  const bytes = new Uint8Array(numbers * MAX_NUMBER_BYTES);
  let at = 0;
  const put = (value: number): void => {
    at = writeVarint(bytes, at, value);
  };
  put(FORMAT);
  put(floor);
  put(settled.length);
  let from = floor;
  for (const { first, last } of settled) {
    put(first - from);
    put(last - first);
    from = last + 1;
  }
  put(attempts.length);
  from = floor;
  for (const { first, last, value } of attempts) {
    put(first - from);
    put(last - first);
    put(value);
    from = last + 1;
  }
  return bytes.slice(0, at);
}

/** FAILED_PRECONDITION on bytes of another format: a record of a newer version, or a damaged store. */
export function decodeCursor(record: Uint8Array): Cursor {
  let at = 0;
  const get = (): number => {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = record[at];
      if (byte === undefined) throw damaged('it ends early');
      at += 1;
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER || scale > Number.MAX_SAFE_INTEGER)
        throw damaged('a number is beyond 2^53');
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  };
  const format = get();
  if (format !== FORMAT) throw damaged(`its format is ${format}, known is ${FORMAT}`);
  const floor = get();
  const settled: { first: number; last: number }[] = [];
  let from = floor;
  for (let left = get(); left > 0; left -= 1) {
    const first = from + get();
    const last = first + get();
    settled.push({ first, last });
    from = last + 1;
  }
  const attempts: { first: number; last: number; value: number }[] = [];
  from = floor;
  for (let left = get(); left > 0; left -= 1) {
    const first = from + get();
    const last = first + get();
    attempts.push({ first, last, value: get() });
    from = last + 1;
  }
  if (at !== record.length) throw damaged('there is more behind its end');
  if (Math.max(from, settled.at(-1)?.last ?? 0) > Number.MAX_SAFE_INTEGER)
    throw damaged('an offset is beyond 2^53');
  return { floor, settled, attempts };
}

/** What the cursor says of the offsets below `end`. */
export function cursorBelow({ floor, settled, attempts }: Cursor, end: number): Cursor {
  const cut = <T extends { first: number; last: number }>(all: readonly T[]): T[] =>
    all.filter(({ first }) => first < end).map((each) => ({ ...each, last: Math.min(each.last, end - 1) }));
  return { floor: Math.min(floor, end), settled: cut(settled), attempts: cut(attempts) };
}

/**
 * Two cursors of the same log as one: what is settled in either is settled, and of deliveries in vain the
 * greater count is right.
 */
export function joinCursors(a: Cursor, b: Cursor): Cursor {
  const settled = new IntervalSet();
  const attempts = new IntervalMap<number>();
  for (const { floor, settled: own } of [a, b]) {
    if (floor > 0) settled.add(0, floor - 1);
    for (const { first, last } of own) settled.add(first, last);
  }
  for (const { first, last, value } of [...a.attempts, ...b.attempts]) {
    for (const before of attempts.cut(first, last))
      attempts.insert(before.first, before.last, Math.max(before.value, value));
    for (const gap of attempts.gaps(first, last)) attempts.insert(gap.first, gap.last, value);
  }
  for (const { first, last } of settled) attempts.cut(first, last);
  const [lowest, ...others] = settled;
  if (lowest?.first !== 0) return { floor: 0, settled: [...settled], attempts: [...attempts] };
  return { floor: lowest.last + 1, settled: others, attempts: [...attempts] };
}

function damaged(why: string): BrokerError {
  return new BrokerError(
    'FAILED_PRECONDITION',
    `a stored cursor cannot be read: ${why}. Was the data written by a newer version?`,
  );
}
