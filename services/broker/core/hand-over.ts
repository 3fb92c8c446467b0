// The note that the owner of a partition leaves for the next one when it gives the partition up: what is
// outstanding at consumers, so that nothing of it is delivered again just because the owner has changed.
//
// Layout: JSON [format, [[incarnation, leases, holders], …]]; leases: [gap, length − 1, deadline, bytes,
// holder, key hash, …], holders: [[hash, stream], …], of which a lease names one by its index. Gaps count
// from the end of the interval before, deadlines are milliseconds from the hand-over on: the clocks of two
// brokers have nothing in common.
//
// Format 1 had the client's hash in the holder's place, and knew no streams. Brokers of that version still
// write it in a rolling upgrade; they ignore notes of format 2.
import type { ConsumerIdentity } from './consumer-client.ts';
import type { FormerLease } from './delivery-events.ts';
import { BrokerError } from './errors.ts';

/** The outstanding messages of one subscription. */
export interface SubscriptionLeases {
  readonly incarnation: number;
  /** Sorted by offset; their deadlineMs count from the hand-over on. */
  readonly leases: readonly FormerLease[];
}

const FORMAT = 2;
const WITHOUT_STREAMS = 1;
/**
 * Intervals in a note (with ordering mostly one for each message): as many as four subscriptions can have.
 * Each takes 60 bytes at most, so a note stays below 16 MiB. What is beyond is delivered again, subscriptions
 * without ordering first.
 */
export const MAX_HANDED_OVER = 240_000;
/** How many numbers an interval takes. */
const WIDTH = 6;

type Row = readonly [number, readonly number[], (readonly (readonly [number, string])[])?];

export function encodeHandOver(subscriptions: readonly SubscriptionLeases[]): Uint8Array {
  const rows: Row[] = [];
  let left = MAX_HANDED_OVER;
  for (const { incarnation, leases } of [...subscriptions].sort(byOrdering)) {
    const numbers: number[] = [];
    const holders = new Holders();
    let from = 0;
    for (const { first, last, deadlineMs, bytes, holder, keyHash } of leases.slice(0, left)) {
      const remainingMs = Math.max(0, Math.round(deadlineMs));
      numbers.push(
        first - from,
        last - first,
        remainingMs,
        Math.round(bytes),
        holders.index(holder),
        keyHash,
      );
      from = last + 1;
    }
    left -= numbers.length / WIDTH;
    if (numbers.length > 0) rows.push([incarnation, numbers, holders.list]);
  }
  return Buffer.from(JSON.stringify([FORMAT, rows]));
}

class Holders {
  readonly list: (readonly [number, string])[] = [];
  readonly #indexes = new Map<string, number>();

  index({ hash, stream }: ConsumerIdentity): number {
    const key = `${hash} ${stream}`;
    let index = this.#indexes.get(key);
    if (index === undefined) {
      index = this.list.push([hash, stream]) - 1;
      this.#indexes.set(key, index);
    }
    return index;
  }
}

/** Subscriptions with keys come first: a key whose leases are left out would be at two consumers at once. */
function byOrdering(a: SubscriptionLeases, b: SubscriptionLeases): number {
  const hasKeys = ({ leases }: SubscriptionLeases): boolean => leases.some(({ keyHash }) => keyHash !== 0);
  return Number(hasKeys(b)) - Number(hasKeys(a));
}

/** FAILED_PRECONDITION: the note has another format. */
export function decodeHandOver(note: Uint8Array): SubscriptionLeases[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(note).toString());
  } catch (cause) {
    throw unreadable(cause);
  }
  const [format, rows] = Array.isArray(parsed) ? (parsed as [number, Row[]]) : ['none', []];
  if (format !== FORMAT && format !== WITHOUT_STREAMS)
    throw unreadable(`its format is ${format}, known is ${FORMAT}`);
  return rows.map(([incarnation, numbers, listed = []]) => {
    const holders = listed.map(([hash, stream]) => ({ hash, stream }));
    const leases: FormerLease[] = [];
    let from = 0;
    for (let at = 0; at + WIDTH <= numbers.length; at += WIDTH) {
      const [gap, length, deadlineMs, bytes, holder, keyHash] = numbers.slice(at, at + WIDTH);
      const first = from + gap!;
      const last = first + length!;
      leases.push({
        first,
        last,
        deadlineMs: deadlineMs!,
        bytes: bytes!,
        holder: format === WITHOUT_STREAMS ? { hash: holder!, stream: '' } : holderAt(holders, holder!),
        keyHash: keyHash!,
      });
      from = last + 1;
    }
    return { incarnation, leases };
  });
}

function holderAt(holders: readonly ConsumerIdentity[], index: number): ConsumerIdentity {
  const holder = holders[index];
  if (holder === undefined) throw unreadable('a lease has no holder');
  return holder;
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
