// Which deliveries of a subscription with ordering may be handled now. Nothing here costs a
// key whose messages succeed.
//
// A broker that is given a message back takes with it whatever of the key it has delivered behind it, and
// delivers all of that once more, in order, as later attempts. What it delivered before it heard of this is
// here by then, or on its way, and must not overtake. So the deliveries of each key that were thrown away
// (given back, or refused here) are remembered:
//
//   a delivery of the key                         is let through?
//   before everything that was thrown away        yes
//   a later attempt of one that was thrown away   yes: what was before it has been settled, here or elsewhere
//   any other at or behind the first of them      no: it is thrown away as well
//
// When one is thrown away, what was thrown away behind it before is forgotten: later attempts of those may be
// here by now, and are taken back with it.
//
// What is refused must be given back, as the attempt that it is. If the broker has taken it back already,
// that does nothing; if not (the message that is waited for was settled by another consumer), it comes again,
// and is then a later attempt. So no wait lasts, whatever was missed.
import type { Leases } from './consumer-stream.ts';

export interface GatedDelivery {
  readonly orderingKey: string;
  readonly partition: number;
  readonly offset: number;
  readonly deliveryAttempt: number;
  readonly leases: Leases;
}

interface Thrown {
  readonly offset: number;
  readonly attempt: number;
  readonly leases: Leases;
}

/**
 * Beyond this, deliveries are forgotten, a key at a time: those of a key that another
 * consumer has never come again.
 */
const MAX_THROWN = 100_000;

export class KeyGate {
  /** What was thrown away, by partition and key, in ascending offsets. */
  readonly #keys = new Map<string, Thrown[]>();
  #count = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Whether it may be handled now. If not, throw it away. */
  admits(delivery: GatedDelivery): boolean {
    const id = idOf(delivery);
    const thrown = this.#keys.get(id);
    if (thrown === undefined || delivery.offset < thrown[0]!.offset) return true;
    const at = indexOf(thrown, delivery.offset);
    const own = thrown[at];
    if (own?.offset !== delivery.offset || delivery.deliveryAttempt <= own.attempt) return false;
    this.#set(id, thrown.slice(at + 1));
    return true;
  }

  /** The delivery was given back, whether it was handled in vain or not at all. */
  threwAway(delivery: GatedDelivery): void {
    const { offset, deliveryAttempt: attempt, leases } = delivery;
    // Whatever has no lease any more comes again, in order, from the first on.
    if (leases.gone) return;
    const id = idOf(delivery);
    const thrown = this.#keys.get(id) ?? [];
    const at = indexOf(thrown, offset);
    const own = thrown[at];
    // The delivery came late, on a stream that another one has overtaken. A lower attempt on the stream of
    // the last one is a later delivery: the broker has forgotten how often it delivered.
    if (own?.offset === offset && leases !== own.leases && attempt <= own.attempt) return;
    this.#count += at + 1 - thrown.length;
    thrown.length = at;
    thrown.push({ offset, attempt, leases });
    this.#keys.set(id, thrown);
    if (this.#count > MAX_THROWN) this.#set(this.#keys.keys().next().value!, []);
  }

  /** These leases are gone. */
  forget(leases: Leases): void {
    if (this.isEmpty) return;
    for (const [id, thrown] of this.#keys) {
      const left = thrown.filter((each) => each.leases !== leases);
      if (left.length < thrown.length) this.#set(id, left);
    }
  }

  /** The order of keys means nothing from now on. */
  clear(): void {
    this.#keys.clear();
    this.#count = 0;
  }

  #set(id: string, thrown: Thrown[]): void {
    this.#count += thrown.length - (this.#keys.get(id)?.length ?? 0);
    if (thrown.length === 0) this.#keys.delete(id);
    else this.#keys.set(id, thrown);
  }
}

function idOf({ partition, orderingKey }: GatedDelivery): string {
  return `${partition}/${orderingKey}`;
}

/** The index of the first one at or behind the offset. */
function indexOf(thrown: readonly Thrown[], offset: number): number {
  // Deliveries are mostly thrown away in order.
  if (thrown.length === 0 || thrown.at(-1)!.offset < offset) return thrown.length;
  let low = 0;
  let high = thrown.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (thrown[middle]!.offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
