// The owner's end of a link: what a relay asks, and what is done and answered. Pure: step() takes a request
// with what is known here, and says what to do, in this order.
//
//   publish   is taken; or refused, for its topic was deleted, or the partition is not owned here
//   attach    the consumer joins; or is ended, for good or for now
//   credit    is in force at once, and confirmed behind what it has delivered
//   settle    is done for partitions that are owned here; what is said of others bounces
//
// Invariants: after a publish was refused as NOT_OWNER, every one of its partition that carries the same or a
// smaller attempt is refused so; nothing is done or said of a consumer but while it is attached.
import type { PartLimits } from './consumer-part.ts';
import type { LeasesOnLeave } from './delivery-events.ts';
import { assertNever, type ErrorCode } from './errors.ts';
import { formatPartitionId, type PartitionId } from './partition.ts';
import type { SettleOperation } from './settle-request.ts';

/** A subscription as this broker knows it. */
export interface KnownSubscription {
  readonly incarnation: number;
  /** It is being deleted. */
  readonly isClosed: boolean;
  readonly consumers: number;
}

export type OwnerEvent =
  | {
      readonly kind: 'publish';
      readonly call: number;
      readonly topic: string;
      readonly partition: PartitionId;
      readonly attempt: number;
      /** The log epoch of the topic of that name; undefined: it is not known here. */
      readonly logEpoch: number | undefined;
      /** This broker owns the partition, or is to own it. */
      readonly isMine: boolean;
    }
  /** A publish that was taken could not be stored here. */
  | {
      readonly kind: 'misplaced';
      readonly call: number;
      readonly partition: PartitionId;
      readonly attempt: number;
      readonly message: string;
    }
  | {
      readonly kind: 'attach';
      readonly consumer: number;
      readonly subscription: string;
      readonly incarnation: number;
      /** Undefined: there is none of that name. */
      readonly known: KnownSubscription | undefined;
    }
  | {
      readonly kind: 'credit';
      readonly consumer: number;
      readonly sequence: number;
      readonly limits: PartLimits;
    }
  /** Fewer messages are outstanding, though still more than a lower limit allows. */
  | { readonly kind: 'fewer'; readonly consumer: number }
  | {
      readonly kind: 'settle';
      readonly consumer: number;
      readonly operations: readonly SettleOperation[];
      readonly owns: (partition: PartitionId) => boolean;
    }
  | { readonly kind: 'detach'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** The consumer has been ended here, and the relay told so. */
  | { readonly kind: 'gone'; readonly consumer: number }
  /** Nothing more comes over the link. */
  | { readonly kind: 'closed' };

export type OwnerEffect =
  | { readonly kind: 'take'; readonly call: number }
  | { readonly kind: 'join'; readonly consumer: number }
  /** The limits are in force, and what they allow is delivered. */
  | { readonly kind: 'allow'; readonly consumer: number; readonly limits: PartLimits }
  | { readonly kind: 'settle'; readonly consumer: number; readonly operations: readonly SettleOperation[] }
  | { readonly kind: 'leave'; readonly consumer: number; readonly leases: LeasesOnLeave }
  /** The way to the consumer's stream is gone. */
  | { readonly kind: 'lose'; readonly consumer: number }
  // To the relay.
  | {
      readonly kind: 'refused';
      readonly call: number;
      readonly reason: ErrorCode | 'NOT_OWNER';
      readonly message: string;
    }
  | {
      readonly kind: 'ended';
      readonly consumer: number;
      readonly code: ErrorCode;
      readonly message: string;
    }
  /** With what is outstanding now. */
  | { readonly kind: 'credited'; readonly consumer: number; readonly sequence: number }
  | { readonly kind: 'bounced'; readonly consumer: number; readonly operations: readonly SettleOperation[] };

export class OwnerEnd {
  readonly #maxConsumers: number;
  /** The greatest attempt that was refused, by partition. */
  readonly #refused = new Map<string, number>();
  /** The sequence of the newest order for credit of each attached consumer. */
  readonly #sequences = new Map<number, number>();

  /** `maxConsumers`: how many a subscription may have at this broker. */
  constructor(maxConsumers: number) {
    this.#maxConsumers = maxConsumers;
  }

  /** Whether a publish that was taken is behind one that was refused since. */
  isBehind(partition: PartitionId, attempt: number): boolean {
    return attempt <= (this.#refused.get(formatPartitionId(partition)) ?? 0);
  }

  step(event: OwnerEvent): OwnerEffect[] {
    if (event.kind === 'publish') return [this.#publish(event)];
    if (event.kind === 'misplaced') return [this.#notOwner(event, event.message)];
    if (event.kind === 'attach') return this.#sequences.has(event.consumer) ? [] : [this.#attach(event)];
    if (event.kind === 'closed') {
      const consumers = [...this.#sequences.keys()];
      this.#sequences.clear();
      return consumers.map((consumer) => ({ kind: 'lose', consumer }));
    }
    return this.#sequences.has(event.consumer) ? this.#ofAttached(event) : [];
  }

  #ofAttached(
    event: OwnerEvent & { kind: 'credit' | 'fewer' | 'settle' | 'detach' | 'gone' },
  ): OwnerEffect[] {
    const { consumer } = event;
    switch (event.kind) {
      case 'credit': {
        const { sequence, limits } = event;
        this.#sequences.set(consumer, sequence);
        // Behind what the credit has delivered: a relay that has lowered the limit to 0 knows then that
        // nothing more comes.
        return [
          { kind: 'allow', consumer, limits },
          { kind: 'credited', consumer, sequence },
        ];
      }
      case 'fewer':
        return [{ kind: 'credited', consumer, sequence: this.#sequences.get(consumer)! }];
      case 'settle':
        return settle(event);
      case 'detach':
        this.#sequences.delete(consumer);
        return [{ kind: 'leave', consumer, leases: event.leases }];
      case 'gone':
        this.#sequences.delete(consumer);
        return [];
      default:
        return assertNever(event);
    }
  }

  #publish(publish: OwnerEvent & { kind: 'publish' }): OwnerEffect {
    const { call, topic, partition, attempt, logEpoch, isMine } = publish;
    if (this.isBehind(partition, attempt)) return this.#notOwner(publish, 'an earlier publish was refused');
    if (logEpoch !== undefined && logEpoch > partition.logEpoch)
      return { kind: 'refused', call, reason: 'NOT_FOUND', message: `${topic} was deleted` };
    if (logEpoch !== partition.logEpoch || !isMine)
      return this.#notOwner(publish, 'the partition is not owned here');
    return { kind: 'take', call };
  }

  #notOwner(
    { call, partition, attempt }: { call: number; partition: PartitionId; attempt: number },
    message: string,
  ): OwnerEffect {
    const key = formatPartitionId(partition);
    this.#refused.set(key, Math.max(attempt, this.#refused.get(key) ?? 0));
    return { kind: 'refused', call, reason: 'NOT_OWNER', message };
  }

  #attach({ consumer, subscription, incarnation, known }: OwnerEvent & { kind: 'attach' }): OwnerEffect {
    // One of the two brokers has not heard of a change yet. If the subscription was deleted, the relay hears
    // of that as well.
    if (known === undefined || known.isClosed || known.incarnation < incarnation)
      return ended(consumer, 'UNAVAILABLE', `${subscription} is not known here yet`);
    if (known.incarnation > incarnation) return ended(consumer, 'NOT_FOUND', `${subscription} was deleted`);
    const most = this.#maxConsumers;
    if (known.consumers >= most) {
      const message = `${subscription} has ${most} consumers already, which is the limit: end some`;
      return ended(consumer, 'RESOURCE_EXHAUSTED', message);
    }
    this.#sequences.set(consumer, 0);
    return { kind: 'join', consumer };
  }
}

function ended(consumer: number, code: ErrorCode, message: string): OwnerEffect {
  return { kind: 'ended', consumer, code, message };
}

function settle({ consumer, operations, owns }: OwnerEvent & { kind: 'settle' }): OwnerEffect[] {
  const owned: SettleOperation[] = [];
  const others: SettleOperation[] = [];
  for (const operation of operations) (owns(operation) ? owned : others).push(operation);
  const effects: OwnerEffect[] = [];
  if (owned.length > 0) effects.push({ kind: 'settle', consumer, operations: owned });
  if (others.length > 0) effects.push({ kind: 'bounced', consumer, operations: others });
  return effects;
}
