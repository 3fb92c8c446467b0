// The note that the owner of a partition leaves for the next one when it gives the partition up: what is
// outstanding at consumers, so that nothing of it is delivered again just because the owner has changed.
//
// Layout: JSON [format, [[incarnation, [gap, length − 1, deadline, bytes, consumer hash, key hash, …]], …]].
// Gaps count from the end of the interval before, deadlines are milliseconds from the hand-over on: the
// clocks of two brokers have nothing in common.
import type { FormerLease } from './delivery-events.ts';
import { BrokerError } from './errors.ts';

/** The outstanding messages of one subscription. */
export interface HandedOver {
  readonly incarnation: number;
  /** Sorted by offset; their deadlineMs count from the hand-over on. */
  readonly leases: readonly FormerLease[];
}

const FORMAT = 1;
/**
 * Intervals in a note (with ordering mostly one for each message): as many as four subscriptions can have.
 * Each takes 60 bytes at most, so a note stays below 16 MiB. What is beyond is delivered again, subscriptions
 * without ordering first.
 */
export const MAX_HANDED_OVER = 240_000;
/** How many numbers an interval takes. */
const WIDTH = 6;

export function encodeHandOver(subscriptions: readonly HandedOver[]): Uint8Array {
  const rows: [number, number[]][] = [];
  let left = MAX_HANDED_OVER;
  for (const { incarnation, leases } of [...subscriptions].sort(byOrdering)) {
    const numbers: number[] = [];
    let from = 0;
    for (const { first, last, deadlineMs, bytes, consumerHash, keyHash } of leases.slice(0, left)) {
      const remainingMs = Math.max(0, Math.round(deadlineMs));
      numbers.push(first - from, last - first, remainingMs, Math.round(bytes), consumerHash, keyHash);
      from = last + 1;
    }
    left -= numbers.length / WIDTH;
    if (numbers.length > 0) rows.push([incarnation, numbers]);
  }
  return Buffer.from(JSON.stringify([FORMAT, rows]));
}

/** Subscriptions with keys come first: a key whose leases are left out would be at two consumers at once. */
function byOrdering(a: HandedOver, b: HandedOver): number {
  const hasKeys = ({ leases }: HandedOver): boolean => leases.some(({ keyHash }) => keyHash !== 0);
  return Number(hasKeys(b)) - Number(hasKeys(a));
}

/** FAILED_PRECONDITION: the note has another format. */
export function decodeHandOver(note: Uint8Array): HandedOver[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(note).toString());
  } catch (cause) {
    throw unreadable(cause);
  }
  const [format, rows] = parsed as [number, [number, number[]][]];
  if (format !== FORMAT) throw unreadable(`its format is ${format}, known is ${FORMAT}`);
  return rows.map(([incarnation, numbers]) => {
    const leases: FormerLease[] = [];
    let from = 0;
    for (let at = 0; at + WIDTH <= numbers.length; at += WIDTH) {
      const [gap, length, deadlineMs, bytes, consumerHash, keyHash] = numbers.slice(at, at + WIDTH);
      const first = from + gap!;
      const last = first + length!;
      leases.push({
        first,
        last,
        deadlineMs: deadlineMs!,
        bytes: bytes!,
        consumerHash: consumerHash!,
        keyHash: keyHash!,
      });
      from = last + 1;
    }
    return { incarnation, leases };
  });
}

function unreadable(cause: unknown): BrokerError {
  return new BrokerError(
    'FAILED_PRECONDITION',
    `the note of a partition's former owner cannot be read: ${cause}`,
    {
      cause,
    },
  );
}
