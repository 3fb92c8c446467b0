// Whether the partitions of one subscription take turns: while something waits in one of them for consumers
// who may have it, others are served only so many times. That is counted in deliveries, not in time: whoever
// is slow is slow for all.
//
// It can be judged only if nothing else keeps a message back: consumers neither fail nor nack, and all may
// have it.
import { Violation } from '../violation.ts';
import type { DeliveryTruth } from './delivery-truth.ts';

/** After this time what was appended is readable, and the broker knows it. */
const KNOWN_MS = 300;
/** A round gives each of 3 consumers something of each of 3 partitions; two rounds may be under way. */
const MOST_DELIVERIES = 20;

export class Turns {
  readonly #name: string;
  readonly #passedOver = new Map<DeliveryTruth, number>();

  constructor(name: string) {
    this.#name = name;
  }

  served(one: DeliveryTruth, all: readonly DeliveryTruth[], nowMs: number): void {
    for (const each of all) {
      const waiting = each === one ? undefined : each.firstUndelivered(nowMs - KNOWN_MS);
      const times = waiting === undefined ? 0 : (this.#passedOver.get(each) ?? 0) + 1;
      this.#passedOver.set(each, times);
      if (times > MOST_DELIVERIES)
        throw new Violation(
          `${this.#name}: partition ${each.log.id.partition} waits at ${waiting}, and others were served ${times} times meanwhile`,
        );
    }
  }
}
