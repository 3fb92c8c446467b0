// The messages that were handed out and are not settled. One of which the lease has run out meanwhile comes again, and is not to
// be handled a second time while it is handled: it waits until the first handling has succeeded (then it is done) or failed.
// Where nobody promises that a message is ever settled, it waits only while that one's lease seems to last.
import type { Leases } from './consumer-stream.ts';
import type { HeldResponse, ReceivedMessage } from './received-message.ts';

export class InHand {
  /** Those with messages in hand. */
  readonly #responses = new Set<HeldResponse>();
  /** Those whose leases are gone, of which messages come again under any number. */
  readonly #gone = new Set<HeldResponse>();
  /** What is never settled by whoever has it is forgotten beyond this, the oldest first. */
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

  /** All of its messages are settled. */
  released(response: HeldResponse): void {
    if (!this.#responses.delete(response)) return;
    this.#gone.delete(response);
    this.#bytes -= response.bytes.length;
  }

  /** These leases are gone. */
  interrupted(leases: Leases): void {
    for (const response of this.#responses) if (response.leases === leases) this.#gone.add(response);
  }

  /** True: the same message is in hand, and this delivery of it is kept until that one is settled. */
  holds(message: ReceivedMessage): boolean {
    // A first delivery is none of what is here, unless the broker has died and forgotten how often it was.
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
      // A response is of one partition. To a subscription that was created anew it is another message.
      if (first === undefined || first.partition !== partition || first.logEpoch !== logEpoch) continue;
      if (itsLeases.incarnation !== leases.incarnation) continue;
      // Mostly without gaps.
      const guess = inHand[offset - first.offset];
      const found = guess?.offset === offset ? guess : inHand.find((each) => each.offset === offset);
      if (found !== undefined && !found.isSettled) return found;
    }
    return undefined;
  }
}
