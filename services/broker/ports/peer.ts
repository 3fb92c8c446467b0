// Another broker, reached over its link. A relay (the broker to which a client is connected) opens one link to each owner it
// needs; the owner answers on it. Both directions keep their order. adapters/grpc/peer carries it over mutual TLS with the
// brokers' certificates; the simulation carries the same objects over a network of its own.
//
//   relay side: engine/peers, engine/relay          owner side: engine/peer-server
//
// A chunk crosses a link once, however many consumers wait behind the relay: `chunk` brings the bytes under a number, then
// `deliver` names runs of it for each consumer. The owner decides when the relay forgets a chunk (`keepFrom`), so both
// always know what the relay holds.
import type { BacklogReport, PartitionQuestion } from '../core/backlog-report.ts';
import type { ConsumerClient } from '../core/consumer-client.ts';
import type { DeliveredRun, LeasesOnLeave } from '../core/delivery-events.ts';
import type { DrainReport, DrainRequest } from '../core/draining.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { PartitionId } from '../core/partition.ts';
import type { SettleOperation } from '../core/settle-request.ts';

/** What a relay says to an owner. `consumer` and `call` are numbers of the relay's, unique on the link. */
export type PeerRequest =
  /** Messages as the publisher sent them: records of field 2 of PublishRequest, one after the other. Answered by `published`. */
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
      /** Ordering keys are shared out as with direct consumers, and a newer stream of it takes an older one's place. */
      readonly client: ConsumerClient;
      /** Its client has everything that it was given on the stream before. */
      readonly resumes: boolean;
      /** It has nothing of what its like had before; see DeliveryEvent. */
      readonly fresh: boolean;
    }
  /**
   * How much may be outstanding at this owner for the consumer. Answered by `credited` with the same sequence: a lower limit
   * holds from then on, apart from what is outstanding already. A consumer begins with nothing.
   */
  | {
      readonly kind: 'credit';
      readonly consumer: number;
      readonly sequence: number;
      readonly maxOutstandingMessages: number;
      readonly maxOutstandingBytes: number;
      readonly ackDeadlineMs: number;
      /** It gets nothing whatever its credit, and its ordering keys go to others. */
      readonly draining?: boolean | undefined;
    }
  /** The consumer's stream has taken so many bytes since it was attached: the owner sends only so far ahead of it. */
  | { readonly kind: 'taken'; readonly consumer: number; readonly bytes: number }
  /** What a consumer says of its messages. Operations on partitions that are not owned here come back as `bounced`. */
  | { readonly kind: 'settle'; readonly consumer: number; readonly operations: readonly SettleOperation[] }
  /** The consumer has gone. */
  | { readonly kind: 'detach'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** Settles without a consumer (Acknowledge, ModifyAckDeadline). Answered by `settled`, once the cursor is durable. */
  | {
      readonly kind: 'settleUnary';
      readonly call: number;
      readonly subscription: string;
      /** Said of this one: another of the same name has nothing to do with it. */
      readonly incarnation: number;
      readonly operations: readonly SettleOperation[];
    }
  /** What the owner's partitions of these subscriptions have of backlog (empty: all of `parent`). Answered by `backlogs`. */
  | {
      readonly kind: 'backlog';
      readonly call: number;
      readonly parent: string;
      readonly names: readonly string[];
      /** With it, the reports have partitions. */
      readonly question?: PartitionQuestion | undefined;
    }
  /** Tell me (`firstMessage`) whenever an idle subscription gets its first message. */
  | { readonly kind: 'watchFirstMessages' }
  /** Consumers whose streams end at the broker that is asked shall drain. Answered by `draining`. */
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
   * Nothing of the publish was stored. NOT_OWNER: the partition is not owned there (any more); from then on the owner refuses
   * every publish for it that carries the same or a smaller `attempt`, so that what was sent behind it can't overtake it.
   */
  | {
      readonly kind: 'refused';
      readonly call: number;
      readonly reason: ErrorCode | 'NOT_OWNER';
      readonly message: string;
    }
  /** The bytes of a chunk under a number that rises by 1 with each; numbers below keepFrom may be forgotten. */
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
  /** Runs of a chunk for a consumer, in order; `bytes` as counted against its credit. */
  | {
      readonly kind: 'deliver';
      readonly consumer: number;
      readonly chunk: number;
      readonly runs: readonly DeliveredRun[];
      readonly messages: number;
      readonly bytes: number;
    }
  | {
      readonly kind: 'credited';
      readonly consumer: number;
      readonly sequence: number;
      readonly outstandingMessages: number;
    }
  /** Whether the consumer lacks credit at this owner while there is something for it. */
  | { readonly kind: 'wants'; readonly consumer: number; readonly more: boolean }
  /** Operations on partitions that are not owned there (any more). */
  | { readonly kind: 'bounced'; readonly consumer: number; readonly operations: readonly SettleOperation[] }
  /** The consumer's dispatchers have ended it: the subscription was deleted, or the consumer was refused. */
  | { readonly kind: 'ended'; readonly consumer: number; readonly code: ErrorCode; readonly message: string }
  /** `bounced`: not owned there; everything else has been settled. */
  | { readonly kind: 'settled'; readonly call: number; readonly bounced: readonly SettleOperation[] }
  | { readonly kind: 'backlogs'; readonly call: number; readonly reports: readonly BacklogReport[] }
  | { readonly kind: 'firstMessage'; readonly subscription: string }
  /** With `failed` it is not known what they hold, or nothing was changed, as the code says. */
  | {
      readonly kind: 'draining';
      readonly call: number;
      readonly report: DrainReport;
      readonly failed?: { readonly code: ErrorCode; readonly message: string } | undefined;
    };

/** The relay's end of a link. */
export interface PeerLink {
  /** Sends in order; several sends of one turn go together. False: more waits than the link can take soon. */
  send(request: PeerRequest): boolean;
  /** Ends the link in order. */
  close(): void;
}

export interface PeerLinkEvents {
  answer(answer: PeerAnswer): void;
  /** After a send that returned false. */
  drained(): void;
  /** Nothing more comes; what was sent and not answered may or may not have arrived. Called once. */
  closed(reason: string): void;
}

export interface PeerConnector {
  /** Opens a link to the broker at that address. Never throws: `closed` says why there is none. */
  connect(address: string, memberId: string, events: PeerLinkEvents): PeerLink;
}

/** The owner's end of a link. */
export interface PeerLinkServer {
  /** As PeerLink.send. */
  send(answer: PeerAnswer): boolean;
  close(): void;
}

/** What the owner does with a link that a relay has opened: made by engine/peer-server for each. */
export interface PeerLinkHandler {
  request(request: PeerRequest): void;
  drained(): void;
  closed(): void;
}
