// What delivery.ts is told and what it answers: the events and effects of the state machine of one
// subscription in one partition. Both are plain data.
import type { ConsumerIdentity } from './consumer-client.ts';
import type { ChunkView } from './credit.ts';
import type { Interval } from './intervals.ts';

/**
 * What becomes of a consumer's leases when it leaves. `end`: they end, and others are given the messages.
 * `stay`: they last until their deadlines, for unary calls to settle and for the partition's next owner.
 * `wait`: they last as well, and the client's next stream takes them over if it resumes: this one ended for
 * the broker's sake, and its client comes back.
 */
export type LeasesOnLeave = 'end' | 'stay' | 'wait';

export type DeliveryEvent =
  /** The log now ends at endOffset. */
  | { readonly kind: 'append'; readonly endOffset: number }
  /** Nothing from fromOffset on is looked at, until another `hold` (Infinity: everything). Leases go on. */
  | { readonly kind: 'hold'; readonly fromOffset: number }
  /** Retention has deleted everything below headOffset. */
  | { readonly kind: 'trim'; readonly headOffset: number }
  /** These messages were given up, or settled under a former owner: they are settled, whoever has them. */
  | { readonly kind: 'skip'; readonly first: number; readonly last: number }
  /**
   * A consumer joins, under a number from 1 on. The hash is that of its client (ConsumerClient), which is the
   * same on its next stream. Of the leases that wait for its client, it takes over those of its own stream,
   * and with `resumes`, as its client has all that it was given before, those of earlier ones; with `fresh`
   * its client has nothing of theirs, and they are given back. With neither they wait on: another stream may
   * be the newer one. No stream, or an empty one: the hash alone says whose leases they are.
   */
  | {
      readonly kind: 'join';
      readonly consumer: number;
      readonly hash: number;
      readonly stream?: string;
      readonly resumes?: boolean;
      readonly fresh?: boolean;
    }
  /** That stream has ended, and nobody resumes it: what waits for it is given back. */
  | { readonly kind: 'streamEnded'; readonly stream: string }
  | { readonly kind: 'leave'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** The consumer's keys go to others once nothing of them is outstanding; or it gets its share again. */
  | { readonly kind: 'drain'; readonly consumer: number; readonly draining: boolean }
  | {
      readonly kind: 'lease';
      readonly consumer: number;
      /** The chunk that holds the offset that peek gave. */
      readonly chunk: ChunkView;
      readonly maxMessages: number;
      readonly maxBytes: number;
      /** Nothing is outstanding at the consumer: its first message may exceed maxBytes. */
      readonly idle: boolean;
      readonly deadlineMs: number;
    }
  /** Settles what was delivered to this subscription, whenever and to whomever, and nothing else. */
  | { readonly kind: 'ack'; readonly consumer: number; readonly first: number; readonly last: number }
  /**
   * Gives back leases of this consumer only; NOBODY (0) stands for a call without a stream, which may mean
   * anybody's. With an attempt, only leases of that delivery are meant. The same holds for `extend`.
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
  /** The cursor that snapshot() last returned is durable. */
  | { readonly kind: 'persisted' };

/** Messages that were outstanding when a partition changed its owner, as the former owner noted them. */
export interface FormerLease extends Interval {
  readonly deadlineMs: number;
  /** The consumer that has them: it takes the lease over when it joins. Hash 0: none. */
  readonly holder: ConsumerIdentity;
  readonly bytes: number;
  /** The hash of the messages' ordering key, in a subscription with ordering; 0: none. */
  readonly keyHash: number;
}

export interface DeliveredRun extends Interval {
  /** The delivery attempt: 1 for the first. */
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
  /** Leases of the consumer have ended; negative numbers: it has taken leases over. */
  | { readonly kind: 'credit'; readonly consumer: number; readonly messages: number; readonly bytes: number }
  /** The cursor has moved: commit it soon. */
  | { readonly kind: 'moved' }
  /** Messages are held until their attempt counts are durable: commit the cursor now, then `persisted`. */
  | { readonly kind: 'persist' };
