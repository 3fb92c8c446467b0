// What delivery-history.ts remembers of a message: its state for the subscription, its last delivery, its
// lease.
/** The sessions of all lives have different names. */
export type ConsumerName = string;

export interface Lease {
  readonly consumer: ConsumerName;
  deadlineMs: number;
  /** Whether it was given back: by nack, or because the consumer left. */
  ended: boolean;
  endable: boolean;
}

export interface Entry {
  readonly offset: number;
  state: 'unsettled' | 'settled' | 'open';
  settledAt: number;
  settledMs: number;
  /** The attempt of the last delivery; 0 before the first. */
  attempt: number;
  deliveredAt: number;
  /** When the last delivery was given back. */
  endedAt: number;
  life: number;
  /** Whether later lives know of its last delivery by a durable cursor; undefined while that life goes on. */
  counted: boolean | undefined;
  lease: Lease | undefined;
}

/** When something happened: `at` orders all events of a simulation. */
export interface Moment {
  readonly at: number;
  readonly nowMs: number;
  readonly life: number;
}

export function newEntry(offset: number): Entry {
  return {
    offset,
    state: 'unsettled',
    settledAt: 0,
    settledMs: 0,
    attempt: 0,
    deliveredAt: 0,
    endedAt: 0,
    life: 0,
    counted: undefined,
    lease: undefined,
  };
}

/** Ages a run of one key, in its order: what is behind a lease that may have ended may have ended with it. */
export function age(run: readonly Entry[], nowMs: number): void {
  let behind = false;
  for (const { lease } of run) {
    behind ||= lease!.ended || isEndable(lease!, nowMs);
    if (behind) lease!.endable = true;
  }
}

/**
 * Whether the operation concerns the entry's lease: a call without a stream, whose consumer is undefined,
 * means anybody's leases; a consumer means its own.
 */
export function isHeldBy(
  entry: Entry | undefined,
  consumer: ConsumerName | undefined,
): entry is Entry & { lease: Lease } {
  return entry?.lease !== undefined && (consumer ?? entry.lease.consumer) === entry.lease.consumer;
}

export function end(entry: Entry, { at, nowMs }: Moment): void {
  // A lease that may have expired before keeps its time: the attempt may have been counted and committed
  // before, too.
  if (!isEndable(entry.lease!, nowMs)) entry.endedAt = at;
  entry.lease!.ended = true;
}

export function isEndable(lease: Lease, nowMs: number): boolean {
  return lease.ended || lease.endable || lease.deadlineMs <= nowMs;
}
