// What the operator asks of a broker: the port, in full resource names. Every method fails with a
// BrokerCallError.
//
// All calls are safe to repeat: a create that was done already is ALREADY_EXISTS, and the caller looks at
// what is there; an update sets fields; a delete of nothing is done.

import type { BacklogSample } from '../core/autoscale/rates.ts';
import type { CreateSubscription, FoundSubscription, SubscriptionChange } from '../core/plan-subscription.ts';
import type { CreateTopic, FoundTopic, TopicChange } from '../core/plan-topic.ts';

/** A call that failed. `code` is gRPC's, by name; `message` is for people. */
export class BrokerCallError extends Error {
  override readonly name = 'BrokerCallError';
  readonly code: string;
  /** The call was not sent: no broker could be connected to. */
  readonly notSent: boolean;
  /** The call failed because one side does not take the other's certificate. */
  readonly isAboutCertificates: boolean;

  constructor(
    code: string,
    message: string,
    options: { cause?: unknown; notSent?: boolean; isAboutCertificates?: boolean } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.notSent = options.notSent ?? false;
    this.isAboutCertificates = options.isAboutCertificates ?? false;
  }

  /** The broker is away, as opposed to having refused. */
  get isAway(): boolean {
    return this.code === 'UNAVAILABLE' || this.code === 'DEADLINE_EXCEEDED';
  }
}

/** All topics and subscriptions of a project. */
export interface Listing {
  readonly topics: readonly FoundTopic[];
  readonly subscriptions: readonly FoundSubscription[];
}

/** How far behind one subscription is; see admin.proto. */
export interface BacklogReport extends BacklogSample {
  /** Full name. */
  readonly subscription: string;
  /** This field and the next two are undefined where the broker does not say. */
  readonly consumersWithoutCredit?: number | undefined;
  readonly blockedMessages?: number | undefined;
  readonly activeKeys?: number | undefined;
}

export interface DrainRequest {
  /** Full name. */
  readonly subscription: string;
  readonly clientIds: readonly string[];
  /** IP addresses without ports. */
  readonly peerAddresses: readonly string[];
  /**
   * How long brokers give them no new work unless this is repeated. 0, or nobody named: the drain ends at
   * once.
   */
  readonly ttlMs: number;
}

/** What the draining consumers hold, over all brokers. */
export interface DrainReport {
  readonly streams: number;
  /** 0: they hold nothing and will be given nothing. */
  readonly outstandingMessages: number;
}

/** The client ids and addresses of one DrainRequest, at most. */
export const MAX_DRAIN_NAMES = 1_000;

export interface BrokerAdmin {
  /** Undefined: there is no such topic. */
  getTopic(name: string, signal: AbortSignal): Promise<FoundTopic | undefined>;
  createTopic(name: string, settings: CreateTopic, signal: AbortSignal): Promise<FoundTopic>;
  updateTopic(name: string, change: TopicChange, signal: AbortSignal): Promise<FoundTopic>;
  /** Deletes its messages and subscriptions too. */
  deleteTopic(name: string, signal: AbortSignal): Promise<void>;
  getSubscription(name: string, signal: AbortSignal): Promise<FoundSubscription | undefined>;
  createSubscription(
    name: string,
    settings: CreateSubscription,
    signal: AbortSignal,
  ): Promise<FoundSubscription>;
  updateSubscription(
    name: string,
    change: SubscriptionChange,
    signal: AbortSignal,
  ): Promise<FoundSubscription>;
  deleteSubscription(name: string, signal: AbortSignal): Promise<void>;
  list(project: string, signal: AbortSignal): Promise<Listing>;
  /** The backlogs of the named subscriptions, at most 1,000; those that don't exist are left out. */
  getBacklog(
    project: string,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly BacklogReport[]>;
  /**
   * Yields at once, then at every interval (100 ms to 60 s), and within 100 ms when an idle subscription gets
   * its first message. No names: all subscriptions of the project, those made later too. Ends only by failing
   * or by the signal.
   */
  watchBacklog(
    project: string,
    names: readonly string[],
    intervalMs: number,
    signal: AbortSignal,
  ): AsyncIterable<readonly BacklogReport[]>;
  /**
   * Idempotent; to be repeated within the ttl. A broker that is older than this call answers UNIMPLEMENTED.
   */
  drainConsumers(request: DrainRequest, signal: AbortSignal): Promise<DrainReport>;
  /** Resolves once a broker has answered anything. */
  reach(signal: AbortSignal): Promise<void>;
  close(): void;
}
