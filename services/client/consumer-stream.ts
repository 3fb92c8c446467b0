// What a consumer is to those who take its messages; and which kind a client gets: one stream to any broker
// (subscribe-stream.ts), or a stream to each owner (direct-consumer.ts).
import type { BackoffOptions } from './backoff.ts';
import type { Connection } from './connection.ts';
import { DirectConsumer } from './direct-consumer.ts';
import type { FanfareError } from './errors.ts';
import type { MessagePlace, MessageRange } from './frames.ts';
import type { SubscriptionProperties } from './subscribe-codec.ts';
import { SubscribeStream } from './subscribe-stream.ts';

export interface ConsumerOptions {
  /** How many messages may be outstanding here: delivered and not settled. Default 10,000. */
  readonly maxOutstandingMessages?: number;
  /** The same, in bytes. Default 16 MiB. */
  readonly maxOutstandingBytes?: number;
  /**
   * Length of this consumer's leases, 1 to 600 s. Default: as the subscription says, also when that changes.
   * Leases are extended, except with subscribeRaw(), unless code keeps the event loop for longer than two
   * thirds of this in one go.
   */
  readonly ackDeadlineSeconds?: number;
  /** Names the consumer, so that ordering keys stay with it over reconnections. Default: a random one. */
  readonly clientId?: string;
  readonly backoff?: BackoffOptions;
  /** When it is aborted, no more messages come, and what was not settled is delivered again. */
  readonly signal?: AbortSignal;
  /** Told whenever a stream broke and will be opened again. */
  readonly onRetry?: (error: FanfareError, delayMs: number) => void;
}

/** The leases of what one stream brought. They outlive the stream if the broker says so when it ends it. */
export interface Leases {
  /** The number of the stream among those of its consumer, counted from 1. */
  readonly number: number;
  /** Whether the leases have ended: what was not acknowledged is delivered again. */
  readonly gone: boolean;
  /** The incarnation of their subscription; 0: the broker has not said. */
  readonly incarnation: number;
}

export interface ConsumerListener {
  /**
   * Tells what the subscription is like: before anything arrives, and after a change.
   * Older brokers don't say.
   */
  onProperties(properties: SubscriptionProperties): void;
  onResponse(bytes: Buffer, leases: Leases): void;
  /** These leases are gone. */
  onInterrupted(leases: Leases): void;
  /** The consumer has ended for good; error is undefined after close(). */
  onEnd(error: FanfareError | undefined): void;
}

export interface ConsumerStream {
  /** Full name. */
  readonly subscription: string;
  readonly maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  open(): void;
  /** Tells the broker, soon, that messages (with that many bytes) are processed. */
  ack(
    leases: Leases,
    logEpoch: number,
    partition: number,
    firstOffset: number,
    lastOffset: number,
    bytes: number,
  ): void;
  /** Gives messages back, soon. Nothing is sent if their leases are gone. */
  nack(leases: Leases, range: MessageRange): void;
  /** Tells now what else would be told soon. */
  flush(): void;
  /**
   * Whether the message was acknowledged in the last seconds: then it comes again only
   * because its lease ran out.
   */
  wasAcked(place: MessagePlace): boolean;
  /**
   * Lets leases end extendSeconds from now. False: not all of it could be said, since a
   * stream is missing or full.
   */
  extend(ranges: readonly MessageRange[], extendSeconds: number): boolean;
  /**
   * Sets the limit from now on, also for streams opened later. What is outstanding
   * beyond a lower one stays so.
   */
  limitMessages(maxOutstandingMessages: number): void;
  /**
   * Nothing more is wanted, ever: credit that comes back is not used. What is
   * outstanding can still be settled.
   */
  takeNoMore(): void;
  pause(): void;
  resume(): void;
  /**
   * Sends what was settled and ends; resolves once the broker has confirmed the end. If there is no stream,
   * or no such answer within 2 s, recent acknowledgements are told by unary calls, for 2 more seconds at
   * most. What was not settled is delivered again. Idempotent.
   */
  close(): Promise<void>;
}

/** `topicOf` tells the topic of a subscription, whose routing table a direct consumer follows. */
export function makeConsumer(
  connection: Connection,
  subscription: string,
  options: ConsumerOptions,
  topicOf: (subscription: string) => Promise<string>,
  listener: ConsumerListener,
): ConsumerStream {
  return connection.direct
    ? new DirectConsumer(connection, subscription, options, topicOf, listener)
    : new SubscribeStream(connection, subscription, options, listener);
}
