// The messages that were handed out and are not settled. If the lease of one runs out meanwhile the message
// comes again, and is not to be handled a second time while the first handling goes on: the new delivery
// waits until that has succeeded (then it is done, too) or failed. Where nobody promises that every message
// is settled in the end, it waits only while the lease of the first delivery seems to last.
import type { Leases } from './consumer-stream.ts';
import type { HeldResponse, ReceivedMessage } from './received-message.ts';

export class InHand {
  /** The responses with messages in hand. */
  readonly #responses = new Set<HeldResponse>();
  /** Those of them whose leases are gone: their messages may come again with any delivery attempt. */
  readonly #gone = new Set<HeldResponse>();
  /** Beyond this the oldest responses are forgotten: whoever has their messages may never settle them. */
  readonly #maxBytes: number;
  readonly #areSettled: boolean;
  readonly #waiting = new Map<ReceivedMessage, ReceivedMessage>();
  #bytes = 0;

  /** areSettled: whatever is handed out is settled in the end. */
  constructor({ maxBytes, areSettled }: { maxBytes: number; areSettled: boolean }) {
    this.#maxBytes = maxBytes;
    this.#areSettled = areSettled;
  }

  add(message: ReceivedMessage): void {
    const { response } = message;
    if (response.inHand.push(message) > 1 || this.#responses.has(response)) return;
    this.#responses.add(response);
    this.#bytes += response.bytes.length;
    if (this.#bytes > this.#maxBytes) this.released(this.#responses.values().next().value!);
  }

  /** All messages of the response are settled. */
  released(response: HeldResponse): void {
    if (!this.#responses.delete(response)) return;
    this.#gone.delete(response);
    this.#bytes -= response.bytes.length;
  }

  /** These leases are gone. */
  interrupted(leases: Leases): void {
    for (const response of this.#responses) if (response.leases === leases) this.#gone.add(response);
  }

  /** Whether the same message is in hand already; if so, this delivery is kept until that one is settled. */
  holds(message: ReceivedMessage): boolean {
    // A first delivery can't be of a message in hand, unless the broker died and
    // forgot how often it delivered.
    if (message.deliveryAttempt === 1 && this.#gone.size === 0) return false;
    const earlier = this.#find(message);
    if (earlier === undefined || (!this.#areSettled && earlier.isStale)) return false;
    this.#waiting.get(earlier)?.discard();
    this.#waiting.set(earlier, message);
    return true;
  }

  /** The message is settled: takes out the delivery that was kept until then. */
  takeWaiting(message: ReceivedMessage): ReceivedMessage | undefined {
    if (this.#waiting.size === 0) return undefined;
    const waiting = this.#waiting.get(message);
    if (waiting !== undefined) this.#waiting.delete(message);
    return waiting;
  }

  clear(): void {
    this.#responses.clear();
    this.#gone.clear();
    this.#waiting.clear();
    this.#bytes = 0;
  }

  #find({ logEpoch, partition, offset, leases }: ReceivedMessage): ReceivedMessage | undefined {
    for (const { inHand, leases: itsLeases } of this.#responses) {
      const [first] = inHand;
      // A response is of one partition. For a subscription that was created anew it is another message.
      if (first === undefined || first.partition !== partition || first.logEpoch !== logEpoch) continue;
      if (itsLeases.incarnation !== leases.incarnation) continue;
      // Offsets are mostly without gaps.
      const guess = inHand[offset - first.offset];
      const found = guess?.offset === offset ? guess : inHand.find((each) => each.offset === offset);
      if (found !== undefined && !found.isSettled) return found;
    }
    return undefined;
  }
}
