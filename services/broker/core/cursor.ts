// How a subscription's progress in one partition is written down: the offset below which everything is settled, the
// settled offsets above it, and how often unsettled messages have been delivered in vain. Used by delivery.ts; the
// stores keep the bytes unread.
//
// Layout: format (1), floor, number of settled intervals, for each the gap before it and its length − 1; number of attempt
// intervals, for each the gap, length − 1 and count. All numbers are varints (LEB128), gaps count from the end of the
// previous interval (the first from floor).
import { BrokerError } from './errors.ts';

export interface Cursor {
  /** Everything below is settled. */
  readonly floor: number;
  /** Settled above floor: disjoint, sorted. */
  readonly settled: readonly { first: number; last: number }[];
  /** Deliveries that ended unsettled, for offsets that had any: disjoint, sorted. */
  readonly attempts: readonly { first: number; last: number; value: number }[];
}

const FORMAT = 1;

export function encodeCursor(cursor: Cursor): Uint8Array {
  const bytes: number[] = [FORMAT];
  putVarint(bytes, cursor.floor);
  putVarint(bytes, cursor.settled.length);
  let from = cursor.floor;
  for (const { first, last } of cursor.settled) {
    putVarint(bytes, first - from);
    putVarint(bytes, last - first);
    from = last + 1;
  }
  putVarint(bytes, cursor.attempts.length);
  from = cursor.floor;
  for (const { first, last, value } of cursor.attempts) {
    putVarint(bytes, first - from);
    putVarint(bytes, last - first);
    putVarint(bytes, value);
    from = last + 1;
  }
  return Uint8Array.from(bytes);
}

/** Throws FAILED_PRECONDITION on bytes of another format: a record from a newer version, or a damaged store. */
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

function damaged(why: string): BrokerError {
  return new BrokerError(
    'FAILED_PRECONDITION',
    `a stored cursor cannot be read: ${why}. Was the data written by a newer version?`,
  );
}

function putVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
}
