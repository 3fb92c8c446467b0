// Another broker, reached over a link. A relay (the broker to which a client is connected) opens one link to
// each owner it needs; the owner answers on it. Both directions keep their order.
//
// A chunk crosses a link once, however many consumers wait behind the relay: `chunk` brings the bytes under a
// number, then `deliver` names runs of it for each consumer. The owner decides when the relay forgets a chunk
// (`keepFrom`), so both always know what the relay holds.
import type { BacklogReport, PartitionQuestion } from '../core/backlog-report.ts';
import type { ConsumerClient } from '../core/consumer-client.ts';
import type { DeliveredRun, LeasesOnLeave } from '../core/delivery-events.ts';
import type { DrainReport, DrainRequest } from '../core/draining.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { SettleOperation } from '../core/settle-request.ts';

/** What a relay says to an owner. It chooses the numbers `consumer` and `call`, unique on the link. */
export type PeerRequest =
  /**
   * Messages as the publisher sent them: records of field 2 of PublishRequest, one after the other. Answered
   * by `published` or `refused`.
   */
  | {
      readonly kind: 'publish';
      readonly call: number;
      readonly topic: string;
      readonly partition: PartitionId;
      /** See `refused`. */
      readonly attempt: number;
      readonly messages: Buffer;
    }
  /** A consumer behind the relay joins the subscription's dispatchers at the owner. */
  | {
      readonly kind: 'attach';
      readonly consumer: number;
      readonly subscription: string;
      readonly incarnation: number;
      /** As with direct consumers, ordering keys go by it, and its newer stream replaces an older one. */
      readonly client: ConsumerClient;
      /** The client still has everything that it was given on its stream before this one. */
      readonly resumes: boolean;
      /** The client has nothing of what it was given before; see DeliveryEvent. */
      readonly fresh: boolean;
    }
  /**
   * How much may be outstanding at this owner for the consumer, which begins with nothing. Answered by
   * `credited` with the same sequence: from then on a lower limit holds, apart from what is outstanding
   * already.
   */
  | {
      readonly kind: 'credit';
      readonly consumer: number;
      readonly sequence: number;
      readonly maxOutstandingMessages: number;
      readonly maxOutstandingBytes: number;
      readonly ackDeadlineMs: number;
      /** The consumer gets nothing, whatever its credit, and its ordering keys go to others. */
      readonly draining?: boolean | undefined;
    }
  /** The consumer's stream has taken so many bytes since `attach`: the owner sends only so far ahead. */
  | { readonly kind: 'taken'; readonly consumer: number; readonly bytes: number }
  /** What a consumer says of its messages. Operations on partitions not owned there come back: `bounced`. */
  | { readonly kind: 'settle'; readonly consumer: number; readonly operations: readonly SettleOperation[] }
  /** The consumer leaves. */
  | { readonly kind: 'detach'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** Acknowledge, ModifyAckDeadline: without a consumer. Answered by `settled` once cursors are durable. */
  | {
      readonly kind: 'settleUnary';
      readonly call: number;
      readonly subscription: string;
      /** The subscription's: the operations have nothing to do with another one of the same name. */
      readonly incarnation: number;
      readonly operations: readonly SettleOperation[];
    }
  /**
   * Asks for the backlog of these subscriptions (no names: all of `parent`) in the owner's partitions.
   * Answered by `backlogs`. With an empty `parent` it asks nothing: it is the relay's heartbeat.
   */
  | {
      readonly kind: 'backlog';
      readonly call: number;
      readonly parent: string;
      readonly names: readonly string[];
      /** If it is given, the reports have `partitions`. */
      readonly question?: PartitionQuestion | undefined;
    }
  /** Tell me (`firstMessage`) whenever an idle subscription gets its first message. */
  | { readonly kind: 'watchFirstMessages' }
  /** Makes consumers drain whose streams end at the broker that is asked. Answered by `draining`. */
  | { readonly kind: 'drain'; readonly call: number; readonly request: DrainRequest };

/** What an owner says to a relay. */
export type PeerAnswer =
  | {
      readonly kind: 'published';
      readonly call: number;
      readonly firstOffset: number;
      readonly count: number;
    }
  /**
   * The publish failed. NOT_OWNER: the partition is not owned there (any more), or the topic has grown, and
   * nothing was stored; from then on the owner refuses every publish for the partition with the same or a
   * smaller `attempt`, so that what was sent behind this one can't overtake it. UNAVAILABLE: the messages may
   * have been stored. With other codes nothing was.
   */
  | {
      readonly kind: 'refused';
      readonly call: number;
      readonly reason: ErrorCode | 'NOT_OWNER';
      readonly message: string;
    }
  /** The bytes of a chunk, under a number that rises by 1. Chunks below keepFrom may be forgotten. */
  | {
      readonly kind: 'chunk';
      readonly chunk: number;
      readonly keepFrom: number;
      readonly partition: PartitionId;
      readonly firstOffset: number;
      readonly count: number;
      readonly publishTimeMs: number;
      readonly startByte: number;
      readonly bytes: Buffer;
    }
  /** Runs of a chunk for a consumer, in order. `bytes` is what counts against its credit. */
  | {
      readonly kind: 'deliver';
      readonly consumer: number;
      readonly chunk: number;
      readonly runs: readonly DeliveredRun[];
      readonly messages: number;
      readonly bytes: number;
    }
  /** The limit of the order with this sequence holds, or fewer messages above it are outstanding. */
  | {
      readonly kind: 'credited';
      readonly consumer: number;
      readonly sequence: number;
      readonly outstandingMessages: number;
    }
  /** Whether the consumer lacks credit at this owner while there is something for it. */
  | { readonly kind: 'wants'; readonly consumer: number; readonly more: boolean }
  /** A consumer's operations on partitions that are not owned there (any more). */
  | { readonly kind: 'bounced'; readonly consumer: number; readonly operations: readonly SettleOperation[] }
  /** The owner has ended the consumer, or refused to attach it; the code says why. */
  | { readonly kind: 'ended'; readonly consumer: number; readonly code: ErrorCode; readonly message: string }
  /** All is done, durably, but for `bounced`: to be tried again, as not owned there or in doubt. */
  | { readonly kind: 'settled'; readonly call: number; readonly bounced: readonly SettleOperation[] }
  | { readonly kind: 'backlogs'; readonly call: number; readonly reports: readonly BacklogReport[] }
  | { readonly kind: 'firstMessage'; readonly subscription: string }
  /** What the draining consumers hold. With `failed` that is not known, or nothing was changed (`code`). */
  | {
      readonly kind: 'draining';
      readonly call: number;
      readonly report: DrainReport;
      readonly failed?: { readonly code: ErrorCode; readonly message: string } | undefined;
    };

/** The relay's end of a link. */
export interface PeerLink {
  /** Sends in order; several sends of one turn go together. False: more waits than the link takes at once. */
  send(request: PeerRequest): boolean;
  /** Ends the link after what was sent. */
  close(): void;
}

export interface PeerLinkEvents {
  answer(answer: PeerAnswer): void;
  /** The link takes more again, after a send that returned false. */
  writableAgain(): void;
  /** Nothing more comes; what was sent and not answered may or may not have arrived. Comes once. */
  closed(reason: string): void;
}

export interface PeerConnector {
  /** Opens a link to that member at that address. Never throws: `closed` says why there is none. */
  connect(address: string, memberId: string, events: PeerLinkEvents): PeerLink;
}

/** The owner's end of a link. */
export interface PeerLinkServer {
  /** As PeerLink.send. */
  send(answer: PeerAnswer): boolean;
  close(): void;
}

/** What the owner does with a link that a relay has opened. */
export interface PeerLinkHandler {
  request(request: PeerRequest): void;
  writableAgain(): void;
  closed(): void;
}
