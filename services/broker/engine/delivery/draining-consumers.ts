// Which consumers of this broker's streams drain: they get nothing new until the request for it lapses.
//
//   (none) ─drain→ draining until now + ttl ─drain again→ the same, with the new names and ttl
//                                           ─ttl passed, ttl 0, no names, subscription deleted→ (none)
//
// A consumer is known where its stream ends. What other brokers deliver to it is theirs to stop:
// DrainableConsumer.drain tells them.
import {
  type ConsumerOrigin,
  type DrainReport,
  type DrainRequest,
  mergeDrainReports,
  NOTHING_DRAINS,
} from '../../core/draining.ts';
import { BrokerError } from '../../core/errors.ts';
import { MAX_DRAIN_NAMES } from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { EngineLogger } from '../context.ts';

/** Makes consumers drain, here or in a whole cluster. */
export interface ConsumerDrain {
  /**
   * Replaces what was asked for the subscription before; resolves to what the named consumers hold.
   * RESOURCE_EXHAUSTED: too many names; nothing was changed. UNAVAILABLE: they drain, but what they hold is
   * not known.
   */
  drain(request: DrainRequest): Promise<DrainReport>;
}

/** A consumer whose stream ends here. */
export interface DrainableConsumer {
  readonly origin: ConsumerOrigin;
  /**
   * While it drains it gets nothing new, and its ordering keys go to others as soon as nothing of them is
   * outstanding.
   */
  drain(draining: boolean): void;
  /**
   * Resolves to how many messages were delivered to its stream and are not settled; while it drains, nothing
   * more comes after that. UNAVAILABLE: an owner does not say.
   */
  outstanding(): Promise<number>;
}

export interface DrainingConsumersOptions {
  readonly clock: Clock;
  readonly logger: EngineLogger;
  readonly consumersOf: (subscription: string) => Iterable<DrainableConsumer>;
  /** Resolves when every partition has an owner that knows who holds what of it. UNAVAILABLE: not in time. */
  readonly whenOwned: (subscription: string) => Promise<void>;
  /** Messages here that wait for the consumer which holds them to connect. */
  readonly awaitedMessages: (subscription: string) => number;
}

interface Draining {
  readonly clientIds: ReadonlySet<string>;
  readonly peerAddresses: ReadonlySet<string>;
  readonly names: number;
  readonly cancelTimer: () => void;
}

export class DrainingConsumers implements ConsumerDrain {
  readonly #options: DrainingConsumersOptions;
  /** By subscription. */
  readonly #draining = new Map<string, Draining>();

  constructor(options: DrainingConsumersOptions) {
    this.#options = options;
  }

  isDraining(subscription: string, { clientId, peerAddress }: ConsumerOrigin): boolean {
    const draining = this.#draining.get(subscription);
    if (draining === undefined) return false;
    // A consumer that gave no name is not meant by an empty one.
    return (
      (clientId !== '' && draining.clientIds.has(clientId)) ||
      (peerAddress !== '' && draining.peerAddresses.has(peerAddress))
    );
  }

  async drain(request: DrainRequest): Promise<DrainReport> {
    const { subscription } = request;
    const names = request.clientIds.length + request.peerAddresses.length;
    if (names === 0 || request.ttlMs <= 0) {
      this.forget(subscription);
      this.#apply(subscription);
      return NOTHING_DRAINS;
    }
    this.#replace(request, names);
    const matching = this.#apply(subscription);
    if (matching.length > 0) await this.#options.whenOwned(subscription);
    if (this.#options.awaitedMessages(subscription) > 0) {
      throw new BrokerError(
        'UNAVAILABLE',
        `a partition of ${subscription} has moved and its consumers are not all back: what they hold is not known; try again`,
      );
    }
    const reports = matching.map(async ({ origin, outstanding }) => {
      const outstandingMessages = await outstanding();
      return {
        consumers: [{ ...origin, streams: 1, outstandingMessages }],
        streams: 1,
        outstandingMessages,
      };
    });
    return mergeDrainReports(await Promise.all(reports));
  }

  /** The subscription was deleted, or its consumers shall work again: they are not told here. */
  forget(subscription: string): void {
    this.#draining.get(subscription)?.cancelTimer();
    this.#draining.delete(subscription);
  }

  close(): void {
    for (const subscription of [...this.#draining.keys()]) this.forget(subscription);
  }

  #replace({ subscription, clientIds, peerAddresses, ttlMs }: DrainRequest, names: number): void {
    let others = 0;
    for (const [name, draining] of this.#draining) if (name !== subscription) others += draining.names;
    if (others + names > MAX_DRAIN_NAMES) {
      throw new BrokerError(
        'RESOURCE_EXHAUSTED',
        `${others} consumers of other subscriptions are draining: ${names} more exceed the limit of ${MAX_DRAIN_NAMES}; drain them later`,
      );
    }
    this.forget(subscription);
    const { clock, logger } = this.#options;
    const cancelTimer = clock.setTimer(ttlMs, () => {
      this.#draining.delete(subscription);
      logger.info({ subscription }, 'consumers that drained get work again: nobody has renewed it');
      this.#apply(subscription);
    });
    this.#draining.set(subscription, {
      clientIds: new Set(clientIds),
      peerAddresses: new Set(peerAddresses),
      names,
      cancelTimer,
    });
  }

  /** Tells each consumer of the subscription; returns those that drain. */
  #apply(subscription: string): { origin: ConsumerOrigin; outstanding: () => Promise<number> }[] {
    const matching: { origin: ConsumerOrigin; outstanding: () => Promise<number> }[] = [];
    for (const consumer of [...this.#options.consumersOf(subscription)]) {
      const draining = this.isDraining(subscription, consumer.origin);
      consumer.drain(draining);
      if (draining) matching.push({ origin: consumer.origin, outstanding: () => consumer.outstanding() });
    }
    return matching;
  }
}
