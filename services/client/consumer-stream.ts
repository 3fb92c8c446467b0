// What a consumer is to those who take its messages: subscribe-stream.ts, one stream to any broker, or direct-consumer.ts, a
// stream to each owner.
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
   * Length of this consumer's leases, 1 to 600 s. Default: as the subscription says, also when that changes. Leases are extended
   * unless code keeps the event loop for longer than two thirds of this in one go.
   */
  readonly ackDeadlineSeconds?: number;
  /** Ordering keys stay with it over reconnections. Default: a random one. */
  readonly clientId?: string;
  readonly backoff?: BackoffOptions;
  /** Aborted: no more messages; what was not settled is delivered again. */
  readonly signal?: AbortSignal;
  /** Told whenever a stream broke and will be opened again. */
  readonly onRetry?: (error: FanfareError, delayMs: number) => void;
}

/** The leases of what one stream brought. They outlive it if the broker says so when it ends it. */
export interface Leases {
  /** Which stream of its consumer it was, counted from 1. */
  readonly number: number;
  /** The leases have ended: what was not acknowledged is delivered again. */
  readonly gone: boolean;
  /** Of the subscription that they are of; 0: the broker has not said. */
  readonly incarnation: number;
}

export interface ConsumerListener {
  /** What the subscription is like: before anything arrives, and when it has changed. Older brokers don't say. */
  onProperties(properties: SubscriptionProperties): void;
  onResponse(bytes: Buffer, leases: Leases): void;
  /** These leases are gone. */
  onInterrupted(leases: Leases): void;
  /** It is over for good; error is undefined after close(). */
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
  /** Whether the message was acknowledged in the last seconds: then it comes again only because its lease had run out. */
  wasAcked(place: MessagePlace): boolean;
  /** Lets leases end extendSeconds from now. False: there is no stream to say it on just now. */
  extend(ranges: readonly MessageRange[], extendSeconds: number): boolean;
  /** From now on, on streams that are opened later too. What is outstanding beyond a lower limit stays so. */
  limitMessages(maxOutstandingMessages: number): void;
  /** Nothing more is wanted, ever: the credit that comes back is not used. What is outstanding can still be settled. */
  takeNoMore(): void;
  pause(): void;
  resume(): void;
  /**
   * Sends what was settled and ends; resolves once the broker has confirmed the end, or after 2 s, or when there was no stream to
   * say it on and 2 more seconds have not sufficed to say it otherwise. What was not settled is delivered again. Idempotent.
   */
  close(): Promise<void>;
}

/** `topicOf` tells a subscription's topic: the routing table is the topic's. */
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
