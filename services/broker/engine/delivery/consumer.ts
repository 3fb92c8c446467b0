// One consumer as the transport sees it, as an interface: a Subscribe stream or a Pull call, wherever the
// messages come from. LocalConsumer has everything from the dispatchers of this broker; RelayedConsumer adds
// those of other brokers. Invariant: after `leave` nothing is delivered.
import type { ConsumerLimits } from '../../core/credit.ts';
import type { SubscriptionDefinition } from '../../core/definitions.ts';
import type { LeasesOnLeave } from '../../core/delivery-events.ts';
import type { BrokerError } from '../../core/errors.ts';
import type { SettleRequest } from '../../core/settle-request.ts';
import type { Clock } from '../../ports/clock.ts';
import type { DeliveredMessages } from './delivered-messages.ts';

/** Where a consumer's messages go: a stream of the transport, a Pull call, a link to another broker. */
export interface ConsumerSink {
  /** Takes the messages; to be called only while writable. */
  deliver(messages: DeliveredMessages): void;
  /**
   * Whether the transport accepts more. When it does again, whoever holds the consumer calls Consumer.pump.
   */
  readonly writable: boolean;
  /** What the subscription is like: once before anything is delivered, and again when it has changed. */
  describe?(definition: SubscriptionDefinition): void;
  /** Ends the stream with this status. */
  close(error: BrokerError): void;
}

export interface Consumer {
  /** What may be outstanding, over all brokers, and how long its leases last. */
  limits: ConsumerLimits;
  /** Performs what the client says of its messages. */
  settle(request: SettleRequest): void;
  /** The consumer's sink can take more. */
  pump(): void;
  /**
   * Takes all credit back; resolves when nothing more will be delivered, and owners were told what the client
   * has said.
   */
  quiesce(): Promise<void>;
  /** The consumer has gone. Idempotent. */
  leave(leases?: LeasesOnLeave): void;
}

/**
 * Longer than owners take to confirm that they send no more, shorter than anybody waits for a broker to stop.
 */
const QUIESCE_MS = 1_000;

/**
 * Ends a consumer whose stream is to be ended for this broker's sake: first nothing more is delivered, then
 * it leaves. Resolves to whether its leases wait for it: not if what was on its way could not be given to it
 * in time.
 */
export async function dismiss(consumer: Consumer, clock: Clock): Promise<boolean> {
  let timedOut = false;
  await new Promise<void>((resolve) => {
    const cancel = clock.setTimer(QUIESCE_MS, () => {
      timedOut = true;
      resolve();
    });
    void consumer.quiesce().then(() => {
      cancel();
      resolve();
    });
  });
  consumer.leave(timedOut ? 'end' : 'wait');
  return !timedOut;
}
