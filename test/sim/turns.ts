// Whether the partitions of one subscription take turns: while something waits in one of them for consumers who may have it,
// others are served so many times at most. Counted in deliveries, not in time: whoever is slow is slow for all.
//
// Judged where nothing else may keep a message back: consumers that neither fail nor give back, and all may have it.
import type { DeliveryHistory } from './delivery-history.ts';
import { Violation } from './violation.ts';

/** By then what was appended is readable, and the broker knows. */
const KNOWN_MS = 300;
/** A round gives each of 3 consumers something of each of 3 partitions; two rounds may be under way. */
const MOST_DELIVERIES = 20;

export class Turns {
  readonly #name: string;
  readonly #passedOver = new Map<DeliveryHistory, number>();

  constructor(name: string) {
    this.#name = name;
  }

  served(one: DeliveryHistory, all: readonly DeliveryHistory[], nowMs: number): void {
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
