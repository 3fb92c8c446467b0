// What delivery.ts is told and what it says: the events and effects of the state machine of one subscription in one
// partition. Made and performed by engine/dispatcher; the golden transcripts print them.
import type { ChunkView } from './credit.ts';
import type { Interval } from './intervals.ts';

/**
 * What becomes of a consumer's leases when it leaves. `end`: others are given its messages at once. `stay`: they last until
 * their deadline, for unary calls to settle and for the partition's next owner. `wait`: the same, and the consumer that joins
 * with its hash takes them over: its stream ended for the broker's sake, and it comes back.
 */
export type LeasesOnLeave = 'end' | 'stay' | 'wait';

export type DeliveryEvent =
  /** The log now ends at endOffset. */
  | { readonly kind: 'append'; readonly endOffset: number }
  /** Nothing from there on is looked at, until that is said of a later offset or of Infinity. What is outstanding stays so. */
  | { readonly kind: 'hold'; readonly fromOffset: number }
  /** Retention has deleted everything below headOffset. */
  | { readonly kind: 'trim'; readonly headOffset: number }
  /** What is there was given up, or settled under a former owner: it is settled, whoever has it. */
  | { readonly kind: 'skip'; readonly first: number; readonly last: number }
  /**
   * Consumers have numbers from 1 on; the hash is of what is stable about one (its client id). It takes over what it had at
   * the partition's former owner, or on a stream before, if that waits for it; `fresh` means that it has nothing of that, and
   * others are given it.
   */
  | { readonly kind: 'join'; readonly consumer: number; readonly hash: number; readonly fresh?: boolean }
  | { readonly kind: 'leave'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** Its ordering keys go to others once nothing of them is outstanding there; or it has its share of them again. */
  | { readonly kind: 'drain'; readonly consumer: number; readonly draining: boolean }
  | {
      readonly kind: 'lease';
      readonly consumer: number;
      /** Holds the offset that peek gave. */
      readonly chunk: ChunkView;
      readonly maxMessages: number;
      readonly maxBytes: number;
      /** Nothing is outstanding at the consumer: one message may exceed maxBytes. */
      readonly idle: boolean;
      readonly deadlineMs: number;
    }
  /** Settles what was delivered to this subscription, whenever and to whom, and nothing else. */
  | { readonly kind: 'ack'; readonly consumer: number; readonly first: number; readonly last: number }
  /**
   * Of the consumer's own leases only; NOBODY (0) stands for a call without a stream, which may mean anybody's. With an
   * attempt, of leases of that delivery only.
   */
  | {
      readonly kind: 'nack';
      readonly consumer: number;
      readonly first: number;
      readonly last: number;
      readonly attempt?: number | undefined;
    }
  | {
      readonly kind: 'extend';
      readonly consumer: number;
      readonly first: number;
      readonly last: number;
      readonly deadlineMs: number;
      readonly attempt?: number | undefined;
    }
  | { readonly kind: 'expire' }
  /** The cursor that the last snapshot() returned is durable. */
  | { readonly kind: 'persisted' };

/** Messages outstanding when a partition changed its owner, as the former owner left them. */
export interface FormerLease extends Interval {
  readonly deadlineMs: number;
  /** Who has them: the consumer that joins with this hash takes the lease over. 0: nobody will (Pull). */
  readonly consumerHash: number;
  readonly bytes: number;
  /** In a subscription with ordering the hash of the messages' key; 0: none. */
  readonly keyHash: number;
}

export interface DeliveredRun extends Interval {
  /** 1 on the first delivery. */
  readonly attempt: number;
}

export type DeliveryEffect =
  /** Send these messages of the chunk to the consumer, in this order. */
  | {
      readonly kind: 'deliver';
      readonly consumer: number;
      readonly runs: readonly DeliveredRun[];
      readonly messages: number;
      readonly bytes: number;
    }
  /** Leases of the consumer have ended; with negative numbers it has taken leases over. */
  | { readonly kind: 'credit'; readonly consumer: number; readonly messages: number; readonly bytes: number }
  /** The cursor has moved: commit it soon. */
  | { readonly kind: 'moved' }
  /** Messages are held until their attempt counts are durable: commit the cursor now, then say `persisted`. */
  | { readonly kind: 'persist' };
